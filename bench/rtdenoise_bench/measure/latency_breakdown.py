"""The way of a hop's first frame through live audio, from the clocks of callbacks and worker.

device in ─▶ ring in ─▶ wake-up ─▶ compute ─▶ algorithm ─▶ ring out ─▶ device out
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise.live.marks import IN_AT, OPENED, OUT_AT, WRITTEN
from rtdenoise_bench.testbed.traced_callback import AT, FRAMES, IN_FROM, OUT_FROM

WAY = "device in", "ring in", "wake-up", "compute", "algorithm", "ring out", "device out"
When = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of frames and the blocks they are in: seconds, monotonic


@dataclass(frozen=True)
class Part:
    """One stretch of the way; ``ms`` is its mean."""

    name: str
    ms: float
    note: str


def split(
    log_in: np.ndarray,
    log_out: np.ndarray,
    marks: np.ndarray,
    hop: int,
    filter_ms: float,
    came_in: When,
    came_out: When,
) -> tuple[list[Part], np.ndarray, np.ndarray]:
    """Mean ms of each part of the way of a hop's first frame; and of each hop the wake-up and the answer, in ms."""
    at, to = marks[:, IN_AT], marks[:, OUT_AT]
    block = np.searchsorted(log_in[:, IN_FROM], at, "right") - 1
    last = np.searchsorted(log_in[:, IN_FROM], at + hop - 1, "right") - 1
    out = np.searchsorted(log_out[:, OUT_FROM], to, "right") - 1
    known = (block >= 0) & (out >= 0)
    known &= (at - log_in[block, IN_FROM] < log_in[block, FRAMES]) & (
        to - log_out[out, OUT_FROM] < log_out[out, FRAMES]
    )
    known &= log_out[out, AT] > marks[:, WRITTEN]  # written after its time: nobody heard it
    if not known.any():
        raise UsageError("no hop can be followed from end to end; is the machine overloaded?")
    at, to, marks, block, last, out = (v[known] for v in (at, to, marks, block, last, out))
    captured, complete, played = log_in[block, AT], log_in[last, AT], log_out[out, AT]
    rows = (
        (captured / 1e6 - 1000 * came_in(at, block), "until its block is handed over"),
        ((complete - captured) / 1e6, "until its hop is complete"),
        ((marks[:, OPENED] - complete) / 1e6, "until the worker begins"),
        ((marks[:, WRITTEN] - marks[:, OPENED]) / 1e6, "transforms, model, blend"),
        (np.full(len(marks), filter_ms), "the filter's window, less the hop counted above"),
        ((played - marks[:, WRITTEN]) / 1e6, "reserve for the worst moment"),
        (1000 * came_out(to, out) - played / 1e6, "until it is heard"),
    )
    parts = [Part(name, float(np.mean(ms)), note) for name, (ms, note) in zip(WAY, rows, strict=True)]
    return parts, rows[2][0], rows[2][0] + rows[3][0]
