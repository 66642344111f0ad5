"""U-Net: the default model `unet` and, with longer windows and look-ahead, `studio`.

It sees 0-8 kHz bin by bin, 8-24 kHz in 32 bands. Encoder over frequency only (32 rows of 250 Hz, then 16, then 8
sub-bands; a row holds four bins of a 16 ms window, or eight of a 32 ms one), a small memory for each of the low 16 of
the 32 and one for all that lies below 1 kHz, two blocks of memory at the bottleneck (a GRU over time that all sub-bands
share, then a mix across sub-bands), decoder with skips back to the bins. It ends in complex filter taps: every bin
becomes a weighted sum of its own last five spectra (deep filtering, arXiv 1904.08369), which separates harmonics that
one window cannot. A gain between 0 and 1 stands beside the filter and hushes it where it is sure, so that clean speech
passes untouched and noise alone ends in silence. A small head gives gains for the bands above 8 kHz. What the encoder
sees is divided by a running level: loud and soft recordings look the same. All between the first and the last layer
means the same in time and frequency at any hop.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rtdenoise.errors import UsageError
from rtdenoise.geometry import Framing
from rtdenoise.model.contract import HOPS_MS, model_bins
from rtdenoise.training.networks.deep_filter import LOGITS, TAPS, filtered
from rtdenoise.training.networks.memory import (
    CHAINS,
    PITCH_ROWS,
    DilatedGRU,
    DualPathGRU,
    LowBandGRU,
    SubbandGRU,
    sub_bands,
)
from rtdenoise.training.spectra import COMPRESSION, NOTHING, compressor, past

HOP_MS = 4  # Numbers of frames below are of this hop.
ROWS = 32  # The first level's, of 250 Hz each.
BANDS = 32  # Of 0.5 kHz each, above 8 kHz.
CONTEXT = (0, 1, 2, 3, 4, 6, 8, 12)  # The frames that the encoder sees, counted back from now.
BAND_CONTEXT = (0, 2, 4, 8)  # The frames of band energies that the head sees.
BAND_FLOOR = 1e-12  # A power of -120 dB.
# In use a band's gain of 0.7 becomes 1 and one of 0.03 becomes 0; training needs the slopes.
SURE, NEGLIGIBLE = 1.5, 0.05
LEVEL_MS = 1000  # The time constant of the running level.
LEVEL_FLOOR = 0.01  # Of the compressed level: about -105 dBFS.
SUB_BANDS = 8  # At the bottleneck each has 1 kHz.
USUAL_LEVEL = 0.086  # The input is brought to this level, that of speech at -28 dBFS.


class Patches(torch.autograd.Function):
    """`patches`; written out because the backward pass of torch's ``unfold`` is what a step would wait for."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
        outer, (bins, channels) = x.shape[:-2], x.shape[-2:]
        ctx.edge, ctx.blocks, ctx.stride = (kernel - stride) // 2, kernel // stride, stride
        padded = F.pad(x.reshape(-1, bins, channels), (0, 0, ctx.edge, ctx.edge))
        rows, length, count = padded.shape[0], padded.shape[1], bins // stride
        seen = padded.as_strided((rows, count, kernel * channels), (length * channels, stride * channels, 1))
        return seen.reshape(*outer, count, kernel * channels)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        outer, count, width = grad.shape[:-2], grad.shape[-2], grad.shape[-1] // ctx.blocks
        parts = grad.reshape(-1, count, ctx.blocks, width)
        total = grad.new_zeros(parts.shape[0], count + ctx.blocks - 1, width)
        for k in range(ctx.blocks):
            total[:, k : k + count] += parts[:, :, k]
        bins = count * ctx.stride
        inner = total.view(len(total), -1, width // ctx.stride)[:, ctx.edge :][:, :bins]
        return inner.reshape(*outer, bins, -1), None, None


def patches(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """``[..., bins, channels]`` -> ``[..., bins / stride, kernel * channels]``: what a convolution along bins sees.

    ``kernel`` is a multiple of ``stride``. A matrix product over patches trains twice as fast on a CPU as torch's
    convolution over so few channels.
    """
    return Patches.apply(x, kernel, stride)


def as_convolution(weight: np.ndarray, kernel: int) -> np.ndarray:
    """Weights on `patches` as those of a convolution over ``[batch, channels, 1, bins]``."""
    return np.ascontiguousarray(weight.reshape(len(weight), kernel, 1, -1).transpose(0, 3, 2, 1))


class Down(nn.Module):
    """Convolution along bins with a stride: ``[..., bins, a]`` -> ``[..., bins / stride, b]``."""

    def __init__(self, a: int, b: int, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.linear, self.norm = nn.Linear(kernel * a, b), nn.BatchNorm1d(b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.of_patches(patches(x, self.kernel, self.stride))

    def of_patches(self, seen: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.linear(seen))
        return self.norm(x.flatten(0, -2)).view(x.shape)

    def convolution(self) -> np.ndarray:
        return as_convolution(self.linear.weight.detach().numpy(), self.kernel)


def merged(layer: Any, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """A linear ``layer`` of both side by side, after a ReLU."""
    mine, other = layer.weight.split(x.shape[-1], 1)
    return F.relu(F.linear(x, mine, layer.bias) + F.linear(skip, other))


def at_hop(frames: tuple[int, ...], hop_ms: float) -> tuple[int, ...]:
    """Frames of 4 ms, counted back from now, as those of another hop; what falls between two of them is left out."""
    wide = round(hop_ms / HOP_MS)
    return tuple(k // wide for k in frames if k % wide == 0)


class UNet(nn.Module):
    """Complex spectra ``[batch, frames, bins]`` -> enhanced spectra of frames ``start::step`` (step 1, or 16 ms).

    ``hop_ms`` is a quarter of a window. With ``look_ahead`` the result at a frame is that of so many frames before.
    """

    zero_init_modules = ("pitch", "pitch_taps")  # They give zero until they are trained.
    output_layers = ("place", "taps", "gain", "pitch_taps", "head_out")

    def __init__(
        self,
        channels: tuple[int, int, int] = (32, 64, 96),
        across: tuple[int, ...] = (96, 192),
        pitch: int = 128,
        head: int = 96,
        hop_ms: float = HOP_MS,
        look_ahead: int = 0,
    ):
        super().__init__()
        if hop_ms not in HOPS_MS or not 0 <= look_ahead < TAPS:
            raise UsageError(f"hop_ms {hop_ms:g}, look_ahead {look_ahead}: use one of {HOPS_MS}, and 0 to {TAPS - 1}")
        a, b, c = channels
        self.framing = Framing(hop_ms, look_ahead=look_ahead)
        # Bins up to 8 kHz: the last has no column of its own and shares the taps of the one below. All: up to 24 kHz.
        self.low_bins, self.bins = model_bins(self.framing)
        self.context, self.band_context = (at_hop(frames, hop_ms) for frames in (CONTEXT, BAND_CONTEXT))
        self.level_decay = 1 - hop_ms / LEVEL_MS
        self.training_step = chains = round(CHAINS * HOP_MS / hop_ms)
        self.wide = wide = (self.low_bins - 1) // ROWS
        first = Down(2 * len(self.context), a, 2 * wide, wide)
        self.down = nn.ModuleList([first, Down(a, b, 4, 2), Down(b, c, 4, 2)])
        self.fine = SubbandGRU(a, chains)
        self.pitch = LowBandGRU(a, pitch, chains)
        self.place = nn.Parameter(torch.randn(SUB_BANDS, c) * 0.02)  # tells the shared GRU which sub-band it hears
        self.memory = nn.ModuleList(DualPathGRU(c, hidden, SUB_BANDS, chains) for hidden in across)
        self.merge = nn.ModuleList(nn.Linear(2 * k, k) for k in (c, b, a))
        self.up = nn.ModuleList([nn.Linear(c, 2 * b), nn.Linear(b, 2 * a)])
        self.taps = nn.Linear(3 * a, wide * (LOGITS - 1))  # three rows -> the bins of one
        nn.init.normal_(self.taps.weight, std=0.02)
        self.gain = nn.Linear(3 * a, wide)
        nn.init.normal_(self.gain.weight, std=0.02)
        nn.init.zeros_(self.taps.bias)
        nn.init.zeros_(self.gain.bias)  # begin as half the input
        self.pitch_taps = nn.Linear(pitch, PITCH_ROWS * wide * LOGITS, bias=False)  # gains first, as in `core`
        nn.init.zeros_(self.pitch_taps.weight)
        self.kept = 0.0
        self.head_core = nn.Linear(SUB_BANDS * c, head)
        self.head_bands = nn.Linear(BANDS * len(self.band_context), head)
        self.head_gru = DilatedGRU(head, chains)
        self.head_out = nn.Linear(head, BANDS)
        self.spread: torch.Tensor
        self.register_buffer("spread", band_shapes(self.bins - self.low_bins))
        self.set_stage("core")

    def set_stage(self, stage: str) -> None:
        """``core``: 0-8 kHz, trained at 16 kHz. ``bands``: the head above it alone, at 48 kHz, the core frozen."""
        self._bands_only = stage == "bands"
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith("head_") == self._bands_only)
        self.train(self.training)

    def keep_input(self, share: float) -> None:
        """From now on give ``share`` of the input and the rest of what was learnt.

        A network that takes away too much sounds better with a little of the noise left than with holes in the voice.
        """
        self.kept = share

    def train(self, mode: bool = True) -> UNet:
        super().train(mode)
        if self._bands_only:
            self.down.eval()  # a frozen core keeps its statistics
        return self

    def loss_target(self, estimate: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The part of estimate and target that the loss of this stage compares."""
        part = slice(self.low_bins, None) if self._bands_only else slice(0, self.low_bins)
        return estimate[..., part], target[..., part]

    @torch.no_grad()
    def seen(self, low: torch.Tensor, scale: torch.Tensor, start: int, step: int) -> torch.Tensor:
        """Complex ``[batch, frames, low bins]``, all but the last times ``scale`` -> what the first layer sees of the
        chosen frames and those before them, ``[chosen, batch, 32, contexts * kernel * 2]``."""
        z, kind = torch.view_as_real(low[..., :-1]), low.device.type
        first: Any = self.down[0]
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z.dtype
        edge, longest = (first.kernel - first.stride) // 2, max(self.context)
        padded = z.new_zeros(len(z), longest + z.shape[1], z.shape[2] + 2 * edge, 2, dtype=dtype)
        torch.mul(z, scale[..., None], out=padded[:, longest:, edge:-edge])
        batch, frames, bins = z.shape[:3]
        count, (clip, frame, column, _) = len(range(start, frames, step)), padded.stride()
        out = z.new_empty(count, batch, bins // first.stride, len(self.context), 2 * first.kernel)
        for k, ago in enumerate(self.context):
            here = (longest - ago + start) * frame
            out[:, :, :, k] = padded.as_strided(
                (count, batch, bins // first.stride, 2 * first.kernel),
                (step * frame, clip, first.stride * column, 1),
                here,
            )
        return out.flatten(3)

    def core(self, low: torch.Tensor, scale: torch.Tensor, start: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Complex ``[batch, frames, low bins]`` and their ``scale`` (see `seen`) -> what `filtered` makes gains and
        filters of, ``[chosen, batch, 32, 11 * bins of a row]``, and the bottleneck ``[chosen, batch, 8 c]``. Time comes
        first, so that a memory's rows lie side by side."""
        first: Any = self.down[0]
        x = self.fine(first.of_patches(self.seen(low, scale, start, step)), step)
        x, known = self.pitch(x, sub_bands(low, scale, start, step, self.framing), step)
        skips = [x]
        for down in self.down[1:]:
            x = down(x)
            skips.append(x)
        y = x + self.place
        for block in self.memory:
            y = block(y, step)
        x = y
        for k, merge in enumerate(self.merge):
            x = merged(merge, x, skips.pop())
            if k < len(self.up):
                x = F.relu(self.up[k](x)).reshape(*x.shape[:2], 2 * x.shape[2], -1)
        weight, bias = (torch.cat(v) for v in ((self.gain.weight, self.taps.weight), (self.gain.bias, self.taps.bias)))
        raw = F.linear(patches(x, 3, 1), weight, bias).float()
        raw[:, :, :PITCH_ROWS] += self.pitch_taps(known).float().unflatten(2, (PITCH_ROWS, -1))
        return raw, y.flatten(2)

    def band_gains(
        self, high: torch.Tensor, factor: torch.Tensor, bottleneck: torch.Tensor, start: int, step: int
    ) -> torch.Tensor:
        """Complex ``[batch, frames, high bins]`` and the ``factor`` of its frames -> gains 0 to 1 of the chosen frames,
        ``[batch, chosen, high bins]``."""
        power = (high.real**2 + high.imag**2).unflatten(2, (BANDS, -1)).mean(3)
        loud = (power + BAND_FLOOR) ** (COMPRESSION / 2) * factor[..., None]
        bands = torch.cat(past(loud, self.band_context, start, step), 2).transpose(0, 1)
        x = F.relu(self.head_core(bottleneck) + self.head_bands(bands))
        gains = torch.sigmoid(self.head_out(x + self.head_gru(x, step))).float()
        if not self.training:
            gains = (SURE * gains - NEGLIGIBLE).clamp(0, 1)
        return torch.matmul(gains, self.spread).transpose(0, 1)

    def forward(self, spectra: torch.Tensor, start: int = 0, step: int = 1) -> torch.Tensor:
        low, high = spectra[..., : self.low_bins], spectra[..., self.low_bins :]
        scale, factor = scales(low[..., :-1], self.level_decay)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._bands_only):
            raw, bottleneck = self.core(low, scale * factor[..., None], start, step)
        ahead = self.framing.look_ahead
        out = filtered(torch.view_as_real(low.contiguous()), raw, start, step, self.kept, ahead)
        if high.shape[2]:
            gains = self.band_gains(high, factor, bottleneck, start, step)
            out = torch.cat([out, past(high, (ahead,), start, step)[0] * gains], 2)
        return out


@torch.no_grad()
def scales(spectra: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Complex ``[batch, frames, bins]`` -> what compresses each bin, as `spectra.compressed` has it, ``[batch, frames,
    bins]``, and what brings a frame's compressed bins to the usual level, ``[batch, frames]``."""
    power = spectra.real**2 + spectra.imag**2
    scale = compressor(power)
    return scale, USUAL_LEVEL / running_level((power * scale**2 + NOTHING).sqrt().mean(2), decay)


def running_level(size: torch.Tensor, decay: float) -> torch.Tensor:
    """Mean size of a frame's bins, ``[batch, frames]``, over about the last second.

    Early frames are means of what has come so far, not of silence before it.
    """
    frames = size.shape[1]
    age = torch.arange(frames, device=size.device)[:, None] - torch.arange(frames, device=size.device)
    share = torch.where(age >= 0, decay ** age.clamp_min(0), 0.0)
    return size @ (share / share.sum(1, keepdim=True)).T + LEVEL_FLOOR


def band_shapes(bins: int) -> torch.Tensor:
    """``[32, bins]``: band gains to bin gains, straight lines between the bands' centres."""
    at = ((torch.arange(bins) + 0.5) * BANDS / bins - 0.5).clamp(0, BANDS - 1)
    return (1 - (at - torch.arange(BANDS)[:, None]).abs()).clamp_min(0)
