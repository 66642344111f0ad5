"""What a listener would say, as something a network can be trained on: how loud a disturbance is, and whether the
envelopes of speech survive. Both are close to, not the same as, the measures of that name.

Owns the bands and curves of the ear. Spectra come as training makes them: complex ``[batch, frames, bins]`` from 0 to
8 kHz, and here 16 ms apart, which is how PESQ spaces its frames.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from rtdenoise.training.spectra import power, raised

TOP_HZ = 8000  # the frequency of the last bin
BARK = 0.45  # The width of a loudness band.
LOWEST_BARK = 0.3  # PESQ leaves what lies below out of its sums.
THIRD_OCTAVES, LOWEST_HZ = 15, 150.0  # The bands of STOI.
SEGMENT_FRAMES, SEGMENT_STRIDE = 24, 4  # 384 ms, as in STOI
LEVEL_HZ = 300, 3250  # Where PESQ takes the level of a recording.
# What its level alignment and calibration make of all power between these, in its units times Bark.
ALIGNED = 1.06e8
INPUT_GAIN, INPUT_HZ = 7.93, 100.0  # The high-pass that P.862.2 puts first, as a factor of power.
# The hearing threshold of P.862, in dB of its units.
THRESHOLD_HZ = 8, 64, 129, 196, 265, 336, 409, 485, 620, 1000, 1630, 2330, 4600, 5640, 7800
THRESHOLD_DB = 77.1, 48.5, 30.7, 20.2, 12.5, 6.9, 2.8, -0.1, -3.4, -6.0, -4.7, -3.1, -3.2, -4.3, -2.7
LOUDNESS_SCALE, LOUDNESS_POWER = 0.1866, 0.23  # Zwicker's law as P.862 has it
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309  # MOS points for a unit of disturbance, P.862
# Of its correction of a frame's gain. Its own limit, 35 dB, would leave pauses as they are.
GAIN_FLOOR, LEAST_GAIN = 5e3, 0.1
SMOOTHING, MEMORY = 0.2, 3  # What that correction keeps of the frame before; of older ones a hundredth is left.
SPLIT_FRAMES = 20  # 320 ms, in which the worst moments count most
MOST_PAUSES = 4.0  # Speech in less than this part of a clip is not raised further.
NEVER_ZERO = 1e-12


class _Ear(NamedTuple):
    """``bark`` ``[bins, bands]``: what a bin's power adds to the density of a band; the threshold of hearing and the
    exponent of loudness in the bands; ``thirds`` ``[bins, 15]``: third-octave bands; ``level`` ``[bins]``: one where
    the level is taken."""

    bark: torch.Tensor
    quiet: torch.Tensor
    exponent: torch.Tensor
    thirds: torch.Tensor
    level: torch.Tensor


@lru_cache
def _ear(bins: int, device: str) -> _Ear:
    hz = np.linspace(0, TOP_HZ, 8 * TOP_HZ + 1)
    barks = 13 * np.arctan(0.76e-3 * hz) + 3.5 * np.arctan((hz / 7500) ** 2)  # Zwicker and Terhardt 1980
    edges_bark = np.arange(LOWEST_BARK, barks[-1], BARK)
    edges_hz = np.interp(edges_bark, barks, hz)
    centres_bark = edges_bark[:-1] + BARK / 2
    quiet_db = np.interp(np.log(np.interp(centres_bark, barks, hz)), np.log(THRESHOLD_HZ), THRESHOLD_DB)
    exponent = LOUDNESS_POWER * np.clip(6 / (centres_bark + 2), 1, 2) ** 0.15
    centres_hz = np.linspace(0, TOP_HZ, bins)
    heard = INPUT_GAIN / (1 + (INPUT_HZ / np.maximum(centres_hz, 1)) ** 4)
    thirds_hz = LOWEST_HZ * 2 ** ((np.arange(THIRD_OCTAVES + 1) - 0.5) / 3)
    level = (centres_hz >= LEVEL_HZ[0]) & (centres_hz <= LEVEL_HZ[1])
    parts = (
        _shares(edges_hz, bins) * heard[:, None] / BARK,
        10 ** (quiet_db / 10),
        exponent,
        _shares(thirds_hz, bins),
        level,
    )
    return _Ear(*(torch.tensor(p, dtype=torch.float32, device=device) for p in parts))


def _shares(edges_hz: np.ndarray, bins: int) -> np.ndarray:
    """``[bins, bands]``: how much of a bin's width lies in a band."""
    bin_hz = TOP_HZ / (bins - 1)
    centre_hz = np.arange(bins)[:, None] * bin_hz
    top = np.minimum(centre_hz + bin_hz / 2, edges_hz[None, 1:])
    return np.clip(top - np.maximum(centre_hz - bin_hz / 2, edges_hz[None, :-1]), 0, None) / bin_hz


@lru_cache
def band_density(bins: int, share: float, device: str) -> torch.Tensor:
    """Weights of bins, ``[bins]``, one in the mean: how dense the ear's bands lie there (1 / ERB, Glasberg and Moore
    1990), to the power ``share``."""
    hz = torch.linspace(0, TOP_HZ, bins, device=device)
    density = (1 + 4.37e-3 * hz) ** -share
    return density / density.mean()


