"""The memory that the audio callbacks and the worker share, and the rule that keeps the delay constant.

    PortAudio thread                worker thread (no GIL)                    PortAudio thread
    capture callback ──▶ captured ──▶ STFT ▸ model ▸ blend ▸ ISTFT ──▶ played ──▶ play callback
                   IN_HEAD      IN_TAIL                        OUT_HEAD      OUT_TAIL
                        └── semaphore ──▲        Python reads counters, and writes only STOP and CUT requests

Positions count frames since the stream began and only grow; ``position % capacity`` is the place in memory. The rings
are *timelines*: each end moves with its device and never waits. The play callback takes ``[tail, tail + n)`` whether
it has been written or not, and plays a short fade where it has not. Audio that the worker finishes after its place
has been played is in the past and stays unheard. So a stall costs a gap as long as itself and never adds delay: there
is no debt to count or to forget.

One writer a slot, and a cache line a writer, so no lock exists and no core waits for another's line.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rtdenoise.live import realtime
from rtdenoise.native.fft import inline, jit
from rtdenoise.native.intrinsics import call3, load_acquire

RING_HOPS = 256  # about one second: longer than any stall worth bridging; a multiple of the hop, so no hop ever wraps
RECORDED_HOPS = 2048  # about eight seconds: longer than a disk or Python itself keeps a recording waiting

# Set before audio starts, constant afterwards
CAPACITY, CHANNELS, CAPTURE_CHANNELS, PLAY_CHANNELS, CAPTURED, PLAYED, RATE, LAST_FRAME = range(8)
POST, WAIT, SEMAPHORE, CLOCK, CLOCK_ID, CAPTURE_TIMES, PLAY_TIMES, HOP = range(8, 16)
# Written by the capture callback; the thread's native id at its first call
IN_HEAD, IN_TIME, IN_BLOCK, IN_XRUNS, CAPTURE_SCRATCH = 16, 17, 18, 19, 20  # scratch: two slots for the clock
CAPTURE_THREAD = 22
# Written by the play callback
OUT_TAIL, OUT_TIME, OUT_BLOCK, OUT_XRUNS, PLAY_SCRATCH = 24, 25, 26, 27, 28
PLAY_THREAD = 30
UNDERRUNS, SILENT_FRAMES, SLACK, SLACK_ROUND, CUT_DONE, FADE, HEARD_FRAMES = range(32, 39)
# Written by the worker
IN_TAIL, OUT_HEAD, PRIMED, WORKER_SCRATCH = 40, 48, 56, 57
HOPS, HOLDS, SKIPPED_FRAMES, PATIENCE, HOLDING, STATUS, FAULTS, ANCHORED = range(64, 72)
CUT_WANTED, SLACK_ROUND_WANTED, TARGET, RESYNCS, WINDOW_HOPS, STEP_NS = range(72, 78)
OFFSET = 78  # from a frame's place in one ring to its place in the other
RECORDED_HEAD = 79
# Written by Python; frames
STOP, SPLIT, PREFILL, FIXED_TARGET, RESERVE, ANCHOR, FILE_END, WANTED = range(80, 88)
GATHER = 90  # hops that must lie ready before the worker takes any: 0 and 1 for each as it comes
CLOCK_HZ = 89  # of Windows' performance counter, set before audio starts; other clocks count nanoseconds
THREAD_ID = 88  # address of what tells a thread its native id, set before audio starts; 0: nothing does
SLOTS = 96
NO_FILE, FILE_IN, FILE_OUT = range(3)  # values of FILE_END: which end, if any, is a file and has no clock

FADE_FRAMES = 64  # 1.3 ms at 48 kHz: long enough not to click, short enough not to be missed
HISTOGRAM_BINS, BINS_PER_OCTAVE = 256, 16  # durations from 1 us to 65 ms, 4.4 % apart


class Semaphore:
    """The system's counting semaphore by address: what a callback may post and a worker without GIL can wait on.

    ``post(semaphore, 1, 0)`` and ``wait(semaphore, forever, 0)`` suit POSIX, Grand Central Dispatch and Windows alike.
    """

    def __init__(self) -> None:
        if sys.platform == "win32":
            library = ctypes.WinDLL("kernel32")
            library.CreateSemaphoreW.restype = ctypes.c_void_p
            self.handle = library.CreateSemaphoreW(None, 0, 2**30, None)
            post, wait = library.ReleaseSemaphore, library.WaitForSingleObject
        elif sys.platform == "darwin":
            library = ctypes.CDLL(None)
            library.dispatch_semaphore_create.restype = ctypes.c_void_p
            self.handle = library.dispatch_semaphore_create(0)
            post, wait = library.dispatch_semaphore_signal, library.dispatch_semaphore_wait
        else:
            library = ctypes.CDLL(None)
            self._memory = ctypes.create_string_buffer(64)
            library.sem_init(self._memory, 0, 0)
            self.handle = ctypes.addressof(self._memory)
            post, wait = library.sem_post, library.sem_wait
        self.post_address, self.wait_address = (ctypes.cast(f, ctypes.c_void_p).value for f in (post, wait))


class Rings:
    """Both rings and the control slots of one running stream.

    ``control`` int64 ``[SLOTS]``; ``captured`` and ``played`` float32 ``[capacity, channels]``; ``capture_times`` and
    ``play_times`` are histograms of callback durations. A callback receives the address of ``control`` and finds the
    rest there, so the object must outlive the streams. ``recorded`` takes a copy of what leaves the filter, for a file;
    without ``record`` it has no length, and nothing is copied.
    """

    def __init__(
        self,
        hop: int,
        channels: int,
        rate: int,
        capture_channels: int = 0,
        play_channels: int = 0,
        record: bool = False,
    ):
        self.hop = hop
        capacity, kept = hop * RING_HOPS, hop * RECORDED_HOPS if record else 0
        words, frames = SLOTS + 2 * HISTOGRAM_BINS, 2 * capacity + kept + 1
        self._memory = _pages(8 * words + 4 * frames * channels)
        numbers, samples = self._memory[: 8 * words].view(np.int64), self._memory[8 * words :].view(np.float32)
        self.control, self.capture_times, self.play_times = np.split(numbers, [SLOTS, SLOTS + HISTOGRAM_BINS])
        places = np.cumsum([capacity, capacity, kept])
        self.captured, self.played, self.recorded, last = np.split(samples.reshape(frames, channels), places)
        self._last_frame = last[0]
        self._semaphore = Semaphore()
        c = self.control
        c[CAPACITY], c[CHANNELS], c[RATE], c[HOP] = capacity, channels, rate, hop
        c[CAPTURE_CHANNELS], c[PLAY_CHANNELS] = capture_channels or channels, play_channels or channels
        c[CAPTURED], c[PLAYED] = self.captured.ctypes.data, self.played.ctypes.data
        c[LAST_FRAME] = self._last_frame.ctypes.data
        c[CAPTURE_TIMES], c[PLAY_TIMES] = self.capture_times.ctypes.data, self.play_times.ctypes.data
        s = self._semaphore
        for slot, value in ((POST, s.post_address), (WAIT, s.wait_address), (SEMAPHORE, s.handle)):
            c[slot] = value or 0
        c[CLOCK], c[CLOCK_ID], c[CLOCK_HZ] = _clock()
        c[THREAD_ID] = _thread_id()
        self._memory[:: mmap.PAGESIZE] |= 0  # touch every page now, not in the callback

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """While this holds, none of this is paged out; yields whether the system grants that."""
        with realtime.locked(self._memory.ctypes.data, self._memory.nbytes) as granted:
            yield granted

    @property
    def address(self) -> int:
        """What a callback gets as its user data."""
        return self.control.ctypes.data

    def post(self) -> None:
        """Wake the worker."""
        post = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * 3)(int(self.control[POST]))
        post(int(self.control[SEMAPHORE]), 1, 0)


def _pages(size: int) -> np.ndarray:
    """uint8 zeros on pages of their own, which go when the last array over them does."""
    private = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    return np.frombuffer(mmap.mmap(-1, size, **private), np.uint8)


def _clock() -> tuple[int, int, int]:
    """Address of the monotonic clock's reader, its first argument (-1: Windows' performance counter), and its Hz."""
    if sys.platform == "win32":
        counter, hz = ctypes.WinDLL("kernel32"), ctypes.c_int64()
        counter.QueryPerformanceFrequency(ctypes.byref(hz))
        return ctypes.cast(counter.QueryPerformanceCounter, ctypes.c_void_p).value or 0, -1, hz.value
    reader = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value or 0
    return reader, time.CLOCK_MONOTONIC, 1_000_000_000


def _thread_id() -> int:
    """Address of what tells a thread its native id, or 0."""
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "gettid"):
        return 0
    return ctypes.cast(library.gettid, ctypes.c_void_p).value or 0


@inline
def now_ns(control: np.ndarray, scratch: int) -> int:
    """Monotonic time in ns; ``scratch`` is a pair of slots of the calling thread's own."""
    address = control.ctypes.data + 8 * scratch
    if control[CLOCK_ID] < 0:
        call3(control[CLOCK], (address, 0, 0))
        ticks, hz = control[scratch], control[CLOCK_HZ]
        return int(ticks // hz * 1_000_000_000 + ticks % hz * 1_000_000_000 // hz)
    call3(control[CLOCK], (control[CLOCK_ID], address, 0))
    return int(control[scratch] * 1_000_000_000 + control[scratch + 1])


@jit
def read(control: np.ndarray, slot: int) -> int:
    """A slot for Python: what its writer wrote before it is visible."""
    return int(load_acquire(control, slot))


@inline
def count_duration(histogram: np.ndarray, ns: int) -> None:
    """Add one duration to a histogram; `percentile_us` reads it."""
    octaves = np.log2(max(ns, 1) / 1000.0)
    histogram[min(max(int(octaves * BINS_PER_OCTAVE), 0), HISTOGRAM_BINS - 1)] += 1


def percentile_us(histogram: np.ndarray, percent: float) -> float:
    """Microseconds that ``percent`` of the durations stay below (upper edge of the bin); 0 if there are none."""
    total = histogram.sum()
    if total == 0:
        return 0.0
    k = int(np.searchsorted(histogram.cumsum(), total * percent / 100))
    return float(2 ** ((min(k, HISTOGRAM_BINS - 1) + 1) / BINS_PER_OCTAVE))
