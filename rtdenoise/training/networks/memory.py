"""Recurrent blocks: GRUs over time whose rows are sub-bands, and one for everything below 1 kHz.

Their state is dilated by four frames (arXiv 1710.02224): the state at frame t comes from frame t - 4. Frames stand 4 ms
apart and overlap by 75 %, so four interleaved chains each hear all of the sound; a chain covers four times as long
in the same number of steps, and training may evaluate one chain alone, every fourth frame, for a quarter of the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rtdenoise.training.networks.gru_kernel import Recurrence
from rtdenoise.training.spectra import NOTHING, past

CHAINS = 4  # The dilation in frames.
FINE_BANDS = 16  # Bands of 250 Hz each, from 0 to 4 kHz, with a state of their own.
PITCH_BINS = 16  # 0 to 1 kHz, heard together in sub-bands of 15.6 Hz
PITCH_ROWS = 4  # These bins are this many rows of the first level.
PITCH_FRAMES = (0, 4, 8, 12)  # Counted back from now: four windows side by side.


class DilatedGRU(nn.Module):
    """A GRU whose state at frame t comes from frame t - 4: four chains with the same weights. Rows are independent."""

    def __init__(self, channels: int):
        super().__init__()
        self.input, self.hidden = nn.Linear(channels, 3 * channels), nn.Linear(channels, 3 * channels)
        nn.init.uniform_(self.input.weight, -(channels**-0.5), channels**-0.5)
        nn.init.orthogonal_(self.hidden.weight)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """``[frames, rows, channels]`` of every frame (step 1) or of one chain alone (step 4)."""
        frames, rows, channels = x.shape
        if step != CHAINS:  # chains are rows of their own
            x = F.pad(x, (0, 0, 0, 0, 0, -frames % CHAINS)).view(-1, CHAINS * rows, channels)
        layers = (self.input, self.hidden)
        y = Recurrence.apply(x, *(p for layer in layers for p in (layer.weight, layer.bias)))
        return y.view(-1, rows, channels)[:frames]


class DualPathGRU(nn.Module):
    """One bottleneck block on ``[frames, batch, sub-bands, channels]``: over time, then across sub-bands."""

    def __init__(self, channels: int, hidden: int, bands: int):
        super().__init__()
        self.norm, self.gru, self.out = nn.LayerNorm(channels), DilatedGRU(channels), nn.Linear(channels, channels)
        self.narrow, self.widen = nn.Linear(bands * channels, hidden), nn.Linear(hidden, bands * channels)

    def forward(self, y: torch.Tensor, step: int) -> torch.Tensor:
        y = y + self.out(self.gru(self.norm(y).flatten(1, 2), step)).view(y.shape)
        return y + self.widen(F.relu(self.narrow(y.flatten(2)))).view(y.shape)


class SubbandGRU(nn.Module):
    """Each low sub-band of the first level hears its own past; ``[frames, batch, sub-bands, channels]``. Harmonics and
    most of what a filter gets wrong lie there, where the bottleneck's sub-bands are too wide to tell them apart."""

    def __init__(self, channels: int):
        super().__init__()
        self.place = nn.Parameter(torch.randn(FINE_BANDS, channels) * 0.02)
        self.gru, self.out = DilatedGRU(channels), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        low, rest = x.split((FINE_BANDS, x.shape[2] - FINE_BANDS), 2)
        y = self.out(self.gru((low + self.place).flatten(1, 2), step)).view(low.shape)
        return torch.cat([low + y, rest], 2)


class LowBandGRU(nn.Module):
    """Everything below 1 kHz heard together, in sub-bands of 15.6 Hz, with a memory of its own.

    There lies most of a voice's energy, and of what a filter gets wrong; one window of 16 ms cannot tell the harmonics
    of a voice apart, four side by side can (`sub_bands`), and seen all at once they are a pitch. What it knows goes
    into the first level's rows and directly into the logits of their gains and filters.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.rows = nn.Linear(PITCH_ROWS * channels, width)
        self.bands = nn.Linear(PITCH_BINS * len(PITCH_FRAMES), width)
        self.gru, self.out = DilatedGRU(width), nn.Linear(width, PITCH_ROWS * channels)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, bands: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first level ``[frames, batch, 32, channels]`` and sub-bands ``[frames, batch, 64]`` -> the level with
        what is remembered, and that itself, ``[frames, batch, width]``."""
        low, rest = x.split((PITCH_ROWS, x.shape[2] - PITCH_ROWS), 2)
        heard = F.relu(self.rows(low.flatten(2)) + self.bands(bands))
        known = heard + self.gru(heard, step)
        return torch.cat([low + self.out(known).view(low.shape), rest], 2), known


@torch.no_grad()
def sub_bands(low: torch.Tensor, scale: torch.Tensor, start: int, step: int) -> torch.Tensor:
    """Sizes of four sub-bands in each of the lowest bins, ``[chosen, batch, 64]``: a Fourier transform over windows
    that stand side by side splits a bin. ``low`` and ``scale`` as `UNet.seen` has them."""
    z = torch.view_as_real(low[..., :PITCH_BINS]) * scale[..., :PITCH_BINS, None]
    beside = torch.view_as_complex(torch.stack(past(z, PITCH_FRAMES, start, step), 3))
    split = torch.fft.fft(beside, norm="ortho")
    return (split.real**2 + split.imag**2 + NOTHING).sqrt().flatten(2).transpose(0, 1)
