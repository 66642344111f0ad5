"""One audio track of a film or of any recording, decoded in blocks and laid on its own time line.

The decoder leaves out what an encoder put before the sound (its delay, edit lists). What is then left to decide is
decided here: a gap in the time stamps becomes silence of its length, what overlaps is dropped, and frames without a
time stamp follow each other.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import numpy as np

from rtdenoise.errors import AudioFileError, UsageError
from rtdenoise.io.media import Track, begins_s, open_media, packets, pictures, tracks
from rtdenoise.io.metadata import TAGS, Metadata
from rtdenoise.io.sound_source import BLOCK_SECONDS

JITTER_S = 0.015  # Time stamps in whole ms, and phones' clocks, are this far off; a lost frame of speech is 20 ms.
_LONGEST_JUMP_S = 600.0  # A longer one, back or ahead, beyond the file's own duration is a time stamp that lies.
_BIT_RATE_S = 60  # Of a track whose container does not say it: measured over this much.
_LATE_S = 0.002  # A start this much behind the picture is no rounding.
_RENAMED = {"track": "tracknumber", "year": "date"}
_LOSSLESS = {"flac", "alac", "wavpack", "tta", "ape", "truehd", "mlp", "shorten", "tak"}


class MediaSource:
    """A track, read once from start to end. ``start_s`` is where its first sample lies; a ``lead_in`` is silence from
    the beginning of the picture up to there, for outputs that cannot begin late."""

    container, endian = "MEDIA", "FILE"

    def __init__(self, path: str, index: int, lead_in: bool = False):
        self.name, self.index, self.damaged = path, index, False
        self.warnings: list[str] = []
        self._input = open_media(path)
        try:
            self._stream = self._input.streams[index]
            _leave_others(self._input, self.index)
            self._cut_short = False
            self._bad_packets = 0
            self._decoded = self._frames()
            first = next(self._decoded, None)
            if first is None:
                raise AudioFileError(f"{path} contains no audio that can be decoded; restore it from a copy")
        except BaseException:
            self._input.close()
            raise
        self._first = first
        self.rate, self.channels, self.layout = first.sample_rate, first.layout.nb_channels, first.layout.name
        self.codec = self._stream.codec_context.codec.canonical_name
        self.subtype = _subtype(self.codec, first.format)
        self.start_s = _time_of(first) if first.pts is not None else Fraction(0)
        self._lead = self._lead_in() if lead_in else 0
        duration = _duration_s(self._stream, self._input)
        self.frames: int | None = self._lead + round(duration * self.rate) if duration else None

    @property
    def is_lossless(self) -> bool:
        return self.codec in _LOSSLESS or self.codec.startswith("pcm_")

    def bit_rate(self) -> int | None:
        """Bits a second of the track, measured where the container does not say them."""
        stated = self._stream.codec_context.bit_rate
        if stated and self._input.format.name != "aac":
            return int(stated)
        size, length = 0, Fraction(0)
        with open_media(self.name) as again:
            _leave_others(again, self.index)
            for packet in packets(again, again.streams[self.index]):
                size += packet.size
                length += (packet.duration or 0) * packet.time_base
                if length > _BIT_RATE_S:
                    break
        return round(8 * size / length) if length else None

    @property
    def tags(self) -> dict[str, str]:
        """All tags of the file, by their own names."""
        return dict(self._input.metadata)

    def metadata(self) -> Metadata:
        """The tags that any format holds."""
        tags = {_RENAMED.get(key.lower(), key.lower()): text for key, text in self.tags.items()}
        return Metadata({key: text for key, text in tags.items() if key in TAGS and text})

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 ``[samples, channels]``, to the end."""
        waiting: list[np.ndarray] = []
        size = round(self.rate * BLOCK_SECONDS)
        ready = 0
        for samples in self._placed():
            waiting.append(samples)
            ready += len(samples)
            if ready >= size:
                yield np.concatenate(waiting)
                waiting, ready = [], 0
        if ready:
            yield np.concatenate(waiting)

    def _placed(self) -> Iterator[np.ndarray]:
        """The decoded samples in their places, relative to the first."""
        yield from self._silence(self._lead)
        origin, at, silent, dropped = self.start_s, 0, 0, 0
        most = round(_LONGEST_JUMP_S * self.rate)
        for frame, samples in self._samples():
            place = at if frame.pts is None else round((_time_of(frame) - origin) * self.rate)
            off = place - at
            beyond = self.frames is not None and place > self.frames + self.rate
            if off < -self.rate or (off > most and beyond):  # The clock itself was set anew.
                origin -= Fraction(off, self.rate)
                self.warnings.append(
                    f"{self.name}: its time stamps jump at {at / self.rate:.2f} s; sound goes on there"
                )
            elif off > JITTER_S * self.rate:
                yield from self._silence(off)
                silent, at = silent + off, at + off
            elif off < -JITTER_S * self.rate:
                dropped += min(-off, len(samples))
                samples = samples[-off:]
            at += len(samples)
            yield samples
        self._remark(at, silent, dropped)

    def _remark(self, samples: int, silent: int, dropped: int) -> None:
        if self._bad_packets:
            self.damaged = True
            self.warnings.append(f"{self.name} is damaged: {self._bad_packets} packets of its sound cannot be decoded")
        if silent:
            self.warnings.append(f"{self.name} has gaps in its sound; {silent / self.rate:.2f} s of silence fill them")
        if dropped:
            self.warnings.append(f"{self.name}: {dropped / self.rate:.2f} s of its sound overlap and were dropped")
        missing_s = (self.frames - self._lead - samples) / self.rate if self.frames else 0.0
        if self._cut_short or missing_s > 1.0:
            what = f"the last {missing_s:.1f} s of its sound are missing" if missing_s > 0.05 else "its end is missing"
            self.warnings.append(f"{self.name} is truncated: {what}; filtered what is there")

    def _silence(self, samples: int) -> Iterator[np.ndarray]:
        size = round(self.rate * BLOCK_SECONDS)
        for done in range(0, samples, size):
            yield np.zeros((min(size, samples - done), self.channels), np.float32)

    def _samples(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Every frame with its samples, in the first one's rate and layout whatever comes later."""
        from av import AudioResampler

        resampler, kind = None, None
        frame: Any = self._first
        while frame is not None:
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                resampler = AudioResampler("flt", self.layout, self.rate)
            pts, base = frame.pts, frame.time_base
            assert resampler is not None
            for turned in resampler.resample(frame):
                turned.pts, turned.time_base = pts, base or Fraction(1, self.rate)
                yield turned, turned.to_ndarray().reshape(-1, self.channels)
                pts = None
            frame = next(self._decoded, None)

    def _frames(self) -> Generator[Any]:
        from av.error import FFmpegError

        found = packets(self._input, self._stream)
        while True:
            try:
                packet = next(found, None)
            except FFmpegError:
                self._cut_short, packet = True, None
            if packet is None:
                return
            try:
                yield from packet.decode()
            except FFmpegError:
                self._bad_packets += 1

    def _lead_in(self) -> int:
        starts = [start for stream in pictures(self._input) if (start := begins_s(stream)) is not None]
        late_s = self.start_s - min(starts) if starts else Fraction(0)
        if late_s < _LATE_S:
            return 0
        self.warnings.append(
            f"{self.name}: its sound begins {float(late_s):.2f} s after the picture; silence precedes it"
        )
        lead: int = round(late_s * self.rate)
        return lead

    def __enter__(self) -> MediaSource:
        return self

    def __exit__(self, *problem: object) -> None:
        self._decoded.close()
        self._input.close()


def open_tracks(path: str, track: Track, to_film: bool, stack: ExitStack) -> list[MediaSource]:
    """The tracks that are meant, each with an input of its own, closed by ``stack``."""
    with open_media(path) as container:
        indices = [stream.index for stream in tracks(container, path, track)]
    if len(indices) > 1 and not to_film:
        raise UsageError(f"{path} has {len(indices)} audio tracks and a sound file holds one; give --track a number")
    return [stack.enter_context(MediaSource(path, index, lead_in=not to_film)) for index in indices]


def _leave_others(container: Any, index: int) -> None:
    """Have the demuxer pass over all streams but one."""
    from av.stream import Discard

    for stream in container.streams:
        if stream.index != index:
            stream.discard = Discard.all


def _time_of(frame: Any) -> Fraction:
    return Fraction(frame.pts * frame.time_base)


def _duration_s(stream: Any, container: Any) -> float:
    """What the file says of the track's duration, 0 if it says nothing."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    said = str(stream.metadata.get("DURATION", ""))  # Matroska, "00:01:02.003000000"
    try:
        hours, minutes, seconds = said.split(":")
        return 3600.0 * int(hours) + 60.0 * int(minutes) + float(seconds) - float(begins_s(stream) or 0)
    except ValueError:
        return 0.0 if pictures(container) or not container.duration else container.duration / 1e6


def _subtype(codec: str, form: Any) -> str:
    """What libsndfile calls the nearest encoding without loss."""
    if codec not in _LOSSLESS and not codec.startswith("pcm_"):
        return "PCM_16"
    if "f32" in codec or "f64" in codec or form.name.startswith(("flt", "dbl")):
        return "FLOAT"
    if codec.startswith("pcm_s32"):
        return "PCM_32"
    return "PCM_24" if form.bytes > 2 else "PCM_16"
