"""Faults injected on purpose, to check that measurements find them: a model that stalls, and one that takes no time.

Both take the place of ONNX Runtime's ``Run`` in the arguments of a compiled model step, so the worker around them is
the one that runs live.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from rtdenoise.model.native_session import RUN, SESSION
from rtdenoise.native.compilation import callback, carray
from rtdenoise.native.intrinsics import call3, call8, pointer
from rtdenoise_bench.measure.clock import sleep_address

COUNT, EVERY, STALLED, SLEEP, SECONDS, NANOSECONDS, TRUE_RUN, TRUE_SESSION = range(8)
_run = callback(f"int64({', '.join(['int64'] * 8)})")


@_run
def _nothing(session, options, names, inputs, count, output_names, output_count, outputs):
    return 0


@_run
def _stalling(session, options, names, inputs, count, output_names, output_count, outputs):
    plan = carray(pointer(session), (8,), np.int64)
    plan[COUNT] += 1
    if plan[COUNT] % plan[EVERY] == 0:
        plan[STALLED] += 1
        call3(plan[SLEEP], (plan.ctypes.data + 8 * SECONDS, 0, 0))
    return call8(
        plan[TRUE_RUN], (plan[TRUE_SESSION], options, names, inputs, count, output_names, output_count, outputs)
    )


@contextlib.contextmanager
def without_model(step: np.ndarray) -> Iterator[None]:
    """While this holds, a model step (``step``: the last of `Worker.hop_arguments`) does nothing."""
    before = step[:, RUN].copy()
    step[:, RUN] = _nothing.address
    try:
        yield
    finally:
        step[:, RUN] = before


@contextlib.contextmanager
def stalls(step: np.ndarray, every: int, stall_ms: float) -> Iterator[np.ndarray]:
    """While this holds, one in ``every`` model steps of as many frames first sleeps; yields the plan, a row for each
    number of frames, whose column `STALLED` counts them."""
    plan = np.zeros((len(step), 8), np.int64)
    plan[:] = 0, every, 0, sleep_address(), 0, round(1e6 * stall_ms), 0, 0
    plan[:, TRUE_RUN], plan[:, TRUE_SESSION] = step[:, RUN], step[:, SESSION]
    step[:, RUN] = _stalling.address
    step[:, SESSION] = [row.ctypes.data for row in plan]
    try:
        yield plan
    finally:
        step[:, RUN], step[:, SESSION] = plan[:, TRUE_RUN], plan[:, TRUE_SESSION]
