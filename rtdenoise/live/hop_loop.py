"""The worker's loop as compiled code: it waits for a callback, then takes hops until none is left, without the GIL.

    semaphore ─▶ open_hops ─▶ model step ─▶ close_hops ─▶ again        (see `rtdenoise.live.hop`)

Knows no thread; `rtdenoise.live.worker` gives it one.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.live import ring
from rtdenoise.live.hop import NOTHING, PASS, RUN, HopBuffers, close_hops, judge_step, open_hops
from rtdenoise.live.ring import now_ns
from rtdenoise.live.trace import ANALYSED, OPENED, STEPPED, record_time
from rtdenoise.model.native_session import step
from rtdenoise.native.fft import jit
from rtdenoise.native.intrinsics import call3, load_acquire

FOREVER = -1


@jit
def wait(control: np.ndarray) -> bool:
    """Sleep until a callback posts.

    Parameters
    ----------
    control : ndarray
        The control block.

    Returns
    -------
    bool
        Whether the worker must end.
    """
    call3(control[ring.WAIT], (control[ring.SEMAPHORE], FOREVER, 0))
    return bool(load_acquire(control, ring.STOP) != 0)


@jit
def next_hops(buffers: HopBuffers, step_times: np.ndarray, steps: np.ndarray, trace: np.ndarray | None) -> int:
    """Take the hops that lie ready through the filter, as many as a step may have.

    Parameters
    ----------
    buffers : HopBuffers
        Where hops are.
    step_times : ndarray
        Histogram of model steps.
    steps : ndarray
        `NativeSteps.arguments`.
    trace : ndarray or None
        Where trace points are noted (`rtdenoise.live.trace`).

    Returns
    -------
    int
        How many hops.
    """
    control = buffers.control
    record_time(trace, control, OPENED)
    action, count = open_hops(buffers, steps.shape[0])
    if action == NOTHING:
        return 0
    record_time(trace, control, ANALYSED)
    if action == RUN:
        began = now_ns(control, ring.WORKER_SCRATCH)
        control[ring.STATUS] = step(steps, count)
        judge_step(control, control[ring.HOP], count, now_ns(control, ring.WORKER_SCRATCH) - began, step_times)
        if control[ring.STATUS] != 0:
            action = PASS
    record_time(trace, control, STEPPED)
    close_hops(buffers, action, count, trace)
    return count


@jit
def hop_loop(buffers: HopBuffers, step_times: np.ndarray, steps: np.ndarray, trace: np.ndarray | None) -> None:
    """Run the whole worker, without the GIL, until STOP.

    Parameters
    ----------
    buffers, step_times, steps, trace
        As for `next_hops`.
    """
    while not wait(buffers.control):
        while next_hops(buffers, step_times, steps, trace):
            pass


@jit
def stopwatch(control: np.ndarray) -> int:
    """Read the worker's clock, from Python.

    Parameters
    ----------
    control
        As for `wait`.

    Returns
    -------
    int
        Nanoseconds since some moment.
    """
    return now_ns(control, ring.WORKER_SCRATCH)
