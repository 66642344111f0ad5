"""`LiveDenoiser`: a microphone in, loudspeakers or a virtual microphone out, and the filter between them.

It puts the pieces together (devices, rings, streams, worker), watches over them from a quiet thread, and takes them
apart in an order that is safe. Audio itself never passes through this module.
"""

from __future__ import annotations

import atexit
import time
from contextlib import ExitStack
from pathlib import Path

from rtdenoise.contract import Model
from rtdenoise.denoiser import Denoiser
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Latency
from rtdenoise.live import realtime, ring
from rtdenoise.live.devices import common_rate, find_device, share_clock
from rtdenoise.live.drift import TAPS
from rtdenoise.live.ring import Rings, percentile_us
from rtdenoise.live.stats import Stats, level_db
from rtdenoise.live.streams import Streams
from rtdenoise.live.watch import Watch
from rtdenoise.live.worker import IN_POWER, OUT_POWER, Kind, Worker
from rtdenoise.model import DEFAULT_MODEL

START_MS = 40.0  # buffer of a two-stream session for its first second, until the devices' habits are known
RESERVE_MS = 5.0  # what the play callback shall find left over in its worst usual moment
LEAST_BUFFER_MS = 2.0
START_TIMEOUT_S = 5.0


class LiveDenoiser:
    """A running noise filter between two sound devices.

    Parameters
    ----------
    input, output
        Device names, parts of names, or ids (see `list_devices`); None: the system's default.
    model, strength_db, latency
        As for `Denoiser`.
    rate
        Hz; None: the input device's own. No resampling happens, except by less than 0.2 % between two clocks.
    channels
        1 filters a mono microphone (and plays it on both sides), 2 filters left and right each on its own.
    blocksize
        Frames a callback; None: what suits the device.
    budget_ms
        Delay to hold from callback to callback, filter included. None: as little as the devices allow, found in the
        first second. `latency_ms` is the figure held to.
    worker
        ``"native"`` or ``"python"`` (see `rtdenoise.live.worker`); None: the first that works.

    Use it as a context manager. Raises `DeviceError`, `UsageError` or `ModelError` before any sound is touched.
    """

    def __init__(
        self,
        input: int | str | None = None,
        output: int | str | None = None,
        model: str | Path | Model = DEFAULT_MODEL,
        rate: int | None = None,
        channels: int = 1,
        strength_db: float | None = None,
        latency: Latency = "normal",
        blocksize: int | None = None,
        budget_ms: float | None = None,
        worker: Kind | None = None,
    ):
        self.input, self.output = find_device(input, "input"), find_device(output, "output")
        if self.output.endpoint and self.input.endpoint == f"{self.output.endpoint}.monitor":
            raise UsageError(f"{self.input.name} records what {self.output.name} plays: a loop; choose another input")
        if rate is not None and rate <= 0:
            raise UsageError(f"rate {rate} Hz; give a positive number of samples a second")
        rate = common_rate(self.input, self.output, rate)
        self._denoiser = Denoiser(model, rate, channels, strength_db, latency)
        hop = self._denoiser.geometry.hop
        ends = min(channels, self.input.inputs), _play_channels(channels, self.output)
        self._rings = Rings(hop, channels, rate, *ends)
        control = self._rings.control
        self._split = not share_clock(self.input, self.output)
        control[ring.SPLIT], control[ring.ANCHOR] = self._split, 1
        control[ring.RESERVE] = round(RESERVE_MS * rate / 1000)
        self._fixed_ms = self._denoiser.latency_ms - 1000 * hop / rate + (1000 * TAPS / 2 / rate if self._split else 0)
        if self._split:
            control[ring.PREFILL] = round(START_MS * rate / 1000)
        if budget_ms is not None:
            if budget_ms < self._fixed_ms + LEAST_BUFFER_MS:
                raise UsageError(f"budget {budget_ms:g} ms; the filter alone takes {self._fixed_ms:.1f} ms, give more")
            control[ring.FIXED_TARGET] = control[ring.PREFILL] = round((budget_ms - self._fixed_ms) * rate / 1000)
        self._worker = Worker(self._denoiser, self._rings, worker)
        self._streams = Streams(self.input, self.output, self._rings, blocksize)
        self._watch = Watch(self._streams)
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
            self._memory_locked = stack.enter_context(realtime.quiet_memory())
            self._worker.start()
            stack.callback(self._worker.stop)
            self._streams.start()
            stack.callback(self._streams.close)
            self._watch.start()
            stack.callback(self._watch.stop)
            atexit.register(self.stop)  # a worker left running would outlive the interpreter it stands on
            self._stack = stack.pop_all()
        self._began = time.monotonic()
        while not self._rings.control[ring.PRIMED] and time.monotonic() < self._began + START_TIMEOUT_S:
            time.sleep(0.002)

    def stop(self) -> None:
        """End: watch and streams first, then the worker, then the model. Safe to call twice."""
        self._stack.close()
        atexit.unregister(self.stop)

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
        control = self._rings.control
        frames = int(control[ring.TARGET] if self._split else control[ring.PREFILL])
        return self._fixed_ms + 1000 * frames / self._denoiser.rate if frames else 0.0

    @property
    def delay_ms(self) -> float:
        """The same, measured now."""
        # On one clock both rings move in one callback, so a frame's places in them differ by a constant.
        frames = self._worker.drift.delay if self._split else int(self._rings.control[ring.OFFSET])
        return self._fixed_ms + 1000 * frames / self._denoiser.rate

    def stats(self) -> Stats:
        """A look at all counters."""
        c, d, now, cpu = self._rings.control, self._denoiser, time.monotonic(), time.process_time()
        percent = 100 * (cpu - self._cpu) / max(1e-9, now - self._looked)
        self._looked, self._cpu = now, cpu
        device_s = self._streams.latency_s()
        frames_ms = 1000 / d.rate
        return Stats(
            state=self._watch.state,
            seconds=now - self._began,
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
        )


def _play_channels(channels: int, output) -> int:
    """A mono signal goes to both ears, unless a server does that by itself."""
    return channels if output.is_server or channels > 1 else min(2, output.outputs)
