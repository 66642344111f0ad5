"""Load and latency of every model at every usual rate, in mono and stereo, in both latency modes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import numpy as np

from rtdenoise.geometry import Latency
from rtdenoise.live.trace import ANALYSED, OPENED, STEPPED, WRITTEN
from rtdenoise.model.registry import list_models, load_model
from rtdenoise_bench.testbed.harness import Harness

RATES_HZ = (8_000, 16_000, 44_100, 48_000, 96_000)
FEW_RATES_HZ = (16_000, 48_000, 96_000)  # These are the rates of a short report.
CHANNELS = (1, 2)
LATENCIES: tuple[Latency, ...] = ("normal", "low")
SWEEPS, HOPS = 3, 40  # Each cell is measured several times, so that a single slow moment is recognised.


@dataclass(frozen=True)
class Cell:
    """Median microseconds of a hop and of the model in it; ``share`` of the hop's time; the filter's latency; ``noise``
    is the relative spread of the visits' medians."""

    model: str
    rate: int
    channels: int
    latency: str
    hop_us: float
    model_us: float
    share: float
    latency_ms: float
    noise: float


def cells(rates: tuple[int, ...] = RATES_HZ) -> list[Cell]:
    """Measure every cell, a model after the other."""
    found = []
    for info in list_models():
        model = load_model(info.path)
        with ExitStack() as stack:
            harnesses = [
                stack.enter_context(Harness(model, *setting)) for setting in product(rates, CHANNELS, LATENCIES)
            ]
            for harness in harnesses:
                harness.back_to_back(HOPS)
            sweeps = [[harness.back_to_back(HOPS).trace for harness in harnesses] for _ in range(SWEEPS)]
            found += [
                _cell(harness, list(trace)) for harness, trace in zip(harnesses, zip(*sweeps, strict=True), strict=True)
            ]
    return found


def _cell(harness: Harness, visits: list[np.ndarray]) -> Cell:
    hops = [(trace[:, WRITTEN] - trace[:, OPENED]) / 1000 for trace in visits]
    steps = np.concatenate([trace[:, STEPPED] - trace[:, ANALYSED] for trace in visits]) / 1000
    medians, hop_us = [float(np.median(h)) for h in hops], float(np.median(np.concatenate(hops)))
    d = harness.denoiser
    share = hop_us * d.rate / harness.hop / 1e6
    noise = (max(medians) - min(medians)) / hop_us
    return Cell(
        d.model.name, d.rate, d.channels, d.latency, hop_us, float(np.median(steps)), share, d.latency_ms, noise
    )
