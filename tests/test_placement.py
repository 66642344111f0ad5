"""Arrays of a program share memory only where none of them is needed any more."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtdenoise.model.placement import LINE_BYTES, Addresses, Placement, needed
from rtdenoise.native.fft import aligned


@given(st.data())
def test_what_is_needed_at_once_never_shares_memory(data):
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=12))
    arrays = [aligned(size) for size in sizes]
    for k, a in enumerate(arrays):
        a[:] = k + 1
    one = st.integers(0, len(arrays) - 1)
    touched = data.draw(st.lists(st.lists(one, min_size=1, max_size=3), max_size=20))
    kept = data.draw(st.sets(one, max_size=2))
    addresses = [[arrays[k].ctypes.data for k in row] for row in touched]
    outside = aligned(1).ctypes.data
    placed = Placement(Addresses(arrays), [arrays[k] for k in kept], [[*row, outside] for row in addresses])
    memory = placed.memory.ctypes.data
    rows = lambda k: [i for i, row in enumerate(touched) if k in row]
    fresh = lambda k: touched[rows(k)[0]][0] == k and k not in touched[rows(k)[0]][1:]  # It is written first.
    used = [k for k in range(len(arrays)) if rows(k)]
    for k in used:
        at = placed.address(arrays[k].ctypes.data)
        assert (at - memory) % LINE_BYTES == 0 <= at - memory <= placed.memory.nbytes - arrays[k].nbytes
        assert placed.address(arrays[k].ctypes.data + 4) == at + 4 or sizes[k] == 1
        for other in (o for o in used if o != k):
            begin = placed.address(arrays[other].ctypes.data)
            apart = begin >= at + arrays[k].nbytes or at >= begin + arrays[other].nbytes
            in_turn = rows(k)[-1] < rows(other)[0] or rows(other)[-1] < rows(k)[0]
            assert apart or (in_turn and {k, other}.isdisjoint(kept) and fresh(k) and fresh(other))
        if k in kept or not fresh(k):
            assert placed.memory[(at - memory) // 4 :][: sizes[k]].tolist() == arrays[k].tolist()
    assert placed.address(outside) == outside


def test_results_of_a_chain_take_turns_in_the_same_memory():
    chain = [aligned(1000) for _ in range(10)]
    addresses = [a.ctypes.data for a in chain]
    placed = Placement(Addresses(chain), [], [[addresses[0]], *map(list, zip(addresses[1:], addresses, strict=False))])
    assert placed.memory.size <= 2 * np.ceil(1000 / 16) * 16


def test_rows_that_nothing_reads_are_left_out():
    a, b, c, outside = (aligned(10) for _ in range(4))
    at = lambda array, first=0: array[first:].ctypes.data
    rows = [[at(a)], [at(b), at(a)], [at(c), at(b, 3)], [at(outside), at(a, 9)]]
    assert needed(Addresses([c, b, a]), rows) == [0, 3]
    assert needed(Addresses([c, b, a]), [*rows, [at(outside, 1), at(c, 5)]]) == [0, 1, 2, 3, 4]
