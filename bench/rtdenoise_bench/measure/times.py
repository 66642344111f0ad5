"""Durations of many events: percentiles that have enough samples behind them, and a logarithmic histogram."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

BEYOND = 10  # A percentile is reported only if at least this many samples lie beyond it.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
BINS_PER_DECADE = 12
LEAST_US, DECADES = 0.01, 8  # The histogram reaches from 10 ns to 1 s.


@dataclass(frozen=True)
class Times:
    """Durations in microseconds; ``percentiles`` holds what ``count`` samples allow, ``left_out`` says why not more.

    ``histogram`` are counts of bins `BINS_PER_DECADE` to a decade from `LEAST_US` on.
    """

    count: int
    percentiles: dict[str, float]
    most: float
    mean: float
    left_out: str = ""
    histogram: list[int] = field(default_factory=list)

    @property
    def median(self) -> float:
        return self.percentiles.get("p50", float("nan"))

    @property
    def tail(self) -> tuple[str, float]:
        """The highest percentile there is, with its name."""
        return list(self.percentiles.items())[-1] if self.percentiles else ("longest", self.most)


@dataclass(frozen=True)
class Punctuality:
    """Whether hops were ready in time.

    Attributes
    ----------
    wake_up, completion : Times
        From the device's call to the worker's start, and to the hop written.
    misses : int
        Completions later than a hop lasts.
    reused_gains : int
        Hops that reused the last gains of the model.
    underruns : int
        Play calls that found too little.
    scheduling : str
        Priority that the worker got.
    """

    wake_up: Times
    completion: Times
    misses: int
    reused_gains: int
    underruns: int
    scheduling: str


def counted(count: int, what: str) -> str:
    """
    >>> counted(1, "underrun"), counted(2_000, "hop")
    ('1 underrun', '2,000 hops')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def needed(percent: float) -> int:
    """Samples that a percentile needs.

    >>> needed(50), needed(99), needed(99.9)
    (20, 1000, 10000)
    """
    return round(BEYOND / (1 - percent / 100))


def edges_us() -> np.ndarray:
    """Edges of the histogram's bins."""
    return LEAST_US * 10 ** (np.arange(BINS_PER_DECADE * DECADES + 1) / BINS_PER_DECADE)


def times(us: np.ndarray) -> Times:
    """Summary of durations in microseconds."""
    us = np.asarray(us, float)
    if not len(us):
        return Times(0, {}, 0.0, 0.0, "nothing was measured")
    reported = {name: float(np.percentile(us, p)) for name, p in PERCENTILES.items() if len(us) >= needed(p)}
    missing = [f"{name} needs {needed(p):,} samples" for name, p in PERCENTILES.items() if name not in reported]
    edges = edges_us()
    histogram = np.histogram(np.clip(us, edges[0], edges[-1] * 0.999), edges)[0].tolist()
    left_out = f"{', '.join(missing)}; there are {len(us):,}" if missing else ""
    return Times(len(us), reported, float(us.max()), float(us.mean()), left_out, histogram)
