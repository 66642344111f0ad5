"""FLAC files that libsndfile cannot read as they are: of unknown length, damaged in the middle, or several in one.

Frames are found by their headers and judged by their checksums. Whatever is missing between two good ones becomes
frames of silence of the same length, so that a decoder goes on behind a hole and every sample keeps its place.
Format: RFC 9639.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from rtdenoise.io.byte_views import Piece, Range, patched

MAGIC = b"fLaC"
_STREAMINFO = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_LONGEST_HEADER = 16
_TAIL_BYTES = 1 << 18  # The last frame is looked for here; one of 8 channels and 24 bits has 110 KB at most.
_READ_BYTES = 1 << 22
_FALSE_SYNCS = 3  # At most this many headers in a row inside a frame only look like one.
_BATCH_BYTES = 1 << 24
_LONGEST_FRAME = 1 << 21  # In bytes, this is 65 536 samples of 8 channels and 32 bits.
_FEW_ROWS = 64  # Up to here, summing one row after the other is quicker than side by side.
_SILENT_BLOCK = 4_096


def _crc_table(polynomial: int, bits: int) -> np.ndarray:
    table = np.arange(256, dtype=np.uint32) << (bits - 8)
    for _ in range(8):
        table = np.where(table >> (bits - 1), (table << 1) ^ polynomial, table << 1) & ((1 << bits) - 1)
    return table.astype(np.uint16 if bits == 16 else np.uint8)


_CRC8, _CRC16 = _crc_table(0x07, 8), _crc_table(0x8005, 16)
_CRC16_WORDS = _CRC16.tolist()


@dataclass(frozen=True)
class Frame:
    """A frame on disk: ``size`` bytes from ``at``, which hold ``samples`` from sample ``first`` on."""

    at: int
    size: int
    first: int
    samples: int
    codes: bytes  # its first four bytes: how it is coded
    unit: int = 1  # samples that one step of its number means: 1, or a frame of them


@dataclass(frozen=True)
class Stream:
    """One FLAC stream on disk, from ``start`` to ``end``; its frames begin at ``frames_at``."""

    start: int
    end: int
    frames_at: int
    block: int  # samples of a frame where all are equal, else 0
    channels: int
    sample_bits: int
    samples: int  # 0: the header does not know

    def frame_header(self, data: bytes) -> Frame | None:
        """The header that ``data`` begins with, if it is one of this stream's.

        Its size is not known yet, and ``first`` is the number as it stands there.
        """
        if len(data) < 6 or data[:1] != b"\xff" or data[1] & 0xFE != 0xF8 or data[3] & 1:
            return None
        block_code, rate_code, channel_code = data[2] >> 4, data[2] & 15, data[3] >> 4
        if not block_code or rate_code == 15 or channel_code > 10:
            return None
        if (channel_code + 1 if channel_code < 8 else 2) != self.channels:
            return None
        extra = 8 - (data[4] ^ 0xFF).bit_length()  # Ones at the top count the bytes, as in UTF-8.
        if extra == 1 or extra == 8:
            return None
        at = 4 + max(1, extra)
        number = data[4] & (0x7F >> extra) if extra else data[4]
        for byte in data[5:at]:
            number = number << 6 | byte & 0x3F
        if block_code in (6, 7):
            samples = int.from_bytes(data[at : at + block_code - 5], "big") + 1
            at += block_code - 5
        else:
            samples = 192 if block_code == 1 else 576 << block_code - 2 if block_code < 6 else 256 << block_code - 8
        at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
        if at >= len(data) or _crc8(data[:at]) != data[at]:
            return None
        return Frame(0, 0, number, samples, data[:4])


def streams(file: BinaryIO, start: int, end: int) -> list[Stream]:
    """The FLAC streams that follow one another from ``start`` on; none if this is no FLAC."""
    file.seek(start)
    if file.read(4) != MAGIC:
        return []
    file.seek(max(start, end - 128))
    if file.read(3) == b"TAG":
        end -= 128
    found, starts = [], [start, *_find(file, _STREAMINFO, start + 4, end, 8)]
    for at, stop in zip(starts, [*starts[1:], end], strict=True):
        stream = _read(file, at, stop)
        if stream and stream.frames_at <= stop:  # Otherwise it lies in a picture or the like of the one before.
            found.append(stream)
    return found


def _read(file: BinaryIO, start: int, end: int) -> Stream | None:
    file.seek(start + 4)
    info = file.read(38)
    if len(info) < 38 or info[0] & 0x7F:
        return None
    smallest, largest = int.from_bytes(info[4:6], "big"), int.from_bytes(info[6:8], "big")
    packed = int.from_bytes(info[14:22], "big")
    at, last = start + 42, info[0] & 0x80
    while not last:
        file.seek(at)
        head = file.read(4)
        if len(head) < 4:
            return None
        last = head[0] & 0x80
        at += 4 + int.from_bytes(head[1:], "big")
    block = smallest if smallest == largest else 0
    return Stream(start, end, at, block, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, packed & (1 << 36) - 1)


def is_complete(file: BinaryIO, stream: Stream) -> bool:
    """Whether the header knows the length and no frame lies behind it."""
    begin = max(stream.frames_at, stream.end - _TAIL_BYTES)
    spans = _spans(file, stream, begin) if stream.samples else []
    behind = [frame for frame in spans if frame.first + frame.samples > stream.samples]
    return bool(stream.samples) and not any(_are_whole(file, behind))


def mend(file: BinaryIO, stream: Stream) -> tuple[list[Piece], int, int]:
    """The stream with silence in place of what is damaged, and its length as it is.

    Returns its pieces, its length in samples, and how many of them are silence.
    """
    pieces: list[Piece] = [Range(stream.start, stream.frames_at - stream.start)]
    at = silent = unit = 0
    for frame in _good_frames(file, stream):
        if frame.first < at:
            continue
        if frame.first > at:
            pieces += _silence(stream, frame, at)
            silent += frame.first - at
        last = pieces[-1]
        if isinstance(last, Range) and last.start + last.size == frame.at:
            pieces[-1] = Range(last.start, last.size + frame.size)
        else:
            pieces.append(Range(frame.at, frame.size))
        at, unit = frame.first + frame.samples, frame.unit
    file.seek(stream.start + 8)
    info = file.read(18)
    blocks = info[:4] if unit < 2 else unit.to_bytes(2, "big") * 2
    packed = int.from_bytes(info[10:], "big") >> 36 << 36 | at & (1 << 36) - 1
    # Sizes of frames and the checksum of the sound are of what was there before: left open.
    info = blocks + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return patched(pieces, {stream.start + 8: info}), at, silent


def _good_frames(file: BinaryIO, stream: Stream) -> Iterator[Frame]:
    """Frames whose checksum is right, in the order of the file."""
    spans = _spans(file, stream, stream.frames_at)
    for index, good in enumerate(_are_whole(file, spans)):
        frame = spans[index]
        if good:
            yield frame
            continue
        for following in spans[index + 1 : index + 1 + _FALSE_SYNCS]:
            if following.first == frame.first + frame.samples:
                break  # The frame ends where it seemed to, so it is damaged.
            frame = replace(frame, size=following.at + following.size - frame.at)
            if _are_whole(file, [frame])[0]:
                yield frame
                break


def _spans(file: BinaryIO, stream: Stream, begin: int) -> list[Frame]:
    """Frames from offset ``begin`` on, each taken to end where the next header is."""
    headers = [*_headers(file, stream, begin)]
    if headers and not headers[0].codes[1] & 1:  # Here frames are counted, not samples.
        block = _block(stream, headers)
        headers = [replace(frame, first=frame.first * block, unit=block) for frame in headers]
    ends = [frame.at for frame in headers[1:]] + [stream.end] * bool(headers)
    return [replace(frame, size=end - frame.at) for frame, end in zip(headers, ends, strict=True)]


def _block(stream: Stream, frames: list[Frame]) -> int:
    """Samples of every frame but the last. Most frames are right about it, should STREAMINFO be damaged."""
    ((usual, count),) = Counter(frame.samples for frame in frames).most_common(1)
    return usual if count > 2 or not stream.block else stream.block


def _headers(file: BinaryIO, stream: Stream, begin: int) -> Iterator[Frame]:
    for at in _find(file, _SYNC, begin, stream.end, _LONGEST_HEADER):
        file.seek(at)
        frame = stream.frame_header(file.read(min(_LONGEST_HEADER, stream.end - at)))
        if frame:
            yield Frame(at, 0, frame.first, frame.samples, frame.codes)


def _find(file: BinaryIO, pattern: re.Pattern[bytes], begin: int, end: int, longest: int) -> Iterator[int]:
    """Offsets at which ``pattern`` (of at most ``longest`` bytes) is found between ``begin`` and ``end``."""
    while begin < end:
        file.seek(begin)
        data = file.read(min(_READ_BYTES + longest - 1, end - begin))
        if not data:
            return
        for match in pattern.finditer(data):
            if match.start() < _READ_BYTES:
                yield begin + match.start()
        begin += _READ_BYTES


def _are_whole(file: BinaryIO, frames: list[Frame]) -> list[bool]:
    """Whether the checksum of each frame is right. Many are summed side by side, a column of bytes at a time."""
    whole: list[bool] = []
    while len(whole) < len(frames):
        batch: list[Frame] = []
        longest = 0
        for frame in frames[len(whole) :]:
            longest = max(longest, min(frame.size, _LONGEST_FRAME))
            if batch and longest * (len(batch) + 1) > _BATCH_BYTES:
                break
            batch.append(frame)
        rows = np.zeros((len(batch), max(min(f.size, _LONGEST_FRAME) for f in batch)), np.uint8)
        for row, frame in zip(rows, batch, strict=True):
            if frame.size <= _LONGEST_FRAME:  # It is right-aligned, since zeros in front do not change the sum.
                file.seek(frame.at)
                data = np.frombuffer(file.read(frame.size), np.uint8)
                row[len(row) - len(data) :] = data
        sums = _crc16(rows)
        whole += [not total and f.size <= _LONGEST_FRAME for total, f in zip(sums, batch, strict=True)]
    return whole


def _silence(stream: Stream, model: Frame, first: int) -> list[Piece]:
    """Frames of zeros from sample ``first`` up to ``model``, coded like it."""
    made: list[Piece] = []
    while first < model.first:
        samples = min(model.unit if model.unit > 1 else _SILENT_BLOCK, model.first - first)
        rate_code = model.codes[2] & 15
        # Block size in two bytes of its own; a rate with bytes of its own is left to STREAMINFO, which has it too.
        head = bytes([0xFF, model.codes[1], 0x70 | (rate_code if rate_code < 12 else 0), model.codes[3]])
        head += _coded(first // model.unit) + (samples - 1).to_bytes(2, "big")
        head += bytes([_crc8(head)])
        # A constant subframe has eight bits that say so, and one sample.
        bits = stream.channels * (8 + stream.sample_bits)
        side = 1 if model.codes[3] >> 4 >= 8 else 0  # A difference of two channels has one bit more.
        data = head + bytes((bits + side + 7) // 8)
        made.append(data + int(_crc16(np.frombuffer(data, np.uint8)[None])[0]).to_bytes(2, "big"))
        first += samples
    return made


def _coded(number: int) -> bytes:
    """A frame's number as FLAC writes it: like UTF-8, up to 36 bits."""
    if number < 0x80:
        return bytes([number])
    more = next(count for count in range(1, 7) if number < 1 << 6 * count + 6 - count)
    tail = [0x80 | number >> 6 * place & 0x3F for place in reversed(range(more))]
    return bytes([(0xFF00 >> more + 1) & 0xFF | number >> 6 * more, *tail])


def _crc16(rows: np.ndarray) -> np.ndarray:
    """Checksum of each row of bytes."""
    if len(rows) < _FEW_ROWS:
        return np.array([_crc16_of(row[int((row != 0).argmax()) :]) for row in rows], np.uint16)
    sums = np.zeros(len(rows), np.uint16)
    for column in rows.T:
        sums = (sums << 8) ^ _CRC16[(sums >> 8) ^ column]
    return sums


def _crc16_of(row: np.ndarray) -> int:
    total = 0
    for byte in row.tolist():
        total = (total << 8 & 0xFFFF) ^ _CRC16_WORDS[total >> 8 ^ byte]
    return total


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = int(_CRC8[crc ^ byte])
    return crc
