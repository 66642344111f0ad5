"""Films and sounds that FFmpeg's libraries read: which names mean one, how they are opened, which track is meant.

Owns the extra `media`: PyAV is loaded here, when such a file is met and never before. Knows nothing of samples.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from rtdenoise.errors import AudioFileError, RtdenoiseError, UsageError


@dataclass(frozen=True)
class Container:
    """How a file of some extension is written: FFmpeg's name of its format, and the encoder for sound that cannot be
    encoded as it was. ``picture``: whether it is for films. ``timed``: whether it says when its sound begins, so that
    a decoder can leave out the encoder's delay. ``sound_alone``: whether it holds one track of sound and nothing else.
    ``brand``: what the start of an MP4 file calls it."""

    format: str
    encoder: str
    picture: bool = False
    timed: bool = True
    sound_alone: bool = False
    brand: str | None = None


CONTAINERS = {
    ".mp4": Container("mp4", "aac", True),
    ".m4v": Container("mp4", "aac", True),
    ".mov": Container("mov", "aac", True),
    ".mkv": Container("matroska", "libopus", True),
    ".webm": Container("webm", "libopus", True),
    ".avi": Container("avi", "libmp3lame", True, timed=False),
    ".wmv": Container("asf", "wmav2", True),
    ".3gp": Container("3gp", "aac", True),
    ".flv": Container("flv", "aac", True),
    ".ts": Container("mpegts", "aac", True),
    ".m4a": Container("mp4", "aac", brand="M4A "),
    ".m4b": Container("mp4", "aac", brand="M4B "),
    ".mka": Container("matroska", "libopus"),
    ".wma": Container("asf", "wmav2"),
    ".aac": Container("adts", "aac", timed=False, sound_alone=True),
    ".ac3": Container("ac3", "ac3", timed=False, sound_alone=True),
    ".eac3": Container("eac3", "eac3", timed=False, sound_alone=True),
    ".amr": Container("amr", "libopencore_amrnb", timed=False, sound_alone=True),
    ".wv": Container("wv", "wavpack", timed=False, sound_alone=True),
    ".tta": Container("tta", "tta", timed=False, sound_alone=True),
}
READ_ONLY = frozenset(
    ".ape .dsf .dff .mpc .mpg .mpeg .mts .m2ts .ogv .rm .ra .dts .thd .mxf .awb .f4v .3g2 .asf".split()
)
_SIGNATURES = (  # Offset and bytes.
    (4, b"ftyp"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"0&\xb2u\x8ef\xcf\x11"),
    (0, b"#!AMR"),
    (8, b"AVI "),
    (0, b"FLV"),
)
OLDEST_AV = 18
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # by channels
Track = int | str | None  # a number from 1 on, "all", or None for the one that players choose


def is_media(path: str) -> bool:
    """Whether a name means a file that is read and written by PyAV."""
    extension = PurePath(path).suffix.lower()
    return extension in CONTAINERS or extension in READ_ONLY


def has_signature(path: str) -> bool:
    """Whether a file with another's name begins as one of the common containers does."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES)


def is_available() -> bool:
    """Whether the extra is installed."""
    from importlib.util import find_spec

    return find_spec("av") is not None


def import_av() -> Any:
    """PyAV; ImportError if it is missing or too old."""
    import av

    if int(av.__version__.partition(".")[0]) < OLDEST_AV:  # Older ones crash on what is asked of them here.
        raise ImportError(f"PyAV {av.__version__}")
    return av


def load_av(path: str) -> Any:
    """PyAV, or a line that says how to get it and how to do without."""
    try:
        return import_av()
    except ImportError as missing:
        wav = shlex.quote(os.path.splitext(path)[0] + ".wav")
        raise RtdenoiseError(
            f"{path} needs PyAV {OLDEST_AV} or later, on Python 3.11 or later; install it with: "
            f"pip install 'rtdenoise[media]', or convert the file, e.g. ffmpeg -i {shlex.quote(path)} {wav}"
        ) from missing


def open_media(path: str) -> Any:
    """The opened input container. AudioFileError says why it cannot be read."""
    av = load_av(path)
    try:
        # As a local file always: a name such as "http:x", or a playlist, opens nothing on a network.
        return av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as problem:
        raise AudioFileError(
            f"{path} is damaged, or no media file: {problem.strerror}; restore it from a copy"
        ) from problem


def tracks(container: Any, path: str, track: Track) -> list[Any]:
    """The audio streams that ``track`` means."""
    found = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not found:
        raise AudioFileError(f"{path} has no audio track that can be decoded; nothing to filter")
    if track == "all":
        return found
    if track is None:
        return [next((stream for stream in found if _is_default(stream)), found[0])]
    if not 1 <= int(track) <= len(found):
        raise UsageError(f"{path} has {len(found)} audio track{'s' * (len(found) > 1)}, there is no track {track}")
    return [found[int(track) - 1]]


def packets(container: Any, streams: Any) -> Iterator[Any]:
    """The packets of some streams, to the end; also behind the place where a broadcast begins a stream that was not
    there before, at which PyAV stumbles."""
    found = container.demux(streams)
    while True:
        try:
            packet = next(found, None)
        except IndexError:
            found = container.demux(streams)
            continue
        if packet is None:
            return
        yield packet


def begins_s(stream: Any) -> Fraction | None:
    """When a stream begins, as its container has it."""
    start, base = stream.start_time, stream.time_base
    return None if start is None or base is None else Fraction(start * base)


def pictures(container: Any) -> list[Any]:
    """The moving pictures, cover art left aside."""
    return [stream for stream in container.streams.video if not is_cover(stream)]


def is_cover(stream: Any) -> bool:
    """Whether a stream is a still picture that belongs to the whole file."""
    import av

    return stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_default(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.default)
