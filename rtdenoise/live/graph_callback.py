"""The callback of a node in PipeWire's graph as machine code: both directions in one call, on the graph's one clock.

The graph hands over a buffer a port and a channel; they are woven into frames and taken apart again around the callback
that PortAudio would call (`rtdenoise.live.callback`). It never waits: a cycle that is late delays every node behind it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from rtdenoise.live import callback, ring
from rtdenoise.live.ring import Rings
from rtdenoise.native import compilation
from rtdenoise.native.compilation import carray
from rtdenoise.native.fft import inline
from rtdenoise.native.intrinsics import call3, call8, pointer

Address: TypeAlias = Any  # A C pointer, which exists in compiled code only.
MOST_PORTS = 2  # in each direction
MOST_FRAMES = 8192  # PipeWire's largest cycle

# What the callback is given: int64 slots. Set before the first call:
CALLBACK, USER = 0, 1  # address: of the callback that PortAudio would call, and of what that is given
TIMES = 2  # address: of the times that a driver tells with a block, which the graph does not: zeros
DSP_BUFFER = 3  # address: the function that gives a port's samples
IN_PORTS, OUT_PORTS = 4, 5  # count: of ports that are in use
IN_MIXED, OUT_MIXED = 6, 7  # count: of outputs that the graph adds up at one input of ours, or at one that we play to
IN_FRAMES, OUT_FRAMES = 8, 9  # address: memory for the frames of one cycle
FIRST_IN, FIRST_OUT = 10, 10 + MOST_PORTS  # handle: of the first port
# Written by the callback:
NEXT_POSITION = 10 + 2 * MOST_PORTS  # frames: where the next cycle should begin; 0 before the first
AHEAD = NEXT_POSITION + 1  # frames: how far the last cycle began after where it should have
GRAPH_RATE = NEXT_POSITION + 2  # Hz: of the graph
CYCLE = NEXT_POSITION + 3  # frames: of the last cycle
SLOTS = NEXT_POSITION + 4
LOST_INPUT, LOST_OUTPUT = 2, 4  # paInputOverflow, paOutputUnderflow
# The words of PipeWire's `spa_io_clock`: rate as a fraction (its denominator above), position and length of the cycle.
CLOCK_RATE, CLOCK_POSITION, CLOCK_FRAMES, CLOCK_WORDS = 10, 11, 12, 13


@inline
def move(state: np.ndarray, woven: int, first: int, ports: int, mixed: int, cycle: int, out: bool) -> None:
    """Copy a cycle between the ports' buffers and the frames whose address is in slot ``woven``: to the ports if
    ``out``, else from them. Of ``mixed`` outputs that the graph adds up at an input the mean is heard. A port that
    nothing is linked to has no buffer: it hears silence."""
    share = np.float32(1) / np.float32(mixed)
    frames = carray(pointer(state[woven]), (MOST_FRAMES * MOST_PORTS,), np.float32)
    for p in range(ports):
        buffer = call3(state[DSP_BUFFER], (state[first + p], cycle, 0))
        samples = carray(pointer(buffer), (MOST_FRAMES,), np.float32)
        for i in range(min(cycle, MOST_FRAMES)):
            if out:
                if buffer != 0:
                    samples[i] = share * frames[i * ports + p]
            else:
                frames[i * ports + p] = share * samples[i] if buffer != 0 else np.float32(0)


@compilation.callback("void(voidptr, voidptr)", error_model="numpy")
def graph_callback(data: Address, position: Address) -> None:
    state = carray(data, (SLOTS,), np.int64)
    clock = carray(position, (CLOCK_WORDS,), np.int64)
    cycle = clock[CLOCK_FRAMES]
    frames = min(cycle, MOST_FRAMES)
    state[CYCLE] = cycle
    state[GRAPH_RATE] = clock[CLOCK_RATE] >> 32
    # The graph skipped cycles, ours or another's fault: what they carried is lost. A call that comes after the next
    # cycle began sees that one's position, and so does the call for it, which then is no second loss.
    ahead = clock[CLOCK_POSITION] - state[NEXT_POSITION] if state[NEXT_POSITION] != 0 else 0
    lost = ahead != 0 and ahead != -abs(state[AHEAD])
    flags = np.int64(lost) * (LOST_INPUT if state[IN_PORTS] > 0 else LOST_OUTPUT)
    state[NEXT_POSITION], state[AHEAD] = clock[CLOCK_POSITION] + cycle, ahead

    move(state, IN_FRAMES, FIRST_IN, state[IN_PORTS], state[IN_MIXED], cycle, False)
    call8(state[CALLBACK], (state[IN_FRAMES], state[OUT_FRAMES], frames, state[TIMES], flags, state[USER], 0, 0))
    move(state, OUT_FRAMES, FIRST_OUT, state[OUT_PORTS], state[OUT_MIXED], cycle, True)


class GraphPorts:
    """The callback's memory for one node over ``rings``, whose channels of both devices are its ports; if ``kind`` is
    "input" or "output", those of that side alone."""

    def __init__(self, rings: Rings, dsp_buffer: int, kind: callback.Kind):
        self.state = np.zeros(SLOTS, np.int64)
        self._rings, self._frames = rings, np.zeros((2, MOST_FRAMES * MOST_PORTS), np.float32)
        self.ins = 0 if kind == "output" else int(rings.control[ring.CAPTURE_CHANNELS])
        self.outs = 0 if kind == "input" else int(rings.control[ring.PLAY_CHANNELS])
        self._no_times = np.zeros(3)
        self.state[[CALLBACK, USER]] = callback.entry(kind, rings)
        self.state[DSP_BUFFER], self.state[TIMES] = dsp_buffer, self._no_times.ctypes.data
        self.state[IN_PORTS], self.state[OUT_PORTS] = self.ins, self.outs
        self.state[IN_FRAMES], self.state[OUT_FRAMES] = (f.ctypes.data for f in self._frames)
        self.state[[IN_MIXED, OUT_MIXED]] = 1

    @property
    def address(self) -> int:
        return self.state.ctypes.data

    @property
    def rate(self) -> int:
        """What the graph runs at, in Hz; 0 before its first cycle."""
        return int(self.state[GRAPH_RATE])

    @property
    def cycle(self) -> int:
        """How many frames the graph's last cycle had; 0 before the first."""
        return int(self.state[CYCLE])

    def forget(self) -> None:
        """Forget the cycles so far: the node is another, or has slept."""
        self.state[[NEXT_POSITION, GRAPH_RATE, CYCLE, AHEAD]] = 0

    def take(self, handles: list[int]) -> None:
        """Note the ports' handles, inputs first."""
        self.state[FIRST_IN : FIRST_IN + self.ins] = handles[: self.ins]
        self.state[FIRST_OUT : FIRST_OUT + self.outs] = handles[self.ins :]
