"""Where samples come from and where they go: which kind of source and sink a name means, opened.

A name is a pipe ("-"), a sound file that libsndfile reads and writes, or a film or recording that PyAV does. Each kind
is loaded when it is met.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise.io import media
from rtdenoise.io.metadata import Metadata
from rtdenoise.io.pipes import PipeSink, PipeSource, RawFormat, is_stream

if TYPE_CHECKING:
    from rtdenoise.io.media import Track


class Source(Protocol):
    """Where samples come from: a sound file or a pipe."""

    name: str
    rate: int
    channels: int
    frames: int | None
    warnings: list[str]
    damaged: bool
    container: str
    subtype: str
    endian: str

    def metadata(self) -> Metadata: ...
    def blocks(self) -> Iterator[np.ndarray]: ...


class Sink(Protocol):
    """Where samples go. ``clipped`` counts the samples that had to be held at full scale."""

    clipped: int
    warnings: list[str]

    def write(self, samples: np.ndarray) -> None: ...


def open_sources(path: str, target: str, track: Track, raw: RawFormat | None, stack: ExitStack) -> Sequence[Source]:
    """What is to be filtered: of a film all tracks that are asked for, else one sound."""
    if is_stream(path):
        return [stack.enter_context(PipeSource(path, raw))]
    from rtdenoise.io.sound_source import SoundFileSource, check_is_there  # A pure pipe does without libsndfile.

    if media.is_media(path) or (media.has_signature(path) and media.is_available()):
        from rtdenoise.io.media_source import open_tracks

        check_is_there(path)
        return open_tracks(path, track, to_film=media.is_media(target), stack=stack)
    if track not in (None, 1, "all"):
        raise UsageError(f"{path} is one sound without tracks; remove --track {track}")
    return [stack.enter_context(SoundFileSource(path))]


def open_sinks(
    path: str, sources: Sequence[Source], audio_codec: str | None, raw: RawFormat | None, stack: ExitStack
) -> Sequence[Sink]:
    """Where each source goes."""
    source = sources[0]
    if not is_stream(path) and media.is_media(path):
        from rtdenoise.io.media_sink import MediaFile

        return stack.enter_context(MediaFile(path, sources, audio_codec)).tracks
    if audio_codec is not None:
        raise UsageError(f"--audio-codec is only valid for outputs such as .mp4, .mkv or .m4a, not {path}; remove it")
    return [stack.enter_context(_open_sink(path, source, raw))]


def _open_sink(path: str, source: Source, raw: RawFormat | None) -> AbstractContextManager[Sink]:
    if is_stream(path):
        return PipeSink(path, source.rate, source.channels, source.subtype, raw, source.metadata())
    from rtdenoise.io.sound_sink import SoundFileSink

    return SoundFileSink(
        path,
        source.rate,
        source.channels,
        source.container,
        source.subtype,
        source.endian,
        source.frames,
        source.metadata(),
        like=source.name,
    )
