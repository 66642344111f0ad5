"""What a listener would say, as something a network can be trained on: how loud a disturbance is, and whether the
envelopes of speech survive. Both are close to, not the same as, the measures of that name.

Owns the bands and curves of the ear. Spectra come as training makes them: complex ``[batch, frames, bins]`` from 0 to
8 kHz, and here 16 ms apart, which is how PESQ spaces its frames.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from rtdenoise.training.spectra import power

TOP_HZ = 8000  # the frequency of the last bin
BARK = 0.6  # The width of a loudness band.
THIRD_OCTAVES, LOWEST_HZ = 15, 150.0  # The bands of STOI.
SEGMENT_FRAMES, SEGMENT_STRIDE = 24, 4  # 384 ms, as in STOI
SPEECH_POWER = 3.4e6  # 65 dB: what PESQ's level alignment makes of running speech, in its units
SPEECH_HZ = 375, 3250  # where PESQ takes the level
LOUDNESS_SCALE, LOUDNESS_POWER = 0.1866, 0.23  # Zwicker's law as P.862 has it
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309  # MOS points for a unit of disturbance, P.862
SPLIT_FRAMES = 20  # 320 ms, in which the worst moments count most
NEVER_ZERO = 1e-12


@lru_cache
def _bands(bins: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bark bands ``[bins, bands]``, the threshold of hearing in them, third-octave bands ``[bins, 15]``."""
    top = int(6 * np.arcsinh(8000 / 600) / BARK)
    edges_hz = 600 * np.sinh(np.arange(1, top + 1) * BARK / 6)  # Bark after Schroeder (Wang et al. 1992)
    khz = np.sqrt(edges_hz[:-1] * edges_hz[1:]) / 1000
    quiet_db = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4  # Terhardt 1979
    thirds_hz = LOWEST_HZ * 2 ** ((np.arange(THIRD_OCTAVES + 1) - 0.5) / 3)
    parts = (_shares(edges_hz, bins), 10 ** (quiet_db / 10), _shares(thirds_hz, bins))
    bark, quiet, thirds = (torch.tensor(p, dtype=torch.float32, device=device) for p in parts)
    return bark, quiet, thirds


def _shares(edges_hz: np.ndarray, bins: int) -> np.ndarray:
    """``[bins, bands]``: how much of a bin's width lies in a band."""
    bin_hz = TOP_HZ / (bins - 1)
    centre_hz = np.arange(bins)[:, None] * bin_hz
    top = np.minimum(centre_hz + bin_hz / 2, edges_hz[None, 1:])
    return np.clip(top - np.maximum(centre_hz - bin_hz / 2, edges_hz[None, :-1]), 0, None) / bin_hz


def disturbance(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """MOS points lost, ``[batch]``; about 0 to 4.

    After P.862 and its trainable form PMSQE (Martin-Donas et al. 2018): Zwicker loudness in Bark bands, a dead zone,
    noise added counts more than speech lost, worst moments count most. Left out: its corrections of gain and of
    frequency response, because a denoiser should keep both.
    """
    bins = target.shape[2]
    bark, quiet, _ = _bands(bins, str(target.device))
    first, last = (round(hz * (bins - 1) / TOP_HZ) for hz in SPEECH_HZ)
    band = power(target)[..., first : last + 1].sum(2)
    speaks = (band > 1e-4 * band.amax(1, keepdim=True)).float()
    level = (band * speaks).sum(1) / speaks.sum(1).clamp_min(1)
    scale = (SPEECH_POWER / (level + NEVER_ZERO))[:, None, None]
    heard, wanted = (power(s) * scale @ bark for s in (estimate, target))
    loud, soft = ((0.5 + 0.5 * p / quiet) ** LOUDNESS_POWER - 1 for p in (heard, wanted))
    loud, soft = (x * LOUDNESS_SCALE * (2 * quiet) ** LOUDNESS_POWER for x in (loud, soft))
    error = ((loud - soft).abs() - 0.25 * torch.minimum(loud, soft)).clamp_min(0) * BARK
    added = ((heard + 50) / (wanted + 50)) ** 1.2
    added = torch.where(added < 3, torch.zeros_like(added), added.clamp_max(12)).detach()
    width = bark.shape[1] * BARK
    weight = ((wanted.sum(2) + 1e5) / 1e7) ** 0.04
    symmetric = (((error**2).sum(2) / width + NEVER_ZERO).sqrt() * width / weight).clamp_max(45)
    asymmetric = ((error * added).sum(2) / weight).clamp_max(45)
    return SYMMETRIC * _over_time(symmetric) + ASYMMETRIC * _over_time(asymmetric)


def envelope_match(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Correlation of band envelopes over 384 ms, ``[batch]``, 1 when they agree: ESTOI (Jensen and Taal 2016) on frames
    of this product's length. Segments 30 dB below the loudest do not count; nor does a gain."""
    thirds = _bands(target.shape[2], str(target.device))[2]
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
