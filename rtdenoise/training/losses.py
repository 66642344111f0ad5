"""What training minimises. Complex spectra in, one number out.

`spectral_loss` works on any choice of frames, so it serves networks that are trained on single frames, on every fourth
frame or on all of them; `wave_loss` judges what is heard after overlap-add, for the last part of a training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.training import perceptual_loss
from rtdenoise.training.spectra import COMPRESSION, power, raised, to_waves

LEVEL = 1.5  # RMS of a bin that clips are brought to before compression
QUIET_BIN = 1e-4  # RMS of a bin, about -60 dBFS: clips below it are not raised to the common level
HEARING_SPACING_MS = 16  # One frame in so many ms is enough for hearing.
# The levels that `bce` tells apart: so far below the clip's loudest bin, since means of levels in dB would otherwise be
# ruled by how deep digital silence lies, and so far above it, where noise is louder than the voice.
SPAN_DB, HEADROOM_DB = 40.0, 10.0
HUBER_DELTA = 0.3  # Of compressed magnitudes, which are about one: from here on errors count by their size.
HEARD_DB = 50.0  # `level_error` ignores what lies this far below the loudest bin of a clip.
LOUDEST_QUIET = 1.5  # Of a bin at the common level, where silence is raised most: a floor at -130 dBFS.
SMALLEST_DISTANCE = 1e-3  # A distance of levels, 0.02 dB, which keeps the root's slope finite.
PLAIN_QUIET_BIN = 3e-3  # The same for plain magnitudes, which grow with the level of a noise without speech.
SNR_CEILING = 1e-3  # 30 dB: beyond it a clip is good enough to stop pulling


@dataclass(frozen=True)
class LossWeights:
    magnitude: float = 0.7
    complex: float = 0.3
    over_attenuation: float = 0.3  # extra weight of speech that is too quiet: a deleted voice is worse than noise left
    residue: float = 0.0  # extra weight of what is louder than the target: noise left, in pauses and under speech
    snr: float = 0.01  # per dB of the scale-invariant SNR: the level is for the other terms to set
    loudness: float = 0.0  # of `perceptual_loss.disturbance`; 16 kHz only, like the next
    envelope: float = 0.0  # of what `perceptual_loss.envelope_match` lacks to 1
    wave: float = 0.3  # of `wave_loss`, once every frame is used
    huber: float = 0.0  # of compressed magnitudes (Huber 1964): square for small errors, absolute for large
    mse: float = 0.0  # of plain magnitudes
    level: float = 0.0  # of `level_error`, for parts of the spectrum where only the level counts
    bce: float = 0.0  # binary cross-entropy of levels between 0 and 1, see `_shares`
    ear: float = 0.0  # how far the bins of the first four weigh as the ear's bands lie, 0 to 1; 16 kHz only


def spectral_loss(
    estimate: torch.Tensor,
    target: torch.Tensor,
    weights: LossWeights,
    spacing_ms: float = CONTRACT_FRAMING.hop_ms,
    mean: Callable[[torch.Tensor], torch.Tensor] = lambda number: number,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Complex ``[batch, frames, bins]`` twice -> loss, and the mean SNR in dB of the clips with speech.

    Compressed magnitude and complex error (arXiv 2101.07052 and others), an asymmetric term for over-attenuated
    speech (arXiv 2009.12286 uses one), the SI-SDR (arXiv 1811.02508) of the plain spectrum, which by Parseval follows
    the waveform's, and what a listener would say. ``spacing_ms``: from one of the given frames to the next.
    ``mean``: of a number over all processes of a training, whose batches may differ in how many clips have speech.
    """
    strength = power(target).mean((1, 2), keepdim=True)
    level = LEVEL / (strength.sqrt() + QUIET_BIN)
    a, b = estimate * level, target * level
    size_a, size_b = ((power(s) + 1e-8).sqrt() for s in (a, b))
    loud_a, loud_b = (raised(s, COMPRESSION) for s in (size_a, size_b))
    difference = loud_b - loud_a
    turned = a * (loud_a / size_a) - b * (loud_b / size_b)
    error, turned_error = difference**2, power(turned)
    if weights.ear:
        bins = perceptual_loss.band_density(error.shape[2], weights.ear, str(error.device))
        error, turned_error = error * bins, turned_error * bins
    total = (
        weights.magnitude * error.mean()
        + weights.over_attenuation * (error * (difference > 0)).mean()
        + weights.residue * (error * (difference < 0)).mean()
        + weights.complex * turned_error.mean()
    )
    if weights.huber:
        total = total + weights.huber * F.huber_loss(loud_a, loud_b, delta=HUBER_DELTA)
    if weights.mse:
        plain = (strength.sqrt() + QUIET_BIN) / (strength.sqrt() + PLAIN_QUIET_BIN)
        total = total + weights.mse * F.mse_loss(size_a * plain, size_b * plain)
    if weights.level:
        total = total + weights.level * level_error(size_a, size_b)
    if weights.bce:
        total = total + weights.bce * F.binary_cross_entropy(*_shares(size_a, size_b))
    snr_db = _si_snr_db(estimate, target, QUIET_BIN**2 * target.shape[1] * target.shape[2])
    with_speech = strength.flatten() > QUIET_BIN**2
    spoken = mean(with_speech.sum().float()).clamp_min(1e-9)
    if with_speech.any():
        if weights.loudness or weights.envelope:
            thin = max(1, round(HEARING_SPACING_MS / spacing_ms))
            heard, wanted = estimate[with_speech, ::thin], target[with_speech, ::thin]
            lost = (1 - perceptual_loss.envelope_match(heard, wanted)).sum() / spoken
            disturbed = perceptual_loss.disturbance(heard, wanted).sum() / spoken
            total = total + weights.envelope * lost + weights.loudness * disturbed
        snr_db = snr_db[with_speech].sum() / spoken
        return total - weights.snr * snr_db, snr_db.detach()
    return total, torch.zeros((), device=total.device)


