"""The live worker between rings, without a device: what a device would do is done here, by the clock or back to back.

    heard samples ─▶ capture ─▶ ring ─▶ next_hops (the worker's own) ─▶ ring ─▶ play ─▶ nowhere

Everything measured is the code that runs live; here it is only called in another order, with a clock read between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Latency
from rtdenoise.live import realtime, ring
from rtdenoise.live.callback import capture, duplex_callback, play
from rtdenoise.live.hop_loop import next_hops
from rtdenoise.live.ring import Rings, now_ns
from rtdenoise.live.trace import make_trace
from rtdenoise.live.worker import Worker
from rtdenoise.model.contract import Model
from rtdenoise.native.fft import jit
from rtdenoise.native.intrinsics import call8, pointer
from rtdenoise_bench.measure.clock import at_priority, sleep_address, sleep_until

HEARD_S = 2.0
# The columns of the device's log: times in ns, and a frame.
DUE, CAPTURING, CAPTURED, PLAYING, PLAYED, POSITION = range(6)
BURST_HOPS = 50  # Between bursts there is a pause, since a system stops real-time threads that never sleep.
PAUSE_S = 0.002


@jit
def back_to_back(hops, heard, target, log, arguments, trace):
    """Hops one after the other, without waiting; returns how many there were."""
    control = arguments[0].control
    hop, done = control[ring.HOP], 0
    for k in range(hops):
        at = (control[ring.IN_HEAD] % heard.shape[0]) * heard.shape[1] * 4
        if log is not None:
            log[k, CAPTURING] = now_ns(control, ring.CAPTURE_SCRATCH)
        capture(control, pointer(heard.ctypes.data + at), hop)
        if log is not None:
            log[k, CAPTURED] = now_ns(control, ring.CAPTURE_SCRATCH)
        done += next_hops(*arguments, trace)
        if log is not None:
            log[k, PLAYING] = now_ns(control, ring.PLAY_SCRATCH)
        play(control, pointer(target.ctypes.data), hop)
        if log is not None:
            log[k, PLAYED] = now_ns(control, ring.PLAY_SCRATCH)
    return done


@jit
def paced(control, callback, heard, target, log, nanosleep, timespec):
    """A device that calls the callback at this address with one hop every hop's time, ``len(log)`` times."""
    hop, frame_bytes = target.shape[0], heard.shape[1] * 4
    began = now_ns(control, ring.CAPTURE_SCRATCH)
    for k in range(log.shape[0]):
        log[k, DUE] = began + (k + 1) * hop * 1_000_000_000 // control[ring.RATE]
        sleep_until(control, nanosleep, timespec, log[k, DUE])
        log[k, POSITION] = control[ring.IN_HEAD]
        source = heard.ctypes.data + log[k, POSITION] % heard.shape[0] * frame_bytes
        call8(callback, (source, target.ctypes.data, hop, 0, 0, control.ctypes.data, 0, 0))
        log[k, CAPTURING] = control[ring.IN_TIME]


def syllables(rate: int, channels: int, seconds: float = HEARD_S) -> np.ndarray:
    """float32 ``[samples, channels]``: harmonics that come and go, in noise, so that no model is idle."""
    t = np.arange(round(seconds * rate))[:, None] / rate
    voice = sum(np.sin(2 * np.pi * 130 * h * t + h) / h for h in range(1, 12)) * (np.sin(2 * np.pi * 3 * t) > 0)
    noise = np.random.default_rng(0).standard_normal((len(t), channels))
    return (0.08 * voice + 0.02 * noise).astype(np.float32)


@dataclass(frozen=True)
class Run:
    """``log`` of the device and ``trace`` of the worker, int64, a row a hop; ``scheduling`` that the worker got."""

    log: np.ndarray
    trace: np.ndarray
    scheduling: str


class Harness:
    """One `HopDenoiser` with worker and rings. `UsageError` where the model cannot run without the GIL."""

    def __init__(self, model: Model | str, rate: int = 48_000, channels: int = 1, latency: Latency = "normal"):
        self.denoiser = HopDenoiser(model, rate, channels, latency=latency)
        self.hop = self.denoiser.geometry.hop
        self.rings = Rings(self.hop, channels, rate)
        self.control = self.rings.control
        self.control[ring.ANCHOR] = 1
        self.worker = Worker(self.denoiser, self.rings)
        if self.worker.kind != "native":
            self.close()
            raise UsageError(f"{self.denoiser.model.name}: stages can be timed only where onnxruntime has a C library")
        self._heard = syllables(rate, channels)
        self._heard = self._heard[: len(self._heard) // self.hop * self.hop]
        self._target = np.zeros((self.hop, channels), np.float32)

    def close(self) -> None:
        self.worker.stop()

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def back_to_back(self, hops: int) -> Run:
        """Hops in bursts without waiting, at the priority a worker has."""
        parts = []
        for first in range(0, hops, BURST_HOPS):
            log, trace = np.zeros((min(BURST_HOPS, hops - first), 6), np.int64), make_trace(BURST_HOPS)
            start = int(self.control[ring.HOPS]) % BURST_HOPS
            _, got = self.burst(len(log), log, trace)
            parts.append((log, np.roll(trace, -start, 0)[: len(log)]))
            time.sleep(PAUSE_S)
        logs, traces = zip(*parts, strict=True)
        return Run(np.concatenate(logs), np.concatenate(traces), got)

    def burst(self, hops: int, log: np.ndarray | None, trace: np.ndarray | None) -> tuple[float, str]:
        """Some hops back to back; log and trace may be None, to see what they cost. Microseconds, and scheduling."""
        arguments = self.worker.hop_arguments, trace

        def run() -> float:
            began = time.perf_counter_ns()
            back_to_back(hops, self._heard, self._target, log, *arguments)
            return (time.perf_counter_ns() - began) / 1000

        return at_priority(realtime.WORKER_PRIORITY, run)

    def in_real_time(self, hops: int) -> Run:
        """The worker's thread and a device's thread, in real time. The harness cannot be used again afterwards."""
        trace, log = make_trace(hops), np.zeros((hops, 6), np.int64)
        first = int(self.control[ring.HOPS]) % hops
        self.worker.record_trace(trace)
        device = self.control, duplex_callback.address, self._heard, self._target
        clock = sleep_address(), np.zeros(2, np.int64)
        paced(*device, log[:0], *clock)  # compiles
        self.worker.start()
        at_priority(realtime.CALLBACK_PRIORITY, lambda: paced(*device, log, *clock))
        self._settle()
        self.worker.stop()
        return Run(log, np.roll(trace, -first, 0), self.worker.scheduling)

    def _settle(self) -> None:
        end = time.monotonic() + 5
        while self.control[ring.IN_HEAD] - self.control[ring.IN_TAIL] >= self.hop and time.monotonic() < end:
            time.sleep(0.005)
