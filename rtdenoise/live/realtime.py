"""What the operating system grants to audio: priority for its threads, memory that is not paged out, a quiet collector.

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
    """Best scheduling to be had for a thread (by native id): ``"fifo"``, ``"nice"`` or ``"normal"``."""
    if not hasattr(os, "sched_setscheduler"):
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


def threads() -> set[int]:
    """Native ids of this process's threads; empty where the system does not list them."""
    try:
        return {int(t) for t in os.listdir("/proc/self/task")}
    except OSError:
        return set()


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
