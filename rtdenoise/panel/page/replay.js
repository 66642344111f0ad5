// The last seconds again and again: left before and right after the filter, at one level; one side is heard at a time.

const FADE_S = 0.02;

export class Replay {
  constructor(changed) {
    this.changed = changed;
    this.side = "after";
    this.source = null;
    this.context = null;
  }

  get playing() { return this.source !== null; }

  get progress() {
    return this.playing ? ((this.context.currentTime - this.began) / this.source.buffer.duration) % 1 : 0;
  }

  async start() {
    this.context ??= new AudioContext();
    await this.context.resume();
    const answer = await fetch("replay.wav");
    if (!answer.ok) return false;
    const sound = await this.context.decodeAudioData(await answer.arrayBuffer());
    if (this.playing) this.stop();
    this.gains = {};
    this.meter = this.context.createAnalyser();
    this.meter.connect(this.context.destination);
    this.source = new AudioBufferSourceNode(this.context, { buffer: sound, loop: true });
    const split = this.context.createChannelSplitter(2);
    this.source.connect(split);
    ["before", "after"].forEach((side, channel) => {
      this.gains[side] = new GainNode(this.context, { gain: side === this.side ? 1 : 0 });
      split.connect(this.gains[side], channel);
      this.gains[side].connect(this.meter);
    });
    this.began = this.context.currentTime;
    this.source.start();
    this.changed();
    return true;
  }

  stop() {
    const source = this.source;
    this.source = null;
    source?.stop();
    this.changed();
  }

  choose(side) {
    this.side = side;
    if (this.playing)
      for (const [name, node] of Object.entries(this.gains))
        node.gain.setTargetAtTime(name === side ? 1 : 0, this.context.currentTime, FADE_S / 3);
    this.changed();
  }

  level() { // of what is heard now, for tests and the curious
    if (!this.playing) return 0;
    const samples = new Float32Array(this.meter.fftSize);
    this.meter.getFloatTimeDomainData(samples);
    return Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
  }
}
