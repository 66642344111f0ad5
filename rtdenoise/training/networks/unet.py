"""U-Net: the default model. Sees 0-8 kHz bin by bin, 8-24 kHz in 16 bands.

Encoder over frequency only (128 bins -> 32 -> 16 -> 8 sub-bands), two blocks of memory at the bottleneck (a GRU over
time that all sub-bands share, then a mix across sub-bands), decoder with skips back to the bins. It ends in complex
filter taps: every bin becomes a weighted sum of its own last five spectra (deep filtering, arXiv 1904.08369), which
separates harmonics that one 16 ms window cannot. A gain between 0 and 1 stands beside the filter and hushes it where it
is sure, so that clean speech passes untouched and noise alone ends in silence. A small head gives gains for the bands
above 8 kHz. What the encoder sees is divided by a running level: loud and soft recordings look the same.

Memory is dilated by four frames (arXiv 1710.02224): the state at frame t comes from frame t - 4. Frames stand 4 ms
apart and overlap by 75 %, so four interleaved chains each hear all of the sound; a chain remembers four times as long
for the same number of steps, and training may evaluate one chain alone, every fourth frame, for a quarter of the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rtdenoise.training.spectra import compressed, deep_filtered, past

LOW_BINS = 129  # 0 to 8 kHz; the last has no column of its own and shares the taps of the one below
ALL_BINS = 385  # to 24 kHz
BANDS = 16  # of 16 bins, 1 kHz each, above LOW_BINS
CHAINS = 4  # dilation of the memory, frames
CONTEXT = (0, 1, 2, 3, 4, 6, 8, 12)  # frames the encoder sees, counted back from now
TAPS = 5  # spectra that each bin's filter combines
BAND_CONTEXT = (0, 2, 4, 8)  # frames of band energies the head sees
SUB_BANDS = 8
BAND_FLOOR = 1e-12  # power, -120 dB
LEVEL_DECAY = 1 - 0.004 / 1.0  # of the running level: one second, in hops of 4 ms
LEVEL_FLOOR = 0.01  # of the compressed level: about -105 dBFS
USUAL_LEVEL = 0.086  # of speech at -28 dBFS; what the input is brought to
NOTHING = 1e-12  # power; keeps square roots away from zero


def patches(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """``[..., bins, channels]`` -> ``[..., bins / stride, channels * kernel]``: what a convolution along bins sees.

    A matrix product over patches trains twice as fast on a CPU as torch's convolution over so few channels.
    """
    edge = (kernel - stride) // 2
    padded = F.pad(x, (0, 0, edge, edge))
    return padded.unfold(-2, kernel, stride).reshape(*x.shape[:-2], x.shape[-2] // stride, x.shape[-1] * kernel)


class DilatedGRU(nn.Module):
    """A GRU whose state at frame t comes from frame t - 4: four chains with the same weights. Rows are independent.

    Written out, because torch's own fills gradients of full size at every time step on a CPU.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.input, self.hidden = nn.Linear(channels, 3 * channels), nn.Linear(channels, 3 * channels)
        nn.init.uniform_(self.input.weight, -(channels**-0.5), channels**-0.5)
        nn.init.orthogonal_(self.hidden.weight)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """``[rows, frames, channels]`` of every frame (step 1) or of one chain alone (step 4)."""
        if step == CHAINS:
            return self.chain(x)
        rows, frames, channels = x.shape
        x = F.pad(x, (0, 0, 0, -frames % CHAINS)).view(rows, -1, CHAINS, channels).transpose(1, 2)
        y = self.chain(x.reshape(rows * CHAINS, -1, channels)).view(rows, CHAINS, -1, channels)
        return y.transpose(1, 2).reshape(rows, -1, channels)[:, :frames]

    def chain(self, x: torch.Tensor) -> torch.Tensor:
        channels, out = x.shape[2], []
        state = x.new_zeros(x.shape[0], channels)
        for given in self.input(x.transpose(0, 1)).unbind(0):
            given_gates, given_new = given.split((2 * channels, channels), 1)
            gates, new = self.hidden(state).split((2 * channels, channels), 1)
            reset, keep = torch.sigmoid(given_gates + gates).chunk(2, 1)
            state = torch.lerp(torch.tanh(given_new + reset * new), state, keep)
            out.append(state)
        return torch.stack(out, 1)


