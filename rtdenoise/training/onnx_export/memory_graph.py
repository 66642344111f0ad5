"""The networks' memories as ONNX nodes; the torch twins are in `memory`.

A call of few frames takes one step of the chains whose turn it is, a call of many runs all chains side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtdenoise.training.networks.memory import CHAINS, DilatedGRU, DualPathGRU
from rtdenoise.training.onnx_export.graph import Graph, array


@dataclass(frozen=True)
class Time:
    """How many frames a call has, as tensors.

    ``chains``: how many chains a memory has; ``live``: whether the call has one frame; ``sizes``: batch and frames;
    ``frames``; ``last``: frames + chains; ``abreast``: how many chains run, no more than there are frames; ``steps``:
    frames / abreast, rounded up; ``filling`` pads ``[batch, frames, rows, channels]`` to whole steps.
    """

    chains: int

    live: str
    sizes: str
    frames: str
    last: str
    abreast: str
    steps: str
    filling: str

    @classmethod
    def of(cls, g: Graph, noisy: str, chains: int = CHAINS) -> Time:
        sizes, frames = (g.op("Shape", noisy, start=start, end=2) for start in (0, 1))
        abreast = g.op("Min", frames, g.shape(chains))
        steps = g.op("Div", g.op("Sub", g.op("Add", frames, abreast), g.shape(1)), abreast)
        missing = g.op("Sub", g.op("Mul", steps, abreast), frames)
        filling = g.op("Concat", g.shape(0, 0, 0, 0, 0), missing, g.shape(0, 0), axis=0)
        live = g.op("Equal", frames, g.shape(1))
        return cls(chains, live, sizes, frames, g.op("Add", frames, g.shape(chains)), abreast, steps, filling)


def remember(block: DualPathGRU, g: Graph, y: str, state: str, time: Time) -> tuple[str, str]:
    """A bottleneck block on rows ``[batch * frames * bands, channels]``, and its next state."""
    channels = block.out.in_features
    bands = block.narrow.in_features // channels
    normed = g.op("LayerNormalization", y, g.constant(array(block.norm.weight)), g.constant(array(block.norm.bias)))
    x, following = recurrent(block.gru, g, normed, state, bands, time)
    y = g.op("Add", y, g.linear(x, block.out))
    across = g.op("Reshape", y, g.shape(-1, bands * channels))
    across = g.linear(g.op("Relu", g.linear(across, block.narrow)), block.widen)
    return g.op("Add", y, g.op("Reshape", across, g.shape(-1, channels))), following


def recurrent(gru: DilatedGRU, g: Graph, x: str, state: str, rows: int, time: Time) -> tuple[str, str]:
    """x ``[batch * frames * rows, channels]`` -> the same shape; the next state ``[batch, chains, rows, channels]``.

    The chains are rows of one GRU that takes a frame of each in a step; frames are filled up to whole steps. The first
    chain of the state is the one whose turn it is, and the next state is what the last frame of each chain gave, so no
    chain needs to be counted.
    """
    channels, chains = gru.hidden.in_features, time.chains
    wide = rows * channels
    x = g.op("Reshape", x, g.op("Concat", time.sizes, g.shape(rows, channels), axis=0))
    whole = g.op("Concat", g.shape(0, -1), time.abreast, g.shape(wide), axis=0)
    x = g.op("Transpose", g.op("Reshape", g.op("Pad", x, time.filling), whole), perm=[1, 0, 2, 3])
    x = g.op("Reshape", x, g.op("Concat", time.steps, g.shape(-1, channels), axis=0))
    first = g.op("Slice", state, g.shape(0), time.abreast, g.shape(1))
    first = g.op("Reshape", first, g.shape(1, -1, channels))
    y = g.op("GRU", x, *_weights(gru, g), "", first, hidden_size=channels, linear_before_reset=1)
    y = g.op("Reshape", y, g.op("Concat", time.steps, g.shape(-1), time.abreast, g.shape(wide), axis=0))
    y = g.op("Reshape", g.op("Transpose", y, perm=[1, 0, 2, 3]), g.shape(0, -1, rows, channels))
    both = g.op("Concat", state, y, axis=1)
    y = g.op("Slice", both, g.shape(chains), time.last, g.shape(1))
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
