"""Masker as ONNX nodes; the torch twin is `masker.Masker`, and export checks that they agree.

Only the running means and extremes go frame by frame (`Graph.scan`). Linked channels: everything but the filtering
itself runs once, on the mean energy; states keep a row for each channel, all alike, as the contract wants it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from rtdenoise.training.networks.masker import (
    END,
    FAINTEST,
    LN10,
    LOUDER,
    NARROWEST,
    PLAIN,
    QUICK_S,
    SLOW_S,
)
from rtdenoise.training.networks.memory import CHAINS
from rtdenoise.training.networks.unet import CONTEXT, as_convolution
from rtdenoise.training.onnx_export.graph import Graph, array
from rtdenoise.training.onnx_export.memory_graph import Time, remember

# It lies above every level. A floor is kept as its depth below it, so that a state of zeros is no floor yet.
CEILING = 12.0


def states(net: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the states without the batch dimension; the oldest frame comes first. Means have one column more than
    there are bins: the mean of ones, by which means of a young stream are put right."""
    deepest, columns = net.place.shape[1], net.columns
    running: dict[str, tuple[int, ...]] = {}
    if net.target == "mask":
        running = {"state_means": (CHAINS, 2, columns + 1), "state_floor": (CHAINS, columns)}
    elif net.target == "db":
        running = {"state_extremes": (CHAINS, 2)}
    spectra = {"state_spectra": (max(net.tap_frames), 4, net.bins)} if net.values > 1 else {}
    memory = {f"state_memory_{k}": (CHAINS, net.bands, deepest) for k in range(len(net.memory))}
    return {"state_context": (max(CONTEXT), columns)} | running | memory | spectra


