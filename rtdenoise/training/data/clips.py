"""A bank of decoded audio: every clip of some folders or manifests, once, as int16 on disk at one rate.

Owns decoding and caching: what lies elsewhere is downloaded once, to be decoded. Knows nothing about mixing. The bank
is two plain arrays (samples and a table), opened as memory maps: hours of audio cost no memory and no start-up time.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.atomic import replacing, write_text
from rtdenoise.training.data.material import AUDIO_SUFFIXES, Clip, Kind, Place, find_material

MIN_CLIP_S = 0.3  # A shorter file contains neither a word nor a texture.
FULL_SCALE = 32767
DECODED_AHEAD = 4  # The number of clips in memory while a bank is made.
COPIED_BYTES = 1 << 20
FRAMES_LOOKED_AT = 3000  # The dynamic range of a clip is judged by this many frames.


@dataclass(frozen=True)
class Bank:
    """Decoded clips, end to end. ``samples`` int16 ``[total]``, or ``[total, channels]`` where several were asked
    for; clip ``i`` is ``samples[start[i]:start[i + 1]]``."""

    samples: np.ndarray
    start: np.ndarray
    clips: list[Clip]
    rate: int

    def __len__(self) -> int:
        return len(self.clips)

    def length(self, i: int) -> int:
        return int(self.start[i + 1] - self.start[i])

    @cached_property
    def ranges_db(self) -> np.ndarray:
        """`dynamic_range_db` of each clip, found once: all mixers of a training ask."""
        return np.array([dynamic_range_db(self.samples[a:b], self.rate) for a, b in pairwise(self.start)])

    def read(self, i: int, offset: int, count: int) -> np.ndarray:
        """float32 ``[count]`` (or ``[count, channels]``) in +-1 from clip ``i``; one that is too short goes round."""
        a, n = int(self.start[i]), self.length(i)
        if n >= count + offset:
            piece = self.samples[a + offset : a + offset + count]
        else:
            piece = self.samples[a + (offset + np.arange(count)) % n]
        return piece.astype(np.float32) / np.float32(FULL_SCALE)


def dynamic_range_db(clip: np.ndarray, rate: int) -> float:
    """95th minus 5th percentile of the energy of 20 ms frames, of int16 samples; digital silence, which joins
    utterances, left out."""
    size = rate // 50
    frames = clip[: len(clip) // size * size].reshape(-1, size)[:: max(1, len(clip) // size // FRAMES_LOOKED_AT)]
    energy = np.mean(np.square(frames, dtype=np.float32), 1)
    energy = energy[energy > 1]
    if len(energy) < 10:
        return 0.0
    low, high = np.percentile(10 * np.log10(energy), [5, 95])
    return float(high - low)


def open_bank(places: Sequence[Place], kind: Kind, rate: int, cache: Path, wide_hz: int = 0, channels: int = 1) -> Bank:
    """The bank of some folders or manifests at a rate, decoded into ``cache`` the first time. With ``wide_hz``, only
    files with at least that sampling rate count. With two channels, mono files have both alike."""
    clips = [c for place in places for c in find_material(place, kind)]
    if wide_hz:
        clips = [c for c in clips if _rate_of(c) >= wide_hz]
    if not clips:
        raise UsageError(
            f"no {kind} audio in {', '.join(map(str, places))}; expected {', '.join(sorted(AUDIO_SUFFIXES))}"
        )
    stamp = [c.stamp for c in clips]
    name = f"{kind}-{rate}-{'stereo-' * (channels > 1)}{zlib.crc32(json.dumps(stamp).encode()):08x}"
    folder = Path(cache) / name
    if not (folder / "table.json").exists():
        _decode(clips, kind, rate, folder, channels)
    table = json.loads((folder / "table.json").read_text())
    used = [clips[i] for i in table["clip"]]
    samples = np.load(folder / "samples.npy", mmap_mode="r")
    return Bank(samples, np.array(table["start"]), used, rate)


def _decode(clips: list[Clip], kind: Kind, rate: int, folder: Path, channels: int) -> None:
    """Decode all clips to ``folder``. What is there is whole, also while several processes do the same; the table comes
    last, so a killed run starts afresh."""
    folder.mkdir(parents=True, exist_ok=True)
    start, kept = [0], []
    with tempfile.TemporaryFile(dir=folder) as raw:  # which no other process sees, and a killed one does not leave
        for i, samples in enumerate(_read_clips(clips, rate, channels)):
            if len(samples) < (MIN_CLIP_S * rate if kind != "rir" else 2):
                continue
            raw.write(samples.tobytes())
            start.append(start[-1] + len(samples))
            kept.append(i)
        if not kept:
            raise RtdenoiseError(f"every {kind} file is shorter than {MIN_CLIP_S} s; give longer recordings")
        shape = (start[-1],) if channels == 1 else (start[-1], channels)
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int16)), "fortran_order": False, "shape": shape}
        raw.seek(0)
        with replacing(folder / "samples.npy") as file:  # never in memory: it may be larger
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(raw, file, COPIED_BYTES)
    write_text(folder / "table.json", json.dumps({"start": start, "clip": kept}))


def _read_clips(clips: list[Clip], rate: int, channels: int) -> Iterator[np.ndarray]:
    """Every clip in order, a few files decoded ahead; more would fill the memory while a long one is waited for."""
    with ThreadPoolExecutor(2) as pool:
        ahead: deque[Future[list[np.ndarray]]] = deque()
        for _, of_one_file in groupby(clips, lambda clip: (clip.path, clip.url)):
            ahead.append(pool.submit(_read_file, list(of_one_file), rate, channels))
            if len(ahead) == DECODED_AHEAD:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


def _read_file(clips: list[Clip], rate: int, channels: int) -> list[np.ndarray]:
    """Clips of one file at ``rate``: the first channel as int16 ``[samples]``, or the first ones as
    ``[samples, channels]``."""
    found = []
    with clips[0].at_hand() as path:
        for clip in clips:
            audio = read_audio(path, rate, clip.begin_s, clip.seconds)
            audio = audio[:, 0] if channels == 1 else np.resize(audio.T, (channels, len(audio))).T
            found.append((np.clip(audio, -1, 1) * FULL_SCALE).astype(np.int16))
    return found


def _rate_of(clip: Clip) -> int:
    with clip.at_hand() as path:
        return int(sf.info(path).samplerate)


def read_audio(path: Path, rate: int, begin_s: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """A file, or so much of it from there on, at ``rate``, float32 ``[samples, channels]``."""
    try:
        with sf.SoundFile(path) as file:
            source_rate = file.samplerate
            file.seek(min(file.frames, round(begin_s * source_rate)))
            wanted = -1 if seconds is None else round(seconds * source_rate)
            audio = file.read(wanted, dtype="float32", always_2d=True)
    except (sf.SoundFileError, OSError) as error:
        raise RtdenoiseError(
            f"cannot read {path}: {error}; remove it from the folder or manifest, or convert it to WAV"
        ) from error
    return audio if source_rate == rate else soxr.resample(audio, source_rate, rate)
