"""Which clip of a bank is drawn how often.

Owns the rule that speakers count more than hours, that no collection drowns the others, and that a recording of speech
which is itself noisy is drawn seldom: its noise would become part of what a network is taught to keep.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rtdenoise.training.data.clips import Bank

Part = Literal["train", "dev", "all"]

NOISY_DB, LEAST_CHANCE = (42.0, 50.0), 0.01  # Of dynamic range: at the lower end a clip is hardly ever drawn.
FRAMES_LOOKED_AT = 3000  # The dynamic range of a clip is judged by this many frames.


def noise_probabilities(bank: Bank) -> np.ndarray:
    """Chance of each clip: its length, with collections that have most hours damped (hours to the power 0.5)."""
    length = np.diff(bank.start).astype(float)
    return length * _per_label(length, [c.source for c in bank.clips]) ** -0.5


def voice_probabilities(bank: Bank) -> np.ndarray:
    """Chance of each clip: speakers count more than hours (a speaker's hours to the power 0.7, a collection's total to
    the power 0.8), and recordings that are themselves noisy count less."""
    length = np.diff(bank.start).astype(float)
    speaker = _per_label(length, [f"{c.source}/{c.speaker}" for c in bank.clips])
    chance = length * speaker**-0.3
    chance = chance * _per_label(chance, [c.source for c in bank.clips]) ** -0.2
    ranges_db = np.array([dynamic_range_db(bank, i) for i in range(len(bank))])
    return chance * np.interp(ranges_db, NOISY_DB, (LEAST_CHANCE, 1.0))


def dynamic_range_db(bank: Bank, i: int) -> float:
    """95th minus 5th percentile of the energy of 20 ms frames; digital silence, which joins utterances, left out."""
    size = bank.rate // 50
    clip = bank.samples[bank.start[i] : bank.start[i + 1]]
    frames = clip[: len(clip) // size * size].reshape(-1, size)[:: max(1, len(clip) // size // FRAMES_LOOKED_AT)]
    energy = np.mean(np.square(frames, dtype=np.float32), 1)
    energy = energy[energy > 1]  # of int16 samples: below that, silence
    if len(energy) < 10:
        return 0.0
    low, high = np.percentile(10 * np.log10(energy), [5, 95])
    return float(high - low)


def _per_label(values: np.ndarray, labels: list[str]) -> np.ndarray:
    """For each of ``values`` the sum over all that bear the same label."""
    _, which = np.unique(labels, return_inverse=True)
    return np.bincount(which, values)[which]


def clip_weights(bank: Bank, probabilities: np.ndarray, part: Part) -> np.ndarray:
    """Cumulative probabilities of the clips of a part."""
    is_dev = np.array([c.is_dev for c in bank.clips])
    if part == "all" or is_dev.all() or not is_dev.any():  # a user's few files may all fall on one side
        return np.cumsum(probabilities)
    return np.cumsum(probabilities * (is_dev == (part == "dev")))
