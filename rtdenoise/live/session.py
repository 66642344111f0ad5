"""`LiveDenoiser`: a microphone in, loudspeakers or a virtual microphone out, and the filter between them.

It puts the pieces together (devices, rings, streams, worker), watches over them from a quiet thread, and takes them
apart in an order that is safe. Audio itself never passes through this module.
"""

from __future__ import annotations

import atexit
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rtdenoise.contract import Model
from rtdenoise.denoiser import Denoiser
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Framing, Geometry, Latency
from rtdenoise.live import realtime, ring
from rtdenoise.live.delay import Delay, mode_for
from rtdenoise.live.devices import common_rate, file_end, find_device, play_channels, refuse_loop, share_clock
from rtdenoise.live.hop import IN_POWER, OUT_POWER
from rtdenoise.live.ring import Rings, percentile_us
from rtdenoise.live.stats import Stats, level_db
from rtdenoise.live.streams import Streams
from rtdenoise.live.virtual_mic import VirtualMicrophone
from rtdenoise.live.watch import Watch
from rtdenoise.live.worker import Kind, Worker
from rtdenoise.model import DEFAULT_MODEL, load_model

if TYPE_CHECKING:
    from rtdenoise.live.player import Player
    from rtdenoise.live.recorder import Recorder

START_TIMEOUT_S = 5.0


