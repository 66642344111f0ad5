"""Samples as bytes: rounding, clipping, and the WAV header of a stream whose length is not known yet.

Owns the one rule for turning float samples into integers, used by files and pipes alike: round to nearest, hold at full
scale, never wrap, count what was held. Encodings carry libsndfile's names (``PCM_16``, ``FLOAT``) everywhere.
Does no input or output of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rtdenoise.errors import AudioFileError

INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
STREAM_ENCODINGS = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}  # what a pipe may carry: bytes of one sample

UNKNOWN_SIZE = 0xFFFFFFFF  # In a size field this means "until the stream ends", as ffmpeg and sox write and accept it.
SMALLEST_FAKE_SIZE = 0x7FFFF000  # This is what sox writes when it cannot seek back to its header.

_LARGEST_CHUNK_BYTES = 2**30  # Before the samples, pictures and logs of a broadcaster take millions of bytes.
_PART_BYTES = 1 << 16  # A chunk is read in parts of this size.

_WAVE_PCM, _WAVE_FLOAT, _WAVE_EXTENSIBLE = 1, 3, 0xFFFE
# An extensible header names its encoding by a GUID whose last 14 bytes are always these.
_GUID_TAIL = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")


def clip(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Hold samples at full scale; returns them (untouched if nothing stuck out) and how many were held."""
    outside = int(np.count_nonzero(np.abs(samples) > 1.0))
    return (np.clip(samples, -1.0, 1.0), outside) if outside else (samples, 0)


def quantise(samples: np.ndarray, bits: int) -> np.ndarray:
    """Float samples in [-1, 1] as int32 of ``bits`` bits. Samples read from such a file come back bit for bit."""
    full_scale = 2 ** (bits - 1)
    wide = samples.astype(np.float64) if bits > 24 else samples  # A float32 holds 24 bits exactly, no more.
    words: np.ndarray = np.clip(np.rint(wide * full_scale), -full_scale, full_scale - 1).astype(np.int32)
    return words


def encode(samples: np.ndarray, encoding: str) -> bytes:
    """Float samples in [-1, 1] as little-endian bytes of a stream encoding."""
    if encoding == "FLOAT":
        return samples.astype("<f4", copy=False).tobytes()
    words = quantise(samples, INTEGER_BITS[encoding]).astype("<i4", copy=False)
    if encoding == "PCM_16":
        return words.astype("<i2").tobytes()
    if encoding == "PCM_24":
        return np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return words.tobytes()


def decode(data: bytes, encoding: str) -> np.ndarray:
    """Little-endian bytes of a stream encoding as float32 ``[samples]``."""
    if encoding == "FLOAT":
        return np.frombuffer(data, "<f4").astype(np.float32)
    if encoding == "PCM_16":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(2**15)
    if encoding == "PCM_24":
        words = np.zeros((len(data) // 3, 4), np.uint8)
        # They go into the upper bytes, where the sign bit is.
        words[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return words.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(2**31)


@dataclass(frozen=True)
class WavHeader:
    """What the header of a WAV stream says. ``data_bytes`` is None where it says "until the stream ends"."""

    rate: int
    channels: int
    encoding: str
    data_bytes: int | None
    channel_mask: int | None = None  # It says which loudspeaker each channel is for; None where the header does not.


def read_wav_header(read_exactly: Callable[[int], bytes]) -> WavHeader:
    """Parse a WAV header up to the first sample, by reading forwards only.

    ``read_exactly(n)`` returns n bytes, or fewer when the stream ends. Raises AudioFileError for anything that is not
    PCM of 16, 24 or 32 bits or 32-bit float.
    """
    start = read_exactly(12)
    if not start:
        raise AudioFileError("the input is empty: nothing was sent into the pipe")
    if len(start) < 12 or start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        raise AudioFileError("the piped input is not WAV; convert it (ffmpeg -i X -f wav -) or say --raw s16le|f32le")
    layout: tuple[int, int, str, int | None] | None = None
    long_size: int | None = None
    while True:
        head = read_exactly(8)
        if len(head) < 8:
            raise AudioFileError("the WAV header ends before any audio; send the whole file")
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            break
        if size > _LARGEST_CHUNK_BYTES:
            raise AudioFileError(
                f"the WAV header is damaged: a part of {size / 2**30:.1f} GiB stands before its sound; send it anew"
            )
        left = size + size % 2  # Chunks are padded to even length.
        body = read_exactly(min(left, _PART_BYTES))
        while (left := left - _PART_BYTES) > 0 and read_exactly(min(left, _PART_BYTES)):
            pass  # What is longer is a picture, or room that was left.
        if name == b"fmt ":
            layout = _parse_format(body)
        elif name == b"ds64" and len(body) >= 16:
            long_size = struct.unpack_from("<Q", body, 8)[0]
    if layout is None:
        raise AudioFileError("the WAV header has no format chunk; convert the input with ffmpeg -i X -f wav -")
    if start[:4] == b"RF64" and long_size:
        known: int | None = long_size
    else:
        known = size if 0 < size < SMALLEST_FAKE_SIZE else None
    rate, channels, encoding, mask = layout
    return WavHeader(rate, channels, encoding, known, mask)


def _parse_format(body: bytes) -> tuple[int, int, str, int | None]:
    if len(body) < 16:
        raise AudioFileError("the WAV format chunk is too short; convert the input with ffmpeg -i X -f wav -")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", body)
    mask = None
    if tag == _WAVE_EXTENSIBLE and len(body) >= 40 and body[26:40] == _GUID_TAIL:
        mask, tag = struct.unpack_from("<IH", body, 20)
    encoding = {(_WAVE_PCM, 16): "PCM_16", (_WAVE_PCM, 24): "PCM_24", (_WAVE_PCM, 32): "PCM_32"}.get((tag, bits))
    encoding = "FLOAT" if (tag, bits) == (_WAVE_FLOAT, 32) else encoding
    if encoding is None or channels < 1 or frame_bytes != channels * STREAM_ENCODINGS[encoding]:
        raise AudioFileError(
            f"piped WAV of format {tag} with {bits} bits is not supported; "
            "send 16, 24 or 32 bit PCM or 32 bit float (ffmpeg: -c:a pcm_s16le -f wav -)"
        )
    return rate, channels, encoding, mask


def wav_stream_header(rate: int, channels: int, encoding: str, channel_mask: int | None = None) -> bytes:
    """Header of a WAV stream of unknown length, to be followed by samples until the stream ends."""
    sample_bytes = STREAM_ENCODINGS[encoding]
    tag = _WAVE_FLOAT if encoding == "FLOAT" else _WAVE_PCM
    frame_bytes = sample_bytes * channels
    bits = 8 * sample_bytes
    first = tag if channel_mask is None else _WAVE_EXTENSIBLE
    layout = struct.pack("<HHIIHH", first, channels, rate, rate * frame_bytes, frame_bytes, bits)
    if channel_mask is not None:
        layout += struct.pack("<HHIH", 22, bits, channel_mask, tag) + _GUID_TAIL
    return (
        struct.pack("<4sI4s4sI", b"RIFF", UNKNOWN_SIZE, b"WAVE", b"fmt ", len(layout))
        + layout
        + struct.pack("<4sI", b"data", UNKNOWN_SIZE)
    )
