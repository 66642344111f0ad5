"""Masker: a U-Net over frequency on levels alone, for four ways of posing the task. The input's phase stays as it is.

An encoder over frequency with strides, a recurrent bottleneck (`memory.DualPathGRU`), a decoder with skips; time is
causal and never strided. ``target`` says what the network sees and what its output means:

- ``noise``: sees levels on a fixed scale, gives by how much noise raises each of them, which is subtracted, in dB;
- ``db``: sees levels between the running minimum and maximum of the spectrum, gives the voice's on that scale, as what
  is added to the logits of the input's;
- ``mask``: sees how far levels lie above a running estimate of the noise's floor in every bin, gives gains, or with
  several ``taps`` a short filter for every bin over its own past spectra (arXiv 1904.08369).

What runs over time is dilated by four frames like the memory, so that training may evaluate every fourth frame alone.
``linked`` channels get one and the same filter, made from the energy of all, so the stereo image stays where it is.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from rtdenoise.errors import UsageError
from rtdenoise.geometry import Framing
from rtdenoise.model.contract import model_bins
from rtdenoise.training.networks.memory import CHAINS, DualPathGRU
from rtdenoise.training.networks.unet import CONTEXT, Down, merged, patches
from rtdenoise.training.spectra import deep_filtered, past

TARGETS = ("noise", "db", "mask")
FAINTEST = 1e-12  # The power of level 0, -120 dB. A level is 20 dB per unit, so 6 is full scale.
PLAIN = (3.0, 1.5)  # The middle and the reach of levels on the fixed scale.
QUICK_S, SLOW_S = 0.1, 1.0  # The time constants of the running means.
DRIFT = 0.1  # 2 dB a second: how fast a forgotten floor rises, and extremes close in
NARROWEST = 2.0  # 40 dB, the least distance of the running minimum and maximum
LOUDER = 0.3  # 6 dB: a bin is never raised by more
END = 0.002  # Shares this near to the extremes are as good as there, which keeps logits finite.
BEGIN = {"noise": -2.0, "db": 0.0, "mask": 0.9}  # What the last layer says before training: almost the input.
LN10 = math.log(10)
SIDES = 2  # This many rows of a training batch are one stereo clip.


class Masker(nn.Module):
    """Complex spectra ``[batch, frames, bins]`` -> enhanced spectra of frames ``start::step`` (step 1 or 4).

    ``columns``: bins that are looked at, from 0 Hz on; those above take the mean filter of the top quarter.
    ``strides`` and ``channels``: of the encoder's levels. ``taps``: frames, counted back, that a filter combines.
    ``hop_ms``: from one frame to the next, a quarter of a window; one of `contract.HOPS_MS`.
    Linked, the rows of a batch are the channels of one signal; in training, every two rows are.
    """

    training_step = CHAINS
    output_layers = ("place", "out")

    def __init__(
        self,
        target: str = "mask",
        columns: int = 128,
        strides: tuple[int, ...] = (4, 2, 2),
        channels: tuple[int, ...] = (24, 48, 64),
        blocks: int = 1,
        across: int = 2,
        taps: tuple[int, ...] = (0,),
        linked: bool = False,
        hop_ms: float = 4.0,
    ):
        super().__init__()
        if target not in TARGETS:
            raise UsageError(f"no target {target!r}; choose one of: {', '.join(TARGETS)}")
        if columns % math.prod(strides) or len(strides) != len(channels):
            raise UsageError(f"{columns} columns cannot be halved by strides {strides} with channels {channels}")
        self.target, self.columns, self.strides, self.linked = target, columns, tuple(strides), linked
        self.tap_frames = tuple(taps)
        self.framing = Framing(hop_ms)
        self.period_s = CHAINS * hop_ms / 1000  # of a chain's frames
        self.bins = next(bins for bins in model_bins(self.framing) if bins > columns)
        self.bands = columns // math.prod(strides)
        sizes = [len(CONTEXT) + (2 if target == "mask" else 0), *channels]
        self.down = nn.ModuleList(
            Down(a, b, 2 * stride, stride) for (a, b), stride in zip(pairwise(sizes), strides, strict=True)
        )
        deepest = channels[-1]
        self.place = nn.Parameter(torch.randn(self.bands, deepest) * 0.02)
        self.memory = nn.ModuleList(DualPathGRU(deepest, across * deepest, self.bands) for _ in range(blocks))
        upwards = list(reversed(channels))
        self.merge = nn.ModuleList(nn.Linear(2 * c, c) for c in upwards)
        self.up = nn.ModuleList(
            nn.Linear(a, stride * b) for (a, b), stride in zip(pairwise(upwards), reversed(strides), strict=False)
        )
        self.values = 2 * len(taps) if len(taps) > 1 else 1
        self.out = nn.Linear(3 * channels[0], strides[0] * self.values)
        nn.init.normal_(self.out.weight, std=0.02)
        with torch.no_grad():  # begin near to the input
            self.out.bias.zero_()
            self.out.bias.view(strides[0], -1)[:, 0] = BEGIN[target]
        self.kept = 0.0

    def keep_input(self, share: float) -> None:
        """From now on give ``share`` of the input and the rest of what was learnt."""
        self.kept = share

    def set_stage(self, stage: str) -> None:
        """There is one stage, all of it."""

    def loss_target(self, estimate: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The part of estimate and target that the loss compares: the bins that were looked at."""
        return estimate[..., : self.columns], target[..., : self.columns]

    def forward(self, spectra: torch.Tensor, start: int = 0, step: int = 1) -> torch.Tensor:
        low = spectra[..., : self.columns]
        power = low.real**2 + low.imag**2
        sides = (SIDES if self.training else len(power)) if self.linked else 1
        level = 0.5 * torch.log10(power.unflatten(0, (-1, sides)).mean(1) + FAINTEST) + 6
        now = level[:, start::step]
        planes, low_end, reach = self.scaled(past(level, CONTEXT, start, step), now, step)
        raw = self.core(torch.stack([plane.transpose(0, 1) for plane in planes], 3), step).transpose(0, 1)
        weights = raw if self.values > 1 else self.gains(raw.squeeze(3), now, low_end, reach).unsqueeze(3)
        above = weights[:, :, -self.columns // 4 :].mean(2, keepdim=True)
        weights = torch.cat([weights, above.expand(-1, -1, spectra.shape[2] - self.columns, -1)], 2)
        weights = weights.repeat_interleave(sides, 0)
        kept, rest = self.kept, 1 - self.kept
        chosen = spectra[:, start::step]
        if self.values == 1:
            return chosen * (rest * weights.squeeze(3) + kept)
        frames = past(torch.view_as_real(spectra), self.tap_frames, start, step)
        return rest * deep_filtered(frames, weights.unflatten(3, (-1, 2))) + kept * chosen

    def scaled(
        self, seen: list[torch.Tensor], now: torch.Tensor, step: int
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Planes ``[batch, chosen, columns]`` for the encoder, and lower end and reach of the scale they are on."""
        if self.target == "mask":
            quick, slow = (by_chain(partial(running_mean, decay=self.decay(s)), now, step) for s in (QUICK_S, SLOW_S))
            floor = by_chain(self.floor, quick, step)
            return [*(x - floor for x in seen), slow - floor, floor / 3 - 1], floor, floor
        if self.target == "db":
            low = by_chain(self.floor, now.amin(2, keepdim=True), step)
            reach = (-by_chain(self.floor, -now.amax(2, keepdim=True), step) - low).clamp_min(NARROWEST)
            return [((x - low) / reach).clamp(0, 1) for x in seen], low, reach
        middle, reach = (now.new_full((1, 1, 1), v) for v in PLAIN)
        return [(x - middle) / reach for x in seen], middle, reach

    def decay(self, seconds: float) -> float:
        """Share of a running mean that stays from one frame of a chain to the next."""
        return 1 - self.period_s / seconds

    @property
    def drift(self) -> float:
        """How far a forgotten floor rises from one frame of a chain to the next."""
        return DRIFT * self.period_s

    def floor(self, x: torch.Tensor) -> torch.Tensor:
        return running_floor(x, self.drift)

    def core(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Planes ``[chosen, batch, columns, planes]`` -> ``[chosen, batch, columns, values]``."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = x + self.place
        for block in self.memory:
            x = block(x, step)
        for k, merge in enumerate(self.merge):
            x = merged(merge, x, skips.pop())
            if k < len(self.up):
                x = F.relu(self.up[k](x)).reshape(*x.shape[:2], x.shape[2] * self.strides[-1 - k], -1)
        return self.out(patches(x, 3, 1)).float().reshape(*x.shape[:2], self.columns, self.values)

    def gains(self, raw: torch.Tensor, now: torch.Tensor, low: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
        """The network's output as a gain for every column."""
        if self.target == "mask":
            return torch.sigmoid(raw)
        if self.target == "db":
            share = ((now - low) / reach).clamp(END, 1 - END)
            shift = reach * (torch.sigmoid(raw + torch.logit(share)) - share)
            return torch.exp(LN10 * shift.clamp_max(LOUDER))
        return torch.exp(-LN10 * F.softplus(raw))


def by_chain(run, x: torch.Tensor, step: int) -> torch.Tensor:
    """``run`` over the four interleaved chains of ``[batch, frames, columns]`` (step 1), or over one (step 4)."""
    if step == CHAINS:
        return run(x)
    batch, frames, _ = x.shape
    rows = F.pad(x, (0, 0, 0, -frames % CHAINS)).unflatten(1, (-1, CHAINS)).transpose(1, 2).flatten(0, 1)
    return run(rows).unflatten(0, (batch, CHAINS)).transpose(1, 2).flatten(1, 2)[:, :frames]


def running_mean(x: torch.Tensor, decay: float) -> torch.Tensor:
    """Exponential mean over the frames of a chain; early ones are means of what has come so far."""
    at = torch.arange(x.shape[1], device=x.device)
    age = at[:, None] - at
    weights = torch.where(age >= 0, decay ** age.clamp_min(0), 0.0)
    return (weights / weights.sum(1, keepdim=True)) @ x


def running_floor(x: torch.Tensor, drift: float) -> torch.Tensor:
    """The lowest so far, forgotten by rising a little each frame: ``floor[t] = min(x[t], floor[t - 1] + drift)``."""
    rise = drift * torch.arange(x.shape[1], device=x.device)[:, None]
    return (x - rise).cummin(1).values + rise
