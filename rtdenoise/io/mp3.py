"""MP3 files: several in one, and bytes inside that are no frame.

A decoder goes on behind damage by itself, and says nothing. It also ends where the first file's Xing header says, so
files joined by `cat` have to be told apart.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from rtdenoise.io.byte_views import Range

_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")  # layer III alone
_KBIT_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBIT_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_HZ = (44_100, 48_000, 32_000)
_SEARCH_BYTES = 1 << 16
_TAG_BYTES = 1 << 12  # Behind the last frame stands what taggers append.


def sounds(file: BinaryIO, start: int, end: int) -> list[Range]:
    """The MP3 files that follow one another from ``start`` on; none if this is of another format."""
    found: list[Range] = []
    while _frame_bytes(_at(file, start, 4)):
        stop = _declared_end(file, start)
        following = _next_frame(file, stop, end) if stop and stop < end - _TAG_BYTES else None
        if following is None:
            return [*found, Range(start, end - start)]
        found.append(Range(start, following - start))
        start = following
    return found


def lost_bytes(file: BinaryIO, sound: Range) -> int:
    """Bytes between frames that are none themselves."""
    at, end, lost = sound.start, sound.start + sound.size, 0
    while at < end - 4:
        size = _frame_bytes(_at(file, at, 4))
        if size:
            at += size
            continue
        following = _next_frame(file, at, end)
        if following is None:
            break
        if _at(file, at, 3) not in (b"TAG", b"ID3"):
            lost += following - at
        at = following
    return lost


def _at(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _frame_bytes(head: bytes) -> int:
    """Length of the frame that begins with these four bytes; 0: none does."""
    if len(head) < 4 or not _SYNC.match(head):
        return 0
    version, bit_rate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if bit_rate in (0, 15) or rate == 3:
        return 0
    rate_hz = _RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]  # MPEG 1, 2, 2.5
    table, scale = (_KBIT_MPEG1, 144_000) if version == 3 else (_KBIT_MPEG2, 72_000)
    return scale * table[bit_rate] // rate_hz + (head[2] >> 1 & 1)


def _declared_end(file: BinaryIO, start: int) -> int | None:
    """Where the first frame, if it is a Xing header, says that the file ends."""
    head = _at(file, start, 64)
    if len(head) < 64:
        return None
    mono, mpeg1 = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    at = 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))
    if head[at : at + 4] not in (b"Xing", b"Info") or head[at + 7] & 3 != 3:
        return None
    return start + int.from_bytes(head[at + 12 : at + 16], "big")


def _next_frame(file: BinaryIO, at: int, end: int) -> int | None:
    """Where the next frame begins that another one follows."""
    while at < end:
        data = _at(file, at, min(_SEARCH_BYTES, end - at))
        for match in _SYNC.finditer(data):
            begin = at + match.start()
            size = _frame_bytes(_at(file, begin, 4))
            if size and begin + size < end and _frame_bytes(_at(file, begin + size, 4)):
                return begin
        at += max(1, len(data) - 1)
    return None
