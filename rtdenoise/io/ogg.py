"""Ogg files that libsndfile reads in part only: several streams in one file (chained), and damaged pages.

Pages are judged by their checksums. A link of the chain is read on its own; behind a hole it begins anew, with its
header pages in front. Format: RFC 3533.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from rtdenoise.io.byte_views import Piece, Range

MAGIC = b"OggS"
_HEADER_BYTES = 27
_BEGIN = 2  # This flag marks a stream's first page.
_READ_BYTES = 1 << 20
_HEADER_PACKETS = {b"\x01vorbis": 3, b"OpusHead": 2}  # how many packets a decoder needs to begin
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Page:
    at: int
    size: int
    begins: bool
    serial: bytes
    packets: int  # Only packets that end in this page count.
    start: bytes  # These are the first bytes of its first packet.


@dataclass(frozen=True)
class Run:
    """Undamaged pages behind a hole (or at the stream's beginning), its header pages in front. ``rest``: the same with
    everything behind it; its length tells where the run begins."""

    pieces: list[Piece]
    rest: list[Piece]


@dataclass(frozen=True)
class Link:
    """One stream of a chain, from ``start`` to ``end``. Where nothing is lost it is one run.

    ``lost_bytes`` lie in holes, ``cut_bytes`` behind the last whole page.
    """

    start: int
    end: int
    runs: list[Run]
    lost_bytes: int
    cut_bytes: int

    @property
    def whole(self) -> list[Piece]:
        return [Range(self.start, self.end - self.start)]


def links(file: BinaryIO, start: int, end: int) -> list[Link]:
    """The streams that follow one another from ``start`` on; none if this is no Ogg file."""
    file.seek(start)
    if file.read(4) != MAGIC:
        return []
    chain: list[list[Page]] = []
    serials: set[bytes] = set()
    beginning = False
    for page in _pages(file, start, end):
        if page.begins and not beginning:
            chain.append([])
            serials = set()
        beginning = page.begins
        if beginning:
            serials.add(page.serial)
        if page.serial in serials:  # Otherwise its first page is damaged, and nobody can read it.
            chain[-1].append(page)
    ends = [pages[0].at for pages in chain[1:]] + [end] * bool(chain)
    return [_link(pages, stop) for pages, stop in zip(chain, ends, strict=True)]


def _link(pages: list[Page], end: int) -> Link:
    start = pages[0].at
    needed = next((count for magic, count in _HEADER_PACKETS.items() if pages[0].start.startswith(magic)), 0)
    headers = packets = 0
    while packets < needed and headers < len(pages):
        packets += pages[headers].packets
        headers += 1
    body = pages[headers - 1].at + pages[headers - 1].size if headers else start
    spans: list[tuple[int, int]] = []
    at, lost = start, 0
    for page in pages:
        if page.at > at or not spans:
            lost += page.at - at
            spans.append((page.at, page.at))
        at = page.at + page.size
        spans[-1] = spans[-1][0], at
    whole = Range(start, end - start)
    if len(spans) == 1 or not needed or packets < needed or spans[0][1] < body:  # There is no way but libsndfile's own.
        runs = [Run([whole], [whole])]
    else:
        first = Run([Range(start, spans[0][1] - start)], [whole])
        head = Range(start, body - start)
        runs = [first] * (spans[0][1] > body)  # Otherwise there is no sound in it.
        runs += [Run([head, Range(a, b - a)], [head, Range(a, end - a)]) for a, b in spans[1:]]
    return Link(start, end, runs, lost, end - at)


def _pages(file: BinaryIO, at: int, end: int) -> Iterator[Page]:
    """Pages whose checksum is right."""
    while at < end:
        page = _read(file, at)
        if page:
            yield page
            at += page.size
        else:
            at = _next(file, at + 1, end)


def _read(file: BinaryIO, at: int) -> Page | None:
    file.seek(at)
    head = file.read(_HEADER_BYTES)
    if len(head) < _HEADER_BYTES or head[:4] != MAGIC:
        return None
    lacing = file.read(head[26])
    body = file.read(sum(lacing))
    if len(lacing) < head[26] or len(body) < sum(lacing):
        return None
    if _checksum(head[:22] + bytes(4) + head[26:] + lacing + body) != head[22:26]:
        return None
    size = len(head) + len(lacing) + len(body)
    return Page(at, size, bool(head[5] & _BEGIN), head[14:18], sum(length < 255 for length in lacing), body[:8])


def _checksum(data: bytes) -> bytes:
    """The checksum of a page. zlib has the same polynomial, with the bits of every byte, and of the sum, reversed."""
    total = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return total.to_bytes(4, "big").translate(_REVERSED)


def _next(file: BinaryIO, at: int, end: int) -> int:
    """Where the next page may begin."""
    while at < end:
        file.seek(at)
        data = file.read(min(_READ_BYTES, end - at))
        found = data.find(MAGIC)
        if found >= 0:
            return at + found
        at += max(1, len(data) - 3)
    return end
