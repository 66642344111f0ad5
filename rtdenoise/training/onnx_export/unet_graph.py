"""One frame of the U-Net as ONNX nodes; the torch twin is `unet.UNet`, and export checks that they agree.

Spectra are planar here (``[batch, 2, bins]``). The encoder is convolutions, which onnxruntime runs fastest channels
first; from the bottleneck on, rows are sub-bands (``[batch * sub-bands, channels]``) and layers are matrix products.
Batch norms follow a ReLU, so they are folded into the weights that read them next.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rtdenoise.training.networks.deep_filter import LOGITS, TAPS
from rtdenoise.training.networks.memory import (
    FINE_BANDS,
    PITCH_ROWS,
    LowBandGRU,
    SubbandGRU,
    side_by_side,
)
from rtdenoise.training.networks.unet import (
    BAND_FLOOR,
    BANDS,
    LEVEL_FLOOR,
    NEGLIGIBLE,
    ROWS,
    SUB_BANDS,
    SURE,
    USUAL_LEVEL,
    as_convolution,
)
from rtdenoise.training.onnx_export.graph import END, Graph, array
from rtdenoise.training.onnx_export.memory_graph import Time, recurrent, remember
from rtdenoise.training.spectra import COMPRESSION, NOTHING


def states(net: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the states without the batch dimension; the oldest frame comes first."""
    channels, head, chains = net.place.shape[1], net.head_out.in_features, net.training_step
    ahead = net.framing.look_ahead
    return {
        "state_spectra": (TAPS - 1, 4, net.low_bins),
        "state_context": (max(net.context), 2, net.low_bins - 1),
        "state_fine": (chains, FINE_BANDS, net.fine.out.in_features),
        "state_pitch": (chains, 1, net.pitch.rows.out_features),
        **{f"state_memory_{k}": (chains, SUB_BANDS, channels) for k in range(len(net.memory))},
        "state_level": (2,),
        "state_bands": (max(net.band_context), BANDS),
        "state_head": (chains, 1, head),
        **({"state_high": (ahead, 2, net.bins - net.low_bins)} if ahead else {}),
    }


def describe(net: Any, g: Graph, noisy: str, now: list[str]) -> tuple[str, list[str]]:
    """noisy ``[batch, frames, bins, 2]`` to enhanced and the next states."""
    ahead, high_bins = net.framing.look_ahead, net.bins - net.low_bins
    before = dict(zip(states(net), now, strict=True))
    memory = [before[f"state_memory_{k}"] for k in range(len(net.memory))]
    time = Time.of(g, noisy, net.training_step)
    planar = g.op("Transpose", noisy, perm=[0, 1, 3, 2])
    low, high = g.op("Split", planar, g.shape(net.low_bins, high_bins), outputs=2, axis=3)
    columns = g.compressed(g.cut(low, 3, 0, net.low_bins - 1))
    columns, factor, level_next = _levelled(g, columns, before["state_level"], net.level_decay, time)
    frames = g.op("Concat", before["state_context"], columns, axis=1)
    skips, known, low_next = _encoder(net, g, frames, before["state_fine"], before["state_pitch"], time)
    y = g.op("Mul", skips[-1].rows, g.constant(skips[-1].scale))
    y = g.op("Reshape", y, g.shape(-1, SUB_BANDS, net.place.shape[1]))
    y = g.op("Add", y, g.constant(array(net.place) + skips[-1].shift))
    y = g.op("Reshape", y, g.shape(-1, net.place.shape[1]))
    memory_next = []
    for block, state in zip(net.memory, memory, strict=True):
        y, after = remember(block, g, y, state, time)
        memory_next.append(after)
    heard, spectra_next = g.past(g.turned(low), before["state_spectra"], TAPS - 1, range(TAPS - 1, -1, -1))
    gain, taps = _decoder(net, g, y, skips, known)
    filtered = g.weighted(g.op("Concat", *heard, axis=2), taps, TAPS, net.low_bins)
    gains, bands_next, head_next = _head(net, g, y, high, factor, before["state_bands"], before["state_head"], time)
    high_next = []
    if ahead:
        low = g.cut(heard[-1 - ahead], 2, 0, 2)  # of a spectrum and j times it, the first
        [high], later = g.past(high, before["state_high"], ahead, (ahead,))
        high_next = [later]
    out = g.op("Add", filtered, g.op("Mul", g.op("Reshape", low, g.shape(-1, 2, net.low_bins)), gain))
    gained = g.op("Mul", g.op("Reshape", high, g.shape(-1, 2, high_bins)), gains)
    rows = g.op("Transpose", g.op("Concat", out, gained, axis=2), perm=[0, 2, 1])
    enhanced = g.op("Reshape", rows, g.op("Concat", time.sizes, g.shape(net.bins, 2), axis=0))
    context_next = g.cut(frames, 1, -max(net.context), END)
    following = [spectra_next, context_next, *low_next, *memory_next, level_next, bands_next, head_next, *high_next]
    return enhanced, following


