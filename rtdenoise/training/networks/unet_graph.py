"""One frame of the U-Net as ONNX nodes; the torch twin is `unet.UNet`, and export checks that they agree.

Spectra are planar here (``[batch, 2, bins]``). The encoder is convolutions, which onnxruntime runs fastest channels first;
from the bottleneck on, rows are sub-bands (``[batch * sub-bands, channels]``) and everything is one matrix product. Batch
norms follow a ReLU, so they are folded into the weights that read them next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rtdenoise.training.graph import FrameGraph, array
from rtdenoise.training.networks.unet import (
    ALL_BINS,
    BAND_CONTEXT,
    BAND_FLOOR,
    BANDS,
    CHAINS,
    CONTEXT,
    LOW_BINS,
    SUB_BANDS,
    TAPS,
    DilatedGRU,
    Memory,
    UNet,
)

COLUMNS = LOW_BINS - 1


def states(net: UNet) -> dict[str, tuple[int, ...]]:
    """Shapes of the states without the batch dimension; the oldest frame comes first."""
    channels, head = net.place.shape[1], net.head_out.in_features
    return {
        "state_spectra": (TAPS - 1, 4, LOW_BINS),
        "state_context": (max(CONTEXT), 2, COLUMNS),
        **{f"state_memory_{k}": (CHAINS, SUB_BANDS, channels) for k in range(len(net.memory))},
        "state_bands": (max(BAND_CONTEXT), BANDS),
        "state_head": (CHAINS, 1, head),
    }


def frame(net: UNet, g: FrameGraph, noisy: str, now: Sequence[str]) -> tuple[str, list[str]]:
    """Describe one frame: noisy ``[batch, 385, 2]`` to enhanced and the next states."""
    spectra, context, *memory, bands, head = now
    planar = g.op("Transpose", noisy, perm=[0, 2, 1])
    low, high = g.op("Split", planar, g.shape(LOW_BINS, ALL_BINS - LOW_BINS), outputs=2, axis=2)
    x, context_next = _input(g, low, context)
    skips = _encoder(net, g, x)
    y = g.op("Mul", skips[-1].rows, g.constant(skips[-1].scale))
    y = g.op("Reshape", y, g.shape(-1, SUB_BANDS, net.place.shape[1]))
    y = g.op("Add", y, g.constant(array(net.place) + skips[-1].shift))
    y = g.op("Reshape", y, g.shape(-1, net.place.shape[1]))
    memory_next = []
    for block, state in zip(net.memory, memory, strict=True):
        y, following = _memory(block, g, y, state)
        memory_next.append(following)
    out, spectra_next = g.filtered(low, _decoder(net, g, y, skips), spectra)
    gained, bands_next, head_next = _head(net, g, y, high, bands, head)
    enhanced = g.op("Transpose", g.op("Concat", out, gained, axis=2), perm=[0, 2, 1])
    return enhanced, [spectra_next, context_next, *memory_next, bands_next, head_next]


@dataclass(frozen=True)
class Skip:
    """An encoder level before its batch norm: rows ``[batch * bins, channels]``, and the norm as scale and shift."""

    rows: str
    scale: np.ndarray
    shift: np.ndarray


def _input(g: FrameGraph, low: str, context: str) -> tuple[str, str]:
    """The frames the encoder sees, compressed, ``[batch, 2 * frames, 1, 128]``; and the next context."""
    columns = g.compressed(g.cut(low, 2, 0, COLUMNS))
    frames = g.op("Concat", context, g.op("Unsqueeze", columns, g.shape(1)), axis=1)
    seen = g.op("Gather", frames, g.shape(*(max(CONTEXT) - k for k in CONTEXT)), axis=1)
    return g.op("Reshape", seen, g.shape(-1, 2 * len(CONTEXT), 1, COLUMNS)), g.cut(frames, 1, 1, max(CONTEXT) + 1)


def _encoder(net: UNet, g: FrameGraph, x: str) -> list[Skip]:
    skips: list[Skip] = []
    bins = COLUMNS
    for down in net.down:
        inputs = down.linear.in_features // down.kernel
        weight = array(down.linear.weight).reshape(-1, inputs, 1, down.kernel)
        edge, bins = (down.kernel - down.stride) // 2, bins // down.stride
        place = {"strides": [1, down.stride], "pads": [0, edge, 0, edge]}
        bias = array(down.linear.bias)
        if skips:  # a shift before a padded convolution is a bias that differs at the edges
            before = torch.tensor(skips[-1].shift).view(1, -1, 1, 1).expand(1, inputs, 1, bins * down.stride)
            reach = nn.functional.conv2d(before, torch.tensor(weight), stride=(1, down.stride), padding=(0, edge))
            y = g.op("Conv", x, g.constant(weight * skips[-1].scale[None, :, None, None]), **place)
            y = g.op("Add", y, g.constant(reach[0].numpy() + bias[:, None, None]))
        else:
            y = g.op("Conv", x, g.constant(weight), g.constant(bias), **place)
        x = g.op("Relu", y)
        rows = g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 3, 1]), g.shape(-1, len(bias)))
        skips.append(Skip(rows, *g.folded(down.norm)))
    return skips


def _gru(gru: DilatedGRU, g: FrameGraph, x: str, state: str, rows: int) -> tuple[str, str]:
    """One step of the chain whose turn it is: x ``[batch * rows, channels]``, state ``[batch, 4, rows, channels]``."""
    channels = gru.input.out_features // 3
    old = g.op("Reshape", g.cut(state, 1, 0, 1), g.shape(-1, channels))
    parts = g.shape(2 * channels, channels)
    given_gates, given_new = g.op("Split", g.linear(x, gru.input), parts, outputs=2, axis=1)
    gates, new = g.op("Split", g.linear(old, gru.hidden), parts, outputs=2, axis=1)
    both = g.op("Sigmoid", g.op("Add", given_gates, gates))
    reset, keep = g.op("Split", both, g.shape(channels, channels), outputs=2, axis=1)
    new = g.op("Tanh", g.op("Add", given_new, g.op("Mul", reset, new)))
    y = g.op("Add", new, g.op("Mul", keep, g.op("Sub", old, new)))
    newest = g.op("Reshape", y, g.shape(-1, 1, rows, channels))
    return y, g.op("Concat", g.cut(state, 1, 1, CHAINS), newest, axis=1)


def _memory(block: Memory, g: FrameGraph, y: str, state: str) -> tuple[str, str]:
    channels = block.out.in_features
    normed = g.op("LayerNormalization", y, g.constant(array(block.norm.weight)), g.constant(array(block.norm.bias)))
    x, following = _gru(block.gru, g, normed, state, SUB_BANDS)
    y = g.op("Add", y, g.linear(x, block.out))
    across = g.op("Reshape", y, g.shape(-1, SUB_BANDS * channels))
    across = g.linear(g.op("Relu", g.linear(across, block.narrow)), block.widen)
    return g.op("Add", y, g.op("Reshape", across, g.shape(-1, channels))), following


def _decoder(net: UNet, g: FrameGraph, x: str, skips: list[Skip]) -> str:
    """Filter taps ``[batch, 2 * TAPS, 129]``, the oldest spectrum's first."""
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
    oldest_first = np.arange(4 * 2 * TAPS).reshape(4, TAPS, 2)[:, ::-1].reshape(-1)
    weight = array(net.taps.weight)[oldest_first].reshape(-1, width, 1, 3)
    x = g.op("Conv", x, g.constant(weight), g.constant(array(net.taps.bias)[oldest_first]), pads=[0, 1, 0, 1])
    x = g.op("Transpose", g.op("Reshape", x, g.shape(-1, 4, 2 * TAPS, bands)), perm=[0, 2, 3, 1])
    x = g.op("Reshape", x, g.shape(-1, 2 * TAPS, COLUMNS))
    return g.op("Pad", x, g.shape(0, 0, 0, 0, 0, LOW_BINS - COLUMNS), mode="edge")


