"""Recurrent blocks: GRUs over time whose rows are sub-bands, and one for everything below 1 kHz.

Their state is dilated by 16 ms (arXiv 1710.02224), which are four frames of 4 ms: the state at frame t comes from frame
t - 4. Windows overlap by 75 %, so four interleaved chains each hear all of the sound; a chain covers four times as long
in the same number of steps, and training may evaluate one chain alone, every fourth frame, for a quarter of the work.
Where frames stand 8 ms apart there are two chains.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rtdenoise.geometry import Framing
from rtdenoise.training.networks.gru_kernel import Recurrence
from rtdenoise.training.spectra import NOTHING, past

CHAINS = 4  # The dilation in frames, where a hop lasts 4 ms.
FINE_BANDS = 16  # Bands of 250 Hz each, from 0 to 4 kHz, with a state of their own.
PITCH_HZ = 1000  # All below is heard together, in sub-bands of 15.6 Hz.
PITCH_ROWS = 4  # These bins are this many rows of the first level.
PITCH_MS = 64  # So long are the windows that stand side by side.
PITCH_BANDS = PITCH_HZ * PITCH_MS // 1000


class DilatedGRU(nn.Module):
    """A GRU whose state at frame t comes from ``chains`` frames ago: so many chains with the same weights. Rows are
    independent."""

    def __init__(self, channels: int, chains: int = CHAINS):
        super().__init__()
        self.chains = chains
        self.input, self.hidden = nn.Linear(channels, 3 * channels), nn.Linear(channels, 3 * channels)
        nn.init.uniform_(self.input.weight, -(channels**-0.5), channels**-0.5)
        nn.init.orthogonal_(self.hidden.weight)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """``[frames, rows, channels]`` of every frame (step 1) or of one chain alone (step ``chains``)."""
        frames, rows, channels = x.shape
        if step != self.chains:  # chains are rows of their own
            x = F.pad(x, (0, 0, 0, 0, 0, -frames % self.chains)).view(-1, self.chains * rows, channels)
        layers = (self.input, self.hidden)
        y = Recurrence.apply(x, *(p for layer in layers for p in (layer.weight, layer.bias)))
        return y.view(-1, rows, channels)[:frames]


class DualPathGRU(nn.Module):
    """One bottleneck block on ``[frames, batch, sub-bands, channels]``: over time, then across sub-bands."""

    def __init__(self, channels: int, hidden: int, bands: int, chains: int = CHAINS):
        super().__init__()
        self.norm, self.gru = nn.LayerNorm(channels), DilatedGRU(channels, chains)
        self.out = nn.Linear(channels, channels)
        self.narrow, self.widen = nn.Linear(bands * channels, hidden), nn.Linear(hidden, bands * channels)

    def forward(self, y: torch.Tensor, step: int) -> torch.Tensor:
        y = y + self.out(self.gru(self.norm(y).flatten(1, 2), step)).view(y.shape)
        return y + self.widen(F.relu(self.narrow(y.flatten(2)))).view(y.shape)


class SubbandGRU(nn.Module):
    """Each low sub-band of the first level hears its own past; ``[frames, batch, sub-bands, channels]``. Harmonics and
    most of what a filter gets wrong lie there, where the bottleneck's sub-bands are too wide to tell them apart."""

    def __init__(self, channels: int, chains: int = CHAINS):
        super().__init__()
        self.place = nn.Parameter(torch.randn(FINE_BANDS, channels) * 0.02)
        self.gru, self.out = DilatedGRU(channels, chains), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        low, rest = x.split((FINE_BANDS, x.shape[2] - FINE_BANDS), 2)
        y = self.out(self.gru((low + self.place).flatten(1, 2), step)).view(low.shape)
        return torch.cat([low + y, rest], 2)


class LowBandGRU(nn.Module):
    """Everything below 1 kHz heard together, in sub-bands of 15.6 Hz, with a memory of its own.

    There lies most of a voice's energy, and of what a filter gets wrong; one window of 16 ms cannot tell the harmonics
    of a voice apart, several side by side can (`sub_bands`), and seen all at once they are a pitch. What it knows goes
    into the first level's rows and directly into the logits of their gains and filters.
    """

    def __init__(self, channels: int, width: int, chains: int = CHAINS):
        super().__init__()
        self.rows = nn.Linear(PITCH_ROWS * channels, width)
        self.bands = nn.Linear(PITCH_BANDS, width)
        self.gru, self.out = DilatedGRU(width, chains), nn.Linear(width, PITCH_ROWS * channels)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, bands: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first level ``[frames, batch, 32, channels]`` and sub-bands ``[frames, batch, 64]`` -> the level with
        what is remembered, and that itself, ``[frames, batch, width]``."""
        low, rest = x.split((PITCH_ROWS, x.shape[2] - PITCH_ROWS), 2)
        heard = F.relu(self.rows(low.flatten(2)) + self.bands(bands))
        known = heard + self.gru(heard, step)
        return torch.cat([low + self.out(known).view(low.shape), rest], 2), known


def side_by_side(framing: Framing) -> tuple[int, ...]:
    """The frames, counted back from now, whose windows stand side by side and last 64 ms together."""
    return tuple(range(0, round(PITCH_MS / framing.hop_ms), framing.overlap))


@torch.no_grad()
def sub_bands(low: torch.Tensor, scale: torch.Tensor, start: int, step: int, framing: Framing) -> torch.Tensor:
    """Sizes of the sub-bands of all bins below 1 kHz, ``[chosen, batch, 64]``, those of a bin side by side: a Fourier
    transform over windows that stand side by side splits a bin. ``low`` and ``scale`` as `UNet.seen` has them."""
    frames = side_by_side(framing)
    bins = PITCH_BANDS // len(frames)
    z = torch.view_as_real(low[..., :bins]) * scale[..., :bins, None]
    beside = torch.view_as_complex(torch.stack(past(z, frames, start, step), 3))
    split = torch.fft.fft(beside, norm="ortho")
    return (split.real**2 + split.imag**2 + NOTHING).sqrt().flatten(2).transpose(0, 1)