@dataclass(frozen=True)
class Skip:
    """An encoder level: rows ``[batch * bins, channels]``, and the scale and shift of a batch norm still to be done."""

    rows: str
    scale: np.ndarray
    shift: np.ndarray


def _encoder(net: Any, g: Graph, frames: str, fine: str, pitch: str, time: Time) -> tuple[list[Skip], str, list[str]]:
    """frames ``[batch, context + frames, 2, columns]``: the first convolution runs over time too and picks its context
    there. All levels, what the pitch memory knows, and the next states of the memories behind the first level."""
    skips: list[Skip] = []
    known = ""
    low_next: list[str] = []
    x = g.op("Transpose", frames, perm=[0, 2, 1, 3])
    bins = net.low_bins - 1
    for down in net.down:
        edge, bins = (down.kernel - down.stride) // 2, bins // down.stride
        place: dict[str, Any] = {"strides": [1, down.stride], "pads": [0, edge, 0, edge]}
        bias = array(down.linear.bias)
        if skips:  # a shift before a padded convolution is a bias that differs at the edges
            weight = down.convolution()
            before = torch.tensor(skips[-1].shift).view(1, -1, 1, 1).expand(1, -1, 1, bins * down.stride)
            reach = nn.functional.conv2d(before, torch.tensor(weight), stride=(1, down.stride), padding=(0, edge))
            y = g.op("Conv", x, g.constant(weight * skips[-1].scale[None, :, None, None]), **place)
            y = g.op("Add", y, g.constant(reach[0].numpy() + bias[:, None, None]))
        else:
            seen = array(down.linear.weight).reshape(len(bias), len(net.context), down.kernel, 2)
            over_time = np.zeros((len(bias), 2, max(net.context) + 1, down.kernel), np.float32)
            for k, ago in enumerate(net.context):
                over_time[:, :, max(net.context) - ago] = seen[:, k].swapaxes(1, 2)
            y = g.op("Conv", x, g.constant(over_time), g.constant(bias), **place)
        x = g.op("Relu", y)
        rows = g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 3, 1]), g.shape(-1, len(bias)))
        skip = Skip(rows, *g.folded(down.norm))
        if not skips:
            rows, fine_next = _fine(net.fine, g, skip, bins, fine, time)
            rows, known, pitch_next = _pitch(net, g, skip, rows, _sub_bands(net, g, frames), pitch, time)
            low_next = [fine_next, pitch_next]
            skip = Skip(g.op("Reshape", rows, g.shape(-1, len(bias))), skip.scale, skip.shift)
            whole = g.op("Concat", time.sizes, g.shape(bins, len(bias)), axis=0)
            x = g.op("Transpose", g.op("Reshape", rows, whole), perm=[0, 3, 1, 2])
        skips.append(skip)
    return skips, known, low_next


def _fine(fine: SubbandGRU, g: Graph, skip: Skip, bins: int, state: str, time: Time) -> tuple[str, str]:
    """The first level with what its low sub-bands remember, ``[batch * frames, bins, channels]``, and the next state.
    All of it before the batch norm, whose scale and shift are folded into the weights on both sides."""
    channels, scale = len(skip.scale), torch.tensor(skip.scale)
    x = g.op("Reshape", skip.rows, g.shape(-1, bins, channels))
    low, rest = g.op("Split", x, g.shape(FINE_BANDS, bins - FINE_BANDS), outputs=2, axis=1)
    heard = g.op("Add", low, g.constant((array(fine.place) + skip.shift) / skip.scale))
    gru = copy.deepcopy(fine.gru)
    gru.input.weight.data *= scale
    remembered, following = recurrent(gru, g, g.op("Reshape", heard, g.shape(-1, channels)), state, FINE_BANDS, time)
    added = g.gemm(remembered, array(fine.out.weight) / skip.scale[:, None], array(fine.out.bias) / skip.scale)
    added = g.op("Reshape", added, g.shape(-1, FINE_BANDS, channels))
    return g.op("Concat", g.op("Add", low, added), rest, axis=1), following


