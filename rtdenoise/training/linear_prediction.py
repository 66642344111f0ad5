"""Linear prediction: each frame of a recording as an all-pole filter."""

from __future__ import annotations

import numpy as np


def autocorrelations(frames: np.ndarray, order: int) -> np.ndarray:
    """``[frames, samples]`` -> lags 0 to ``order``, ``[frames, 1 + order]``."""
    count = frames.shape[1]
    return np.stack([np.sum(frames[:, : count - lag] * frames[:, lag:], 1) for lag in range(order + 1)], 1)


def prediction_filters(r: np.ndarray) -> np.ndarray:
    """Prediction filters ``[1, -a1, ...]`` of autocorrelations, both ``[frames, 1 + order]`` (Levinson and Durbin)."""
    tiny = np.finfo(float).eps
    a, error = np.ones((len(r), 1)), r[:, 0] + tiny
    for k in range(1, r.shape[1]):
        reflection = -np.sum(a * r[:, k:0:-1], 1) / error
        a = np.pad(a, ((0, 0), (0, 1)))
        a = a + reflection[:, None] * a[:, ::-1]
        error = np.maximum(error * (1 - reflection**2), tiny)
    return a