class Down(nn.Module):
    """Convolution along bins with a stride: ``[..., bins, a]`` -> ``[..., bins / stride, b]``."""

    def __init__(self, a: int, b: int, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.linear, self.norm = nn.Linear(kernel * a, b), nn.BatchNorm1d(b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.linear(patches(x, self.kernel, self.stride)))
        return self.norm(x.flatten(0, -2)).view(x.shape)


class Memory(nn.Module):
    """One bottleneck block on ``[batch, frames, sub-bands, channels]``: over time, then across sub-bands."""

    def __init__(self, channels: int, hidden: int, bands: int = SUB_BANDS):
        super().__init__()
        self.norm, self.gru, self.out = nn.LayerNorm(channels), DilatedGRU(channels), nn.Linear(channels, channels)
        self.narrow, self.widen = nn.Linear(bands * channels, hidden), nn.Linear(hidden, bands * channels)

    def forward(self, y: torch.Tensor, step: int) -> torch.Tensor:
        batch, frames, bands, channels = y.shape
        x = self.norm(y).transpose(1, 2).reshape(batch * bands, frames, channels)
        y = y + self.out(self.gru(x, step)).view(batch, bands, frames, channels).transpose(1, 2)
        return y + self.widen(F.relu(self.narrow(y.flatten(2)))).view(y.shape)


class UNet(nn.Module):
    """Complex spectra ``[batch, frames, 129 or 385]`` -> enhanced spectra of frames ``start::step`` (step 1 or 4)."""

    bins = ALL_BINS
    training_step = CHAINS
    output_layers = ("place", "taps", "gain", "head_out")

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 96), blocks: int = 2, across: int = 2, head: int = 64):
        super().__init__()
        a, b, c = channels
        self.down = nn.ModuleList([Down(2 * len(CONTEXT), a, 8, 4), Down(a, b, 4, 2), Down(b, c, 4, 2)])
        self.place = nn.Parameter(torch.randn(SUB_BANDS, c) * 0.02)  # tells the shared GRU which sub-band it hears
        self.memory = nn.ModuleList(Memory(c, across * c) for _ in range(blocks))
        self.merge = nn.ModuleList(nn.Linear(2 * k, k) for k in (c, b, a))
        self.up = nn.ModuleList([nn.Linear(c, 2 * b), nn.Linear(b, 2 * a)])
        self.taps = nn.Linear(3 * a, 4 * 2 * TAPS)  # three sub-bands -> four bins
        nn.init.normal_(self.taps.weight, std=0.02)
        self.gain = nn.Linear(3 * a, 4)
        nn.init.normal_(self.gain.weight, std=0.02)
        nn.init.zeros_(self.taps.bias)
        nn.init.zeros_(self.gain.bias)  # begin as half the input
        self.kept = 0.0
        self.head_core = nn.Linear(SUB_BANDS * c, head)
        self.head_bands = nn.Linear(BANDS * len(BAND_CONTEXT), head)
        self.head_gru = DilatedGRU(head)
        self.head_out = nn.Linear(head, BANDS)
        self.spread: torch.Tensor
        self.register_buffer("spread", band_shapes())
        self.set_stage("core")

    def set_stage(self, stage: str) -> None:
        """``core``: 0-8 kHz, trained at 16 kHz. ``bands``: the head above it alone, at 48 kHz, the core frozen."""
        self._bands_only = stage == "bands"
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith("head_") == self._bands_only)

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

    def judged(self, estimate: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The part of estimate and target that the loss of this stage compares."""
        part = slice(LOW_BINS, None) if self._bands_only else slice(0, LOW_BINS)
        return estimate[..., part], target[..., part]

    def core(self, low: torch.Tensor, start: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Complex ``[batch, frames, 129]`` -> filters ``[batch, chosen, 129, TAPS, 2]``, bottleneck ``[.., 8 c]``."""
        z = torch.view_as_real(compressed(low[..., :-1]))
        z = z * (USUAL_LEVEL / running_level(z))
        x, skips = torch.cat(past(z, CONTEXT, start, step), 3), []
        for down in self.down:
            x = down(x)
            skips.append(x)
        y = x + self.place
        for block in self.memory:
            y = block(y, step)
        x = y
        for k, merge in enumerate(self.merge):
            x = F.relu(merge(torch.cat([x, skips.pop()], 3)))
            if k < len(self.up):
                x = F.relu(self.up[k](x)).reshape(*x.shape[:2], 2 * x.shape[2], -1)
        x = patches(x, 3, 1)
        gain = torch.sigmoid(self.gain(x)).reshape(*x.shape[:2], LOW_BINS - 1, 1, 1)
        unsure = 4 * gain * (1 - gain)
        taps = self.taps(x).reshape(*x.shape[:2], LOW_BINS - 1, TAPS, 2) * unsure
        untouched = torch.eye(2 * TAPS, device=x.device)[0].view(TAPS, 2)  # this frame's spectrum as it is
        taps = taps + gain * untouched
        if self.kept:
            taps = taps * (1 - self.kept) + self.kept * untouched
        return torch.cat([taps, taps[:, :, -1:]], 2), y.flatten(2)

    def band_gains(self, high: torch.Tensor, bottleneck: torch.Tensor, start: int, step: int) -> torch.Tensor:
        """Complex ``[batch, frames, 256]`` -> gains 0 to 1 of the chosen frames, ``[batch, chosen, 256]``."""
        power = (high.real**2 + high.imag**2).unflatten(2, (BANDS, -1)).mean(3)
        bands = torch.cat(past((power + BAND_FLOOR) ** 0.15, BAND_CONTEXT, start, step), 2)
        x = F.relu(self.head_core(bottleneck) + self.head_bands(bands))
        x = x + self.head_gru(x, step)
        return torch.matmul(torch.sigmoid(self.head_out(x)), self.spread)

    def forward(self, spectra: torch.Tensor, start: int = 0, step: int = 1) -> torch.Tensor:
        low, high = spectra[..., :LOW_BINS], spectra[..., LOW_BINS:]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._bands_only):
            taps, bottleneck = self.core(low, start, step)
        frames = past(torch.view_as_real(low), tuple(range(TAPS)), start, step)
        out = deep_filtered(frames, taps)
        if high.shape[2]:
            gains = self.band_gains(high, bottleneck, start, step)
            out = torch.cat([out, high[:, start::step] * gains], 2)
        return out


def running_level(z: torch.Tensor) -> torch.Tensor:
    """``[batch, frames, bins, 2]`` -> mean size of the bins over about the last second, ``[batch, frames, 1, 1]``.

    Early frames are means of what has come so far, not of silence before it.
    """
    size, frames = (z.square().sum(3) + NOTHING).sqrt().mean(2), z.shape[1]
    age = torch.arange(frames, device=z.device)[:, None] - torch.arange(frames, device=z.device)
    share = torch.where(age >= 0, LEVEL_DECAY ** age.clamp_min(0), 0.0)
    return (size @ (share / share.sum(1, keepdim=True)).T)[..., None, None] + LEVEL_FLOOR


def band_shapes() -> torch.Tensor:
    """``[16, 256]``: band gains to bin gains, straight lines between the bands' centres."""
    bins = ALL_BINS - LOW_BINS
    at = ((torch.arange(bins) + 0.5) * BANDS / bins - 0.5).clamp(0, BANDS - 1)
    return (1 - (at - torch.arange(BANDS)[:, None]).abs()).clamp_min(0)
