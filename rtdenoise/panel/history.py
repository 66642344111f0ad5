"""The last seconds of sound before and after the filter, as the panel draws and replays them.

    Tap ─▶ `take` ─▶ ten seconds in memory ─▶ `columns` (spectrograms), `levels_db` (meters), `wav` (replay)

It lives in memory alone and ends with the session.
"""

from __future__ import annotations

import io
import wave

import numpy as np

from rtdenoise.live.stats import SILENCE_DB, level_db
from rtdenoise.live.tap import Tap

SECONDS = 10
COLUMNS_PER_S = 60
ROWS = 80  # of a spectrogram, on a mel scale
LOWEST_HZ, HIGHEST_HZ = 50.0, 8000.0
WINDOW_S = 0.02  # At least: harmonics of a voice are told apart, and syllables too.
FLOOR_DB = -100.0  # of a bin; byte 0
MOST_COLUMNS = 8 * COLUMNS_PER_S  # what a page shows, and gets when it opens
FRAME_S = 0.02  # over which levels are compared
SPEECH_DB = 20.0  # Frames this far below the loudest are pauses, and do not count for the level.
MOST_GAIN_DB = 30.0


class History:
    """Reads ``tap``, mixed down to mono at ``rate`` Hz. For one thread. ``taken`` counts frames."""

    def __init__(self, tap: Tap, rate: int, columns_per_s: int = COLUMNS_PER_S):
        self.rate, self.taken = rate, 0
        self._tap = tap
        self._sound = np.zeros((2, SECONDS * rate), np.float32)  # before and after, each a ring
        self._hop = rate // columns_per_s
        self._size = 1 << int(np.ceil(np.log2(WINDOW_S * rate)))
        self._window = np.hanning(self._size + 1)[:-1].astype(np.float32)
        self._bands = _mel_bands(rate, self._size)
        self.levels_db = [SILENCE_DB, SILENCE_DB]

    def take(self) -> None:
        """Take in what has come since."""
        pieces = [_mono(side) for side in self._tap.read()]
        if len(pieces[0]):
            length = self._sound.shape[1]
            at = self.taken % length
            for sound, piece in zip(self._sound, pieces, strict=True):
                sound[at : at + len(piece)] = piece[: length - at]
                sound[: max(0, at + len(piece) - length)] = piece[length - at :]
            self.levels_db = [level_db(float(piece @ piece) / len(piece)) for piece in pieces]
            self.taken += len(pieces[0])

    def _last(self, frames: int, end: int) -> np.ndarray:
        """Both sides of ``frames`` before ``end``; silence before the first."""
        sound, length = self._sound, self._sound.shape[1]
        at = (end - frames) % length
        return np.concatenate([sound[:, at : at + frames], sound[:, : max(0, at + frames - length)]], axis=1)

    def columns(self, since: int) -> tuple[int, bytes]:
        """How many columns came after frame ``since``, and a byte a row, lowest first: of all before, then after.

        Columns end at multiples of a hop, so ``taken`` of one call is what to give to the next.
        """
        end = self.taken // self._hop
        count = min(end - since // self._hop, MOST_COLUMNS)
        if count <= 0:
            return 0, b""
        part = self._last(self._size + (count - 1) * self._hop, end * self._hop)
        frames = np.lib.stride_tricks.sliding_window_view(part, self._size, axis=1)[:, :: self._hop]
        power = np.abs(np.fft.rfft(frames * self._window)).astype(np.float32) ** 2
        db = 10 * np.log10(power @ self._bands + 1e-12)
        return count, np.clip((db - FLOOR_DB) * 255 / -FLOOR_DB, 0, 255).astype(np.uint8).tobytes()

    def wav(self) -> tuple[bytes, float]:
        """The last seconds as 16-bit WAV, left before and right after, and the gain in dB that brought what was before
        to the level of what is after."""
        heard = self._last(min(self.taken, self._sound.shape[1]), self.taken)
        gain = matching_gain(heard[0], heard[1], round(FRAME_S * self.rate))
        sides = np.stack([heard[0] * gain, heard[1]], axis=1)
        sides /= max(1.0, float(np.abs(sides).max(initial=0)))
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(2)
            out.setsampwidth(2)
            out.setframerate(self.rate)
            out.writeframes((sides * 32767).astype("<i2").tobytes())
        return file.getvalue(), 20 * float(np.log10(gain))


def _mono(side: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(side[:, 0]) if side.shape[1] == 1 else side.mean(axis=1, dtype=np.float32)


def matching_gain(before: np.ndarray, after: np.ndarray, frame: int) -> float:
    """What makes speech before as loud as speech after, so that one does not sound better for being louder alone."""
    count = len(after) // frame
    if not count:
        return 1.0
    frames = [x[: count * frame].reshape(count, frame).astype(np.float64) for x in (before, after)]
    powers = [np.mean(x**2, axis=1) for x in frames]
    loudest = np.percentile(powers[1], 95)
    speech = powers[1] > loudest * 10 ** (-SPEECH_DB / 10)
    if loudest < 1e-10 or not speech.any():
        return 1.0
    most = 10 ** (MOST_GAIN_DB / 20)
    return float(np.clip(np.sqrt(powers[1][speech].sum() / max(1e-12, powers[0][speech].sum())), 1 / most, most))


def _mel_bands(rate: int, size: int) -> np.ndarray:
    """float32 ``[bins, ROWS]``: which bins make a row, triangles that overlap; a full-scale sine comes to 0 dB."""
    lowest, highest = (2595 * np.log10(1 + hz / 700) for hz in (LOWEST_HZ, min(HIGHEST_HZ, rate / 2)))
    edges = np.linspace(lowest, highest, ROWS + 2)
    hz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.arange(size // 2 + 1) * rate / size
    low, centre, high = hz[:-2], np.maximum(hz[1:-1], 1e-9), hz[2:]
    width = rate / size  # A row that is narrower than a bin takes the bins at both its sides.
    rise = (bins[:, None] - np.minimum(low, centre - width)) / np.maximum(centre - low, width)
    fall = (np.maximum(high, centre + width) - bins[:, None]) / np.maximum(high - centre, width)
    bands: np.ndarray = np.clip(np.minimum(rise, fall), 0, 1) * (4 / size) ** 2
    return bands.astype(np.float32)
