"""The streaming core without a device: is it exact, is its latency the reported one, what does a hop cost?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from rtdenoise.arguments import count
from rtdenoise.core.denoiser import Denoiser
from rtdenoise.geometry import Framing, Latency
from rtdenoise.model.contract import HOPS_MS, Model, ModelInfo, model_bins
from rtdenoise.model.registry import list_models, load_model
from rtdenoise_bench.report.table import Row, at_most, show

RATES_HZ = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
LATENCIES: tuple[Latency, ...] = ("normal", "low")
WORK_LIMIT_US = {(16_000, 1): 15, (48_000, 1): None, (48_000, 2): 60}  # By rate and channels; None: no limit.
STEP_LIMIT = 0.10  # Share of a hop: 0.4 of 4 ms.


class PassThrough:
    """A model stream that copies, or does nothing at all: what is left is the engine's own work."""

    def __init__(self, channels: int, bins: int, copy: bool = True):
        self._shape, self._copy = (channels, bins), copy
        self._buffers: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def buffers(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        if frames not in self._buffers:
            channels, bins = self._shape
            shape = channels, frames, bins, 2
            self._buffers[frames] = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        return self._buffers[frames]

    def step(self, frames: int) -> None:
        if self._copy:
            noisy, enhanced = self._buffers[frames]
            enhanced[:] = noisy

    def reset(self) -> None:
        pass


def pass_through(copy: bool = True, hop_ms: int = 4, rate: int = 48_000) -> Model:
    """A model of as many bins as the band of ``rate`` asks for."""
    framing = Framing(hop_ms)
    low, all_bins = model_bins(framing)
    info = ModelInfo("pass-through", Path(), low if rate <= 16_000 else all_bins, framing=framing)
    return Model(info, lambda channels: PassThrough(channels, info.bins, copy))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hops", type=count(), default=3000, help="hops to time for each row (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    rows = [*exactness(), delay(), *chunking(), *own_work(args.hops), *model_steps(args.hops)]
    return show(rows, args.json)


def exactness() -> list[Row]:
    """Largest error of noise through a model that changes nothing, after the reported latency."""
    rng, worst = np.random.default_rng(0), 0.0
    for rate, channels, latency, hop_ms in product(RATES_HZ, (1, 2), LATENCIES, HOPS_MS):
        x = rng.uniform(-1, 1, (rate // 2, channels)).astype(np.float32)
        d = Denoiser(pass_through(hop_ms=hop_ms), rate, channels, latency=latency)
        y = np.concatenate([d.process(x), d.flush()])[d.latency_samples :]
        worst = max(worst, float(np.abs(y - x).max()))
    what = "identity model, 8 rates, 1-2 channels, both latencies, 3 windows: largest error"
    return [at_most(what, worst, 1e-5, "", ".1e")]


def delay() -> Row:
    """Reported latency against the peak of the cross-correlation, at every rate and in both modes."""
    wrong = []
    cases = list(product(RATES_HZ, LATENCIES, HOPS_MS))
    for rate, latency, hop_ms in cases:
        x = np.concatenate([np.random.default_rng(1).standard_normal(rate // 4), np.zeros(rate // 8)])
        d = Denoiser(pass_through(hop_ms=hop_ms), rate, latency=latency)
        y, n = d.process(0.1 * x), 2 * len(x)
        found = int(np.argmax(np.fft.irfft(np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n)))))
        if found != d.latency_samples:
            wrong.append(f"{rate} Hz {latency}, hop {hop_ms} ms: {found} for {d.latency_samples}")
    measured = "; ".join(wrong) or f"{len(cases)} of {len(cases)} exact"
    return Row("reported latency = measured latency", measured, "all exact", not wrong)


def chunking() -> list[Row]:
    """Random chunk sizes against one call, and many frames per model call against one, for every shipped model."""
    rng, rows = np.random.default_rng(2), []
    for info in list_models():
        model = load_model(info.path)
        x = (0.1 * rng.standard_normal(48_000)).astype(np.float32)
        d = Denoiser(model, 16_000)
        whole, worst = d.process(x), 0.0
        for _ in range(5):
            d.reset()
            cuts = np.cumsum(rng.integers(1, 5_001, 60))
            parts = np.split(x, cuts[cuts < len(x)])
            worst = max(worst, float(np.abs(np.concatenate([d.process(p) for p in parts]) - whole).max()))
        rows.append(at_most(f"{info.name}: chunks of 1..5000 samples against one call", worst, 1e-6, "", ".1e"))
        many, single = model.stream(1), model.stream(1)
        noisy, enhanced = many.buffers(200)
        noisy[:] = 0.01 * rng.standard_normal(noisy.shape)
        many.step(200)
        worst = 0.0
        for k in range(200):
            single.buffers(1)[0][:, 0] = noisy[:, k]
            single.step(1)
            worst = max(worst, float(np.abs(single.buffers(1)[1][:, 0] - enhanced[:, k]).max()))
        rows.append(at_most(f"{info.name}: 200 frames per call against one", worst, 1e-5, "", ".1e"))
    return rows


def times_us(call: Callable[[], object], count: int) -> np.ndarray:
    """Microseconds of each of ``count`` calls, warm-up apart."""
    for _ in range(100):
        call()
    out = np.empty(count)
    for k in range(count):
        start = time.perf_counter_ns()
        call()
        out[k] = (time.perf_counter_ns() - start) / 1000
    return out


def own_work(hops: int) -> list[Row]:
    """One hop through `Denoiser.process` with a model that does nothing: Python, transforms, blend."""
    rows = []
    for (rate, channels), limit_us in WORK_LIMIT_US.items():
        d = Denoiser(pass_through(copy=False, rate=rate), rate, channels)
        x = np.random.default_rng(3).uniform(-1, 1, (d.geometry.hop, channels)).astype(np.float32)
        x = x[:, 0] if channels == 1 else x
        median, p99 = np.percentile(times_us(partial(d.process, x), hops), (50, 99))
        what = f"own work per hop without the model, {rate // 1000} kHz x {channels}, median (p99 {p99:.1f} us)"
        rows.append(Row(what, f"{median:.1f} us") if limit_us is None else at_most(what, median, limit_us, "us", ".1f"))
    return rows


def model_steps(hops: int) -> list[Row]:
    """One frame through each shipped model, one thread."""
    rows = []
    for info in list_models():
        stream = load_model(info.path).stream(1)
        stream.buffers(1)[0][:] = 0.01 * np.random.default_rng(4).standard_normal((1, 1, info.bins, 2))
        median, p99 = np.percentile(times_us(partial(stream.step, 1), hops), (50, 99)) / 1000
        limit_ms = STEP_LIMIT * info.framing.hop_ms
        rows.append(at_most(f"{info.name}: step of one frame, median (p99 {p99:.2f} ms)", median, limit_ms, "ms"))
    return rows
