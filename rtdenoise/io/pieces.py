"""A long recording in pieces that several workers filter, joined into what one pass would have given.

    recording   ├───────────────┤├────────────────┤├──────────────┤    cut in pauses, every hour or so
    piece 2          ╌╌╌╌╌╌╌╌╌╌╌╌├────────────────┤                    ╌ warm-up: filtered and dropped

The filter remembers; after the warm-up it is where one pass would be, within what `WARM_UP_S` says. Where the cuts lie
depends on the recording alone, so any number of workers gives the same bytes. Filtered pieces wait beside the output,
each whole, and are used again by a run that follows a killed one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from rtdenoise.errors import AudioFileError, RtdenoiseError
from rtdenoise.io.atomic import replacing
from rtdenoise.io.pipeline import FileReport, Settings, filter_sound, lent_denoiser
from rtdenoise.io.sound_source import SoundFileSource

PIECE_S = 3_600.0  # The warm-up costs a ninth of it.
LONGEST_WHOLE_S = 5_400.0
# What the models remember fades: `unet` is within 1e-5 of one pass after 160 s of voices, within 2e-5 after 400 s of a
# tone that comes and goes over steady noise, the slowest that was found.
WARM_UP_S = 400.0
_SEARCH_S = 10.0  # A pause is looked for this far around each cut.
_PAUSE_S = 0.3
_EXTENSIONS = frozenset(".wav .flac .aif .aiff .aifc .w64 .rf64 .caf .au".split())  # Any sample of them can be found.
_LEAST_BYTES = 4_000_000  # No hour of sound is smaller, silence left aside.
_HEAD = struct.Struct("<qd")  # before the samples: how many were not finite, and how long the work took


@dataclass(frozen=True)
class Piece:
    """Samples ``start`` to ``stop`` of a recording, and the file for them; filtering begins at ``begin``."""

    source: str
    target: str
    begin: int
    start: int
    stop: int
    path: str
    size_bytes: int  # of the recording, as far as it is filtered here
    length_bytes: int

    def is_whole(self) -> bool:
        """Whether an earlier run has filtered it."""
        try:
            return os.path.getsize(self.path) == self.length_bytes
        except OSError:
            return False


def cut(source: str, target: str, size_bytes: int, settings: Settings) -> list[Piece]:
    """The pieces of a long recording; none if it is filtered in one pass, as all others are."""
    if size_bytes < _LEAST_BYTES or os.path.splitext(source)[1].lower() not in _EXTENSIONS or settings.learn_noise_s:
        return []
    try:
        with SoundFileSource(source) as sound:
            if not sound.is_one_sound or (sound.frames or 0) <= LONGEST_WHOLE_S * sound.rate:
                return []
            frames, rate, channels = int(sound.frames or 0), sound.rate, sound.channels
            with lent_denoiser(settings, rate, channels) as denoiser:
                hop = denoiser.geometry.hop
            count = round(frames / (PIECE_S * rate))
            at = [_pause(sound, round(k * frames / count), hop) for k in range(1, count)]
    except (RtdenoiseError, OSError, soundfile.LibsndfileError):
        return []  # One pass will say what is wrong with it.
    there = os.stat(source)
    mark = repr((settings, os.path.realpath(source), there.st_mtime_ns, there.st_size, WARM_UP_S, at))
    home = os.path.join(_home(target), hashlib.sha256(mark.encode()).hexdigest()[:16])
    warm_up = -(-round(WARM_UP_S * rate) // hop) * hop
    return [
        Piece(
            source,
            target,
            max(0, start - warm_up),
            start,
            stop,
            f"{home}-{start}",
            size_bytes * (stop - start) // frames,
            _HEAD.size + 4 * channels * (stop - start),
        )
        for start, stop in zip([0, *at], [*at, frames], strict=True)
    ]


def _home(target: str) -> str:
    """The folder in which an output's pieces wait."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.rtdenoise-pieces")


def _pause(sound: SoundFileSource, near: int, hop: int) -> int:
    """The middle of the quietest moment around a sample, on a border of two hops."""
    around = round(_SEARCH_S * sound.rate) // hop
    first = near // hop - around
    blocks = np.concatenate(list(sound.section(first * hop, (first + 2 * around) * hop)))
    power = np.nan_to_num((blocks.astype(np.float64) ** 2).sum(1), nan=0.0, posinf=0.0).reshape(-1, hop).sum(1)
    moment = max(1, round(_PAUSE_S * sound.rate / hop))
    quiet = np.convolve(power, np.ones(moment), "valid")
    return int(first + np.argmin(quiet) + moment // 2) * hop


def filter_piece(piece: Piece, settings: Settings) -> None:
    """Filter one piece into its file, unless it is there."""
    if piece.is_whole():
        return
    folder = os.path.dirname(piece.path)
    os.makedirs(folder, exist_ok=True)
    try:
        _filter(piece, settings)
    except BaseException:
        with contextlib.suppress(OSError):  # Finished pieces stay there.
            os.rmdir(folder)
        raise
    if not piece.is_whole():
        raise AudioFileError(f"{piece.source} is shorter than its header says")


def _filter(piece: Piece, settings: Settings) -> None:
    began = time.perf_counter()
    with (
        SoundFileSource(piece.source) as sound,
        lent_denoiser(settings, sound.rate, sound.channels) as denoiser,
        replacing(piece.path) as file,
    ):
        late, left = denoiser.latency_samples, piece.stop - piece.start
        for block in sound.section(piece.begin, piece.start):
            denoiser.process(block)
        faults = denoiser.nonfinite_samples
        file.write(_HEAD.pack(0, 0.0))
        for block in sound.section(piece.start, piece.stop):
            clean = denoiser.process(block)[late:]
            late -= min(late, len(block))
            file.write(clean.tobytes())
            left -= len(clean)
        faults = denoiser.nonfinite_samples - faults
        for block in sound.section(piece.stop, piece.stop + left):
            clean = denoiser.process(block)[:left]
            file.write(clean.tobytes())
            left -= len(clean)
        file.write(denoiser.flush()[:left].tobytes())
        file.seek(0)
        file.write(_HEAD.pack(faults, time.perf_counter() - began))


def join(pieces: list[Piece], settings: Settings) -> FileReport:
    """Write the output from its pieces, and remove them."""
    report = filter_sound(pieces[0].source, pieces[0].target, settings, filtered=_Filtered(pieces))
    clear(pieces[0].target)
    return report


def clear(target: str) -> None:
    """Remove what waits beside an output, of earlier runs too."""
    with contextlib.suppress(OSError):
        shutil.rmtree(_home(target))


class _Filtered:
    """Samples that are filtered already, in place of what a denoiser would give."""

    def __init__(self, pieces: list[Piece]):
        self._pieces = pieces
        self.nonfinite, self.work_seconds = 0, 0.0
        for piece in pieces:
            with open(piece.path, "rb") as file:
                faults, seconds = _HEAD.unpack(file.read(_HEAD.size))
            self.nonfinite += faults
            self.work_seconds += seconds

    def blocks(self, rate: int, channels: int) -> Iterator[np.ndarray]:
        for piece in self._pieces:
            with open(piece.path, "rb") as file:
                file.seek(_HEAD.size)
                while data := file.read(4 * channels * rate):
                    yield np.frombuffer(data, np.float32).reshape(-1, channels)
