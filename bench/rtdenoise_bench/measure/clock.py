"""What compiled code needs to keep time: sleep until a moment, and look how well this machine lets one do that.

The figures are the machine's noise floor: no measurement here can be finer, and no real-time program on it steadier.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise.live import realtime, ring
from rtdenoise.live.ring import Rings, now_ns
from rtdenoise.native.fft import jit
from rtdenoise.native.intrinsics import call3
from rtdenoise_bench.measure.times import Times, times

T = TypeVar("T")
STALL_US = 100.0  # A longer interval between two readings of the clock is a stall.
WAKE_MS = 2.0  # The interval between two wake-ups of the test.
WITNESS_PRIORITY = 90  # Above all that carries sound, servers too: what holds up a witness is not a fault of theirs.
WATCHED = 50  # wake-ups of a witness, then it looks whether it must end


@dataclass(frozen=True)
class Noise:
    """``reading_ns`` is the cost of reading the clock; ``stalls`` gaps of a busy loop beyond `STALL_US` in ``spun_s``,
    the longest ``longest_us``; ``wake_up`` the wake-up latency of a sleeping thread, by the priority it has."""

    reading_ns: float
    spun_s: float
    stalls: int
    stolen_share: float
    longest_us: float
    wake_up: dict[str, Times]


def sleep_address() -> int:
    """Address of ``nanosleep(timespec *, timespec *)``; `UsageError` where there is none."""
    if sys.platform == "win32":
        raise UsageError("real-time pacing needs nanosleep, which Windows lacks; measure with `rtdenoise-bench live`")
    address = ctypes.cast(ctypes.CDLL(None).nanosleep, ctypes.c_void_p).value
    assert address
    return address


@jit
def sleep_until(control, nanosleep, timespec, due_ns):
    """Sleep without the GIL until the monotonic clock shows ``due_ns``; timespec int64 ``[2]``."""
    left = due_ns - now_ns(control, ring.CAPTURE_SCRATCH)
    while left > 0:
        timespec[0], timespec[1] = left // 1_000_000_000, left % 1_000_000_000
        call3(nanosleep, (timespec.ctypes.data, 0, 0))
        left = due_ns - now_ns(control, ring.CAPTURE_SCRATCH)


@jit
def _wake_ups(control, nanosleep, timespec, period_ns, late_ns):
    due = now_ns(control, ring.CAPTURE_SCRATCH)
    for k in range(late_ns.size):
        due += period_ns
        sleep_until(control, nanosleep, timespec, due)
        late_ns[k] = now_ns(control, ring.CAPTURE_SCRATCH) - due


@jit
def _spin(control, length_ns, stall_ns, gaps):
    """Read the clock without a pause; gaps beyond ``stall_ns`` go into ``gaps``. Returns readings and gaps found."""
    began = last = now_ns(control, ring.CAPTURE_SCRATCH)
    readings = found = 0
    while last - began < length_ns:
        now = now_ns(control, ring.CAPTURE_SCRATCH)
        readings += 1
        if now - last > stall_ns and found < gaps.size:
            gaps[found] = now - last
            found += 1
        last = now
    return readings, found


def measure(seconds: float = 1.0) -> Noise:
    """Look for ``seconds``: a quarter spinning, the rest asleep, at a worker's priority and without any."""
    control, gaps = Rings(192, 1, 48_000).control, np.zeros(10_000, np.int64)
    _spin(control, 1000, 1000, gaps)
    spin_s = seconds / 4
    (readings, found), _ = at_priority(
        realtime.WORKER_PRIORITY, lambda: _spin(control, int(spin_s * 1e9), int(STALL_US * 1000), gaps)
    )
    gaps = gaps[:found]
    quiet_ns = spin_s * 1e9 - gaps.sum()
    wake_up = {}
    try:
        late = np.zeros(round(0.375 * seconds * 1000 / WAKE_MS), np.int64)
        arguments = control, sleep_address(), np.zeros(2, np.int64), int(WAKE_MS * 1e6)
        _wake_ups(*arguments, late[:1])
        for priority in (realtime.WORKER_PRIORITY, None):
            _, got = at_priority(priority, lambda: _wake_ups(*arguments, late))
            wake_up[got] = times(late / 1000)
    except UsageError:
        pass  # what needs it says so itself
    longest = float(gaps.max() / 1000) if found else 0.0
    return Noise(
        float(quiet_ns / max(1, readings)), spin_s, found, float(gaps.sum() / (spin_s * 1e9)), longest, wake_up
    )


class Witness:
    """A thread that sleeps and wakes, `WAKE_MS` each, above all audio's priority while this holds: what makes it late
    is the host, and would make any audio late."""

    def __init__(self) -> None:
        self._late_ns: list[np.ndarray] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        control, timespec = Rings(192, 1, 48_000).control, np.zeros(2, np.int64)
        arguments = control, sleep_address(), timespec, int(WAKE_MS * 1e6)
        _wake_ups(*arguments, np.zeros(1, np.int64))
        if realtime.elevate(threading.get_native_id(), WITNESS_PRIORITY) != "fifo":
            return  # Without priority it is late for many reasons.
        while not self._ended.is_set():
            late_ns = np.zeros(WATCHED, np.int64)
            _wake_ups(*arguments, late_ns)
            self._late_ns.append(late_ns)

    @property
    def late_ms(self) -> float:
        """One wake-up in a hundred was later than this; 0 where the system grants no priority."""
        return float(np.percentile(np.concatenate(seen), 99)) / 1e6 if (seen := self._late_ns[:]) else 0.0


def at_priority(priority: int | None, work: Callable[[], T]) -> tuple[T, str]:
    """Run ``work`` on a thread of that real-time priority (None: as usual); its result and the scheduling granted."""
    done: list = []

    def run() -> None:
        got = "normal" if priority is None else realtime.elevate(threading.get_native_id(), priority)
        done.extend((work(), got))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if not done:
        raise RuntimeError("a measurement failed; see above")
    return done[0], done[1]
