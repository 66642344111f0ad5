"""In voice agents' frameworks the filter gives what a `Denoiser` gives, frame by frame, with the real packages."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from command import DEADLINE_S, ENVIRONMENT, ROOT, identity_model
from conftest import modulated_noise
from rtdenoise import Denoiser
from rtdenoise.io.pcm import decode, encode

HOW = "make test-integrations has it"
VOICE = modulated_noise(np.random.default_rng(8), 32_000)[:, 0]


def run(task):
    return asyncio.run(asyncio.wait_for(task, DEADLINE_S))


def words(samples: np.ndarray) -> bytes:
    return encode(np.asarray(samples, np.float32).reshape(-1), "PCM_16")


def expected(rate: int, sound: bytes, channels: int = 1, **settings) -> np.ndarray:
    """What a `Denoiser` makes of 16-bit sound."""
    samples = decode(sound, "PCM_16").reshape(-1, channels)
    return np.frombuffer(words(Denoiser(identity_model(), rate, channels, **settings).process(samples)), "<i2")


def close(got: bytes, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(np.frombuffer(got, "<i2").astype(int), wanted.astype(int), atol=1)


class TestPipecat:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("pipecat", reason=HOW)

    def test_a_transport_filters_what_it_takes_in_and_obeys_control_frames(self):
        from pipecat.frames.frames import FilterEnableFrame, FilterUpdateSettingsFrame, InputAudioRawFrame
        from pipecat.pipeline.pipeline import Pipeline
        from pipecat.pipeline.worker import PipelineParams, PipelineWorker
        from pipecat.processors.frame_processor import FrameProcessor
        from pipecat.transports.base_input import BaseInputTransport
        from pipecat.transports.base_transport import TransportParams
        from pipecat.workers.runner import WorkerRunner

        from rtdenoise.integrations.pipecat import DenoiseFilter

        sound = words(VOICE[:16_000])
        chunks = [sound[at : at + 640] for at in range(0, len(sound), 640)]
        denoise = DenoiseFilter(identity_model(), strength_db=12)

        class Input(BaseInputTransport):
            async def start(self, frame):
                await super().start(frame)
                await self.set_transport_ready(frame)

        class Listener(FrameProcessor):
            def __init__(self):
                super().__init__()
                self.heard, self.all_heard = [], asyncio.Event()

            async def process_frame(self, frame, direction):
                await super().process_frame(frame, direction)
                if isinstance(frame, InputAudioRawFrame):
                    self.heard.append(frame.audio)
                    if len(self.heard) == len(chunks):
                        self.all_heard.set()
                await self.push_frame(frame, direction)

        async def heard():
            source = Input(TransportParams(audio_in_enabled=True, audio_in_filter=denoise))
            listener = Listener()
            params = PipelineParams(audio_in_sample_rate=16_000)
            worker = PipelineWorker(Pipeline([source, listener]), params=params)
            runner = WorkerRunner(handle_sigint=False)
            await runner.add_workers(worker)
            running = asyncio.create_task(runner.run())
            while denoise._stream is None:
                await asyncio.sleep(0.01)
            for chunk in chunks:
                await source.push_audio_frame(InputAudioRawFrame(audio=chunk, sample_rate=16_000, num_channels=1))
            await listener.all_heard.wait()
            await worker.queue_frames(
                [FilterEnableFrame(enable=False), FilterUpdateSettingsFrame(settings={"strength_db": 6})]
            )
            while not (denoise._stream.bypass and denoise._stream.strength_db == 6):
                await asyncio.sleep(0.01)
            await runner.cancel()
            await running
            assert denoise._stream is None
            return b"".join(listener.heard)

        close(run(heard()), expected(16_000, sound, strength_db=12))

    @pytest.mark.parametrize("channels", [1, 2])
    def test_bytes_may_end_within_a_sample(self, channels):
        from rtdenoise.integrations.pipecat import DenoiseFilter

        sound = words(VOICE[:8_000])

        async def filtered():
            denoise = DenoiseFilter(identity_model(), channels=channels)
            assert await denoise.filter(b"\1\2\3") == b"\1\2\3"  # before the transport has started
            await denoise.start(8_000)
            answers = [await denoise.filter(sound[at : at + 333]) for at in range(0, len(sound), 333)]
            await denoise.stop()
            await denoise.stop()
            return b"".join(answers)

        close(run(filtered()), expected(8_000, sound, channels))

    def test_the_example_agent_says_back_what_was_said(self, tmp_path):
        pytest.importorskip("websockets", reason=HOW)
        line = [sys.executable, "examples/agent_example.py", "--seconds", "2", "--out", str(tmp_path / "heard.wav")]
        line += ["--model", identity_model()]
        done = subprocess.run(line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=2 * DEADLINE_S)
        assert done.returncode == 0, done.stderr
        assert "2.0 s at 16000 Hz" in done.stdout
        said, heard = soundfile.read(ROOT / "examples/noisy.wav")[0][:32_000], soundfile.read(tmp_path / "heard.wav")[0]
        shifted = np.fft.irfft(np.fft.rfft(heard, 65_536) * np.conj(np.fft.rfft(said, 65_536)))
        assert shifted.max() > 0.9 * np.linalg.norm(said) * np.linalg.norm(heard)


class TestLiveKit:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("livekit.rtc", reason=HOW)

    @pytest.mark.parametrize(("rate", "channels", "size"), [(48_000, 1, 480), (24_000, 1, 1_200), (16_000, 2, 160)])
    def test_frames_keep_their_length_and_come_filtered(self, rate, channels, size):
        from livekit import rtc

        from rtdenoise.integrations.livekit import DenoiseProcessor

        processor = DenoiseProcessor(identity_model(), strength_db=12)
        sound = words(VOICE[: len(VOICE) // (size * channels) * size * channels])
        step = 2 * size * channels
        got = []
        for at in range(0, len(sound), step):
            frame = processor._process(rtc.AudioFrame(sound[at : at + step], rate, channels, size, userdata={"at": at}))
            assert (frame.sample_rate, frame.num_channels, frame.samples_per_channel) == (rate, channels, size)
            assert frame.userdata == {"at": at}
            got.append(frame.data.tobytes())
        close(b"".join(got), expected(rate, sound, channels, strength_db=12))
        processor._close()

    def test_a_real_stream_delivers_what_the_processor_made(self):
        from livekit import rtc

        from rtdenoise.integrations.livekit import DenoiseProcessor

        made = []

        class Noted(DenoiseProcessor):
            def _process(self, frame):
                made.append(super()._process(frame))
                return made[-1]

        async def heard():
            source = rtc.AudioSource(48_000, 1)
            stream = rtc.AudioStream(
                rtc.LocalAudioTrack.create_audio_track("voice", source), noise_cancellation=Noted(identity_model())
            )

            async def speak():
                for part in np.array_split(VOICE, len(VOICE) // 480):
                    await source.capture_frame(rtc.AudioFrame(words(part[:480]), 48_000, 1, 480))

            speaking = asyncio.create_task(speak())
            frames = [(await anext(stream)).frame for _ in range(30)]
            speaking.cancel()
            await stream.aclose()
            await source.aclose()
            return frames

        frames = run(heard())
        assert all(frame is own for frame, own in zip(frames, made, strict=False))
        assert any(np.frombuffer(frames[-1].data, "<i2"))

    def test_off_and_on_again_begins_anew_and_another_rate_keeps_settings(self):
        from livekit import rtc

        from rtdenoise.integrations.livekit import DenoiseProcessor

        processor = DenoiseProcessor(identity_model())
        assert isinstance(processor, rtc.FrameProcessor)
        assert processor.enabled
        loud = rtc.AudioFrame(words(VOICE[:480]), 48_000, 1, 480)
        silent = rtc.AudioFrame(bytes(960), 48_000, 1, 480)
        processor._process(loud)
        processor.enabled = False
        assert not processor.enabled
        processor.enabled = True
        assert not any(processor._process(silent).data.tobytes())
        processor.denoiser.bypass, processor.denoiser.strength_db = True, 6
        processor._process(rtc.AudioFrame(bytes(320), 16_000, 1, 160))
        assert (processor.denoiser.rate, processor.denoiser.bypass, processor.denoiser.strength_db) == (16_000, True, 6)

    def test_agents_take_it_as_noise_cancellation(self):
        room_io = pytest.importorskip("livekit.agents.voice.room_io", reason=HOW)

        from rtdenoise.integrations.livekit import DenoiseProcessor

        processor = DenoiseProcessor(identity_model())
        assert room_io.AudioInputOptions(noise_cancellation=processor).noise_cancellation is processor


class TestAiortc:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("aiortc", reason=HOW)

    @staticmethod
    def track(sound: np.ndarray, kind: str, layout: str, rate: int, size: int = 960):
        """A track that ends with the sound ``[samples, channels]``."""
        import aiortc
        import av
        from aiortc.mediastreams import MediaStreamError

        class Recording(aiortc.MediaStreamTrack):
            kind = "audio"
            at = 0

            async def recv(self):
                if self.readyState != "live" or self.at >= len(sound):
                    self.stop()
                    raise MediaStreamError
                part = sound[self.at : self.at + size]
                data = part.T if kind.endswith("p") else part.reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), kind, layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, self.at, fractions.Fraction(1, rate)
                self.at += size
                return frame

        return Recording()

    @pytest.mark.parametrize(
        ("kind", "layout"), [("s16", "mono"), ("s16", "stereo"), ("s16p", "stereo"), ("fltp", "mono")]
    )
    @pytest.mark.parametrize("rate", [8_000, 48_000])
    def test_a_track_keeps_times_and_lengths_and_comes_filtered(self, kind, layout, rate):
        from aiortc.mediastreams import MediaStreamError

        from rtdenoise.integrations.aiortc import DenoisedTrack

        channels = 2 if layout == "stereo" else 1
        whole = np.frombuffer(words(VOICE), "<i2").reshape(-1, channels)[: 960 * 10]
        sound = whole if kind.startswith("s16") else (whole / np.float32(32_768)).astype(np.float32)

        async def filtered():
            source = self.track(sound, kind, layout, rate)
            track, frames = DenoisedTrack(source, identity_model(), strength_db=12), []
            while track.readyState == "live":
                with contextlib.suppress(MediaStreamError):
                    frames.append(await track.recv())
            with pytest.raises(MediaStreamError):
                await track.recv()
            assert (track.readyState, source.readyState) == ("ended", "ended")
            assert [f.pts for f in frames] == [960 * k for k in range(10)]
            assert {(f.format.name, f.layout.name, f.sample_rate, f.samples) for f in frames} == {
                ("s16", layout, rate, 960)
            }
            return b"".join(f.to_ndarray().tobytes() for f in frames)

        close(run(filtered()), expected(rate, whole.tobytes(), channels, strength_db=12))

    def test_a_peer_hears_the_other_one_filtered(self, monkeypatch):
        """Two peers over the loopback, which need no address of this machine."""
        import aioice.ice
        import aiortc

        from rtdenoise.integrations.aiortc import DenoisedTrack

        monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
        rate, seconds = 48_000, 3
        tone = np.sin(2 * np.pi * 440 * np.arange(seconds * rate) / rate)
        sound = np.frombuffer(words(0.3 * tone), "<i2").reshape(-1, 1)

        async def called():
            alone = aiortc.RTCConfiguration(iceServers=[])
            caller, agent = aiortc.RTCPeerConnection(alone), aiortc.RTCPeerConnection(alone)
            heard = asyncio.get_running_loop().create_future()

            @agent.on("track")
            def on_track(track):
                heard.set_result(DenoisedTrack(track, identity_model()))

            caller.addTrack(self.track(sound, "s16", "mono", rate))
            await caller.setLocalDescription(await caller.createOffer())
            await agent.setRemoteDescription(caller.localDescription)
            await agent.setLocalDescription(await agent.createAnswer())
            await caller.setRemoteDescription(agent.localDescription)
            track = await heard
            frames = [await track.recv() for _ in range(50)]
            track.stop()
            await caller.close()
            await agent.close()
            return np.concatenate([f.to_ndarray()[0][:: len(f.layout.channels)] for f in frames])

        got = run(called()).astype(float)
        middle = got[len(got) // 2 :]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert abs(np.argmax(spectrum) * rate / len(middle) - 440) < 10
        assert np.std(middle) > 1_000
