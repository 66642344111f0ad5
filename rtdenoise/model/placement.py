"""Where the arrays of a program lie: those that are never needed at once share memory, so that caches hold it all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from rtdenoise.native import tensor_kernels as kernels
from rtdenoise.native.fft import aligned

LINE_BYTES = 64
FLOAT_BYTES = 4


class Addresses:
    """Which of some arrays an address lies in.

    Parameters
    ----------
    arrays : sequence of ndarray
        Each without gaps.

    Attributes
    ----------
    arrays : list of ndarray
        By where they lie.
    """

    def __init__(self, arrays: Sequence[np.ndarray] = ()):
        self._starts: list[int] = []
        self.arrays: list[np.ndarray] = []
        for array in arrays:
            self.add(array)

    def add(self, array: np.ndarray) -> None:
        """One more, which changes the numbers of those behind it."""
        k = bisect_right(self._starts, array.ctypes.data)
        self._starts.insert(k, array.ctypes.data)
        self.arrays.insert(k, array)

    def find(self, address: int) -> tuple[int, int] | None:
        """The number of the array in ``arrays``, and how many bytes it has before the address."""
        k = bisect_right(self._starts, address) - 1
        inside = k >= 0 and address < self._starts[k] + self.arrays[k].nbytes
        return (k, address - self._starts[k]) if inside else None


def needed(places: Addresses, rows: Sequence[Sequence[int]]) -> list[int]:
    """Numbers of the rows whose results another row reads, or that lie outside of ``places``, as for `Placement`."""
    read, found = set(), []
    for number, addresses in reversed(list(enumerate(rows))):
        inside = [place[0] if (place := places.find(address)) else None for address in addresses]
        if inside[0] is None or inside[0] in read:
            found.append(number)
            read.update(inside[1:])
    return found[::-1]


class Placement:
    """One piece of memory for arrays that rows of a program name by address.

    Parameters
    ----------
    places : Addresses
        Of the arrays in the making.
    kept : sequence of ndarray
        Those of them that hold something already: it is kept, as is what a row reads before one has written it.
    rows : sequence of sequence of int
        For each row the addresses it names, of these arrays or of others; what it writes first.

    Attributes
    ----------
    memory : ndarray
        What holds them all.
    """

    def __init__(self, places: Addresses, kept: Sequence[np.ndarray], rows: Sequence[Sequence[int]]):
        self._places = places
        lives: dict[int, tuple[int, int]] = {}
        alone = {self._of(a.ctypes.data) for a in kept}
        for row, addresses in enumerate(rows):
            for at, address in reversed(list(enumerate(addresses))):  # A row reads before it writes.
                k = self._of(address)
                if k is not None:
                    if k not in lives and at > 0:
                        alone.add(k)
                    lives[k] = lives.get(k, (row,))[0], row
        self._offsets: dict[int, int] = {}
        end = 0
        for k in lives:
            if k in alone:
                self._offsets[k], end = end, end + self._lines(k)
        taken: list[tuple[int, int, int]] = []  # where, up to where, and up to which row
        first_free = end
        for k, (first, last) in sorted(lives.items(), key=lambda life: life[1]):
            if k not in alone:
                taken = sorted(t for t in taken if t[2] >= first)
                offset = first_free
                for begin, after, _ in taken:
                    if begin - offset >= self._lines(k):
                        break
                    offset = max(offset, after)
                taken.append((offset, offset + self._lines(k), last))
                self._offsets[k], end = offset, max(end, offset + self._lines(k))
        self.memory = aligned(end // FLOAT_BYTES)
        self._begin = self.memory.ctypes.data
        for k in alone & set(lives):
            assert k is not None
            floats = self._places.arrays[k].reshape(-1)
            self.memory[self._offsets[k] // FLOAT_BYTES :][: floats.size] = floats

    def _lines(self, k: int) -> int:
        return -(-self._places.arrays[k].nbytes // LINE_BYTES) * LINE_BYTES

    def _of(self, address: int) -> int | None:
        place = self._places.find(address)
        return place[0] if place else None

    def address(self, address: int) -> int:
        """Where that lies now; of another array, where it lay."""
        place = self._places.find(address)
        return self._begin + self._offsets[place[0]] + place[1] if place else address


class PlacedProgram:
    """Rows of a program that can run.

    Parameters
    ----------
    table, numbers : ndarray
        What the rows are and the numbers beside them, as `rtdenoise.native.tensor_kernels.run` takes them.
    named : ndarray
        Where ``table`` holds addresses.
    memory : ndarray
        Results of its rows.
    kept : object
        What else its addresses point to.

    Shape
    -----
    ``table`` int64 and ``named`` bool ``[rows, tensor_kernels.COLUMNS]``, ``numbers`` float32 ``[rows, 2]``.
    """

    def __init__(self, table: np.ndarray, numbers: np.ndarray, named: np.ndarray, memory: np.ndarray, kept: object):
        self._table, self._numbers, self._named, self._memory, self._kept = table, numbers, named, memory, kept
        self._scratch = aligned(kernels.SCRATCH)
        self._arguments = table.ctypes.data, numbers.ctypes.data, len(table), self._scratch.ctypes.data

    def arguments(self) -> tuple[int, int, int, int]:
        """Addresses of rows and numbers, count of rows, address of scratch memory: valid while this object lives."""
        return self._arguments

    def run(self) -> None:
        """Run the program once, from Python."""
        table, numbers, rows, scratch = self._arguments
        kernels.run.ctypes(table, 0, numbers, 0, rows, scratch, 0, 0)

    def on(self, arrays: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> PlacedProgram:
        """The same program with memory of its own, on ``others`` in place of ``arrays``."""
        memory = aligned(self._memory.size)
        memory[:] = self._memory
        table = self._table.copy()
        for a, b in zip([self._memory, *arrays], [memory, *others], strict=True):
            begin = a.ctypes.data
            within = self._named & (self._table >= begin) & (self._table < begin + a.nbytes)
            table[within] += b.ctypes.data - begin
        return PlacedProgram(table, self._numbers, self._named, memory, (self._kept, others))
