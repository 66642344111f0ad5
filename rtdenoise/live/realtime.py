"""What the operating system grants to audio: priority for its threads, memory that is not paged out, a quiet collector.

Real-time priority is for two threads only: the one that runs the audio callback, and the worker below it. A library's
other threads stay as they are: one that polls at real-time priority takes the processor from the one that it polls.
Everything here is optional. What was not granted is named, and what was changed is restored.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CALLBACK_PRIORITY, WORKER_PRIORITY = 72, 70  # SCHED_FIFO: the callback before the worker, both below a server's own 75
FALLBACK_NICE = -11
LOCK_CURRENT, LOCK_FUTURE, LOCK_ON_FAULT = 1, 2, 4  # mlockall: pages stay once touched, untouched ones cost nothing


def elevate(thread: int, priority: int) -> str:
    """Best scheduling to be had for a thread of this process (by native id): ``"fifo"``, ``"nice"`` or ``"normal"``."""
    if not hasattr(os, "sched_setscheduler") or not os.path.exists(f"/proc/self/task/{thread}"):
        return "normal"
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
        return "fifo"
    except OSError:
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, thread, FALLBACK_NICE)
        return "nice"
    except OSError:
        return "normal"


def priority(thread: int) -> int:
    """Real-time priority of a thread of this process (by native id); 0 if it has none, or is gone."""
    try:
        return os.sched_getparam(thread).sched_priority if os.path.exists(f"/proc/self/task/{thread}") else 0
    except (OSError, AttributeError):
        return 0


@contextmanager
def quiet_memory() -> Iterator[bool]:
    """Lock memory and freeze what the collector would scan, while audio runs; yields whether memory was locked."""
    locked = False
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        locked = libc.mlockall(LOCK_CURRENT | LOCK_FUTURE | LOCK_ON_FAULT) == 0
    gc.collect()
    gc.freeze()
    try:
        yield locked
    finally:
        gc.unfreeze()
        if locked:
            libc.munlockall()