class LiveDenoiser:
    """A running noise filter between two sound devices.

    Parameters
    ----------
    input, output
        Device names, parts of names, or ids (see `list_devices`); None: the system's default. One of them may be a
        sound file, as a ``pathlib.Path``: it is played in real time (see `finished`), or recorded. The output may be a
        `VirtualMicrophone`, which exists from `start` to `stop`.
    model, strength_db
        As for `Denoiser`. The model may be exchanged while running (`exchange_model`).
    latency
        As for `Denoiser`, or a delay in ms (as `latency_ms` counts it) that must be reached: `start` chooses the mode
        for it and raises `UsageError` with the smallest figure if the devices cannot do it.
    rate
        Hz; None: the input device's own. No resampling happens, except by less than 0.2 % between two clocks.
    channels
        1 filters a mono microphone (and plays it on both sides), 2 filters left and right each on its own.
    blocksize
        Frames a callback; None: what suits the device.
    budget_ms
        Delay to hold from callback to callback, filter included, come what may. None: as little as the devices allow,
        found in the first second. `latency_ms` is the figure held to. Neither figure means anything beside a file.
    tee
        A sound file to write what is heard to, aligned with the input; it appears when the session ends.
    worker
        ``"native"`` or ``"python"`` (see `rtdenoise.live.worker`); None: the first that works.

    Use it as a context manager. Raises `DeviceError`, `UsageError` or `ModelError` before any sound is touched.
    """

    def __init__(
        self,
        input: int | str | Path | None = None,
        output: int | str | Path | VirtualMicrophone | None = None,
        model: str | Path | Model = DEFAULT_MODEL,
        rate: int | None = None,
        channels: int | None = None,
        strength_db: float | None = None,
        latency: Latency | float = "normal",
        blocksize: int | None = None,
        budget_ms: float | None = None,
        worker: Kind | None = None,
        tee: str | Path | None = None,
    ):
        if isinstance(input, Path) and isinstance(output, Path):
            raise UsageError("two files need no live session; see `rtdenoise.denoise`")
        source = None
        if isinstance(input, Path):
            from rtdenoise.live.player import Player
            from rtdenoise.sound_source import SoundFileSource  # devices do without libsndfile, and start sooner

            source = SoundFileSource(str(input))
            self.input = file_end(source.name, source.rate, source.channels)
        else:
            self.input = find_device(input, "input")
        self._microphone = output if isinstance(output, VirtualMicrophone) else None
        if isinstance(output, VirtualMicrophone):
            self.output = output.device(self.input)
        else:
            self.output = file_end(str(output)) if isinstance(output, Path) else find_device(output, "output")
        refuse_loop(self.input, self.output)
        if rate is not None and rate <= 0:
            raise UsageError(f"rate {rate} Hz; give a positive number of samples a second")
        rate = common_rate(self.input, self.output, rate)
        channels = channels or (source.channels if source else 1)
        self._split = not share_clock(self.input, self.output) and not (self.input.is_file or self.output.is_file)
        wanted_ms = None if isinstance(latency, str) else latency
        model = model if isinstance(model, Model) else load_model(model)
        geometry = Geometry(rate, model.info.framing)
        mode = latency if isinstance(latency, str) else mode_for(latency, geometry, self._split)
        self._denoiser = Denoiser(model, rate, channels, strength_db, mode)
        self._recording = output if isinstance(output, Path) else None if tee is None else Path(tee)
        ends = source.channels if source else min(channels, self.input.inputs), play_channels(channels, self.output)
        hop = self._denoiser.geometry.hop
        self._rings = Rings(hop, channels, rate, *ends, record=self._recording is not None)
        control = self._rings.control
        control[ring.ANCHOR] = 1
        control[ring.FILE_END] = ring.FILE_IN if source else ring.FILE_OUT if self.output.is_file else ring.NO_FILE
        self._delay = Delay(self._denoiser, self._rings, self._split, budget_ms, wanted_ms)
        self._player: Player | None = Player(source, self._rings, self._denoiser.latency_samples) if source else None
        self._length = source.frames if source else None
        self._recorder: Recorder | None = None
        self._worker = Worker(self._denoiser, self._rings, worker)
        self._streams = Streams(self.input, self.output, self._rings, blocksize, self._worker.stay_below)
        self._watch = Watch(self._streams, self._microphone)
        self._stack = ExitStack()
        self._memory_locked = self._started = False
        self._began = self._looked = time.monotonic()
        self._cpu = time.process_time()

    def __enter__(self) -> LiveDenoiser:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin. Returns when audio flows, or after a few seconds when a device gives none yet (see `stats`)."""
        if self._started:
            raise UsageError("a LiveDenoiser runs once; make a new one")
        self._started = True
        with ExitStack() as stack:
            if self._recording is not None:
                from rtdenoise.live.recorder import Recorder

                late = self._denoiser.latency_samples - self._denoiser.geometry.hop  # a live filter waits for no hop
                ends = self._denoiser.rate, self._denoiser.channels
                self._recorder = Recorder(self._recording, self._rings, *ends, late, self._length)
                stack.callback(self._recorder.stop)
            self._memory_locked = stack.enter_context(realtime.quiet_memory())
            self._worker.start()
            stack.callback(self._worker.stop)
            if self._microphone is not None:  # other programs see it now, when sound is about to come
                stack.enter_context(self._microphone)
            self._streams.start()
            stack.callback(self._streams.close)
            self._watch.start()
            stack.callback(self._watch.stop)
            if self._player is not None:
                self._player.device_s = self._streams.latency_s()
                self._player.start()
                stack.callback(self._player.stop)
            until = time.monotonic() + START_TIMEOUT_S
            while not self._rings.control[ring.PRIMED] and time.monotonic() < until:
                time.sleep(0.002)
            self._began = time.monotonic()
            self._reach_wanted_delay(until)
            if self._recorder is not None:
                self._recorder.start()
            atexit.register(self.stop)  # a worker left running would outlive the interpreter it stands on
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End: watch and streams first, then the worker, the model, and the recording. Safe to call twice."""
        self._stack.close()
        atexit.unregister(self.stop)

    def _reach_wanted_delay(self, until: float) -> None:
        """Wait until the devices' need is known; take the low mode if that helps; `UsageError` if nothing does."""
        while self._delay.is_open and time.monotonic() < until:
            time.sleep(0.02)
        if self._delay.missed and self._denoiser.latency == "normal":
            with self._worker.paused():
                self._denoiser.shorten()
        if self._delay.missed:
            raise UsageError(self._delay.missed)

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to do: a file was heard to its end, or one cannot be written any more."""
        heard = self._player is not None and self._player.finished.is_set()
        return heard or (self.output.is_file and self._recorder is not None and self._recorder.problem is not None)

    @property
    def model(self) -> str:
        """The name of the model that filters now."""
        return self._denoiser.model.name

    @property
    def framing(self) -> Framing:
        """How the model cuts time; `exchange_model` takes only others that do so too."""
        return self._denoiser.model.info.framing

    @property
    def silent_because(self) -> str | None:
        """Why no sound has come through since start, or None if some has."""
        c = self._rings.control
        if c[ring.HOPS] and (self.output.is_file or c[ring.HEARD_FRAMES] > c[ring.PREFILL]):
            return None
        if not (self.input.is_file or c[ring.IN_HEAD]):
            return f"{self.input.label} delivered none"
        if not c[ring.HOPS] and c[ring.IN_HEAD] - c[ring.IN_TAIL] > c[ring.HOP] and c[ring.PRIMED]:
            return "the filter got no time; is the processor busy?"
        if not self.output.is_file and (c[ring.OUT_HEAD] > c[ring.OUT_TAIL] or not c[ring.OUT_TAIL]):
            return f"{self.output.label} took none"
        return "it came too late to be played; is the processor busy?"

    @property
    def seconds(self) -> float:
        """Since audio began to flow."""
        return time.monotonic() - self._began

    @property
    def recorded_s(self) -> float:
        """Seconds written to a file so far."""
        return self._recorder.seconds if self._recorder else 0.0

    @property
    def problems(self) -> list[str]:
        """What went wrong with a file that is read or written; the other end goes on."""
        return [end.problem for end in (self._player, self._recorder) if end and end.problem]

    @property
    def warnings(self) -> list[str]:
        """What a listener should know of a file that is read or written."""
        return [text for end in (self._player, self._recorder) if end for text in end.warnings]

    def exchange_model(self, model: str | Path | Model) -> None:
        """Filter with another model from now on, without a gap; `UsageError` or `ModelError` leave the old one."""
        self._worker.exchange(model if isinstance(model, Model) else load_model(model))

    @property
    def bypass(self) -> bool:
        """Pass the input, with the same delay."""
        return self._denoiser.bypass

    @bypass.setter
    def bypass(self, on: bool) -> None:
        self._denoiser.bypass = on

    @property
    def strength_db(self) -> float | None:
        """Most attenuation in dB; None: no limit."""
        return self._denoiser.strength_db

    @strength_db.setter
    def strength_db(self, value: float | None) -> None:
        self._denoiser.strength_db = value

    @property
    def latency_ms(self) -> float:
        """Delay that is held, from input callback to output callback, filter included. 0 until it is known."""
        return self._delay.held_ms

    @property
    def delay_ms(self) -> float:
        """The same, measured now."""
        return self._delay.now_ms(self._worker.drift)

    def stats(self) -> Stats:
        """A look at all counters."""
        c, d, now, cpu = self._rings.control, self._denoiser, time.monotonic(), time.process_time()
        percent = 100 * (cpu - self._cpu) / max(1e-9, now - self._looked)
        self._looked, self._cpu = now, cpu
        device_s = self._streams.latency_s()
        frames_ms = 1000 / d.rate
        return Stats(
            state=self._watch.state,
            seconds=self.seconds,
            input=self.input.label,
            output=self.output.label,
            model=d.model.name,
            bypass=d.bypass,
            strength_db=d.strength_db,
            rate=d.rate,
            channels=d.channels,
            block_in=int(c[ring.IN_BLOCK]),
            block_out=int(c[ring.OUT_BLOCK]),
            budget_ms=self.latency_ms,
            delay_ms=self.delay_ms,
            device_ms=None if device_s is None else 1000 * device_s,
            level_in_db=level_db(self._worker.meters[IN_POWER]),
            level_out_db=level_db(self._worker.meters[OUT_POWER]),
            model_ms_p50=percentile_us(self._worker.step_times, 50) / 1000,
            model_ms_p99=percentile_us(self._worker.step_times, 99) / 1000,
            callback_ms_p999=percentile_us(self._rings.capture_times + self._rings.play_times, 99.9) / 1000,
            underruns=int(c[ring.UNDERRUNS]),
            silent_ms=int(c[ring.SILENT_FRAMES]) * frames_ms,
            holds=int(c[ring.HOLDS]),
            skipped_ms=int(c[ring.SKIPPED_FRAMES]) * frames_ms,
            resyncs=int(c[ring.RESYNCS]),
            device_xruns=int(c[ring.IN_XRUNS] + c[ring.OUT_XRUNS]),
            reopened=self._watch.reopened,
            drift_ppm=self._worker.drift.ppm if self._split else None,
            cpu_percent=percent,
            worker=self._worker.kind,
            scheduling=self._worker.scheduling,
            memory_locked=self._memory_locked,
            failure=self._worker.failure,
            recorded_s=self.recorded_s,
            file_problem=next(iter(self.problems), None),
        )
