"""Gain and filter of the U-Net: its logits for a bin become that bin's spectrum. Deep filtering, arXiv 1904.08369.

Owns the last step, in which every bin becomes its own spectrum times a gain between 0 and 1, plus a weighted sum of its
own last `TAPS` spectra, hushed where the gain is sure (4 g (1 - g)). With look-ahead the gain is an earlier frame's,
and the filter combines later ones too. On a CPU one numba kernel does it forward and one back, instead of some fifty
passes over memory.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit

from rtdenoise.native.compilation import compiled

TAPS = 5  # Each bin's filter combines this many spectra.
LOGITS = 1 + 2 * TAPS  # A row of the network gives the gains of some bins, then the taps (re, im) of each.
ONE, TWO, FOUR = np.float32(1), np.float32(2), np.float32(4)


@njit(fastmath=True, inline="always")
def _gain(x):
    return ONE / (ONE + np.exp(-x))


@njit(inline="always")
def _home(bin, rows, wide):
    """Row and place in it that speak of a bin; of the last bin its neighbour's do."""
    spoken_of = min(bin, wide * rows - 1)
    return spoken_of // wide, spoken_of % wide


@njit(inline="always")
def _at(low, b, f, bin):
    """A bin in frame ``f``, re and im; nothing before the stream."""
    return (low[b, f, bin, 0], low[b, f, bin, 1]) if f >= 0 else (np.float32(0), np.float32(0))


@njit(fastmath=True, inline="always")
def _sum(taps, offset, low, b, f, bin):
    """What the filter whose taps begin at ``offset`` makes of a bin in frame ``f``."""
    re = im = np.float32(0)
    for k in range(min(TAPS, f + 1)):
        x, y = taps[offset + 2 * k], taps[offset + 2 * k + 1]
        re += x * low[b, f - k, bin, 0] - y * low[b, f - k, bin, 1]
        im += x * low[b, f - k, bin, 1] + y * low[b, f - k, bin, 0]
    return re, im


@compiled(fastmath=True, nogil=True)
def _forward(low, raw, start, step, ahead, out):
    steps, batch, rows = raw.shape[:3]
    wide = raw.shape[3] // LOGITS
    for b in range(batch):
        for t in range(steps):
            f = start + t * step
            for bin in range(wide * rows + 1):
                row, place = _home(bin, rows, wide)
                logits = raw[t, b, row]
                g = _gain(logits[place])
                re, im = _sum(logits, wide + 2 * TAPS * place, low, b, f, bin)
                own_re, own_im = _at(low, b, f - ahead, bin)
                u = FOUR * g * (ONE - g)
                out[b, t, bin, 0] = g * own_re + u * re
                out[b, t, bin, 1] = g * own_im + u * im


@compiled(fastmath=True, nogil=True)
def _backward(low, raw, start, step, ahead, grad, d_raw):
    steps, batch, rows = raw.shape[:3]
    wide = raw.shape[3] // LOGITS
    for b in range(batch):
        for t in range(steps):
            f = start + t * step
            for bin in range(wide * rows + 1):
                row, place = _home(bin, rows, wide)
                logits, answer, first = raw[t, b, row], d_raw[t, b, row], wide + 2 * TAPS * place
                d_re, d_im = grad[b, t, bin, 0], grad[b, t, bin, 1]
                g = _gain(logits[place])
                re, im = _sum(logits, first, low, b, f, bin)
                u = g * (ONE - g)
                own_re, own_im = _at(low, b, f - ahead, bin)
                along = d_re * own_re + d_im * own_im
                answer[place] += u * (along + FOUR * (ONE - TWO * g) * (d_re * re + d_im * im))
                u *= FOUR
                for k in range(min(TAPS, f + 1)):
                    x, y = low[b, f - k, bin, 0], low[b, f - k, bin, 1]
                    answer[first + 2 * k] += u * (d_re * x + d_im * y)
                    answer[first + 2 * k + 1] += u * (d_im * x - d_re * y)


class Filtered(torch.autograd.Function):
    """`filtered` by the kernels."""

    @staticmethod
    def forward(ctx, low: torch.Tensor, raw: torch.Tensor, start: int, step: int, ahead: int) -> torch.Tensor:
        ctx.save_for_backward(low, raw)
        ctx.frames = start, step, ahead
        out = low.new_empty(low.shape[0], raw.shape[0], low.shape[2], 2)
        _forward(low.numpy(), raw.detach().numpy(), start, step, ahead, out.numpy())
        return torch.view_as_complex(out)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        low, raw = ctx.saved_tensors
        d_raw = torch.zeros_like(raw)
        real = torch.view_as_real(grad.resolve_conj().contiguous()).numpy()
        start, step, ahead = ctx.frames
        _backward(low.numpy(), raw.numpy(), start, step, ahead, real, d_raw.numpy())
        return None, d_raw, None, None, None


def filtered(
    low: torch.Tensor, raw: torch.Tensor, start: int, step: int, kept: float = 0.0, ahead: int = 0
) -> torch.Tensor:
    """Real ``[batch, frames, bins, 2]`` after gain and filter, complex ``[batch, chosen, bins]``: the frames that stand
    ``ahead`` before the chosen ones.

    raw: ``[chosen, batch, rows, 11 * bins of a row]``; the last bin has no place of its own and takes what its
    neighbour takes. ``kept``: share of the input that is left in.
    """
    if low.device.type == "cpu" and raw.dtype == torch.float32 and not kept:
        return Filtered.apply(low, raw.contiguous(), start, step, ahead)
    wide = raw.shape[-1] // LOGITS
    logits = torch.cat([raw[..., :wide].unsqueeze(-1), raw[..., wide:].unflatten(-1, (wide, -1))], -1)
    logits = logits.flatten(2, 3).transpose(0, 1)  # [batch, chosen, bins - 1, 1 + 2 TAPS]
    logits = torch.cat([logits, logits[:, :, -1:]], 2)
    gain, taps = (
        torch.sigmoid(logits[..., 0]),
        torch.view_as_complex(logits[..., 1:].unflatten(-1, (TAPS, 2)).contiguous()),
    )
    taps = taps * (4 * gain * (1 - gain)).unsqueeze(-1)
    spectra = F.pad(torch.view_as_complex(low), (0, 0, TAPS - 1, 0)).unfold(1, TAPS, 1)[:, start::step].flip(-1)
    enhanced = gain * spectra[..., ahead] + (taps * spectra).sum(-1)
    return enhanced * (1 - kept) + spectra[..., ahead] * kept
