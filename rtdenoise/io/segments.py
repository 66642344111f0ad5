"""What a sound file holds: one sound, or several one after the other, each as a view that libsndfile can read.

Owns the decision what becomes of a file that is not as its header says. A header that is older than its sound is
brought up to date, a hole in a FLAC file becomes silence of its length, and files joined by `cat` are parts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import BinaryIO

from rtdenoise.io import chunks, flac, mp3, ogg
from rtdenoise.io.byte_views import Piece, Range


@dataclass
class Part:
    """One sound of the file at ``path``, between two offsets. ``pieces`` is how to read it; None: the file as it is;
    empty: nothing can be read.

    ``damaged``: something inside is lost, and ``warnings`` says what. ``frames`` is what the header promises, None if
    it does not know or libsndfile is to be believed. ``hole``: this part goes on behind one, and begins where the first
    of the two sounds is longer than the second.
    """

    start: int
    end: int
    pieces: list[Piece] | None = None
    warnings: list[str] = field(default_factory=list)
    damaged: bool = False
    frames: int | None = None
    layout: chunks.Layout | None = None
    stream: flac.Stream | None = None
    hole: tuple[list[Piece], list[Piece]] | None = None


def find_parts(path: str) -> list[Part]:
    """The sounds in a file that can be opened, in their order. Of a format unknown here, the file is one part."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        start = _behind_id3(file)
        if layouts := chunks.layouts(file, start, end):
            return [_chunk_part(path, layout, len(layouts) > 1) for layout in layouts]
        if streams := flac.streams(file, start, end):
            return [_flac_part(path, file, stream, len(streams) > 1) for stream in streams]
        if links := ogg.links(file, start, end):
            return [part for link in links for part in _ogg_parts(path, link, len(links) > 1)]
        if pieces := mp3.sounds(file, start, end):
            return [_mp3_part(path, file, piece, len(pieces) > 1) for piece in pieces]
        return [Part(0, end)]


def mend_flac(path: str, part: Part) -> Part:
    """The same part with silence in its holes, to go on with after a decoder's error."""
    assert part.stream
    with open(path, "rb") as file:
        return _mended(path, file, part.stream)


def _chunk_part(path: str, layout: chunks.Layout, one_of_many: bool) -> Part:
    pieces = layout.pieces()
    part = Part(layout.start, layout.end, pieces if one_of_many or len(pieces) > 1 else None, layout=layout)
    if layout.stale:
        there = layout.end - layout.samples_at
        part.warnings.append(
            f"{path}: its header is older than its sound ({layout.declared} of {there} bytes); read to the end"
        )
    if layout.missing_bytes:
        part.warnings.append(f"{path} is truncated: {layout.missing_bytes} bytes are missing; filtered what is there")
    return part


def _flac_part(path: str, file: BinaryIO, stream: flac.Stream, one_of_many: bool) -> Part:
    if not flac.is_complete(file, stream):
        return _mended(path, file, stream)
    pieces: list[Piece] | None = [Range(stream.start, stream.end - stream.start)] if one_of_many else None
    return Part(stream.start, stream.end, pieces, frames=stream.samples, stream=stream)


def _mended(path: str, file: BinaryIO, stream: flac.Stream) -> Part:
    pieces, samples, silent = flac.mend(file, stream)
    part = Part(stream.start, stream.end, pieces if samples else [], frames=stream.samples or None)
    if stream.samples and samples > stream.samples:
        part.warnings.append(
            f"{path}: its header is older than its sound ({stream.samples} of {samples} samples); read to the end"
        )
    if silent:
        part.damaged = True
        part.warnings.append(f"{path} is damaged: {silent} samples cannot be read; silence stands in their place")
    return part


def _ogg_parts(path: str, link: ogg.Link, one_of_many: bool) -> list[Part]:
    parts = [Part(link.start, link.end, run.pieces) for run in link.runs]
    for part, run in zip(parts, link.runs, strict=True):
        part.hole = (link.whole, run.rest) if len(parts) > 1 or run.rest != link.whole else None
    if link.lost_bytes:
        parts[0].damaged = True
        parts[0].warnings.append(
            f"{path} is damaged: {link.lost_bytes} bytes cannot be read; "
            + ("silence stands in their place" if parts[0].hole else "what follows them begins too early")
        )
    elif not one_of_many:
        parts[0].pieces = None
    if link.cut_bytes:
        parts[-1].warnings.append(
            f"{path} is truncated: its last {link.cut_bytes} bytes are no whole page; filtered what precedes them"
        )
    return parts


def _mp3_part(path: str, file: BinaryIO, sound: Range, one_of_many: bool) -> Part:
    part = Part(sound.start, sound.start + sound.size, [sound] if one_of_many else None)
    lost = mp3.lost_bytes(file, sound)
    if lost:
        part.damaged = True
        part.warnings.append(f"{path} is damaged: {lost} bytes cannot be read; what follows them begins too early")
    return part


def _behind_id3(file: BinaryIO) -> int:
    """Where the sound begins: some taggers put an ID3 tag in front of any file."""
    head = file.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size
