"""Sound files: writing beside and renaming, and the format that fits an output's name.

Owns which container and encoding an output gets, and what cannot be written. A half-written output never carries its
final name. Knows nothing of models or denoisers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

import numpy as np
import soundfile

from rtdenoise.errors import AudioFileError, UsageError
from rtdenoise.io import pcm
from rtdenoise.io.atomic import AtomicFile
from rtdenoise.io.metadata import Metadata

CONTAINERS = {  # By extension; a source of another kind is written as the first one.
    ".wav": ("WAV", "WAVEX", "RF64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".oga": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3",),
    ".aif": ("AIFF",),
    ".aiff": ("AIFF",),
    ".aifc": ("AIFF",),
    ".w64": ("W64",),
    ".rf64": ("RF64",),
    ".caf": ("CAF",),
    ".au": ("AU",),
}
_KNOWN = " ".join(sorted(CONTAINERS))
_LOSSY_CONTAINERS = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}
_LOSSY = {"VORBIS", "OPUS", "MPEG_LAYER_III"}
_MORE_THAN_16_BITS = {"PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32"}
OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
MP3_MAX_RATE_HZ, MP3_MAX_CHANNELS = 48_000, 2
_ADD_PEAK_CHUNK = 0x1050  # SFC_SET_ADD_PEAK_CHUNK of sndfile.h
_LARGEST_WAV_BYTES = 2**32 - 2**16  # Sizes in WAV are 32 bits wide; the margin is for header and tags.


class SoundFileSink:
    """A sound file that appears under its name only when it is complete.

    ``subtype`` and the container follow ``source_container`` and ``source_subtype`` as far as the name's extension
    allows. A new file gets the mode of ``like``, and what a killed ``recording`` wrote is kept (`AtomicFile`). Leaving
    the ``with`` block by an exception, Ctrl-C included, removes the half-written part.
    """

    def __init__(
        self,
        path: str,
        rate: int,
        channels: int,
        source_container: str,
        source_subtype: str,
        endian: str = "FILE",
        frames: int | None = None,
        metadata: Metadata | None = None,
        like: str | None = None,
        recording: bool = False,
    ):
        self.name, self.clipped, self._written = path, 0, 0
        container, self.subtype = choose_format(path, source_container, source_subtype)
        _check_fits(path, container, self.subtype, rate, channels)
        self._bits = pcm.INTEGER_BITS.get(self.subtype)
        frame_bytes = channels * (self._bits or (64 if self.subtype == "DOUBLE" else 32)) // 8
        self._metadata = metadata or Metadata()
        room = _LARGEST_WAV_BYTES - self._metadata.chunk_bytes
        self._most_frames = room // frame_bytes if container in ("WAV", "WAVEX") else None
        if self._most_frames is not None and (frames or 0) > self._most_frames:
            container, self._most_frames = "RF64", None
        if container != source_container or not soundfile.check_format(container, self.subtype, endian):
            endian = "FILE"
        try:
            self._whole = AtomicFile(path, like, recording)
        except OSError as problem:  # The system says what is wrong; libsndfile would keep it to itself.
            raise cannot_write(path, problem) from problem
        try:
            if self._whole.part is None:
                raise AudioFileError(f"{path} is a pipe or a device; name a file")
            self._part = os.fsencode(self._whole.part)
            # by its descriptor, which nothing can be put in the place of; Windows has them apart in each C library
            end = str(self._whole.part) if sys.platform == "win32" else self._whole.file.fileno()
            self._file = soundfile.SoundFile(end, "w", rate, channels, self.subtype, endian, container, closefd=False)
        except soundfile.LibsndfileError as problem:
            self._whole.discard()
            raise AudioFileError(
                f"{path}: {container}/{self.subtype} cannot hold {channels} channels at {rate} Hz; write .wav or .flac"
            ) from problem
        except BaseException:  # Ctrl-C at this very moment
            self._whole.discard()
            raise
        with contextlib.suppress(AttributeError):  # It would hold the time of day, and no two runs be equal.
            soundfile._snd.sf_command(self._file._file, _ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)
        self.warnings = [f"a recording that was interrupted lies in {place}" for place in self._whole.rescued]
        self._appends = self._metadata.fits(container, self._file.endian == "BIG" or container == "AIFF")
        self.warnings += self._metadata.lost_in(path, self._appends)
        # An INFO list among the chunks says all that the tags do, and more.
        listed = self._appends and any(body.startswith(b"INFO") for _, body in self._metadata.chunks)
        for tag, text in ({} if listed else self._metadata.tags).items():
            with contextlib.suppress(soundfile.LibsndfileError):  # Some containers have no such tag.
                setattr(self._file, tag, text)

    def write(self, samples: np.ndarray) -> None:
        """Append float32 ``[samples, channels]``."""
        if self._most_frames is not None and self._written + len(samples) > self._most_frames:
            raise AudioFileError(
                f"{self.name}: a WAV file holds at most 4 GiB and this one needs more; write .rf64 or .flac"
            )
        if self.subtype not in ("FLOAT", "DOUBLE"):
            samples, held = pcm.clip(samples)
            self.clipped += held
        # Words of the file's own width are given, since libsndfile's float path does not round.
        if self._bits is not None:
            room = 16 if self._bits <= 16 else 32
            samples = (pcm.quantise(samples, self._bits) << (room - self._bits)).astype(f"int{room}")
        try:
            self._file.write(samples)
        except (soundfile.LibsndfileError, AssertionError, OSError) as problem:
            raise cannot_write(self.name, problem) from problem
        self._written += len(samples)

    def __enter__(self) -> SoundFileSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            try:
                self._file.close()
                if kind is None and soundfile.info(self._part).frames < self._written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if kind is None:
                    self._metadata.complete(self._whole.file, self._appends)
                    self._whole.commit()
            except (soundfile.LibsndfileError, OSError) as failure:
                if kind is None:
                    raise cannot_write(self.name, failure) from failure
        finally:
            self._whole.discard()


def choose_format(path: str, source_container: str, source_subtype: str) -> tuple[str, str]:
    """Container and encoding for an output: the source's own where the extension allows, else the nearest fit.

    >>> choose_format("a.flac", "WAV", "FLOAT"), choose_format("a.wav", "MP3", "MPEG_LAYER_III")
    (('FLAC', 'PCM_24'), ('WAV', 'PCM_16'))
    """
    extension = Path(path).suffix.lower()
    if extension not in CONTAINERS:
        raise UsageError(f"{path}: the extension {extension or '(none)'} names no sound format; use one of {_KNOWN}")
    choices = CONTAINERS[extension]
    container = source_container if source_container in choices else choices[0]
    if extension == ".opus":
        return container, "OPUS"
    if container in _LOSSY_CONTAINERS:
        fits = source_container == container and soundfile.check_format(container, source_subtype)
        return container, source_subtype if fits else _LOSSY_CONTAINERS[container]
    if source_subtype not in _LOSSY and soundfile.check_format(container, source_subtype):
        return container, source_subtype
    return container, "PCM_24" if source_subtype in _MORE_THAN_16_BITS else "PCM_16"


def _check_fits(path: str, container: str, subtype: str, rate: int, channels: int) -> None:
    if subtype == "OPUS" and rate not in OPUS_RATES_HZ:
        raise UsageError(
            f"{path}: Opus supports 8, 12, 16, 24 and 48 kHz, the input has {rate} Hz; write .ogg or .flac"
        )
    if container == "MP3" and (rate > MP3_MAX_RATE_HZ or channels > MP3_MAX_CHANNELS):
        raise UsageError(
            f"{path}: MP3 supports at most 48 kHz and 2 channels, the input has {rate} Hz and {channels}; write .flac"
        )


def cannot_write(path: str, problem: BaseException) -> AudioFileError:
    number = getattr(problem, "errno", None)
    if number == errno.ENOENT:
        return AudioFileError(f"cannot write {path}: the folder {Path(path).parent} does not exist; create it first")
    if isinstance(problem, OSError):
        full = number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        return AudioFileError(
            f"cannot write {path}: {problem.strerror}; {'free some space' if full else 'choose another place'}"
        )
    return AudioFileError(f"cannot write {path}: the disk is full or went away; free some space")
