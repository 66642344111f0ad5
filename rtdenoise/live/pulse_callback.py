"""The callbacks of streams of our own on a PulseAudio server as machine code.

The library's thread calls them when the server has sent sound or wants some. They hand it, where it lies, to the
callback that PortAudio would call (`rtdenoise.live.callback`): nothing is copied twice, and no other thread is woken.

A recording may lie in memory that the server shares. It is read and given back in one call, in the thread that would
wait for it if the server ended: so nothing waits for another (see `rtdenoise.live.pulse_client`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from rtdenoise.live import callback, ring
from rtdenoise.live.pulse_library import address_of
from rtdenoise.live.ring import Rings
from rtdenoise.native import compilation
from rtdenoise.native.compilation import carray
from rtdenoise.native.fft import inline
from rtdenoise.native.intrinsics import call3, call8

Address: TypeAlias = Any  # A C pointer, which exists in compiled code only.
HOLE_FRAMES = 1024  # Lost sound is replaced by silence in pieces of at most this many frames.

# What a callback is given: int64 slots. Set before the first call:
CALLBACK, USER = 0, 1  # address: of the callback that PortAudio would call, and of what that is given
TIMES = 2  # address: of the times that a driver tells with a block, which the server does not: zeros
STREAM = 3  # handle
FRAME_BYTES = 4  # bytes
TAKE, GIVE = 5, 6  # address: of the library's functions that lend a piece of a stream's memory, and take it back
SILENCE = 7  # address: `HOLE_FRAMES` frames of zeros
MOST_FRAMES = 8  # frames: handed over at a time, since a server that stood still asks for all that it missed
LOCK, UNLOCK, LOOP = 9, 10, 11  # address: of what stops the library's thread, and lets it go on; handle of that
LATENCY = 12  # address: of what tells a stream's latency
# Written by the callbacks:
PIECE, SIZE = 13, 14  # address and bytes: what the library lent
FLAGS = 15  # bits: what to tell PortAudio's callback with the next block
LATENCY_US, AHEAD = 16, 17  # microseconds; flag: whether they are to be taken negative
SLOTS = 18
LOST_INPUT, LOST_OUTPUT = 2, 4  # paInputOverflow, paOutputUnderflow
RELATIVE = 0  # PA_SEEK_RELATIVE


@inline
def lend(state: np.ndarray, size: int) -> int:
    """Let the library lend a piece, of ``size`` bytes if it is to be written; how many frames it has."""
    slots = state.ctypes.data
    state[PIECE], state[SIZE] = 0, size
    failed = call3(state[TAKE], (state[STREAM], slots + 8 * PIECE, slots + 8 * SIZE)) & 0x80000000
    return 0 if failed else int(state[SIZE] // state[FRAME_BYTES])


@inline
def hand_over(state: np.ndarray, heard: int, played: int, frames: int) -> None:
    """Call PortAudio's callback."""
    flags = state[FLAGS]
    state[FLAGS] = 0
    call8(state[CALLBACK], (heard, played, frames, state[TIMES], flags, state[USER], 0, 0))


@compilation.callback("void(voidptr, uint64, voidptr)", error_model="numpy")
def read_callback(stream: Address, size: int, user: Address) -> None:
    """The server has sent sound, maybe with holes where it lost some."""
    state = carray(user, (SLOTS,), np.int64)
    frames = lend(state, 0)
    while frames > 0:
        if state[PIECE] != 0:
            hand_over(state, state[PIECE], 0, frames)
        else:
            state[FLAGS] = LOST_INPUT
            while frames > 0:
                hand_over(state, state[SILENCE], 0, min(frames, HOLE_FRAMES))
                frames -= HOLE_FRAMES
        call3(state[GIVE], (state[STREAM], 0, 0))
        frames = lend(state, 0)


@compilation.callback("void(voidptr, uint64, voidptr)", error_model="numpy")
def write_callback(stream: Address, size: int, user: Address) -> None:
    """The server wants ``size`` bytes."""
    state = carray(user, (SLOTS,), np.int64)
    left = np.int64(size) // state[FRAME_BYTES]
    while left > 0:
        wanted = min(left, state[MOST_FRAMES])
        frames = min(lend(state, wanted * state[FRAME_BYTES]), wanted)
        if frames <= 0 or state[PIECE] == 0:
            break
        hand_over(state, 0, state[PIECE], frames)
        call8(state[GIVE], (state[STREAM], state[PIECE], frames * state[FRAME_BYTES], 0, 0, RELATIVE, 0, 0))
        left -= frames


@compilation.callback("void(voidptr, voidptr)", error_model="numpy")
def underflow_callback(stream: Address, user: Address) -> None:
    """The server ran out of sound to play."""
    carray(user, (SLOTS,), np.int64)[FLAGS] = LOST_OUTPUT


@compilation.callback("int64(voidptr)", error_model="numpy")
def latency_us(user: Address) -> int:
    """A stream's latency, -1 where it is not known. Python calls it, but not with the library's thread stopped: that
    would wait for whoever holds the GIL."""
    state = carray(user, (SLOTS,), np.int64)
    slots = state.ctypes.data
    state[LATENCY_US] = state[AHEAD] = 0
    call3(state[LOCK], (state[LOOP], 0, 0))
    unknown = call3(state[LATENCY], (state[STREAM], slots + 8 * LATENCY_US, slots + 8 * AHEAD)) & 0x80000000
    call3(state[UNLOCK], (state[LOOP], 0, 0))
    if unknown:
        return -1
    return 0 if state[AHEAD] else int(state[LATENCY_US])


class PulseMemory:
    """What the callbacks of one stream of a ``kind`` over ``rings`` are given, which ``loop`` calls; they play
    ``most_frames`` at a time."""

    def __init__(self, kind: callback.Kind, rings: Rings, loop: int, stream: int, most_frames: int):
        records = kind == "input"
        channels = int(rings.control[ring.CAPTURE_CHANNELS if records else ring.PLAY_CHANNELS])
        self.state = np.zeros(SLOTS, np.int64)
        self._no_times, self._silence = np.zeros(3), np.zeros((HOLE_FRAMES, channels), np.float32)
        self.state[[CALLBACK, USER]] = callback.entry(kind, rings)
        self.state[TIMES], self.state[SILENCE] = self._no_times.ctypes.data, self._silence.ctypes.data
        self.state[STREAM], self.state[FRAME_BYTES] = stream, 4 * channels
        self.state[MOST_FRAMES] = most_frames
        take, give = ("peek", "drop") if records else ("begin_write", "write")
        self.state[TAKE], self.state[GIVE] = address_of(f"stream_{take}"), address_of(f"stream_{give}")
        self.state[LOOP], self.state[LATENCY] = loop, address_of("stream_get_latency")
        self.state[[LOCK, UNLOCK]] = [address_of(f"threaded_mainloop_{what}") for what in ("lock", "unlock")]

    @property
    def address(self) -> int:
        return self.state.ctypes.data
