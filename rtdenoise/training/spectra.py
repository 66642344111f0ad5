"""Spectra in torch as the streaming core makes them: 16 ms windows every 4 ms, scaled by the sum of the window.

Owns the transform between waves and spectra for training. Frame ``t`` holds the window whose newest hop is hop ``t``,
just as in a live stream, so states and context mean the same in training and at run time.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F

from rtdenoise.geometry import Geometry

COMPRESSION = 0.3  # power that brings magnitudes near to how loud they sound
SMALL = 1e-6  # magnitude below which compression is linear: -120 dB of a full-scale tone


@lru_cache
def _windows(rate: int, device: str) -> tuple[Geometry, torch.Tensor, torch.Tensor, float]:
    geometry = Geometry(rate)
    analysis = torch.tensor(geometry.analysis_window(), dtype=torch.float32, device=device)
    synthesis = torch.tensor(geometry.synthesis_window(), dtype=torch.float32, device=device)
    return geometry, analysis, synthesis, geometry.spectrum_scale()


def to_spectra(wave: torch.Tensor, rate: int) -> torch.Tensor:
    """``[batch, samples]`` -> complex ``[batch, frames, bins]``; a stream that begins in silence."""
    geometry, analysis, _, scale = _windows(rate, str(wave.device))
    padded = F.pad(wave, (geometry.window - geometry.hop, 0))
    return torch.fft.rfft(padded.unfold(-1, geometry.window, geometry.hop) * analysis) * scale


def to_waves(spectra: torch.Tensor, rate: int) -> torch.Tensor:
    """Complex ``[batch, frames, bins]`` -> ``[batch, (frames - 3) * hop]``, aligned with what `to_spectra` got."""
    geometry, _, synthesis, scale = _windows(rate, str(spectra.device))
    frames = torch.fft.irfft(spectra, geometry.window) * synthesis / scale
    count, hop, overlap = frames.shape[1], geometry.hop, geometry.window // geometry.hop
    hops = frames.reshape(*frames.shape[:2], overlap, hop)
    total = sum(F.pad(hops[:, :, k], (0, 0, k, overlap - 1 - k)) for k in range(overlap))
    return total[:, overlap - 1 : count].flatten(1)


def compressed(spectra: torch.Tensor) -> torch.Tensor:
    """Complex spectra with their magnitudes to the power 0.3, phases kept."""
    power = spectra.real**2 + spectra.imag**2 + SMALL**2
    return spectra * power ** ((COMPRESSION - 1) / 2)
