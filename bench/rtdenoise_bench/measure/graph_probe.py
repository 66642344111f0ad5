"""What two nodes of PipeWire's graph play, recorded in the same cycles: `python -m
rtdenoise_bench.measure.graph_probe FILE.npz REFERENCE HEARD`.

The recorder is a node behind both, so that a cycle it misses is missing on both sides, and the delay between them is
exact to the sample. Two recorders that are clients of a sound server lose cycles one by one, each of which shifts all
that follows. Prints "recording" when sound comes, and writes the file when its input ends.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

from rtdenoise.errors import DeviceError
from rtdenoise.live.graph_callback import (
    CLOCK_FRAMES,
    CLOCK_POSITION,
    CLOCK_WORDS,
    DSP_BUFFER,
    FIRST_IN,
    IN_FRAMES,
    move,
)
from rtdenoise.live.graph_callback import SLOTS as GRAPH_SLOTS
from rtdenoise.live.graph_links import find_node, link, pair
from rtdenoise.live.pipewire import Connection
from rtdenoise.live.pipewire_filter import INPUT, Filter
from rtdenoise.live.pipewire_library import dsp_buffer_address
from rtdenoise.native.compilation import callback, carray
from rtdenoise.native.intrinsics import pointer
from rtdenoise_bench.measure.correlation import RATE

Address: TypeAlias = Any  # A C pointer, which exists in compiled code only.
ENDS = 2
MOST_FRAMES, MOST_CYCLES = 75 * RATE, 75 * RATE // 32  # as much as is kept, in cycles of 32 frames
CLOCK_NS = 9  # The word of PipeWire's `spa_io_clock` with the time at which the cycle began, by the monotonic clock.
# What the callback is given, after what `graph_callback.move` needs: addresses, and how much of both is filled.
SOUND, CYCLES, FRAMES, COUNT, SLOTS = range(GRAPH_SLOTS, GRAPH_SLOTS + 5)
POSITION, AT_NS, FIRST, COLUMNS = range(4)  # of a cycle: the graph's position, when, and the first frame


@callback("void(voidptr, voidptr)", error_model="numpy")
def _record(data: Address, position: Address) -> None:
    state, clock = carray(data, (SLOTS,), np.int64), carray(position, (CLOCK_WORDS,), np.int64)
    cycles = carray(pointer(state[CYCLES]), (MOST_CYCLES, COLUMNS), np.int64)
    at, count, cycle = state[FRAMES], state[COUNT], clock[CLOCK_FRAMES]
    if at + cycle <= MOST_FRAMES and count < MOST_CYCLES:
        state[IN_FRAMES] = state[SOUND] + at * ENDS * 4
        move(state, IN_FRAMES, FIRST_IN, ENDS, 1, cycle, False)
        cycles[count, POSITION], cycles[count, AT_NS], cycles[count, FIRST] = clock[CLOCK_POSITION], clock[CLOCK_NS], at
        state[FRAMES], state[COUNT] = at + cycle, count + 1


def _until_input_ends(graph: Connection, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """float32 ``[frames, 2]`` and int64 ``[cycles, COLUMNS]``."""
    sound, cycles = np.ones((MOST_FRAMES, ENDS), np.float32), np.ones((MOST_CYCLES, COLUMNS), np.int64)
    state = np.zeros(SLOTS, np.int64)
    state[[DSP_BUFFER, SOUND, CYCLES]] = dsp_buffer_address(), sound.ctypes.data, cycles.ctypes.data

    def take(handles: list[int]) -> None:
        state[FIRST_IN : FIRST_IN + ENDS] = handles

    words = {"node.name": "probe", "media.type": "Audio", "media.category": "Filter", "media.role": "DSP"}
    ends = [(INPUT, "reference", "FL"), (INPUT, "heard", "FR")]
    node = Filter(graph, words, ends, _record.address, state.ctypes.data, take)
    for end, name in enumerate(names):
        if (found := find_node(graph, name)) is None:
            raise DeviceError(f"PipeWire does not list {name}")
        pairs = pair(graph, (found, 1), (node.id, ENDS), name)
        link(graph, [(pairs[0][0], pairs[end][1])], name)  # its first channel
    graph.wait(lambda: bool(state[COUNT]), "no cycle comes")
    print("recording", flush=True)
    sys.stdin.read()
    node.close()
    return sound[: state[FRAMES]], cycles[: state[COUNT]]


def main() -> None:
    path, *names = sys.argv[1:]
    with Connection() as graph:
        sound, cycles = _until_input_ends(graph, names)
    np.savez(path, sound=sound, cycles=cycles)


if __name__ == "__main__":
    main()