def wave_loss(
    estimate: torch.Tensor, target: torch.Tensor, rate: int, framing: Framing = CONTRACT_FRAMING
) -> torch.Tensor:
    """Error after overlap-add, complex spectra of all frames in: L1 of the waves at a common level, and their spectra
    at a longer window (32 ms), where single harmonics show."""
    x, y = (to_waves(s, rate, framing) for s in (estimate, target))
    level = 0.1 / (y.pow(2).mean(1, keepdim=True).sqrt() + 1e-3)
    x, y = x * level, y * level
    size = 512 * rate // 16000
    window = torch.hann_window(size, device=x.device)
    long_x, long_y = (
        torch.stft(w, size, size // 4, window=window, return_complex=True) / size**0.5 * 4 for w in (x, y)
    )
    loud_x, loud_y = (raised(power(s) + 1e-8, COMPRESSION / 2) for s in (long_x, long_y))
    return 2 * (x - y).abs().mean() + ((loud_x - loud_y) ** 2).mean()


def level_error(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Log-spectral distance as a loss, in units of 20 dB: root mean square over a frame's bins, mean over frames.
    Magnitudes more than 50 dB below the clip's loudest bin count as equal; noise left in a pause counts as much as
    speech lost."""
    floor = target.amax((1, 2), keepdim=True).clamp_min(LOUDEST_QUIET) * 10 ** (-HEARD_DB / 20)
    distance = torch.log10(estimate + floor) - torch.log10(target + floor)
    return ((distance**2).mean(2) + SMALLEST_DISTANCE**2).sqrt().mean()


def _shares(estimate: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitudes as shares of the way, in dB, from `SPAN_DB` below the target's loudest bin to `HEADROOM_DB` above it.
    Silence is 0, and the way there is smooth: a voice that was taken away too far still has a slope back."""
    top = target.amax((1, 2), keepdim=True).clamp_min(LEVEL)
    floor = top * 10 ** (-SPAN_DB / 20)
    whole = math.log1p(10 ** ((SPAN_DB + HEADROOM_DB) / 20))
    first, second = (0.01 + 0.98 * (torch.log1p(x / floor) / whole).clamp_max(1) for x in (estimate, target))
    return first, second


def _si_snr_db(estimate: torch.Tensor, target: torch.Tensor, floor: float) -> torch.Tensor:
    """``[batch]``, soft at 30 dB and in silence. Blind to the estimate's level: plain SNR asks for a voice that noise
    half hides to be softer than it is, by a factor of SNR / (1 + SNR)."""
    whole = power(target).sum((1, 2), keepdim=True) + floor
    gain = (estimate * target.conj()).real.sum((1, 2), keepdim=True) / whole
    signal, noise = (power(s).sum((1, 2)) for s in (gain * target, estimate - gain * target))
    return 10 * torch.log10((signal + floor) / (noise + SNR_CEILING * signal + floor))
