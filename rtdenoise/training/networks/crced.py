"""CR-CED: convolutions along frequency over this frame and the seven before it, with skips; all bins pass every layer.

After Park and Lee, "A Fully Convolutional Neural Network for Speech Enhancement" (arXiv 1609.07132). Changed, each for
the sake of a small CPU: fewer layers; two last layers with weights of their own for each bin (frequencies
differ, and such weights cost little time); running means of the spectrum as more inputs, which tell a steady noise
from speech and give the level that everything is divided by; and the output is, instead of one mask, a gain and a
bounded complex weight for each of the last five spectra, hushed where the gain is sure (as in `unet`). No recurrence:
any single frame can be trained on without the rest of its clip.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from rtdenoise.geometry import CONTRACT_FRAMING
from rtdenoise.training.spectra import compressed, deep_filtered, past

BINS = 129
CONTEXT = 8  # The network sees this frame and the seven before it.
TAPS = 5  # This many spectra are weighted and summed.
MEANS_S = (0.06, 0.25, 4.0, 1.0)  # The time constants of the running means, see `CRCED`.
HOP_S = CONTRACT_FRAMING.hop_ms / 1000
LEVEL_FLOOR = 0.02  # Of the compressed level: about -95 dBFS.
NOTHING = 1e-12  # A power that keeps square roots away from zero.


def running_means(size: torch.Tensor, decays: list[float], start: int, step: int) -> torch.Tensor:
    """Sizes ``[batch, frames, bins]`` -> means up to the frames ``start::step``, ``[batch, chosen, means, bins]``.

    Early frames are means of what has come so far, not of silence before it.
    """
    frames = size.shape[1]
    age = torch.arange(start, frames, step, device=size.device)[:, None] - torch.arange(frames, device=size.device)
    shares = [torch.where(age >= 0, d ** age.clamp_min(0), 0.0) for d in decays]
    return torch.stack([(w / w.sum(1, keepdim=True)) @ size for w in shares], 2)


class CRCED(nn.Module):
    """Complex spectra ``[batch, frames, 129]`` -> enhanced spectra of the frames ``start::step``."""

    bins, framing = BINS, CONTRACT_FRAMING
    training_step = 8  # frames are drawn this far apart: neighbours teach the same
    output_layers = ("local_bias", "local_out", "out_bias")

    def __init__(
        self,
        channels: int = 16,
        layers: int = 6,
        kernel: int = 9,
        local: int = 40,
        mask: bool = False,
        means_s: tuple[float, ...] = MEANS_S,
    ):
        """``means_s``: time constants of the running means, the last one's gives the level. ``mask``: one real weight
        of this frame alone, as the paper has it, instead of a gain and complex ones of five."""
        super().__init__()
        self.mask, values = mask, 1 if mask else 1 + 2 * TAPS
        self.decays = [1 - HOP_S / s for s in means_s]  # share of a mean that stays from one frame to the next
        sizes = [3 * CONTEXT + len(means_s)] + [channels] * layers
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, (1, kernel), padding=(0, kernel // 2), bias=False) for a, b in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(layers))
        self.local_in = nn.Parameter(torch.randn(BINS, channels, local) * channels**-0.5)
        self.local_bias = nn.Parameter(torch.zeros(BINS, 1, local))
        self.local_out = nn.Parameter(torch.randn(BINS, local, values) * 0.02)
        self.out_bias = nn.Parameter(torch.zeros(BINS, 1, values))
        with torch.no_grad():
            self.out_bias[..., 0] = 0.5 if mask else 0.0  # begin near to half the input

        self.kept = 0.0

    def keep_input(self, share: float) -> None:
        """From now on give ``share`` of the input and the rest of what was learnt."""
        self.kept = share

    def set_stage(self, stage: str) -> None:
        """CR-CED is trained in one stage, all of it."""

    def loss_target(self, estimate: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The part of estimate and target that the loss compares."""
        return estimate, target

    def features(self, spectra: torch.Tensor, start: int, step: int) -> torch.Tensor:
        """``[batch * chosen, planes, 1, 129]``: compressed context (re, im, size; newest frame first) and means."""
        z = compressed(spectra)
        size = (z.real**2 + z.imag**2 + NOTHING).sqrt()
        context = past(torch.stack([z.real, z.imag, size], 2), range(CONTEXT), start, step)
        means = running_means(size, self.decays, start, step)
        level = means[:, :, -1:].mean(3, keepdim=True) + LEVEL_FLOOR
        return (torch.cat([*context, means], 2) / level).flatten(0, 1).unsqueeze(2)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """Features -> complex weights, ``[rows, 129, 10]`` (``mask``: 1).

        Every second layer adds what came two before.
        """
        x = x.contiguous(memory_format=torch.channels_last)  # nearly twice as fast
        skip = None
        for k, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if k % 2 == 0 and skip is not None:
                x = x + skip
            x = F.relu(x)
            if k % 2 == 0:
                skip = x
        x = x.squeeze(2).permute(2, 0, 1)  # bins, rows, channels
        x = F.relu(torch.baddbmm(self.local_bias, x, self.local_in))
        x = torch.baddbmm(self.out_bias, x, self.local_out).transpose(0, 1).float()
        untouched = torch.eye(max(1, x.shape[2] - 1), device=x.device)[0]
        if self.mask:
            x = torch.tanh(x)
        else:
            gain = torch.sigmoid(x[..., :1])
            x = torch.tanh(x[..., 1:]) * (4 * gain * (1 - gain)) + gain * untouched
        return x * (1 - self.kept) + self.kept * untouched

    def forward(self, spectra: torch.Tensor, start: int = 0, step: int = 1) -> torch.Tensor:
        weight = self.weights(self.features(spectra, start, step))
        if self.mask:
            return spectra[:, start::step] * weight.reshape(len(spectra), -1, BINS)
        weight = weight.reshape(len(spectra), -1, BINS, TAPS, 2)
        return deep_filtered(past(torch.view_as_real(spectra), range(TAPS), start, step), weight)
