"""The memory that the audio callbacks and the worker share, and the rule that keeps the latency constant.

    PortAudio thread                worker thread (no GIL)                    PortAudio thread
    capture callback ──▶ captured ──▶ STFT ▸ model ▸ blend ▸ ISTFT ──▶ played ──▶ play callback
                   IN_HEAD      IN_TAIL                        OUT_HEAD      OUT_TAIL
                        └── semaphore ──▲        Python reads counters, and writes only STOP and CUT requests

Positions count frames since the stream began and only grow; ``position % capacity`` is the place in memory. The rings
are *timelines*: each end moves with its device and never waits. The play callback takes ``[tail, tail + n)`` whether
it has been written or not, and plays a short fade where it has not. Audio that the worker finishes after its place
has been played is in the past and stays unheard. So a stall costs a dropout as long as itself and never adds latency:
there is no debt to count or to forget.

Each slot has one writer, and each writer cache lines of its own, so no lock is needed and no core waits for another's
line.
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

# About one second: longer than any stall worth bridging. A multiple of the hop, so that no hop ever wraps.
RING_HOPS = 256
RECORDED_HOPS = 2048  # About eight seconds: longer than a disk or Python itself keeps a recording waiting.

# The control block: int64 slots, each with one writer. Every line states a slot's index, unit and meaning. Indices
# and not the fields of a record dtype, since compiled code passes a slot's place to `load_acquire` and `store_release`,
# which a field has not. Set before audio starts, constant afterwards:
CAPACITY = 0  # frames: length of the captured and of the played ring
CHANNELS = 1  # channels: of the filter and of both rings
CAPTURE_CHANNELS = 2  # channels: of the input device
PLAY_CHANNELS = 3  # channels: of the output device
CAPTURED = 4  # address: the captured ring
PLAYED = 5  # address: the played ring
RATE = 6  # Hz: of both devices
LAST_FRAME = 7  # address: the frame that was played last, from which a fade begins
POST = 8  # address: the function that posts the semaphore
WAIT = 9  # address: the function that waits for it
SEMAPHORE = 10  # address: the semaphore itself, or its handle
CLOCK = 11  # address: the function that reads the monotonic clock
CLOCK_ID = 12  # enum: that function's first argument; -1 is Windows' performance counter
CAPTURE_TIMES = 13  # address: histogram of the input callback's durations
PLAY_TIMES = 14  # address: histogram of the output or duplex callback's durations
HOP = 15  # frames: of one hop
THREAD_ID = 88  # address: the function that tells a thread its native id; 0 where there is none
CLOCK_HZ = 89  # Hz: of Windows' performance counter; other clocks count nanoseconds
GATHER = 90  # hops: that must be ready before the worker takes any; 0 and 1 are each as it comes
# Written by the input or duplex callback:
IN_HEAD = 16  # frames: captured so far
IN_TIME = 17  # ns: when the last callback began; 0 while there is none
IN_BLOCK = 18  # frames: most in one callback
IN_XRUNS = 19  # count: under- and overflows that PortAudio reports
CAPTURE_SCRATCH = 20  # scratch: two slots for the clock's answer
CAPTURE_THREAD = 22  # id: of the thread that calls back; 0 before its first call
# Written by the output or duplex callback:
OUT_TAIL = 24  # frames: taken by the output so far
OUT_TIME = 25  # ns: when the last callback began; 0 while there is none
OUT_BLOCK = 26  # frames: most in one callback
OUT_XRUNS = 27  # count: under- and overflows that PortAudio reports
PLAY_SCRATCH = 28  # scratch: two slots for the clock's answer
PLAY_THREAD = 30  # id: of the thread that calls back; 0 before its first call
UNDERRUNS = 32  # count: callbacks that found too little to play
DROPOUT_FRAMES = 33  # frames: that were faded or silent for want of sound
SLACK = 34  # frames: smallest reserve that a callback found in this round
SLACK_ROUND = 35  # count: the round that SLACK is of
CUT_DONE = 36  # frames: skipped so far to shorten the latency
FADE = 37  # frames: of the fade-in that are done
HEARD_FRAMES = 38  # frames: played in time
# Written by the worker:
IN_TAIL = 40  # frames: taken from the captured ring
MUTE_FADE = 41  # frames: of the fade to silence that are done; 0 is full sound
OUT_HEAD = 48  # frames: up to which the played ring is written
PRIMED = 56  # flag: the output's timeline is tied to the input's, so underruns count
WORKER_SCRATCH = 57  # scratch: two slots for the clock's answer
STALE = 59  # frames: that a model with look-ahead will give first, though they were due before it was skipped
SIZED_FOR = 60  # frames: of the callbacks that PREFILL was found for; 0 where it was given
HOPS = 64  # hops: processed
REUSED_GAINS = 65  # hops: that reused the last gains
SKIPPED_FRAMES = 66  # frames: of input skipped after a long stall
PATIENCE = 67  # hops: that reuse gains after the next step that outlasts the buffer
HOLDING = 68  # hops: that are still to reuse gains
STATUS = 69  # address: of ONNX Runtime's error; 0 is none, 1 an error of the Python worker
FAULTS = 70  # samples: of the filter's output that were not finite
ANCHORED = 71  # count: the value of ANCHOR that has been carried out
CUT_WANTED = 72  # frames: to be skipped so far in all
SLACK_ROUND_WANTED = 73  # count: the round that the output shall measure SLACK in
TARGET = 74  # frames: of latency between both callbacks on two clocks; 0 until it is known
RESYNCS = 75  # count: jumps that restored the latency
WINDOW_HOPS = 76  # hops: in this window of the steering
STEP_NS = 77  # ns: usual time of a model step
OFFSET = 78  # frames: from a frame's place in one ring to its place in the other
RECORDED_HEAD = 79  # frames: written to the recorded ring
# Written by Python:
STOP = 80  # flag: the worker shall end
SPLIT = 81  # flag: two streams on two clocks
PREFILL = 82  # frames: that the output's timeline begins ahead
FIXED_TARGET = 83  # frames: of TARGET where it is given; 0 where it is found
RESERVE = 84  # frames: that the output shall find left over in its worst usual moment
ANCHOR = 85  # count: times that the timelines were to be tied together, once for each start of a stream
FILE_END = 86  # enum: the end that is a file and has no clock, see below
WANTED = 87  # frames: of TARGET that a latency target allows; 0 where there is none
MUTED = 96  # flag: the output shall be silent
SLOTS = 104  # count: slots in all
NO_FILE, FILE_IN, FILE_OUT = range(3)  # The values of FILE_END.

FADE_FRAMES = 64  # 1.3 ms at 48 kHz: long enough not to click, too short to be noticed.
MUTE_HOPS = 2  # A mute fades for 8 ms or so: too long to click, too short to be waited for.
HISTOGRAM_BINS, BINS_PER_OCTAVE = 256, 16  # Durations from 1 us to 65 ms, in steps of 4.4 %.


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


def mute_settled(control: np.ndarray) -> bool:
    """Whether the fade to silence, or back, is done."""
    return bool(control[MUTE_FADE] == (MUTE_HOPS * control[HOP] if control[MUTED] else 0))


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
