"""What the operating system grants to audio: priority for its threads, memory that is not paged out, a quiet collector.

Real-time priority is for two threads only: the one that runs the audio callback, and the worker below it. A library's
other threads stay as they are: one that polls at real-time priority takes the processor from the one that it polls.
Everything here is optional. What was not granted is named, and what was changed is restored. What changes the whole
process (`ProcessWide`) is for the command line's own, or for want of another way.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

CALLBACK_PRIORITY, WORKER_PRIORITY = 72, 70  # SCHED_FIFO: the callback before the worker, both below a server's own 75
FALLBACK_NICE = -11
# Flags of mlockall: pages stay once they have been touched, and untouched ones cost nothing.
LOCK_CURRENT, LOCK_FUTURE, LOCK_ON_FAULT = 1, 2, 4
CAP_IPC_LOCK = 14  # The bit of the capability to lock memory without a limit.
ROOM_BYTES = 64 << 20  # This much must remain below a limit: a stack that cannot grow ends the process.
SWITCH_INTERVAL_S = 1e-4  # Another thread may keep the GIL this long while a thread that carries sound waits for it.

T = TypeVar("T")


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


class ProcessWide(Generic[T]):
    """A change of the whole process that several sessions may want at once: the first makes it, the last undoes it."""

    def __init__(self, change: Callable[[], AbstractContextManager[T]]):
        self._change = change
        self._lock, self._stack, self._users = threading.Lock(), ExitStack(), 0

    @contextmanager
    def __call__(self) -> Iterator[T]:
        with self._lock:
            if self._users == 0:
                self._value = self._stack.enter_context(self._change())
            self._users += 1
        try:
            yield self._value
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._stack.close()


@ProcessWide
@contextmanager
def quiet_memory() -> Iterator[bool]:
    """Keep all memory from being paged out, and the collector from scanning what is there; for a process that does
    nothing but live audio. Yields whether memory was locked."""
    locked = sys.platform == "linux" and (flags := _lock_flags()) and ctypes.CDLL(None).mlockall(flags) == 0
    collected = gc.get_freeze_count() == 0
    if collected:
        gc.collect()
        gc.freeze()
    try:
        yield bool(locked)
    finally:
        if collected:
            gc.unfreeze()
        if locked:
            ctypes.CDLL(None).munlockall()


def _lock_flags() -> int:
    """What may be locked: all that is and will be where there is no limit; what is, under a wide one, since memory that
    cannot be locked would then not be had at all; nothing under a narrow one."""
    import resource

    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or int(status["CapEff"], 16) >> CAP_IPC_LOCK & 1:
        return LOCK_CURRENT | LOCK_FUTURE | LOCK_ON_FAULT
    return LOCK_CURRENT | LOCK_ON_FAULT if 1024 * int(status["VmSize"].split()[0]) + ROOM_BYTES < limit else 0


@ProcessWide
@contextmanager
def eager_switching() -> Iterator[None]:
    """Let threads that wait for the GIL have it soon, where audio cannot do without it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        if abs(sys.getswitchinterval() - SWITCH_INTERVAL_S) < 1e-6:  # Nobody has chosen another one meanwhile.
            sys.setswitchinterval(before)


@contextmanager
def locked(address: int, size: int) -> Iterator[bool]:
    """Keep these pages, which nothing else lies on, from being paged out; yields whether that is granted."""
    libc = None if sys.platform == "win32" else ctypes.CDLL(None)
    place = ctypes.c_void_p(address), ctypes.c_size_t(size)
    granted = libc is not None and libc.mlock(*place) == 0
    try:
        yield granted
    finally:
        if libc is not None and granted:
            libc.munlock(*place)
