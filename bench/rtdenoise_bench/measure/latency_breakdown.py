"""The latency of a hop's first frame through live audio, stage by stage, from the clocks of callbacks and worker.

device in ─▶ ring in ─▶ wake-up ─▶ compute ─▶ algorithm ─▶ ring out ─▶ device out
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise.live.trace import IN_AT, OPENED, OUT_AT, WRITTEN
from rtdenoise_bench.testbed.traced_callback import AT, FRAMES, IN_FROM, OUT_FROM

STAGES = "device in", "ring in", "wake-up", "compute", "algorithm", "ring out", "device out"
When = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of frames and the blocks they are in: seconds, monotonic


@dataclass(frozen=True)
class LatencyStage:
    """One stage of the latency; ``ms`` is its mean, ``meaning`` its explanation."""

    name: str
    ms: float
    meaning: str


def latency_breakdown(
    log_in: np.ndarray,
    log_out: np.ndarray,
    trace: np.ndarray,
    hop: int,
    filter_ms: float,
    came_in: When,
    came_out: When,
) -> tuple[list[LatencyStage], np.ndarray, np.ndarray]:
    """Mean ms of each stage for a hop's first frame; and of each hop the wake-up and the completion latency, in ms."""
    at, to = trace[:, IN_AT], trace[:, OUT_AT]
    block = np.searchsorted(log_in[:, IN_FROM], at, "right") - 1
    last = np.searchsorted(log_in[:, IN_FROM], at + hop - 1, "right") - 1
    out = np.searchsorted(log_out[:, OUT_FROM], to, "right") - 1
    known = (block >= 0) & (out >= 0)
    known &= (at - log_in[block, IN_FROM] < log_in[block, FRAMES]) & (
        to - log_out[out, OUT_FROM] < log_out[out, FRAMES]
    )
    known &= log_out[out, AT] > trace[:, WRITTEN]  # A hop that was written after its time was never heard.
    if not known.any():
        raise UsageError("no hop could be traced from end to end; is the machine overloaded?")
    at, to, trace, block, last, out = (v[known] for v in (at, to, trace, block, last, out))
    captured, complete, played = log_in[block, AT], log_in[last, AT], log_out[out, AT]
    rows = (
        (captured / 1e6 - 1000 * came_in(at, block), "until its block is handed over"),
        ((complete - captured) / 1e6, "until its hop is complete"),
        ((trace[:, OPENED] - complete) / 1e6, "until the worker begins"),
        ((trace[:, WRITTEN] - trace[:, OPENED]) / 1e6, "transforms, model, blend"),
        (np.full(len(trace), filter_ms), "the filter's window, less the hop counted above"),
        ((played - trace[:, WRITTEN]) / 1e6, "reserve for the worst moment"),
        (1000 * came_out(to, out) - played / 1e6, "until it is heard"),
    )
    stages = [LatencyStage(name, float(np.mean(ms)), text) for name, (ms, text) in zip(STAGES, rows, strict=True)]
    return stages, rows[2][0], rows[2][0] + rows[3][0]
