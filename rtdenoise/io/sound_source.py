"""Reading sound files in blocks, to their end, whatever their header says of it.

Owns what makes a file unreadable and how to say so in one line. What lies inside a file is `rtdenoise.io.segments`'
business; knows nothing of models or denoisers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain

import numpy as np
import soundfile

from rtdenoise.errors import AudioFileError, UsageError
from rtdenoise.io.byte_views import View
from rtdenoise.io.metadata import Metadata, read_metadata
from rtdenoise.io.segments import Part, find_parts, mend_flac
from rtdenoise.io.sound_sink import CONTAINERS

BLOCK_SECONDS = 1.0  # Memory stays constant, and the cost of a call is spread over 250 hops.


class SoundFileSource:
    """A sound file, read once from start to end in blocks of about a second; a context manager that closes it.

    Parameters
    ----------
    path : str
        The file.

    Attributes
    ----------
    rate, channels : int
        Sample rate in Hz, and how many channels.
    frames : int or None
        Samples of each channel, None where they are not known before the end.
    warnings : list of str
        What a listener should know of the file; complete once all blocks are read.
    damaged : bool
        Whether some of its sound is lost, known then too. A file that ends too early is not damaged.

    Raises
    ------
    UsageError, AudioFileError
        If it is not there, or contains no audio that can be read.
    """

    def __init__(self, path: str):
        self.name = path
        check_is_there(path)
        self._parts = find_parts(path)
        if self._parts[0].pieces == []:
            raise AudioFileError(f"{path} contains no audio that can be read; restore it from a copy")
        self._file = self._open(self._parts[0])
        self.rate, self.channels = self._file.samplerate, self._file.channels
        self.container, self.subtype, self.endian = self._file.format, self._file.subtype, self._file.endian
        self.warnings = [*self._parts[0].warnings]
        self.damaged = self._parts[0].damaged
        self.frames: int | None = self._file.frames + self._rest()
        if self.frames == 0:
            self._file.close()
            raise AudioFileError(f"{path} contains no audio (0 samples); record or export it again")

    def metadata(self) -> Metadata:
        """What it says beside its sound; of several sounds, what the first one says.

        Returns
        -------
        Metadata
        """
        return read_metadata(self.name, self._file, self._parts[0].layout)

    def blocks(self) -> Iterator[np.ndarray]:
        """The sound, to its end, with silence where something in the middle cannot be read.

        Returns
        -------
        iterator of ndarray

        Shape
        -----
        float32 ``[samples, channels]``.
        """
        done = at = 0  # ``at`` counts within one of several sounds.
        for part in self._parts:
            if part is not self._parts[0]:
                self._go_on_with(part)
            if part.hole is None:
                at = 0
            for block in chain(self._silence_before(part, at), self._blocks_of(part)):
                done += len(block)
                at += len(block)
                yield block
        if not done:
            raise AudioFileError(f"{self.name} is damaged: not one block can be read; restore it from a copy")

    @property
    def is_one_sound(self) -> bool:
        """Whether the file is one sound with nothing odd about it, so that `section` gives what `blocks` does."""
        return len(self._parts) == 1 and not (self.warnings or self.damaged or self._parts[0].hole)

    def section(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The samples from ``start`` to ``stop``, or to the end.

        Parameters
        ----------
        start, stop : int
            Counted from the beginning of the sound.

        Returns
        -------
        iterator of ndarray

        Shape
        -----
        float32 ``[samples, channels]``.

        Raises
        ------
        AudioFileError
            If a part of it cannot be read.
        """
        size = round(self.rate * BLOCK_SECONDS)
        try:
            self._file.seek(min(start, self._file.frames))
            while start < stop and len(block := self._file.read(min(size, stop - start), "float32", always_2d=True)):
                start += len(block)
                yield block
        except soundfile.LibsndfileError as problem:
            raise AudioFileError(f"{self.name} is damaged; restore it from a copy") from problem

    def _resumed(self, part: Part, at: int) -> bool:
        """Go on with a mended part where the damaged one failed, if there is anything to go on with."""
        self._go_on_with(part)
        try:
            return bool(at < self._file.frames and self._file.seek(at) == at)
        except soundfile.LibsndfileError:
            return False

    def _go_on_with(self, part: Part) -> None:
        self._file.close()
        self._file = self._open(part)
        self.warnings += part.warnings
        self.damaged |= part.damaged

    def _silence_before(self, part: Part, at: int) -> Iterator[np.ndarray]:
        """What a hole before this part has cost, if ``at`` samples precede it."""
        if part.hole is None:
            return
        whole, rest = (soundfile.SoundFile(View(self.name, pieces)).frames for pieces in part.hole)
        missing, size = whole - rest - at, round(self.rate * BLOCK_SECONDS)
        for done in range(0, missing, size):
            yield np.zeros((min(size, missing - done), self.channels), np.float32)

    def _blocks_of(self, part: Part) -> Iterator[np.ndarray]:
        size, done = round(self.rate * BLOCK_SECONDS), 0
        frames = part.frames or self._file.frames
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                if part.stream:
                    part = mend_flac(self.name, part)
                    if part.pieces and self._resumed(part, done):
                        continue
                    break
                block = self._behind_hole(done, size)
            if not len(block):
                break
            done += len(block)
            yield block
        if 0 < done < frames:
            self.warnings.append(
                f"{self.name} is truncated or damaged: {frames - done} of {frames} samples cannot be read; "
                "filtered what precedes them"
            )

    def _behind_hole(self, at: int, size: int) -> np.ndarray:
        """Silence from ``at`` up to the next block that can be read, after a decoder's error; nothing if none can."""
        skipped = size
        while at + skipped < self._file.frames:
            try:
                self._file.seek(at + skipped)
                self._file.read(1)
                self._file.seek(at + skipped)
            except soundfile.LibsndfileError:
                skipped += size
                continue
            self.damaged = True
            self.warnings.append(
                f"{self.name} is damaged: {skipped} samples cannot be read; silence stands in their place"
            )
            return np.zeros((skipped, self.channels), np.float32)
        return np.empty((0, self.channels), np.float32)

    def _open(self, part: Part) -> soundfile.SoundFile:
        try:
            file = soundfile.SoundFile(os.fsencode(self.name) if part.pieces is None else View(self.name, part.pieces))
            if part.hole:
                file.seek(0)  # libsndfile places Opus that does not begin at zero only when it is asked to.
            return file
        except (soundfile.LibsndfileError, TypeError) as problem:  # TypeError: a .raw name, which says nothing
            known = " ".join(sorted(CONTAINERS))
            raise AudioFileError(
                f"{self.name} is not a sound file that can be read; convert it to one of {known}"
            ) from problem

    def _rest(self) -> int:
        """Length of all parts behind the first. Nothing is read from the first one on that does not fit to it."""
        frames = 0
        for index, part in enumerate(self._parts[1:], 1):
            try:
                with self._open(part) as file:
                    fits = (file.samplerate, file.channels) == (self.rate, self.channels)
                    reason = f"{file.samplerate} Hz and {file.channels} channels behind {self.rate} and {self.channels}"
                    frames += file.frames if fits else 0
            except AudioFileError:
                if part.hole:
                    continue
                fits, reason = False, "no sound that can be read"
            if not fits:
                unread = self._parts[-1].end - part.start
                del self._parts[index:]
                self.damaged = True
                self.warnings.append(
                    f"{self.name} is several sounds in one file, and its last {unread} bytes were not read: {reason}; "
                    "split it first"
                )
                break
        return frames

    def __enter__(self) -> SoundFileSource:
        return self

    def __exit__(self, *problem: object) -> None:
        self._file.close()


def check_is_there(path: str) -> None:
    """Refuse a file that is missing, cannot be opened or is empty.

    Parameters
    ----------
    path : str
        The file.

    Raises
    ------
    UsageError
        If it does not exist or may not be read.
    AudioFileError
        If it has no bytes.
    """
    try:
        with open(path, "rb") as file:
            first = file.read(1)
    except FileNotFoundError as problem:
        raise UsageError(f"{path} does not exist; check the name") from problem
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror}") from problem
    if not first:
        raise AudioFileError(f"{path} is empty (0 bytes); record or copy it again")
