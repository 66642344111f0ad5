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

from rtdenoise.training.graph import END, Graph, array
from rtdenoise.training.networks.tapping import TAPS
from rtdenoise.training.networks.unet import (
    ALL_BINS,
    BAND_CONTEXT,
    BAND_FLOOR,
    BANDS,
    CHAINS,
    CONTEXT,
    FINE_BANDS,
    LEVEL_DECAY,
    LEVEL_FLOOR,
    LOW_BINS,
    NEGLIGIBLE,
    NOTHING,
    SUB_BANDS,
    SURE,
    USUAL_LEVEL,
    DilatedGRU,
    FineMemory,
    Memory,
    as_convolution,
)
from rtdenoise.training.spectra import COMPRESSION

COLUMNS = LOW_BINS - 1


def states(net: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the states without the batch dimension; the oldest frame comes first."""
    channels, head = net.place.shape[1], net.head_out.in_features
    return {
        "state_spectra": (TAPS - 1, 4, LOW_BINS),
        "state_context": (max(CONTEXT), 2, COLUMNS),
        "state_fine": (CHAINS, FINE_BANDS, net.fine.out.in_features),
        **{f"state_memory_{k}": (CHAINS, SUB_BANDS, channels) for k in range(len(net.memory))},
        "state_level": (2,),
        "state_bands": (max(BAND_CONTEXT), BANDS),
        "state_head": (CHAINS, 1, head),
    }


def describe(net: Any, g: Graph, noisy: str, now: list[str]) -> tuple[str, list[str]]:
    """noisy ``[batch, frames, 385, 2]`` to enhanced and the next states."""
    spectra, context, fine, *memory, level, bands, head = now
    time = Time.of(g, noisy)
    planar = g.op("Transpose", noisy, perm=[0, 1, 3, 2])
    low, high = g.op("Split", planar, g.shape(LOW_BINS, ALL_BINS - LOW_BINS), outputs=2, axis=3)
    columns, factor, level_next = _levelled(g, g.compressed(g.cut(low, 3, 0, COLUMNS)), level, time)
    frames = g.op("Concat", context, columns, axis=1)
    skips, fine_next = _encoder(net, g, g.op("Transpose", frames, perm=[0, 2, 1, 3]), fine, time)
    y = g.op("Mul", skips[-1].rows, g.constant(skips[-1].scale))
    y = g.op("Reshape", y, g.shape(-1, SUB_BANDS, net.place.shape[1]))
    y = g.op("Add", y, g.constant(array(net.place) + skips[-1].shift))
    y = g.op("Reshape", y, g.shape(-1, net.place.shape[1]))
    memory_next = []
    for block, state in zip(net.memory, memory, strict=True):
        y, following = remember(block, g, y, state, time)
        memory_next.append(following)
    heard, spectra_next = g.past(g.turned(low), spectra, TAPS - 1, range(TAPS - 1, -1, -1))
    gain, taps = _decoder(net, g, y, skips)
    filtered = g.weighted(g.op("Concat", *heard, axis=2), taps, TAPS, LOW_BINS)
    out = g.op("Add", filtered, g.op("Mul", g.op("Reshape", low, g.shape(-1, 2, LOW_BINS)), gain))
    gains, bands_next, head_next = _head(net, g, y, high, factor, bands, head, time)
    gained = g.op("Mul", g.op("Reshape", high, g.shape(-1, 2, ALL_BINS - LOW_BINS)), gains)
    rows = g.op("Transpose", g.op("Concat", out, gained, axis=2), perm=[0, 2, 1])
    enhanced = g.op("Reshape", rows, g.op("Concat", time.sizes, g.shape(ALL_BINS, 2), axis=0))
    context_next = g.cut(frames, 1, -max(CONTEXT), END)
    return enhanced, [spectra_next, context_next, fine_next, *memory_next, level_next, bands_next, head_next]


@dataclass(frozen=True)
class Skip:
    """An encoder level: rows ``[batch * bins, channels]``, and the scale and shift of a batch norm still to be done."""

    rows: str
    scale: np.ndarray
    shift: np.ndarray


def _encoder(net: Any, g: Graph, x: str, fine: str, time: Time) -> tuple[list[Skip], str]:
    """x ``[batch, 2, context + frames, 128]``: the first convolution runs over time too and picks its context there.
    All levels, and the next state of the fine memory behind the first."""
    skips: list[Skip] = []
    fine_next = ""
    bins = COLUMNS
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
            seen = array(down.linear.weight).reshape(len(bias), len(CONTEXT), down.kernel, 2)
            over_time = np.zeros((len(bias), 2, max(CONTEXT) + 1, down.kernel), np.float32)
            for k, ago in enumerate(CONTEXT):
                over_time[:, :, max(CONTEXT) - ago] = seen[:, k].swapaxes(1, 2)
            y = g.op("Conv", x, g.constant(over_time), g.constant(bias), **place)
        x = g.op("Relu", y)
        rows = g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 3, 1]), g.shape(-1, len(bias)))
        skip = Skip(rows, *g.folded(down.norm))
        if not skips:
            skip, x, fine_next = _fine(net.fine, g, skip, bins, fine, time)
        skips.append(skip)
    return skips, fine_next


def _fine(fine: FineMemory, g: Graph, skip: Skip, bins: int, state: str, time: Time) -> tuple[Skip, str, str]:
    """The first level with what its low sub-bands remember: as rows, as channels first, and the next state. All of it
    before the batch norm, whose scale and shift are folded into the weights on both sides."""
    channels, scale = len(skip.scale), torch.tensor(skip.scale)
    x = g.op("Reshape", skip.rows, g.shape(-1, bins, channels))
    low, rest = g.op("Split", x, g.shape(FINE_BANDS, bins - FINE_BANDS), outputs=2, axis=1)
    heard = g.op("Add", low, g.constant((array(fine.place) + skip.shift) / skip.scale))
    gru = copy.deepcopy(fine.gru)
    gru.input.weight.data *= scale
    remembered, following = _gru(gru, g, g.op("Reshape", heard, g.shape(-1, channels)), state, FINE_BANDS, time)
    added = g.gemm(remembered, array(fine.out.weight) / skip.scale[:, None], array(fine.out.bias) / skip.scale)
    added = g.op("Reshape", added, g.shape(-1, FINE_BANDS, channels))
    x = g.op("Concat", g.op("Add", low, added), rest, axis=1)
    whole = g.op("Concat", time.sizes, g.shape(bins, channels), axis=0)
    first = g.op("Transpose", g.op("Reshape", x, whole), perm=[0, 3, 1, 2])
    return Skip(g.op("Reshape", x, g.shape(-1, channels)), skip.scale, skip.shift), first, following


def _gru(gru: DilatedGRU, g: Graph, x: str, state: str, rows: int, time: Time) -> tuple[str, str]:
    """x ``[batch * frames * rows, channels]`` -> the same shape, and the next state ``[batch, 4, rows, channels]``."""
    y, following = g.either(
        time.live,
        lambda inner: _one_frame(gru, inner, x, state, rows),
        lambda inner: _many_frames(gru, inner, x, state, rows, time),
    )
    return y, following


def _one_frame(gru: DilatedGRU, g: Graph, x: str, state: str, rows: int) -> tuple[str, str]:
    """The chain whose turn it is takes one step."""
    channels = gru.hidden.in_features
    one = g.shape(1, -1, channels)
    old, x = g.op("Reshape", g.cut(state, 1, 0, 1), one), g.op("Reshape", x, one)
    y = g.op("GRU", x, *_weights(gru, g), "", old, hidden_size=channels, linear_before_reset=1)
    newest = g.op("Reshape", y, g.shape(-1, 1, rows, channels))
    y = g.op("Reshape", y, g.shape(-1, channels))
    return y, g.op("Concat", g.cut(state, 1, 1, CHAINS), newest, axis=1)


def _many_frames(gru: DilatedGRU, g: Graph, x: str, state: str, rows: int, time: Time) -> tuple[str, str]:
    """The four chains are rows of one GRU that steps over every fourth frame; frames are filled up to whole fours.

    The next state is what the last four frames gave, so no chain needs to be counted.
    """
    channels = gru.hidden.in_features
    x = g.op("Reshape", x, g.op("Concat", time.sizes, g.shape(rows, channels), axis=0))
    x = g.op("Reshape", g.op("Pad", x, time.filling), g.shape(0, -1, CHAINS, rows * channels))
    x = g.op("Transpose", x, perm=[1, 0, 2, 3])
    x = g.op("Reshape", x, g.op("Concat", time.steps, g.shape(-1, channels), axis=0))
    first = g.op("Reshape", state, g.shape(1, -1, channels))
    y = g.op("GRU", x, *_weights(gru, g), "", first, hidden_size=channels, linear_before_reset=1)
    y = g.op("Reshape", y, g.op("Concat", time.steps, g.shape(-1, CHAINS, rows * channels), axis=0))
    y = g.op("Reshape", g.op("Transpose", y, perm=[1, 0, 2, 3]), g.shape(0, -1, rows, channels))
    both = g.op("Concat", state, y, axis=1)
    y = g.op("Slice", both, g.shape(CHAINS), time.last, g.shape(1))
    return g.op("Reshape", y, g.shape(-1, channels)), g.op("Slice", both, time.frames, time.last, g.shape(1))


def _weights(gru: DilatedGRU, g: Graph) -> list[str]:
    """Weights and biases as ONNX's GRU takes them."""
    layers = (gru.input, gru.hidden)
    weights = [_as_onnx(array(layer.weight)) for layer in layers]
    biases = np.concatenate([_as_onnx(array(layer.bias)) for layer in layers], 1)
    return [g.constant(v) for v in (*weights, biases)]


def _as_onnx(weight: np.ndarray) -> np.ndarray:
    """A GRU's rows in ONNX's order (keep, reset, new; torch has reset first), with the axis of directions."""
    reset, keep, new = np.split(weight, 3)
    return np.concatenate([keep, reset, new])[None]


@dataclass(frozen=True)
class Time:
    """How many frames a call has, as tensors.

    ``live``: whether it is one; ``sizes``: batch and frames; ``frames``; ``last``: frames + 4; ``steps``: frames / 4,
    rounded up; ``filling`` pads ``[batch, frames, rows, channels]`` to whole fours.
    """

    live: str
    sizes: str
    frames: str
    last: str
    steps: str
    filling: str

    @classmethod
    def of(cls, g: Graph, noisy: str) -> Time:
        sizes, frames = (g.op("Shape", noisy, start=start, end=2) for start in (0, 1))
        steps = g.op("Div", g.op("Add", frames, g.shape(CHAINS - 1)), g.shape(CHAINS))
        missing = g.op("Sub", g.op("Mul", steps, g.shape(CHAINS)), frames)
        filling = g.op("Concat", g.shape(0, 0, 0, 0, 0), missing, g.shape(0, 0), axis=0)
        live = g.op("Equal", frames, g.shape(1))
        return cls(live, sizes, frames, g.op("Add", frames, g.shape(CHAINS)), steps, filling)


def remember(block: Memory, g: Graph, y: str, state: str, time: Time) -> tuple[str, str]:
    """A bottleneck block on rows ``[batch * frames * bands, channels]``, and its next state."""
    channels = block.out.in_features
    bands = block.narrow.in_features // channels
    normed = g.op("LayerNormalization", y, g.constant(array(block.norm.weight)), g.constant(array(block.norm.bias)))
    x, following = _gru(block.gru, g, normed, state, bands, time)
    y = g.op("Add", y, g.linear(x, block.out))
    across = g.op("Reshape", y, g.shape(-1, bands * channels))
    across = g.linear(g.op("Relu", g.linear(across, block.narrow)), block.widen)
    return g.op("Add", y, g.op("Reshape", across, g.shape(-1, channels))), following


def _levelled(g: Graph, columns: str, state: str, time: Time) -> tuple[str, str, str]:
    """Columns ``[batch, frames, 2, 128]`` brought to the usual level; what they were multiplied by, ``[batch, frames,
    1]``; the next state ``[batch, 2]``: the running mean of sizes, and of ones, by which the mean of a young stream is
    put right."""
    power = g.op("ReduceSum", g.op("Mul", columns, columns), g.shape(2), keepdims=0)
    size = g.op("Sqrt", g.op("Add", power, g.constant(NOTHING)))
    size = g.op("ReduceMean", size, g.shape(2), keepdims=1)
    pairs = g.op("Pad", size, g.shape(0, 0, 0, 0, 0, 1), g.constant(1.0))  # [batch, frames, 2]

    def mixed(inner: Graph, pair: str, old: str) -> str:
        kept, new = ((old, LEVEL_DECAY), (pair, 1 - LEVEL_DECAY))
        return inner.op("Add", *(inner.op("Mul", x, inner.constant(share)) for x, share in (kept, new)))

    def one(inner: Graph) -> list[str]:
        following = mixed(inner, inner.op("Squeeze", pairs, inner.shape(1)), state)
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


def _decoder(net: Any, g: Graph, x: str, skips: list[Skip]) -> tuple[str, str]:
    """Gains ``[rows, 1, 129]``, and filter taps ``[rows, 2 * TAPS, 129]``, the oldest spectrum's first."""
    for k, (merge, skip) in enumerate(zip(net.merge, reversed(skips), strict=True)):
        width = merge.out_features
        weight, bias = array(merge.weight).copy(), array(merge.bias)
        bias = bias + weight[:, width:] @ skip.shift
        weight[:, width:] *= skip.scale
        x = g.op("Relu", g.gemm(g.op("Concat", x, skip.rows, axis=1), weight, bias))
        if k < len(net.up):
            x = g.op("Relu", g.linear(x, net.up[k]))
            x = g.op("Reshape", x, g.shape(-1, net.up[k].out_features // 2))
    bands, width = COLUMNS // 4, net.merge[-1].out_features
    x = g.op("Transpose", g.op("Reshape", x, g.shape(-1, 1, bands, width)), perm=[0, 3, 1, 2])
    oldest_first = np.arange(2 * TAPS).reshape(TAPS, 2)[::-1].reshape(-1)
    weight, bias = (  # for each of four bins its gain, then its taps, times 4 as the filter wants them
        np.concatenate([array(gain).reshape(4, 1, -1), 4 * array(taps).reshape(4, 2 * TAPS, -1)[:, oldest_first]], 1)
        for gain, taps in ((net.gain.weight, net.taps.weight), (net.gain.bias, net.taps.bias))
    )
    weight, bias = as_convolution(weight.reshape(-1, 3 * width), 3), bias.reshape(-1)
    x = g.op("Conv", x, g.constant(weight), g.constant(bias), pads=[0, 1, 0, 1])
    x = g.op("Transpose", g.op("Reshape", x, g.shape(-1, 4, 1 + 2 * TAPS, bands)), perm=[0, 2, 3, 1])
    x = g.op("Reshape", x, g.shape(-1, 1 + 2 * TAPS, COLUMNS))
    x = g.op("Pad", x, g.shape(0, 0, 0, 0, 0, LOW_BINS - COLUMNS), mode="edge")
    gain, taps = g.op("Split", x, g.shape(1, 2 * TAPS), outputs=2, axis=1)
    gain = g.op("Sigmoid", gain)
    unsure = g.op("Mul", gain, g.op("Sub", g.constant(1.0), gain))
    if net.kept:
        gain = g.op("Add", g.op("Mul", gain, g.constant(1 - net.kept)), g.constant(net.kept))
        unsure = g.op("Mul", unsure, g.constant(1 - net.kept))
    return gain, g.op("Mul", taps, unsure)


def _head(
    net: Any, g: Graph, y: str, high: str, factor: str, bands: str, state: str, time: Time
) -> tuple[str, str, str]:
    """Gains of the bins above 8 kHz ``[rows, 1, 256]``, the next band energies and the next memory."""
    power = g.op("ReduceSum", g.op("Mul", high, high), g.shape(2), keepdims=0)
    power = g.op("Reshape", power, g.shape(0, -1, BANDS, (ALL_BINS - LOW_BINS) // BANDS))
    power = g.op("ReduceMean", power, g.shape(3), keepdims=0)
    loud = g.op("Pow", g.op("Add", power, g.constant(BAND_FLOOR)), g.constant(COMPRESSION / 2))
    loud = g.op("Mul", loud, factor)
    seen, bands_next = g.past(loud, bands, max(BAND_CONTEXT), BAND_CONTEXT)
    rows = g.op("Reshape", g.op("Concat", *seen, axis=2), g.shape(-1, BANDS * len(BAND_CONTEXT)))
    core = g.linear(g.op("Reshape", y, g.shape(-1, net.head_core.in_features)), net.head_core)
    x = g.op("Relu", g.op("Add", core, g.linear(rows, net.head_bands)))
    remembered, following = _gru(net.head_gru, g, x, state, 1, time)
    gains = g.op("Sigmoid", g.linear(g.op("Add", x, remembered), net.head_out))
    gains = g.op("HardSigmoid", gains, alpha=SURE, beta=-NEGLIGIBLE)
    gains = g.op("MatMul", gains, g.constant(array(net.spread)))
    return g.op("Unsqueeze", gains, g.shape(1)), bands_next, following
