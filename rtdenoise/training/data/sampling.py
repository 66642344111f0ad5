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
    return chance * np.interp(bank.ranges_db, NOISY_DB, (LEAST_CHANCE, 1.0))


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
