"""CR-CED as ONNX nodes, one frame at a time; the torch twin is `crced.CRCED`, and export checks that they agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from rtdenoise.training.networks.crced import BINS, CONTEXT, LEVEL_FLOOR, NOTHING, TAPS
from rtdenoise.training.onnx_export.graph import END, Graph, array


def states(net: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the states without the batch dimension; the oldest frame comes first. The means have one column more
    than there are bins: the mean of ones, by which means of a young stream are put right."""
    return {
        "state_spectra": (TAPS - 1, 4, BINS),
        "state_context": (CONTEXT - 1, 3, BINS),
        "state_means": (len(net.decays), BINS + 1),
    }


def describe(net: Any, g: Graph, noisy: str, now: list[str]) -> tuple[str, list[str]]:
    """The frames of a call, one after the other: the running means leave little to gain from taking them together."""
    spectrum = (BINS, 2)
    return g.scan(partial(frame, net), noisy, now, list(states(net).values()), (spectrum, spectrum))


def frame(net: Any, g: Graph, noisy: str, now: Sequence[str]) -> tuple[str, list[str]]:
    """Describe one frame: noisy ``[batch, 129, 2]`` to enhanced and the next states."""
    spectra, context, means = now
    planar = g.op("Transpose", noisy, perm=[0, 2, 1])
    z = g.compressed(planar)
    power = g.op("ReduceSum", g.op("Mul", z, z), g.shape(1), keepdims=1)
    size = g.op("Sqrt", g.op("Add", power, g.constant(NOTHING)))
    newest = g.op("Unsqueeze", g.op("Concat", z, size, axis=1), g.shape(1))
    frames = g.op("Concat", context, newest, axis=1)
    decay = np.array(net.decays)[:, None]
    with_one = g.op("Pad", size, g.shape(0, 0, 0, 0, 0, 1), g.constant(1.0))
    means_next = g.op("Add", g.op("Mul", means, g.constant(decay)), g.op("Mul", with_one, g.constant(1 - decay)))
    mean, ones = g.op("Split", means_next, g.shape(BINS, 1), outputs=2, axis=2)
    mean = g.op("Div", mean, ones)
    level = g.op("ReduceMean", g.cut(mean, 1, len(net.decays) - 1, END), g.shape(2), keepdims=1)
    x = g.op("Concat", g.op("Reshape", frames, g.shape(-1, 3 * CONTEXT, BINS)), mean, axis=1)
    x = g.op("Div", x, g.op("Add", level, g.constant(LEVEL_FLOOR)))
    heard = g.op("Concat", spectra, g.op("Unsqueeze", g.turned(planar), g.shape(1)), axis=1)
    weights = _weights(net, g, g.op("Unsqueeze", x, g.shape(2)))
    out = g.op("Mul", planar, weights) if net.mask else g.weighted(heard, weights, TAPS, BINS)
    enhanced = g.op("Transpose", out, perm=[0, 2, 1])
    return enhanced, [g.cut(heard, 1, 1, END), g.cut(frames, 1, 1, CONTEXT), means_next]


def _weights(net: Any, g: Graph, x: str) -> str:
    """``[batch, planes, 1, 129]``, the oldest frame first -> complex weights ``[batch, 10, 129]``, the oldest first;
    with ``mask`` real ones ``[batch, 1, 129]``."""
    skip = ""
    for k, (conv, norm) in enumerate(zip(net.convs, net.norms, strict=True)):
        scale, shift = g.folded(norm)
        weight = array(conv.weight) * scale[:, None, None, None]
        if k == 0:  # torch has the newest frame first
            newest_first = np.arange(3 * CONTEXT).reshape(CONTEXT, 3)[::-1].reshape(-1)
            weight[:, : 3 * CONTEXT] = weight[:, newest_first]
        edge = conv.padding[1]
        x = g.op("Conv", x, g.constant(weight), g.constant(shift), pads=[0, edge, 0, edge])
        if k % 2 == 0 and skip:
            x = g.op("Add", x, skip)
        x = g.op("Relu", x)
        if k % 2 == 0:
            skip = x
    x = g.op("Transpose", g.op("Reshape", x, g.shape(-1, len(shift), BINS)), perm=[2, 0, 1])  # bins, batch, channels
    x = g.op("Relu", g.op("Add", g.op("MatMul", x, g.constant(array(net.local_in))), g.constant(array(net.local_bias))))
    x = g.op("MatMul", x, g.constant(array(net.local_out)[..., _order(net)]))
    x = g.op("Add", x, g.constant(array(net.out_bias)[..., _order(net)]))
    newest = np.ones(1)
    if net.mask:
        x = g.op("Tanh", x)
    else:
        gain, taps = g.op("Split", x, g.shape(1, 2 * TAPS), outputs=2, axis=2)
        gain, newest = g.op("Sigmoid", gain), np.eye(2 * TAPS)[-2]
        unsure = g.op("Mul", g.op("Mul", gain, g.constant(4)), g.op("Sub", g.constant(1), gain))
        x = g.op("Add", g.op("Mul", g.op("Tanh", taps), unsure), g.op("Mul", gain, g.constant(newest)))
    if net.kept:
        x = g.op("Add", g.op("Mul", x, g.constant(1 - net.kept)), g.constant(net.kept * newest))
    return g.op("Transpose", x, perm=[1, 2, 0])


def _order(net: Any) -> np.ndarray:
    """Where the last layer's values stand in torch: the gain, then the taps, here from the oldest on."""
    if net.mask:
        return np.arange(1)
    return np.concatenate([[0], 1 + np.arange(2 * TAPS).reshape(TAPS, 2)[::-1].reshape(-1)])
