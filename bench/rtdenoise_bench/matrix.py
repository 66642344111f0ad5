"""Load and delay of every model at every usual rate, in mono and stereo, in both latency modes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from rtdenoise.geometry import Latency
from rtdenoise.live.marks import ANALYSED, OPENED, STEPPED, WRITTEN
from rtdenoise.model import list_models, load_model
from rtdenoise_bench.rig import Rig

RATES_HZ = (8_000, 16_000, 44_100, 48_000, 96_000)
FEW_RATES_HZ = (16_000, 48_000, 96_000)  # what a short report can afford
CHANNELS = (1, 2)
LATENCIES: tuple[Latency, ...] = ("normal", "low")
HOPS = 100


@dataclass(frozen=True)
class Cell:
    """Median microseconds of a hop and of the model in it; ``share`` of the hop's time; the filter's delay."""

    model: str
    rate: int
    channels: int
    latency: str
    hop_us: float
    model_us: float
    share: float
    delay_ms: float


def cells(rates: tuple[int, ...] = RATES_HZ) -> Iterator[Cell]:
    """Measure one cell after the other."""
    models = [load_model(info.path) for info in list_models()]
    for model, rate, channels, latency in product(models, rates, CHANNELS, LATENCIES):
        with Rig(model, rate, channels, latency) as rig:
            rig.back_to_back(HOPS // 2)
            marks = rig.back_to_back(HOPS).marks
            hop = np.median(marks[:, WRITTEN] - marks[:, OPENED]) / 1000
            step = np.median(marks[:, STEPPED] - marks[:, ANALYSED]) / 1000
            d = rig.denoiser
            lasts_us = 1e6 * rig.hop / rate
            yield Cell(
                model.name, rate, channels, latency, float(hop), float(step), float(hop / lasts_us), d.latency_ms
            )
