"""A film or a sound that PyAV writes: filtered tracks encoded anew, all others copied packet by packet.

    tracks ── encode ──┐
    the input's other streams ── copy ──┴─▸ part file ─▸ in its place (`rtdenoise.io.atomic`)

Other streams are copied up to where the slowest track has come, so memory stays constant. Owns which encoder a track
gets. Knows nothing of models or denoisers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from rtdenoise.errors import AudioFileError, UsageError
from rtdenoise.io.atomic import AtomicFile
from rtdenoise.io.media import CONTAINERS, Container, is_cover, load_av, open_media, packets
from rtdenoise.io.media_source import MediaSource
from rtdenoise.io.media_tracks import Encoding, MediaTrack
from rtdenoise.io.sound_sink import cannot_write

_BUFFER_BYTES = 1 << 20
_IMAGES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
_LARGEST_SCALE = 2**31
_APPLE = {"mov", "mp4", "3gp"}


class MediaFile:
    """An output that appears under its name once ``tracks``, one for each source and in their order, are written."""

    def __init__(self, path: str, sources: Sequence[Any], audio_codec: str | None = None):
        self.name = path
        self.warnings: list[str] = []
        self._av = load_av(path)
        self._kind = container_of(path)
        self._films = [source for source in sources if isinstance(source, MediaSource)]
        encodings = [Encoding.of(path, self._kind, source, audio_codec, self.warnings) for source in sources]
        self._stack = ExitStack()
        try:
            self._whole = _made(path, sources[0].name)
            self._stack.callback(self._whole.discard)
            self._inputs = [self._stack.enter_context(open_media(self._films[0].name))] if self._films else []
            try:
                self._build(sources, encodings)
            except (self._av.error.FFmpegError, ValueError):
                if not self._inputs:
                    raise
                self._build(sources, encodings, with_data=False)  # Streams that only their camera's maker knows.
        except (self._av.error.FFmpegError, ValueError) as problem:
            self._stack.close()
            encoder = ", ".join(dict.fromkeys(encoding.encoder for encoding in encodings))
            raise AudioFileError(
                f"{path}: {encoder} at {sources[0].rate} Hz with {sources[0].channels} channels is not possible here "
                f"({getattr(problem, 'strerror', problem)}); choose another --audio-codec or extension"
            ) from problem
        except BaseException as problem:  # Ctrl-C at this very moment too
            self._stack.close()
            if isinstance(problem, OSError):
                raise cannot_write(path, problem) from problem
            raise
        self._packets = self._copied()
        self._next = next(self._packets, None)

    def _build(self, sources: Sequence[Any], encodings: list[Encoding], with_data: bool = True) -> None:
        """Every stream of the output, in the input's order, and the header."""
        self._whole.file.seek(0)
        self._whole.file.truncate()
        options = {"brand": self._kind.brand} if self._kind.brand else {}
        tags = dict(self._films[0].tags if self._films else sources[0].metadata().tags)
        if self._kind.format in _APPLE and any(key.startswith("com.") for key in tags):
            options["movflags"] = "use_metadata_tags"  # What phones note: place, maker, model.
        if self._kind.format in _APPLE:  # In whole ms, as is usual, a late start would be rounded.
            options["movie_timescale"] = str(self._time_scale([source.rate for source in sources]))
        self._output = self._av.open(
            self._whole.file, "w", format=self._kind.format, buffer_size=_BUFFER_BYTES, container_options=options
        )
        self._output.metadata.update(tags)
        self._streams: dict[int, Any] = {}
        self._lost: list[str] = []
        made: dict[int, MediaTrack] = {}
        if self._inputs:
            chapters = self._inputs[0].chapters()
            for stream in self._inputs[0].streams:
                which = next((k for k, film in enumerate(self._films) if film.index == stream.index), None)
                if which is not None:
                    made[which] = MediaTrack(self, self._output, encodings[which], self._kind, stream)
                elif not (_is_derived(stream) or (stream.type == "data" and not with_data)):
                    self._add_copy(stream)
            self._output.set_chapters(chapters)
        else:
            made[0] = MediaTrack(self, self._output, encodings[0], self._kind)
        self._output.start_encoding()
        self.tracks = [made[k] for k in range(len(sources))]
        left_out = sum(stream.type == "data" for stream in self._inputs[0].streams) if not with_data else 0
        if left_out:
            self._lost.append(f"{left_out} data streams")
        if self._lost:
            lost = ", ".join(dict.fromkeys(self._lost))
            self.warnings.append(f"{PurePath(self.name).suffix} holds no {lost} of the input; left out")

    def _add_copy(self, stream: Any) -> None:
        """The same stream in the output, if its container holds such streams."""
        cover = is_cover(stream)
        if stream.type == "video" and not cover and not self._kind.picture:
            return  # Who names a sound file wants no picture.
        name = stream.codec_context.codec.canonical_name if stream.codec_context else stream.type
        if cover and self._kind.format == "matroska":
            data = next(bytes(packet) for packet in self._fresh(stream.index) if packet.size)
            file_name, kind = _IMAGES.get(name, (f"cover.{name}", f"image/{name}"))
            tags = stream.metadata
            self._output.add_attachment(tags.get("filename", file_name), tags.get("mimetype", kind), data)
            return
        if self._kind.sound_alone:
            self._lost.append(name)
            return
        try:
            copy = self._output.add_stream_from_template(stream, opaque=True)
        except ValueError:
            self._lost.append(name)
            return
        apple = self._kind.format in _APPLE and "mp4" in self._inputs[0].format.name
        if apple and stream.codec_context is not None:  # Some players refuse hev1 where hvc1 was.
            copy.codec_context.codec_tag = stream.codec_context.codec_tag
        copy.metadata.update(stream.metadata)
        copy.disposition = int(stream.disposition)
        self._streams[stream.index] = copy

    def _time_scale(self, rates: list[int]) -> int:
        """Units a second in which every start of a stream is a whole number, as far as the format's 31 bits go."""
        bases = [stream.time_base for container in self._inputs for stream in container.streams if stream.time_base]
        scale = 1_000
        for units in [*rates, *(base.denominator for base in bases)]:
            if (both := math.lcm(scale, units)) < _LARGEST_SCALE:
                scale = both
        return scale

    def _fresh(self, index: int) -> Iterator[Any]:
        with open_media(self._films[0].name) as again:
            yield from packets(again, again.streams[index])

    def _copied(self) -> Iterator[Any]:
        """The packets of the input that travel as they are. What cannot be read any more ends them."""
        if not self._streams:
            return
        found = packets(self._inputs[0], [self._inputs[0].streams[index] for index in self._streams])
        while True:
            try:
                packet = next(found, None)
            except self._av.error.FFmpegError:  # The source has said that the file is truncated.
                return
            if packet is None:
                return
            if packet.size and not self._is_filler(packet):  # One without bytes is the sign of the end.
                yield packet

    def _is_filler(self, packet: Any) -> bool:
        """Whether it stands for the time between two subtitles, which the output's writer fills by itself."""
        return self._kind.format in _APPLE and packet.stream.type == "subtitle" and bytes(packet) == b"\0\0"

    def catch_up(self) -> None:
        """Copy what precedes the end of the slowest track."""
        self._copy(min(track.reached_s for track in self.tracks))

    def _copy(self, until_s: Fraction | None = None) -> None:
        while (packet := self._next) is not None:
            stamp = packet.pts if packet.dts is None else packet.dts
            if until_s is not None and stamp is not None and stamp * packet.time_base > until_s:
                return
            packet.stream = self._streams[packet.stream.index]
            self._output.mux(packet)
            self._next = next(self._packets, None)

    @contextmanager
    def failing_clearly(self) -> Iterator[None]:
        """What goes wrong on the way to the disk, as an error that names the output."""
        try:
            yield
        except (OSError, self._av.error.FFmpegError) as failure:
            raise cannot_write(self.name, failure) from failure

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with self.failing_clearly():
                    for track in self.tracks:
                        track.flush()
                    self._copy()
                    self._output.close()
                    self._whole.commit()
        finally:
            self._stack.close()


def _is_derived(stream: Any) -> bool:
    """Whether a demuxer shows as a stream what it has also made chapters of: they are written anew."""
    from av.stream import Discard

    return bool(stream.discard == Discard.all)


def container_of(path: str) -> Container:
    """How a file of this name is written."""
    extension = PurePath(path).suffix.lower()
    if extension not in CONTAINERS:
        known = " ".join(sorted(CONTAINERS))
        raise UsageError(f"{path}: {extension} can be read but not written; use one of {known}, .wav or .flac")
    return CONTAINERS[extension]


def _made(path: str, like: str) -> AtomicFile:
    try:
        whole = AtomicFile(path, like)
    except OSError as problem:
        raise cannot_write(path, problem) from problem
    if whole.part is None:
        whole.discard()
        raise AudioFileError(f"{path} is a pipe or a device; name a file")
    return whole
