"""What happens to frames on both sides of the model's step, as compiled code that needs no GIL.

    samples ─▶ begin: analyse ─▶ (model step) ─▶ finish: blend with the input, low cut, synthesise ─▶ samples

Arrays, files and live audio all run these functions, so they give the same numbers. The blend carries out attenuation
limit and bypass, extends the model's gains to bins above its reach, and keeps a model's faulty output out of the sound.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.core.stft import FILL, HOP, analyse, synthesise
from rtdenoise.native.elementwise import copy_line, floats
from rtdenoise.native.fft import Bundle, inline, jit

FADE_STEP = np.float32(0.25)  # Blend and low cut change by at most this much per hop: changes cross-fade over 16 ms.
LARGEST = np.finfo(np.float32).max  # of what is finite
TOP_SMOOTHING = np.float32(0.8)  # Per hop, about 18 ms: smooths the gain of the bins above the model's last one.
MIX, MIX_TARGET = range(2)  # Slots of the blend, and rows of the low cut: what holds now, and what it moves towards.


@jit
def begin(x: np.ndarray, start: int, frames: int, full: np.ndarray, noisy: np.ndarray, stft: Bundle) -> int:
    """Analyse up to ``frames`` frames of ``x[start:]``.

    Parameters
    ----------
    x, start, frames, stft
        As for `rtdenoise.core.stft.analyse`.
    full : ndarray
        Gets the spectra of all bins that the model will answer for: these frames, or with look-ahead earlier ones.
    noisy : ndarray
        Gets the spectra of these frames, cut or padded to the model's bins.

    Returns
    -------
    int
        As `rtdenoise.core.stft.analyse`.

    Shape
    -----
    ``full``, ``noisy`` float32 ``[channels, >= frames, bins, 2]``, of different bins.
    """
    counters, held = stft[0], stft[6]
    begun = counters[FILL]
    at = analyse(x, start, frames, stft, full)
    shared = min(full.shape[2], noisy.shape[2])
    for c in range(full.shape[0]):
        for f in range(frames):
            copy_line(noisy[c, f].ctypes.data, full[c, f].ctypes.data, 2 * shared)
    hold_back(full, (begun + at - start) // counters[HOP], held)
    return at


@inline
def hold_back(full: np.ndarray, frames: int, held: np.ndarray) -> None:
    """Put the spectra in ``held`` before the first ``frames`` of ``full``; its last ones stay behind.

    Parameters
    ----------
    full : ndarray
        Spectra of the newest frames, which become earlier ones.
    frames : int
        How many of them.
    held : ndarray
        Spectra that wait, the oldest first, as many as a model looks ahead.

    Shape
    -----
    ``full`` float32 ``[channels, >= frames, bins, 2]``, ``held`` float32 ``[channels, look-ahead, bins, 2]``.
    """
    for c in range(held.shape[0]):
        for f in range(frames):
            for h in range(held.shape[1] - 1, -1, -1):
                for k in range(held.shape[2]):
                    for part in range(2):
                        newer = full[c, f, k, part]
                        full[c, f, k, part] = held[c, h, k, part]
                        held[c, h, k, part] = newer


@jit
def blend(
    full: np.ndarray, enhanced: np.ndarray, frames: int, mix: np.ndarray, cut: np.ndarray, top_gain: np.ndarray
) -> int:
    """Replace the input's spectra by the output's.

    A faulty frame passes the input. Bins above the model's last take the smoothed gain of its top quarter, at most one.

    Parameters
    ----------
    full : ndarray
        Spectra of the input as `begin` left them, which become those of the output.
    enhanced : ndarray
        The model's answer.
    frames : int
        How many of them.
    mix : ndarray
        The input's share, now and as it should become (slots `MIX` and `MIX_TARGET`).
    cut : ndarray
        Gains of the lowest bins of the result, in rows of the same meaning (`rtdenoise.core.low_cut`).
    top_gain : ndarray
        Smoothed gain of the bins above the model's last, one a channel.

    Returns
    -------
    int
        Frames of the model that were not finite.

    Shape
    -----
    ``full``, ``enhanced`` float32 ``[channels, >= frames, bins, 2]``, of different bins; ``cut`` float32
    ``[2, lowest bins]``.
    """
    channels, _, bins, _ = full.shape
    shared = min(bins, enhanced.shape[2])
    top = enhanced.shape[2] - enhanced.shape[2] // 4
    faults = 0
    for f in range(frames):
        approach(mix)
        dry, wet = mix[MIX], np.float32(1) - mix[MIX]
        for c in range(channels):
            mixed, given = floats(full[c, f].ctypes.data, 2 * bins), floats(enhanced[c, f].ctypes.data, 2 * shared)
            wrong = 0
            for i in range(2 * shared):
                wrong += not abs(given[i]) <= LARGEST
            if wrong:
                faults += 1
                continue
            if bins > shared:
                before = after = np.float32(1e-20)
                for k in range(top, shared):
                    before += full[c, f, k, 0] ** 2 + full[c, f, k, 1] ** 2
                    after += enhanced[c, f, k, 0] ** 2 + enhanced[c, f, k, 1] ** 2
                now = min(np.float32(1), np.sqrt(after / before))
                top_gain[c] = max(np.float32(1e-6), now + TOP_SMOOTHING * (top_gain[c] - now))
                above = dry + wet * min(top_gain[c], now)
                for i in range(2 * shared, 2 * bins):
                    mixed[i] *= above
            for i in range(2 * shared):
                mixed[i] = dry * mixed[i] + wet * given[i]
        for k in range(cut.shape[1]):
            approach(cut[:, k])
            for c in range(channels):
                full[c, f, k, 0] *= cut[MIX, k]
                full[c, f, k, 1] *= cut[MIX, k]
    return faults


@inline
def approach(pair: np.ndarray) -> None:
    """Move what holds now towards what it should become.

    Parameters
    ----------
    pair : ndarray
        Slots `MIX` and `MIX_TARGET`.
    """
    pair[MIX] += min(max(pair[MIX_TARGET] - pair[MIX], -FADE_STEP), FADE_STEP)


@jit
def finish(
    full: np.ndarray,
    enhanced: np.ndarray,
    frames: int,
    mix: np.ndarray,
    cut: np.ndarray,
    top_gain: np.ndarray,
    out: np.ndarray,
    start: int,
    stop: int,
    istft: Bundle,
) -> int:
    """Blend, then synthesise ``out[start:stop]``.

    Parameters
    ----------
    full, enhanced, frames, mix, cut, top_gain
        As for `blend`.
    out, start, stop, istft
        As for `rtdenoise.core.stft.synthesise`.

    Returns
    -------
    int
        Frames of the model that were not finite.
    """
    faults = blend(full, enhanced, frames, mix, cut, top_gain)
    synthesise(full, frames, out, start, stop, istft)
    return faults