def describe(net: Any, g: Graph, noisy: str, now: list[str]) -> tuple[str, list[str]]:
    """noisy ``[batch, frames, bins, 2]`` to enhanced and the next states."""
    before = dict(zip(states(net), now, strict=True))
    planar = g.op("Transpose", noisy, perm=[0, 1, 3, 2])
    low = g.cut(planar, 3, 0, net.columns)
    power = g.op("ReduceSum", g.op("Mul", low, low), g.shape(2), keepdims=0)
    if net.linked:
        power = g.op("ReduceMean", power, g.shape(0), keepdims=1)
        before = {k: v if k == "state_spectra" else g.cut(v, 0, 0, 1) for k, v in before.items()}
    level = _plus(g, _times(g, g.op("Log", _plus(g, power, FAINTEST)), 0.5 / LN10), 6)
    time = Time.of(g, level)
    seen, context = g.past(level, before["state_context"], max(CONTEXT), CONTEXT)
    planes, low_end, reach, after = _scaled(net, g, seen, level, before)
    after["state_context"] = context
    x = g.op("Concat", *(g.op("Unsqueeze", p, g.shape(2)) for p in planes), axis=2)
    x = g.op("Reshape", x, g.shape(-1, len(planes), 1, net.columns))
    raw = _core(net, g, x, time, before, after)
    if net.values > 1:
        weights = g.op("Reshape", raw, g.op("Concat", time.sizes, g.shape(net.values, net.columns), axis=0))
    else:
        raw = g.op("Reshape", raw, g.op("Concat", time.sizes, g.shape(net.columns), axis=0))
        weights = g.op("Unsqueeze", _gains(net, g, raw, level, low_end, reach), g.shape(2))
    top = g.op("ReduceMean", g.cut(weights, 3, -net.columns // 4, net.columns), g.shape(3), keepdims=1)
    above = g.op("Expand", top, g.shape(1, 1, 1, net.bins - net.columns))
    weights = g.op("Concat", weights, above, axis=3)
    out = _filtered(net, g, planar, weights, before, after)
    if net.kept:
        out = g.op("Add", _times(g, out, 1 - net.kept), _times(g, planar, net.kept))
    if net.linked:
        batch = g.op("Shape", noisy, start=0, end=1)
        for name, shape in states(net).items():
            if name != "state_spectra":
                rows = g.op("Concat", batch, g.shape(*[1] * len(shape)), axis=0)
                after[name] = g.op("Expand", after[name], rows)
    return g.op("Transpose", out, perm=[0, 1, 3, 2]), [after[name] for name in states(net)]


def _plus(g: Graph, x: str, value: float) -> str:
    return g.op("Add", x, g.constant(value))


def _times(g: Graph, x: str, value: float) -> str:
    return g.op("Mul", x, g.constant(value))


def _scaled(
    net: Any, g: Graph, seen: list[str], level: str, before: dict[str, str]
) -> tuple[list[str], str, str, dict[str, str]]:
    """`Masker.scaled`, and the next running states."""
    if net.target == "mask":
        running = [before["state_means"], before["state_floor"]]
        shapes = [(CHAINS, 2, net.columns + 1), (CHAINS, net.columns)]
        both, (means, floors) = g.scan(
            partial(_follow, net), level, running, shapes, ((net.columns,), (2 * net.columns,))
        )
        slow, floor = g.op("Split", both, g.shape(net.columns, net.columns), outputs=2, axis=2)
        planes = [g.op("Sub", x, floor) for x in seen]
        planes += [g.op("Sub", slow, floor), _plus(g, _times(g, floor, 1 / 3), -1)]
        return planes, floor, floor, {"state_means": means, "state_floor": floors}
    if net.target == "db":
        lowest = g.op("ReduceMin", level, g.shape(2), keepdims=1)
        highest = g.op("Neg", g.op("ReduceMax", level, g.shape(2), keepdims=1))
        ends = g.op("Concat", lowest, highest, axis=2)
        ends, (extremes,) = g.scan(
            partial(_extremes, net), ends, [before["state_extremes"]], [(CHAINS, 2)], ((2,), (2,))
        )
        low, high = g.op("Split", ends, g.shape(1, 1), outputs=2, axis=2)
        reach = g.op("Max", g.op("Neg", g.op("Add", high, low)), g.constant(NARROWEST))
        unit = g.constant(0), g.constant(1)
        planes = [g.op("Clip", g.op("Div", g.op("Sub", x, low), reach), *unit) for x in seen]
        return planes, low, reach, {"state_extremes": extremes}
    middle, width = PLAIN
    planes = [_times(g, _plus(g, x, -middle), 1 / width) for x in seen]
    return planes, g.constant(middle), g.constant(width), {}


def _follow(net: Any, g: Graph, level: str, now: list[str]) -> tuple[str, list[str]]:
    """One frame of the running means and of the floor: slow mean and floor beside each other ``[batch, 2 columns]``."""
    means, floors = now
    decay = np.array([net.decay(QUICK_S), net.decay(SLOW_S)])[:, None]
    with_one = g.op("Pad", g.op("Unsqueeze", level, g.shape(1, 2)), g.shape(0, 0, 0, 0, 0, 0, 0, 1), g.constant(1.0))
    kept = g.op("Mul", g.cut(means, 1, 0, 1), g.constant(decay))
    newest = g.op("Add", kept, g.op("Mul", with_one, g.constant(1 - decay)))
    mean, ones = g.op("Split", newest, g.shape(net.columns, 1), outputs=2, axis=3)
    quick, slow = g.op("Split", g.op("Squeeze", g.op("Div", mean, ones), g.shape(1)), g.shape(1, 1), outputs=2, axis=1)
    floor, floors_next = _floor(net, g, quick, floors)
    both = g.op("Squeeze", g.op("Concat", slow, floor, axis=2), g.shape(1))
    return both, [g.op("Concat", g.cut(means, 1, 1, CHAINS), newest, axis=1), floors_next]


def _extremes(net: Any, g: Graph, ends: str, now: list[str]) -> tuple[str, list[str]]:
    """One frame of the running minimum and (turned round) maximum."""
    floor, following = _floor(net, g, g.op("Unsqueeze", ends, g.shape(1)), now[0])
    return g.op("Squeeze", floor, g.shape(1)), [following]


def _floor(net: Any, g: Graph, x: str, depths: str) -> tuple[str, str]:
    """`masker.running_floor`, one frame ``[batch, 1, ...]``; states are depths below `CEILING`."""
    depth = g.op("Max", _plus(g, g.op("Neg", x), CEILING), _plus(g, g.cut(depths, 1, 0, 1), -net.drift))
    return _plus(g, g.op("Neg", depth), CEILING), g.op("Concat", g.cut(depths, 1, 1, CHAINS), depth, axis=1)


def _core(net: Any, g: Graph, x: str, time: Time, before: dict[str, str], after: dict[str, str]) -> str:
    """Planes ``[rows, planes, 1, columns]`` -> what the network says, ``[rows, values, columns]``."""
    skips = []
    for down in net.down:
        b = down.linear.out_features
        edge = (down.kernel - down.stride) // 2
        weight = g.constant(down.convolution())
        bias = g.constant(array(down.linear.bias))
        x = g.op("Relu", g.op("Conv", x, weight, bias, strides=[1, down.stride], pads=[0, edge, 0, edge]))
        scale, shift = (g.constant(v[:, None, None]) for v in g.folded(down.norm))
        x = g.op("Add", g.op("Mul", x, scale), shift)
        skips.append(g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 3, 1]), g.shape(-1, b)))
    deepest = net.place.shape[1]
    y = g.op("Add", g.op("Reshape", skips[-1], g.shape(-1, net.bands, deepest)), g.constant(array(net.place)))
    y = g.op("Reshape", y, g.shape(-1, deepest))
    for k, block in enumerate(net.memory):
        y, after[f"state_memory_{k}"] = remember(block, g, y, before[f"state_memory_{k}"], time)
    for k, merge in enumerate(net.merge):
        y = g.op("Relu", g.linear(g.op("Concat", y, skips.pop(), axis=1), merge))
        if k < len(net.up):
            y = g.op("Relu", g.linear(y, net.up[k]))
            y = g.op("Reshape", y, g.shape(-1, net.up[k].out_features // net.strides[-1 - k]))
    width, stride = net.out.in_features // 3, net.strides[0]
    y = g.op("Reshape", y, g.shape(-1, 1, net.columns // stride, width))
    weight = g.constant(as_convolution(array(net.out.weight), 3))
    y = g.op(
        "Conv", g.op("Transpose", y, perm=[0, 3, 1, 2]), weight, g.constant(array(net.out.bias)), pads=[0, 1, 0, 1]
    )
    y = g.op("Reshape", y, g.shape(-1, stride, net.values, net.columns // stride))
    return g.op("Transpose", y, perm=[0, 2, 3, 1])


def _gains(net: Any, g: Graph, raw: str, level: str, low: str, reach: str) -> str:
    """`Masker.gains`."""
    if net.target == "mask":
        return g.op("Sigmoid", raw)
    if net.target == "noise":
        return g.op("Exp", _times(g, g.op("Softplus", raw), -LN10))
    share = g.op("Div", g.op("Sub", level, low), reach)
    share = g.op("Clip", share, g.constant(END), g.constant(1 - END))
    logit = g.op("Log", g.op("Div", share, g.op("Sub", g.constant(1), share)))
    voice = g.op("Sigmoid", g.op("Add", raw, logit))
    shift = g.op("Mul", reach, g.op("Sub", voice, share))
    return g.op("Exp", _times(g, g.op("Min", shift, g.constant(LOUDER)), LN10))


def _filtered(net: Any, g: Graph, planar: str, weights: str, before: dict[str, str], after: dict[str, str]) -> str:
    """Planar spectra ``[batch, frames, 2, bins]`` through weights ``[batch or 1, frames, values, bins]``."""
    if net.values == 1:
        return g.op("Mul", planar, weights)
    history = before["state_spectra"]
    heard, after["state_spectra"] = g.past(g.turned(planar), history, max(net.tap_frames), net.tap_frames)
    pairs = g.op("Reshape", g.op("Concat", *heard, axis=2), g.shape(0, 0, net.values, 2, net.bins))
    return g.op("ReduceSum", g.op("Mul", pairs, g.op("Unsqueeze", weights, g.shape(3))), g.shape(2), keepdims=0)
