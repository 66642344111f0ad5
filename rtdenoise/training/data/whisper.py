"""Whispering, made of voiced speech: breath takes the place of the vocal folds, the vocal tract stays as it was.

Owns the resynthesis. Corpora of whispering are few and small; without any, a network takes whispers for noise.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from rtdenoise.training.data.augment import Random, rms
from rtdenoise.training.linear_prediction import autocorrelations, prediction_filters
from rtdenoise.training.metrics import frames_of

HOP_S, OVERLAP = 0.008, 4
POLES, POLES_PER_KHZ = 4, 1.0  # A formant, two poles, for each 2 kHz, and some more for the slope.
NOISE_FLOOR = 1e-5  # Of a frame's power; it keeps filters from ringing.
BREATH_FROM_HZ = (300.0, 1000.0)  # Vocal folds are strong below; breath is not.


def whispered(random: Random, x: np.ndarray, rate: int) -> np.ndarray:
    """``x``, float ``[samples]``, as if whispered, at its RMS: linear prediction of 32 ms, driven by white noise."""
    hop = round(HOP_S * rate)
    size = OVERLAP * hop
    window = np.sqrt(np.hanning(size + 1)[:-1] / (OVERLAP / 2))
    count = -(-len(x) // hop) + OVERLAP - 1
    padded = np.zeros((count + OVERLAP - 1) * hop)
    padded[size - hop : size - hop + len(x)] = x
    frames = frames_of(padded, size, hop) * window
    r = autocorrelations(frames, POLES + round(POLES_PER_KHZ * rate / 1000))
    r[:, 0] *= 1 + NOISE_FLOOR
    tract = prediction_filters(r)
    loudness = np.sqrt(np.maximum(np.sum(tract * r, 1), 0) / size)
    breath = fft.rfft(frames_of(random.standard_normal(len(padded)), size, hop) * window)
    spoken = fft.irfft(breath * loudness[:, None] / fft.rfft(tract, size), size) * window
    total = np.zeros_like(padded)
    hops = spoken.reshape(count, OVERLAP, hop)
    for k in range(OVERLAP):
        total[k * hop : (k + count) * hop] += hops[:, k].ravel()
    out = total[size - hop :][: len(x)]
    hz = fft.rfftfreq(len(out), 1 / rate)
    out = fft.irfft(fft.rfft(out) / np.sqrt(1 + (random.uniform(*BREATH_FROM_HZ) / np.maximum(hz, 1)) ** 2), len(out))
    return (out * (rms(x) / rms(out))).astype(x.dtype)