def disturbance(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """MOS points lost, ``[batch]``; about 0 to 4.

    What P.862 and P.862.2 hear in windows of 32 ms (a trainable form is PMSQE, Martin-Donas et al. 2018): level
    alignment, Zwicker loudness in Bark bands, a correction for frames that are too loud, a dead zone, noise added
    counts more than speech lost, worst moments count most. Left out: their corrections for frames that are too soft and
    for a frequency response, because a denoiser should keep the voice as it is. A gain of a whole clip costs nothing
    here: each side is aligned by its own level, as there. Alignment and correction carry no gradients.
    """
    ear = _ear(target.shape[2], str(target.device))
    heard, wanted = (_aligned(power(s), ear) for s in (estimate, target))
    heard = heard * _gain(heard, wanted, ear)
    loud, soft = (_loudness(x, ear) for x in (heard, wanted))
    error = ((loud - soft).abs() - 0.25 * torch.minimum(loud, soft)).clamp_min(0) * BARK
    with torch.no_grad():
        added = ((heard + 50) / (wanted + 50)) ** 1.2
        added = torch.where(added < 3, torch.zeros_like(added), added.clamp_max(12))
        weight = ((_audible(wanted, ear) + 1e5) / 1e7) ** 0.04
    width = error.shape[2] * BARK
    symmetric = (((error**2).sum(2) / width + NEVER_ZERO).sqrt() * width / weight).clamp_max(45)
    asymmetric = ((error * added).sum(2) / weight).clamp_max(45)
    return SYMMETRIC * _over_time(symmetric) + ASYMMETRIC * _over_time(asymmetric)


def _aligned(strength: torch.Tensor, ear: _Ear) -> torch.Tensor:
    """Powers of bins -> densities in bands, ``[batch, frames, bands]``, at the level of all recordings in PESQ."""
    with torch.no_grad():
        level = strength @ ear.level
        speaks = (level > 1e-4 * level.amax(1, keepdim=True)).float()
        spoken = (level * speaks).sum(1) / speaks.sum(1).clamp_min(1)
        scale = ALIGNED / (torch.maximum(level.mean(1), spoken / MOST_PAUSES) + NEVER_ZERO)
    return (strength @ ear.bark) * scale[:, None, None]


def _audible(density: torch.Tensor, ear: _Ear) -> torch.Tensor:
    """Sum of what a frame has above the threshold of hearing, ``[batch, frames]``."""
    return (density * (density > ear.quiet)).sum(2)


@torch.no_grad()
def _gain(heard: torch.Tensor, wanted: torch.Tensor, ear: _Ear) -> torch.Tensor:
    """What brings frames that are too loud to the level wanted, ``[batch, frames, 1]``: at most one."""
    ratio = (_audible(wanted, ear) + GAIN_FLOOR) / (_audible(heard, ear) + GAIN_FLOOR)
    course = F.pad(ratio, (MEMORY, 0), mode="replicate").unfold(1, MEMORY + 1, 1)  # the newest comes last
    weights = SMOOTHING ** torch.arange(MEMORY, -1, -1, device=ratio.device)
    return (course @ (weights / weights.sum())).clamp(LEAST_GAIN, 1)[..., None]


def _loudness(density: torch.Tensor, ear: _Ear) -> torch.Tensor:
    """Sone a Bark (Zwicker's law), zero below the threshold of hearing."""
    over = raised(0.5 + 0.5 * density / ear.quiet, ear.exponent) - 1
    return LOUDNESS_SCALE * (2 * ear.quiet) ** ear.exponent * over.clamp_min(0)


def envelope_match(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Correlation of band envelopes over 384 ms, ``[batch]``, 1 when they agree: ESTOI (Jensen and Taal 2016) on frames
    of this product's length. Segments 30 dB below the loudest do not count; nor does a gain."""
    thirds = _ear(target.shape[2], str(target.device)).thirds
    heard, wanted = ((power(s) @ thirds + NEVER_ZERO).sqrt() for s in (estimate, target))
    length = min(SEGMENT_FRAMES, target.shape[1])
    heard, wanted = (x.unfold(1, length, SEGMENT_STRIDE) for x in (heard, wanted))  # [batch, segments, bands, frames]
    energy = (wanted**2).sum((2, 3))
    speaks = (energy > 1e-3 * energy.amax(1, keepdim=True)).float()
    match = (_normed(_normed(heard, 3), 2) * _normed(_normed(wanted, 3), 2)).sum((2, 3)) / length
    return (match * speaks).sum(1) / speaks.sum(1).clamp_min(1)


def _normed(x: torch.Tensor, axis: int) -> torch.Tensor:
    x = x - x.mean(axis, keepdim=True)
    return x / ((x**2).sum(axis, keepdim=True) + NEVER_ZERO).sqrt()


def _over_time(lost: torch.Tensor) -> torch.Tensor:
    """``[batch, frames]`` -> ``[batch]``: a mean to the power 6 over split seconds, to the power 2 over those."""
    length = min(SPLIT_FRAMES, lost.shape[1])
    splits = lost.unfold(1, length, max(1, length // 2))
    return ((((splits + 1e-3) ** 6).mean(2) ** (1 / 6)) ** 2).mean(1).sqrt()
