"""When each hop passed each stage of the worker: a row of clock readings a hop, for `rtdenoise-bench`.

Off unless asked for: with None in place of the array, compiled code holds no trace of it.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.live import ring
from rtdenoise.live.ring import now_ns
from rtdenoise.native.fft import jit

# Columns: the hop's first frame in the captured and in the played timeline, what was done with it; then monotonic ns
IN_AT, OUT_AT, ACTION, OPENED, ANALYSED, STEPPED, BLENDED, WRITTEN = range(8)


def make_trace(hops: int) -> np.ndarray:
    """int64 ``[hops, 8]`` for `Worker.record_trace`; hop k is row ``k % hops``. Touched, so that no page is missing."""
    return np.full((hops, 8), -1, np.int64)


@jit
def record_time(trace: np.ndarray | None, control: np.ndarray, column: int) -> None:
    """Note the time in the row of the hop at hand."""
    if trace is not None:
        trace[control[ring.HOPS] % trace.shape[0], column] = now_ns(control, ring.WORKER_SCRATCH)


@jit
def repeat_times(trace: np.ndarray | None, control: np.ndarray) -> None:
    """The hop at hand has been through the model with the one before it: up to there the times are the same."""
    if trace is not None:
        row, before = control[ring.HOPS] % trace.shape[0], (control[ring.HOPS] - 1) % trace.shape[0]
        for column in (OPENED, ANALYSED, STEPPED):
            trace[row, column] = trace[before, column]


@jit
def record(trace: np.ndarray | None, control: np.ndarray, column: int, value: int) -> None:
    """Note a number in the row of the hop at hand."""
    if trace is not None:
        trace[control[ring.HOPS] % trace.shape[0], column] = value
