"""A sound file as it should have been: ranges of the file on disk and bytes of our own, read as one file.

libsndfile trusts headers. Where one is wrong, or a part of the file is damaged, it is given a view in which the mended
bytes stand in place of the faulty ones; the file itself is never touched, and memory stays constant.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any


@dataclass(frozen=True)
class Range:
    """``size`` bytes of the file on disk from ``start`` on."""

    start: int
    size: int


Piece = Range | bytes


def size_of(piece: Piece) -> int:
    return piece.size if isinstance(piece, Range) else len(piece)


def patched(pieces: Iterable[Piece], patches: dict[int, bytes]) -> list[Piece]:
    """The same pieces with other bytes at some offsets of the file on disk."""
    result: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Range):
            start, end = piece.start, piece.start + piece.size
            for at, new in sorted(patches.items()):
                if start <= at and at + len(new) <= end:
                    result += [Range(start, at - start), new]
                    start = at + len(new)
            piece = Range(start, end - start)
        result.append(piece)
    return [piece for piece in result if size_of(piece)]


class View(io.RawIOBase):
    """Pieces of one file on disk as a file to read from. Close it when done."""

    def __init__(self, path: str, pieces: list[Piece]):
        self._pieces = pieces
        self._ends = list(accumulate(map(size_of, pieces)))
        self._at = 0
        self._file = open(path, "rb")  # noqa: SIM115 (closed with the view)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, target: Any) -> int:
        room = memoryview(target).cast("B")
        done = 0
        while done < len(room):
            index = bisect_right(self._ends, self._at)
            if index == len(self._pieces):
                break
            piece = self._pieces[index]
            left = self._ends[index] - self._at
            inside = size_of(piece) - left
            count = min(left, len(room) - done)
            if isinstance(piece, Range):
                self._file.seek(piece.start + inside)
                count = self._file.readinto(room[done : done + count])
                if not count:
                    break
            else:
                room[done : done + count] = piece[inside : inside + count]
            done += count
            self._at += count
        return done

    def close(self) -> None:
        self._file.close()
        super().close()