def _pitch(net: Any, g: Graph, skip: Skip, x: str, bands: str, state: str, time: Time) -> tuple[str, str, str]:
    """x as `_fine` gives it -> the same with the pitch memory's part, what that knows ``[batch * frames, width]``, and
    the next state; folded as there."""
    pitch: LowBandGRU = net.pitch
    channels, width = len(skip.scale), pitch.rows.out_features
    scale, shift = (np.tile(v, PITCH_ROWS) for v in (skip.scale, skip.shift))
    low, rest = g.op("Split", x, g.shape(PITCH_ROWS, ROWS - PITCH_ROWS), outputs=2, axis=1)
    both = g.op("Concat", g.op("Reshape", low, g.shape(-1, PITCH_ROWS * channels)), bands, axis=1)
    by_band = array(pitch.bands.weight).reshape(width, PITCH_ROWS * net.wide, -1).swapaxes(1, 2).reshape(width, -1)
    weight = np.concatenate([array(pitch.rows.weight) * scale, by_band], 1)
    bias = array(pitch.rows.bias) + array(pitch.bands.bias) + array(pitch.rows.weight) @ shift
    heard = g.op("Relu", g.gemm(both, weight, bias))
    remembered, following = recurrent(pitch.gru, g, heard, state, 1, time)
    known = g.op("Add", heard, remembered)
    added = g.gemm(known, array(pitch.out.weight) / scale[:, None], array(pitch.out.bias) / scale)
    low = g.op("Add", low, g.op("Reshape", added, g.shape(-1, PITCH_ROWS, channels)))
    return g.op("Concat", low, rest, axis=1), known, following


def _sub_bands(net: Any, g: Graph, frames: str) -> str:
    """`memory.sub_bands` of frames ``[batch, context + frames, 2, columns]``: rows ``[batch * frames, 64]``, all bins
    of a sub-band side by side."""
    bins, neighbours = PITCH_ROWS * net.wide, side_by_side(net.framing)
    low = g.cut(frames, 3, 0, bins)
    count = len(neighbours)
    beside = g.op("Concat", *g.ago(low, max(net.context), neighbours), axis=2)
    turns = np.fft.fft(np.eye(count), norm="ortho")
    real = np.array([[turns.real, -turns.imag], [turns.imag, turns.real]])  # [part, of part, band, frame]
    split = g.op("MatMul", g.constant(real.transpose(0, 2, 3, 1).reshape(2 * count, 2 * count)), beside)
    split = g.op("Reshape", split, g.shape(-1, 2, count * bins))
    power = g.op("ReduceSum", g.op("Mul", split, split), g.shape(1), keepdims=0)
    return g.op("Sqrt", g.op("Add", power, g.constant(NOTHING)))


def _levelled(g: Graph, columns: str, state: str, decay: float, time: Time) -> tuple[str, str, str]:
    """Columns ``[batch, frames, 2, columns]`` brought to the usual level; what they were multiplied by, ``[batch,
    frames, 1]``; the next state ``[batch, 2]``: the running mean of sizes, and of ones, by which the mean of a young
    stream is put right."""
    power = g.op("ReduceSum", g.op("Mul", columns, columns), g.shape(2), keepdims=0)
    size = g.op("Sqrt", g.op("Add", power, g.constant(NOTHING)))
    size = g.op("ReduceMean", size, g.shape(2), keepdims=1)
    pairs = g.op("Pad", size, g.shape(0, 0, 0, 0, 0, 1), g.constant(1.0))  # [batch, frames, 2]

    def mixed(inner: Graph, pair: str, old: str) -> str:
        kept, new = ((old, decay), (pair, 1 - decay))
        return inner.op("Add", *(inner.op("Mul", x, inner.constant(share)) for x, share in (kept, new)))

    def one(inner: Graph) -> list[str]:
        first = inner.cut(
            pairs, 1, 0, 1
        )  # Of more there would be more; a graph of a fixed length is checked as a whole.
        following = mixed(inner, inner.op("Squeeze", first, inner.shape(1)), state)
        return [inner.op("Unsqueeze", following, inner.shape(1)), following]

    def many(inner: Graph) -> list[str]:
        def step(body: Graph, pair: str, now: list[str]) -> tuple[str, list[str]]:
            following = mixed(body, pair, now[0])
            return body.op("Identity", following), [following]

        means, last = inner.scan(step, pairs, [state], [(2,)], ((2,), (2,)))
        return [means, *last]

    means, following = g.either(time.live, one, many)
    mean, ones = g.op("Split", means, g.shape(1, 1), outputs=2, axis=2)
    level = g.op("Add", g.op("Div", mean, ones), g.constant(LEVEL_FLOOR))
    factor = g.op("Div", g.constant(USUAL_LEVEL), level)
    return g.op("Mul", columns, g.op("Unsqueeze", factor, g.shape(3))), factor, following


