"""Chunks of sound files (WAV, RIFX, RF64, AIFF, CAF) and the header of AU: where the samples lie, and up to where.

Owns the question that libsndfile does not ask: what lies behind the samples? Either chunks or tags, or another sound
file, or more samples, because whoever recorded died before the header was brought up to date.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from rtdenoise.io.byte_views import Piece, Range, patched
from rtdenoise.io.pcm import SMALLEST_FAKE_SIZE

_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")  # Taggers append these to any file.
_NAMES = set(  # Chunks behind the samples with these names may be of any size.
    "LIST bext iXML axml chna cue_ plst smpl inst fact PEAK JUNK junk PAD_ FLLR id3_ DISP acid umid levl _PMX MD5_ "
    "r64m NAME AUTH ANNO (c)_ COMT MARK INST APPL CHAN FVER COMM MIDI AESD info strg mark regn uuid free peak".split()
)
_LARGEST_NAMELESS = 1 << 26  # A chunk of unknown kind has no more bytes, since any four letters may also be samples.
PADDING_BYTES = 1 << 16  # A recorder's file system may leave up to this many zeros behind the samples.
_LARGEST_RIFF_BYTES = 2**32 - 2**16
_AU_HEADER_BYTES = 24
_FORMS = {b"RIFF": b"WAVE", b"RIFX": b"WAVE", b"RF64": b"WAVE", b"FORM": b"AIF"}


@dataclass(frozen=True)
class Chunk:
    """``size`` bytes from offset ``at`` of the file on disk, which do not count the chunk's own ``name`` and the field
    with its size."""

    name: bytes
    at: int
    size: int


@dataclass(frozen=True)
class Layout:
    """One sound file on disk, from ``start`` to ``end``: its samples' place, and the chunks around them.

    The size of the samples is written at ``size_at`` as ``size_format``, with ``extra`` bytes more than they have;
    ``declared`` is what it says of them alone, None where it says that they are unknown.
    """

    kind: bytes
    start: int
    end: int
    chunks: list[Chunk]
    samples_at: int
    size_at: int
    size_format: str
    extra: int
    declared: int | None
    stale: bool  # The samples go on behind what is declared, up to the end.

    @property
    def big_endian(self) -> bool:
        """Whether numbers in its chunks are."""
        return self.kind not in (b"RIFF", b"RF64")

    @property
    def missing_bytes(self) -> int:
        """Bytes of samples that are promised and not there."""
        return max(0, self.samples_at + (self.declared or 0) - self.end)

    def pieces(self) -> list[Piece]:
        """This file alone, its header brought up to date."""
        whole = Range(self.start, self.end - self.start)
        there = self.end - self.samples_at
        beyond_libsndfile = self.size_format[1] in "qQ" and (self.declared is None or self.missing_bytes)
        if not (self.stale or beyond_libsndfile):
            return [whole]
        if self.kind == b"RIFF" and there > _LARGEST_RIFF_BYTES:  # 32 bits cannot say it
            sizes = struct.pack("<IQQQI", 28, self.end - self.start + 36, there, 0, 0)
            body = Range(self.start + 12, self.size_at - self.start - 12)
            return [b"RF64\xff\xff\xff\xffWAVEds64" + sizes, body, b"\xff" * 4, Range(self.samples_at, there)]
        size = there + self.extra if self.size_format[1] in "qQ" else min(there + self.extra, 2**32 - 1)
        return patched([whole], {self.size_at: struct.pack(self.size_format, size)})


def starts_chunk(head: bytes, remaining: int | None) -> bool:
    """Whether 8 bytes behind the samples begin a chunk, a tag or a file, and are no samples.

    ``remaining`` bytes follow them, None if that is unknown.
    """
    if head.startswith(_TAGS) or head[:4] in _FORMS or head[:4] in (b".snd", b"caff", b"fLaC", b"OggS"):
        return True
    if len(head) < 8 or not all(0x20 <= byte < 0x7F for byte in head[:4]):
        return False
    if head[:4].decode().replace(" ", "_") in _NAMES:
        return True
    smallest = min(int.from_bytes(head[4:], "little"), int.from_bytes(head[4:], "big"))
    return smallest <= (_LARGEST_NAMELESS if remaining is None else min(_LARGEST_NAMELESS, remaining))


def layouts(file: BinaryIO, start: int, end: int) -> list[Layout]:
    """The sound files that follow one another from ``start`` on; none if it has another format."""
    found = []
    while (layout := _read(file, start, end)) is not None and layout.end > start:
        found.append(layout)
        start = layout.end
    return found


def _read(file: BinaryIO, start: int, end: int) -> Layout | None:
    file.seek(start)
    head = file.read(12)
    kind = head[:4]
    if len(head) < 12:
        return None
    if kind == b".snd":
        offset, declared = struct.unpack(">II", head[4:])
        if offset < _AU_HEADER_BYTES:
            return None
        size = None if declared == 0xFFFFFFFF else declared
        return _judge(file, kind, start, end, [], start + offset, start + 8, ">I", 0, size)
    if kind == b"caff":
        at, order, long, samples, extra = start + 8, ">", True, b"data", 4
    elif kind in _FORMS and head[8:].startswith(_FORMS[kind]):
        order = "<" if kind in (b"RIFF", b"RF64") else ">"
        samples, extra = (b"SSND", 8) if kind == b"FORM" else (b"data", 0)
        at, long = start + 12, False
    else:
        return None
    chunks: list[Chunk] = []
    size_format = order + ("q" if long else "I")
    for chunk in _chunks(file, at, end, size_format):
        if chunk.name == samples:
            size_at, declared = chunk.at - struct.calcsize(size_format), chunk.size
            if kind == b"RF64" and declared == 0xFFFFFFFF and chunks and chunks[0].name == b"ds64":
                size_at, size_format = chunks[0].at + 8, "<Q"
                file.seek(size_at)
                declared = int.from_bytes(file.read(8), "little")
            fake = SMALLEST_FAKE_SIZE if size_format[1] == "I" else 1 << 62
            size = max(0, declared - extra) if 0 <= declared < fake else None
            return _judge(file, kind, start, end, chunks, chunk.at + extra, size_at, size_format, extra, size)
        chunks.append(chunk)
    return None


def _chunks(file: BinaryIO, at: int, end: int, size_format: str) -> Iterator[Chunk]:
    head_bytes = 4 + struct.calcsize(size_format)
    while at + head_bytes <= end:
        file.seek(at)
        head = file.read(head_bytes)
        (size,) = struct.unpack(size_format, head[4:])
        yield Chunk(head[:4], at + head_bytes, size)
        if size < 0:
            return
        at += head_bytes + size + (size % 2 if size_format != ">q" else 0)  # to even length, except in CAF


def _judge(
    file: BinaryIO,
    kind: bytes,
    start: int,
    end: int,
    chunks: list[Chunk],
    samples_at: int,
    size_at: int,
    size_format: str,
    extra: int,
    declared: int | None,
) -> Layout:
    """Decide what lies behind the samples; the layout ends where another file begins."""
    stale = False
    if declared is not None and samples_at + declared < end:
        stop = samples_at + declared
        begins = [at for at in {stop, stop + declared % 2} if _is_chunk(file, at, end)]
        if begins:
            for chunk in _chunks(file, min(begins), end, size_format):
                at = chunk.at - 4 - struct.calcsize(size_format)
                if _is_file(file, at):
                    end = at
                    break
                if not _is_chunk(file, at, end):
                    break
                chunks = [*chunks, chunk]
        else:
            stale = not _is_padding(file, stop, end)
    return Layout(kind, start, end, chunks, samples_at, size_at, size_format, extra, declared, stale)


def _is_chunk(file: BinaryIO, at: int, end: int) -> bool:
    file.seek(at)
    return starts_chunk(file.read(8), max(0, end - at - 8))


def _is_file(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    head = file.read(12)
    return head[:4] in (b".snd", b"caff") or (head[:4] in _FORMS and head[8:].startswith(_FORMS[head[:4]]))


def _is_padding(file: BinaryIO, at: int, end: int) -> bool:
    if end - at > PADDING_BYTES:
        return False
    file.seek(at)
    rest = file.read(end - at)
    return len(rest) < 8 or not any(rest)
