"""Pipes: WAV or raw samples through file descriptors, answered as they come.

Reads whatever has arrived and hands it on at once, never waiting for a full block, so a pipe answers before its input
ends. Never seeks. Knows nothing of models or denoisers.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rtdenoise.errors import AudioFileError, UsageError
from rtdenoise.io import pcm
from rtdenoise.io.chunks import PADDING_BYTES, starts_chunk
from rtdenoise.io.descriptors import wait_until
from rtdenoise.io.metadata import Metadata

_READ_BYTES = 1 << 16  # This is one Linux pipe buffer.


@dataclass(frozen=True)
class RawFormat:
    """How to read samples that have no header: ``encoding`` is a stream encoding, ``rate`` in Hz."""

    encoding: str
    rate: int | None = None
    channels: int | None = None

    def header(self) -> pcm.WavHeader:
        """What a header would say. Raises UsageError where that is missing."""
        if self.rate is None or self.channels is None:
            raise UsageError(
                "raw samples do not say their rate; add --rate and --channels, e.g. --rate 48000 --channels 1"
            )
        if self.rate < 1 or self.channels < 1:
            raise UsageError(f"--rate {self.rate} --channels {self.channels}; both must be at least 1")
        return pcm.WavHeader(self.rate, self.channels, self.encoding, data_bytes=None)


def is_stream(path: str) -> bool:
    """Whether ``path`` is "-", or a pipe or device, which is read and written as it comes and never renamed over."""
    if path == "-":
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _binary(fd: int) -> int:
    """Windows opens standard streams as text, which would turn every sample byte 10 into two."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(fd, os.O_BINARY)
    return fd


class PipeSource:
    """Samples from standard input ("-") or a named pipe: WAV, or headerless if ``raw`` says how."""

    frames: int | None = None  # It is not known before the end.
    damaged = False

    def __init__(self, path: str, raw: RawFormat | None = None):
        self.name = "standard input" if path == "-" else path
        self.endian = "FILE"
        self.warnings: list[str] = []
        header = raw.header() if raw else None
        if path == "-" and os.isatty(0):
            raise UsageError("--in - reads a pipe, but this is a terminal; try: ffmpeg -i X -f wav - | rtdenoise ...")
        self._fd = _binary(0) if path == "-" else os.open(path, os.O_RDONLY)
        try:
            header = header or pcm.read_wav_header(self._read_exactly)
        except BaseException:
            self.__exit__()
            raise
        self.rate, self.channels, self.subtype = header.rate, header.channels, header.encoding
        self._data_bytes, self._channel_mask = header.data_bytes, header.channel_mask
        self.container = "WAV" if self._channel_mask is None else "WAVEX"

    def metadata(self) -> Metadata:
        return Metadata(channel_mask=self._channel_mask)

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 ``[samples, channels]``: whole frames as soon as they are there."""
        frame_bytes = self.channels * pcm.STREAM_ENCODINGS[self.subtype]
        left, waiting = self._data_bytes, b""
        while True:
            if left == 0:
                data, left = self._behind_declared(), None
            else:
                data = self._read(_READ_BYTES if left is None else min(left, _READ_BYTES))
                left = None if left is None else left - len(data)
            if not data:
                break
            waiting += data
            whole = len(waiting) // frame_bytes * frame_bytes
            if whole:
                yield pcm.decode(waiting[:whole], self.subtype).reshape(-1, self.channels)
                waiting = waiting[whole:]
        if waiting:
            self.warnings.append(f"{self.name} ended within a sample; dropped its last {len(waiting)} bytes")
        if left:
            self.warnings.append(f"{self.name} is truncated: {left} bytes are missing; filtered what is there")

    def _behind_declared(self) -> bytes:
        """What comes behind the samples that the header declares, if it is samples too.

        Chunks and tags are read away: the sender would die of a broken pipe.
        """
        odd = (self._data_bytes or 0) % 2  # An odd number of bytes is padded to even length, or should be.
        head = self._read_exactly(8 + odd)
        while head and not any(head) and len(head) <= PADDING_BYTES:
            more = self._read_exactly(len(head))
            if not more:
                return b""
            head += more
        if len(head) >= 8 and not any(starts_chunk(head[at : at + 8], None) for at in (0, odd)):
            declared = self._data_bytes
            self.warnings.append(f"{self.name}: its header is older than its sound ({declared} bytes); read to the end")
            return head
        while self._read(_READ_BYTES):
            pass
        return b""

    def _read_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count and (more := self._read(min(count - len(data), _READ_BYTES))):
            data += more
        return bytes(data)

    def _read(self, most: int) -> bytes:
        """What has arrived, ``most`` bytes of it; nothing at the end."""
        while True:
            try:
                return os.read(self._fd, most)
            except BlockingIOError:
                wait_until(self._fd)

    def __enter__(self) -> PipeSource:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._fd > 2:
            os.close(self._fd)


class PipeSink:
    """Samples to standard output ("-"), a named pipe or a device: a WAV stream, or headerless if ``raw``.

    The header leaves with the first samples, so an input without audio leaves nothing behind.
    """

    def __init__(
        self,
        path: str,
        rate: int,
        channels: int,
        source_subtype: str,
        raw: RawFormat | None = None,
        metadata: Metadata | None = None,
    ):
        self.name, self.clipped = "standard output" if path == "-" else path, 0
        self.warnings: list[str] = []
        if path == "-" and os.isatty(1):
            raise UsageError("--out - writes samples, but a terminal is attached; add > FILE.wav or | PLAYER")
        if raw is not None:
            self.encoding = raw.encoding
        elif source_subtype in pcm.STREAM_ENCODINGS:
            self.encoding = source_subtype
        else:
            self.encoding = "FLOAT" if source_subtype == "DOUBLE" else "PCM_16"
        mask = metadata.channel_mask if metadata else None
        self._pending = b"" if raw is not None else pcm.wav_stream_header(rate, channels, self.encoding, mask)
        self._fd = _binary(1) if path == "-" else os.open(path, os.O_WRONLY)

    def write(self, samples: np.ndarray) -> None:
        """Send float32 ``[samples, channels]`` now. A reader that has gone away raises BrokenPipeError."""
        if not len(samples):
            return
        if self.encoding != "FLOAT":
            samples, held = pcm.clip(samples)
            self.clipped += held
        data = memoryview(self._pending + pcm.encode(samples, self.encoding))
        self._pending = b""
        try:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    wait_until(self._fd, write=True)
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise AudioFileError(f"cannot write to {self.name}: {problem.strerror}; free some space") from problem

    def __enter__(self) -> PipeSink:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._fd > 2:
            os.close(self._fd)
