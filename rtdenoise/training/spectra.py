"""Spectra in torch as the streaming core makes them: four hops a window, scaled by the sum of the window.

Owns the transform between waves and spectra for training. Frame ``t`` holds the window whose newest hop is hop ``t``,
just as in a live stream, so states and context mean the same in training and at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F

from rtdenoise.geometry import CONTRACT_FRAMING, Framing, Geometry

COMPRESSION = 0.3  # This power brings magnitudes close to perceived loudness.
SMALL = 1e-6  # Below this magnitude, -120 dB of a full-scale tone, compression is linear.
NOTHING = 1e-12  # A power that keeps the slopes of square roots finite.


@lru_cache
def _windows(rate: int, framing: Framing, device: str) -> tuple[Geometry, torch.Tensor, torch.Tensor, float]:
    geometry = Geometry(rate, framing)
    analysis = torch.tensor(geometry.analysis_window(), dtype=torch.float32, device=device)
    synthesis = torch.tensor(geometry.synthesis_window(), dtype=torch.float32, device=device)
    return geometry, analysis, synthesis, geometry.spectrum_scale()


def to_spectra(wave: torch.Tensor, rate: int, framing: Framing = CONTRACT_FRAMING) -> torch.Tensor:
    """``[batch, samples]`` -> complex ``[batch, frames, bins]``; a stream that begins in silence."""
    geometry, analysis, _, scale = _windows(rate, framing, str(wave.device))
    padded = F.pad(wave, (geometry.window - geometry.hop, 0))
    return torch.fft.rfft(padded.unfold(-1, geometry.window, geometry.hop) * analysis) * scale


def to_waves(spectra: torch.Tensor, rate: int, framing: Framing = CONTRACT_FRAMING) -> torch.Tensor:
    """Complex ``[batch, frames, bins]`` -> ``[batch, (frames - 3) * hop]``, aligned with what `to_spectra` got."""
    geometry, _, synthesis, scale = _windows(rate, framing, str(spectra.device))
    frames = torch.fft.irfft(spectra, geometry.window) * synthesis / scale
    count, hop, overlap = frames.shape[1], geometry.hop, geometry.window // geometry.hop
    hops = frames.reshape(*frames.shape[:2], overlap, hop)
    total = torch.stack([F.pad(hops[:, :, k], (0, 0, k, overlap - 1 - k)) for k in range(overlap)]).sum(0)
    return total[:, overlap - 1 : count].flatten(1)


def deep_filtered(frames: list[torch.Tensor], taps: torch.Tensor) -> torch.Tensor:
    """The sum of spectra, each times its complex tap (arXiv 1904.08369).

    frames: real ``[..., bins, 2]`` each, newest first; taps ``[..., bins, len(frames), 2]``; result complex.
    """
    re = im = torch.zeros_like(frames[0][..., 0])
    for k, frame in enumerate(frames):
        re = re + taps[..., k, 0] * frame[..., 0] - taps[..., k, 1] * frame[..., 1]
        im = im + taps[..., k, 0] * frame[..., 1] + taps[..., k, 1] * frame[..., 0]
    return torch.complex(re, im)


def past(x: torch.Tensor, offsets: Sequence[int], start: int, step: int) -> list[torch.Tensor]:
    """``[batch, frames, ...]`` -> for each offset the frames ``start - offset :: step``; zeros before the stream."""
    longest, frames = max(offsets), x.shape[1]
    padded = torch.cat([x.new_zeros(x.shape[0], longest, *x.shape[2:]), x], 1)
    return [padded[:, longest - k : longest - k + frames][:, start::step] for k in offsets]


class Power(torch.autograd.Function):
    """`power`, with one product as its backward pass."""

    @staticmethod
    def forward(ctx, spectra: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(spectra)
        return spectra.real**2 + spectra.imag**2

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        return ctx.saved_tensors[0] * (2 * grad)


def power(spectra: torch.Tensor) -> torch.Tensor:
    """Squared magnitudes of complex spectra."""
    return Power.apply(spectra)


def compressed(spectra: torch.Tensor) -> torch.Tensor:
    """Complex spectra with their magnitudes to the power 0.3, phases kept."""
    return spectra * compressor(power(spectra))


def compressor(power: torch.Tensor) -> torch.Tensor:
    """What bins of a ``power`` are multiplied by to be compressed."""
    return raised(power + SMALL**2, (COMPRESSION - 1) / 2)


def raised(x: torch.Tensor, exponent: float | torch.Tensor) -> torch.Tensor:
    """``x ** exponent`` for x > 0; by exp and log, a third of the time of torch's own."""
    return torch.exp(exponent * torch.log(x))