def _head(net: UNet, g: FrameGraph, y: str, high: str, bands: str, state: str) -> tuple[str, str, str]:
    """The bands above 8 kHz ``[batch, 2, 256]`` times their gains; next band energies and memory."""
    power = g.op("ReduceSum", g.op("Mul", high, high), g.shape(1), keepdims=0)
    power = g.op(
        "ReduceMean", g.op("Reshape", power, g.shape(-1, BANDS, (ALL_BINS - LOW_BINS) // BANDS)), g.shape(2), keepdims=0
    )
    loud = g.op("Pow", g.op("Add", power, g.constant(BAND_FLOOR)), g.constant(0.15))
    frames = g.op("Concat", bands, g.op("Unsqueeze", loud, g.shape(1)), axis=1)
    seen = g.op("Gather", frames, g.shape(*(max(BAND_CONTEXT) - k for k in BAND_CONTEXT)), axis=1)
    seen = g.linear(g.op("Reshape", seen, g.shape(-1, BANDS * len(BAND_CONTEXT))), net.head_bands)
    core = g.linear(g.op("Reshape", y, g.shape(-1, net.head_core.in_features)), net.head_core)
    x = g.op("Relu", g.op("Add", core, seen))
    remembered, following = _gru(net.head_gru, g, x, state, 1)
    gains = g.op("Sigmoid", g.linear(g.op("Add", x, remembered), net.head_out))
    gains = g.op("MatMul", gains, g.constant(array(net.spread)))
    return (
        g.op("Mul", high, g.op("Unsqueeze", gains, g.shape(1))),
        g.cut(frames, 1, 1, max(BAND_CONTEXT) + 1),
        following,
    )
