"""A U-Net of one hop begins with what one of another hop has learnt.

Between the first layer and the last both mean the same in time and frequency, so those weights are copied. What sees or
makes single bins is new. The layers that see them are fitted by least squares to say on noisy speech what the old ones
say, at the moment whose window has the same middle as the window that comes out. The gains of a row's bins begin as
those of the old bins that they lie in; filters begin near to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from rtdenoise.training.networks.deep_filter import LOGITS
from rtdenoise.training.networks.memory import sub_bands
from rtdenoise.training.networks.unet import UNet, scales
from rtdenoise.training.spectra import to_spectra

SETTLING_MS = 512  # The first frames of a clip, whose context is still empty, teach nothing.
RIDGE = 1e-4  # Of the mean power of an input: weights that the data hardly ask for stay small.


@torch.no_grad()
def begin_as(new: UNet, old: UNet, noisy: Iterable[torch.Tensor], rate: int) -> dict[str, float]:
    """Give ``new`` the weights of ``old``; ``noisy`` are waves ``[batch, samples]`` to fit layers on.

    Returns for each fitted layer which share of what the old one says it explains.
    """
    own = new.state_dict()
    new.load_state_dict(own | {k: v for k, v in old.state_dict().items() if v.shape == own[k].shape})
    known: Any = old.down[0]
    first, bands = (LeastSquares(layer) for layer in (cast(Any, new.down[0]).linear, new.pitch.bands))
    start_ms = SETTLING_MS - delay_ms(new) + delay_ms(old)
    for wave in noisy:
        seen, heard = views(new, wave, rate, SETTLING_MS, new.framing.hop_ms)
        seen_before, heard_before = views(old, wave, rate, start_ms, new.framing.hop_ms)
        first.add(seen, known.linear(seen_before))
        bands.add(heard, old.pitch.bands(heard_before))
    _spread_gains(new, old)
    return {"first": first.solve(), "bands": bands.solve()}


def delay_ms(net: UNet) -> float:
    """From the end of a frame back to the middle of the window that comes out with it."""
    return net.framing.window_ms / 2 + net.framing.look_ahead * net.framing.hop_ms


def views(
    net: UNet, wave: torch.Tensor, rate: int, start_ms: float, spacing_ms: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the first layer and the memory below 1 kHz see at the frames that end at ``start_ms`` and every
    ``spacing_ms`` from there on."""
    low = to_spectra(wave, rate, net.framing)[..., : net.low_bins]
    scale, factor = scales(low[..., :-1], net.level_decay)
    scale = scale * factor[..., None]
    start, step = round(start_ms / net.framing.hop_ms) - 1, round(spacing_ms / net.framing.hop_ms)
    return net.seen(low, scale, start, step), sub_bands(low, scale, start, step, net.framing)


class LeastSquares:
    """Weights and bias of a linear layer that best make given outputs of given inputs."""

    def __init__(self, layer: nn.Linear):
        self.layer, inputs = layer, layer.in_features + 1
        self.square = torch.zeros(inputs, inputs, dtype=torch.float64)
        self.product = torch.zeros(inputs, layer.out_features, dtype=torch.float64)
        self.power = torch.zeros(layer.out_features, dtype=torch.float64)

    def add(self, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """``[frames, ..., values]`` twice; the last frames of the longer one do not count."""
        frames = min(len(inputs), len(outputs))
        x, y = (v[:frames].flatten(0, -2).double() for v in (inputs, outputs))
        x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        self.square += x.T @ x
        self.product += x.T @ y
        self.power += (y**2).sum(0)

    def solve(self) -> float:
        """Set the layer; the share of the outputs' variance that it explains."""
        mean = self.product[-1] / self.square[-1, -1]
        ridge = RIDGE * self.square.diagonal()[:-1].mean() * torch.eye(len(self.square), dtype=torch.float64)
        ridge[-1, -1] = 0
        weights = torch.linalg.solve(self.square + ridge, self.product)
        self.layer.weight.copy_(weights[:-1].T)
        self.layer.bias.copy_(weights[-1])
        left = self.power - 2 * (weights * self.product).sum(0) + (weights * (self.square @ weights)).sum(0)
        return float(1 - left.sum() / (self.power - self.square[-1, -1] * mean**2).sum())


def _spread_gains(new: UNet, old: UNet) -> None:
    finer = new.wide // old.wide
    for mine, its in ((new.gain.weight, old.gain.weight), (new.gain.bias, old.gain.bias)):
        mine.copy_(its.repeat_interleave(finer, 0))
    mine, its = (net.pitch_taps.weight.view(-1, net.wide * LOGITS, net.pitch_taps.in_features) for net in (new, old))
    mine.zero_()
    mine[:, : new.wide] = its[:, : old.wide].repeat_interleave(finer, 1)