def _decoder(net: Any, g: Graph, x: str, skips: list[Skip], known: str) -> tuple[str, str]:
    """Gains ``[rows, 1, bins]``, and filter taps ``[rows, 2 * TAPS, bins]``, the oldest spectrum's first."""
    for k, (merge, skip) in enumerate(zip(net.merge, reversed(skips), strict=True)):
        width = merge.out_features
        weight, bias = array(merge.weight).copy(), array(merge.bias)
        bias = bias + weight[:, width:] @ skip.shift
        weight[:, width:] *= skip.scale
        x = g.op("Relu", g.gemm(g.op("Concat", x, skip.rows, axis=1), weight, bias))
        if k < len(net.up):
            x = g.op("Relu", g.linear(x, net.up[k]))
            x = g.op("Reshape", x, g.shape(-1, net.up[k].out_features // 2))
    wide, width, columns = net.wide, net.merge[-1].out_features, net.low_bins - 1
    x = g.op("Transpose", g.op("Reshape", x, g.shape(-1, 1, ROWS, width)), perm=[0, 3, 1, 2])
    weight, bias = (
        _bin_by_bin(array(gain).reshape(wide, -1), array(taps).reshape(2 * wide * TAPS, -1))
        for gain, taps in ((net.gain.weight, net.taps.weight), (net.gain.bias, net.taps.bias))
    )
    weight, bias = as_convolution(weight.reshape(-1, 3 * width), 3), bias.reshape(-1)
    x = g.op("Conv", x, g.constant(weight), g.constant(bias), pads=[0, 1, 0, 1])
    x = g.op("Transpose", g.op("Reshape", x, g.shape(-1, wide, LOGITS, ROWS)), perm=[0, 2, 3, 1])
    x = g.op("Reshape", x, g.shape(-1, LOGITS, columns))
    bins = PITCH_ROWS * wide
    pitch = array(net.pitch_taps.weight).reshape(PITCH_ROWS, wide * LOGITS, -1)
    pitch = _bin_by_bin(pitch[:, :wide], pitch[:, wide:]).reshape(bins, LOGITS, -1)
    logits = g.op("MatMul", known, g.constant(pitch.swapaxes(0, 1).reshape(LOGITS * bins, -1).T))
    logits = g.op("Reshape", logits, g.shape(-1, LOGITS, bins))
    low, rest = g.op("Split", x, g.shape(bins, columns - bins), outputs=2, axis=2)
    x = g.op("Concat", g.op("Add", low, logits), rest, axis=2)
    x = g.op("Pad", x, g.shape(0, 0, 0, 0, 0, 1), mode="edge")  # the last bin takes what its neighbour takes
    gain, taps = g.op("Split", x, g.shape(1, 2 * TAPS), outputs=2, axis=1)
    gain = g.op("Sigmoid", gain)
    unsure = g.op("Mul", gain, g.op("Sub", g.constant(1.0), gain))
    if net.kept:
        gain = g.op("Add", g.op("Mul", gain, g.constant(1 - net.kept)), g.constant(net.kept))
        unsure = g.op("Mul", unsure, g.constant(1 - net.kept))
    return gain, g.op("Mul", taps, unsure)


def _bin_by_bin(gain: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Weights of a row's gains ``[..., wide, inputs]`` and of their taps ``[..., 10 * wide, inputs]`` -> ``[...,
    wide, 11, inputs]``: for each bin its gain, then its taps, the oldest spectrum's first, times 4 as the filter wants
    them."""
    split = taps.reshape(*gain.shape[:-1], TAPS, 2, -1)[..., ::-1, :, :]
    return np.concatenate([gain[..., None, :], 4 * split.reshape(*split.shape[:-3], 2 * TAPS, -1)], -2)


def _head(
    net: Any, g: Graph, y: str, high: str, factor: str, bands: str, state: str, time: Time
) -> tuple[str, str, str]:
    """Gains of the bins above 8 kHz ``[rows, 1, bins]``, the next band energies and the next memory."""
    power = g.op("ReduceSum", g.op("Mul", high, high), g.shape(2), keepdims=0)
    power = g.op("Reshape", power, g.shape(0, -1, BANDS, (net.bins - net.low_bins) // BANDS))
    power = g.op("ReduceMean", power, g.shape(3), keepdims=0)
    loud = g.op("Pow", g.op("Add", power, g.constant(BAND_FLOOR)), g.constant(COMPRESSION / 2))
    loud = g.op("Mul", loud, factor)
    seen, bands_next = g.past(loud, bands, max(net.band_context), net.band_context)
    rows = g.op("Reshape", g.op("Concat", *seen, axis=2), g.shape(-1, BANDS * len(net.band_context)))
    core = g.linear(g.op("Reshape", y, g.shape(-1, net.head_core.in_features)), net.head_core)
    x = g.op("Relu", g.op("Add", core, g.linear(rows, net.head_bands)))
    remembered, following = recurrent(net.head_gru, g, x, state, 1, time)
    gains = g.op("Sigmoid", g.linear(g.op("Add", x, remembered), net.head_out))
    gains = g.op("HardSigmoid", gains, alpha=SURE, beta=-NEGLIGIBLE)
    gains = g.op("MatMul", gains, g.constant(array(net.spread)))
    return g.op("Unsqueeze", gains, g.shape(1)), bands_next, following
