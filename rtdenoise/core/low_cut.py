"""The low cut: gains of the lowest bins, which take away rumble, handling noise and wind below a voice.

It costs no latency, since it only scales spectra that are there anyway, and its resolution is theirs: the bins of a
16 ms window are 62.5 Hz apart, so the slope is as soft as that of a filter of a few taps. The gains ramp from 0 to 1
over one bin, and the ramp is placed where the whole chain of analysis, gains and synthesis attenuates the asked
frequency by `CORNER_DB`.
"""

from __future__ import annotations

import math

import numpy as np

from rtdenoise.arguments import LOW_CUT
from rtdenoise.geometry import Geometry, Latency

CORNER_DB = 10.0
STEPS = 20  # Halvings of the interval in which the ramp lies.


def low_bins(geometry: Geometry) -> int:
    """How many bins a low cut can change.

    Parameters
    ----------
    geometry : Geometry
        Of the spectra.

    Returns
    -------
    int
        Those up to an octave above the highest low cut.
    """
    return min(geometry.bins, math.ceil(2 * LOW_CUT.high / geometry.bin_hz) + 1)


def low_cut_gains(geometry: Geometry, latency: Latency, low_cut_hz: float | None) -> np.ndarray:
    """Gains of the lowest bins.

    Parameters
    ----------
    geometry : Geometry
        Of the spectra.
    latency : {"normal", "low"}
        Which synthesis window, since the response depends on it.
    low_cut_hz : float or None
        Frequency that is attenuated by `CORNER_DB`; None cuts nothing.

    Returns
    -------
    ndarray

    Shape
    -----
    float32 ``[low_bins]``.

    Examples
    --------
    >>> low_cut_gains(Geometry(48_000), "normal", 80).round(1).tolist()
    [0.0, 0.0, 1.0, 1.0, 1.0]
    """
    bins = low_bins(geometry)
    if low_cut_hz is None:
        return np.ones(bins, np.float32)
    share = shares(geometry, latency, low_cut_hz, bins)
    wanted, low, high = 10 ** (-CORNER_DB / 20), -1.0, float(bins)
    for _ in range(STEPS):
        middle = (low + high) / 2
        is_weak = abs(1 - share @ (1 - _ramp(middle, bins))) > wanted
        low, high = (middle, high) if is_weak else (low, middle)
    return _ramp(high, bins).astype(np.float32)


def _ramp(start: float, bins: int) -> np.ndarray:
    return np.asarray(np.clip(np.arange(bins) - start, 0, 1))


def shares(geometry: Geometry, latency: Latency, hz: float, bins: int) -> np.ndarray:
    """What each bin contributes to a tone, once it is analysed and synthesised.

    Parameters
    ----------
    geometry, latency
        As for `low_cut_gains`.
    hz : float
        Frequency of the tone.
    bins : int
        The first so many bins.

    Returns
    -------
    ndarray
        Complex shares; those of all bins add up to one. This is the part that is tone again; the rest averages out.

    Shape
    -----
    complex ``[bins]``.
    """
    n, centre_hz = np.arange(geometry.window), np.arange(bins) * geometry.bin_hz
    total = np.zeros(bins, complex)
    for side in (1, -1):  # A real spectrum has each bin at its positive and at its negative frequency.
        turned = np.exp(2j * np.pi * np.outer(hz - side * centre_hz, n) / geometry.rate)
        total += (turned @ geometry.analysis_window()) * (turned.conj() @ geometry.synthesis_window(latency))
    total[0] /= 2  # The bin at 0 Hz is its own mirror image.
    return total / (geometry.window * geometry.hop)
