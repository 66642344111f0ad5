"""ONNX graphs written node by node, and the streaming model around them.

Owns the builder and the contract's outer shape. Only what truly runs from frame to frame goes into a Scan
(`Graph.scan`); the rest sees all frames of a call as rows of one matrix, so that a file reads each weight once a call
and not once a frame. Written by hand because a live step costs as many microseconds as it has nodes: exporters produce
three times as many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from rtdenoise.training.spectra import COMPRESSION, SMALL

OPSET = 18
IR_VERSION = 9
END = np.iinfo(np.int64).max  # The end of a slice that takes everything.
TURN = np.array([[1, 0], [0, 1], [0, -1], [1, 0]])  # (re, im) -> (re, im, -im, re): the spectrum and j times it


Branch = Callable[["Graph"], Sequence[str]]


class Graph:
    """Nodes and weights. Values are referred to by name; `op` makes a node and returns the name of its output."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._prefix = prefix
        self._known: dict[bytes, str] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; its output's name, or a list of them."""
        names = [
            f"{self._prefix}{kind.lower()}_{len(self.nodes)}" + (f"_{k}" if outputs > 1 else "") for k in range(outputs)
        ]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """A weight; equal ones are stored once."""
        array: np.ndarray = np.ascontiguousarray(np.asarray(value, dtype))
        key = repr((array.dtype, array.shape)).encode() + array.tobytes()
        if key not in self._known:
            self._known[key] = f"{self._prefix}w{len(self.weights)}"
            self.weights.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def shape(self, *sizes: int) -> str:
        return self.constant(sizes, np.int64)

    def cut(self, x: str, axis: int, begin: int, end: int) -> str:
        return self.op("Slice", x, *(self.shape(v) for v in (begin, end, axis)))

    def gemm(self, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """``x @ weight.T + bias`` of rows, weight as torch keeps it."""
        return self.op("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def linear(self, x: str, layer: nn.Linear) -> str:
        return self.gemm(x, array(layer.weight), array(layer.bias))

    def compressed(self, planar: str) -> str:
        """`spectra.compressed` of planar spectra ``[..., 2, bins]``."""
        power = self.op("ReduceSum", self.op("Mul", planar, planar), self.shape(-2), keepdims=1)
        power = self.op("Add", power, self.constant(SMALL**2))
        return self.op("Mul", planar, self.op("Pow", power, self.constant((COMPRESSION - 1) / 2)))

    def turned(self, planar: str) -> str:
        """Planar spectra ``[..., 2, bins]`` beside j times themselves, ``[..., 4, bins]``: a complex product becomes a
        real product and a sum."""
        return self.op("MatMul", self.constant(TURN), planar)

    def weighted(self, turned: str, taps: str, count: int, bins: int) -> str:
        """Deep filtering: the sum of ``count`` spectra, each times its complex tap; planar ``[rows, 2, bins]``.

        turned: as `turned` makes them, ``count`` times 4 planes a row; taps ``[rows, 2 * count, bins]``.
        """
        pairs = self.op("Reshape", turned, self.shape(-1, 2 * count, 2, bins))
        products = self.op("Mul", pairs, self.op("Unsqueeze", taps, self.shape(2)))
        return self.op("ReduceSum", products, self.shape(1), keepdims=0)

    def past(self, sequence: str, before: str, longest: int, offsets: Sequence[int]) -> tuple[list[str], str]:
        """For each offset the frames that many frames ago, and the next ``before``.

        sequence ``[batch, frames, ...]``, before ``[batch, longest, ...]``: the frames before it, oldest first.
        """
        frames = self.op("Concat", before, sequence, axis=1)
        return self.ago(frames, longest, offsets), self.cut(frames, 1, -longest, END)

    def ago(self, frames: str, longest: int, offsets: Sequence[int]) -> list[str]:
        """For each offset the frames that many frames ago, of ``frames`` that begin with ``longest`` earlier ones."""
        return [self.cut(frames, 1, longest - k, -k if k else END) for k in offsets]

    def scan(
        self,
        step: Callable[[Graph, str, list[str]], tuple[str, list[str]]],
        sequence: str,
        states: Sequence[str],
        state_shapes: Sequence[tuple[int, ...]],
        item_shapes: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> tuple[str, list[str]]:
        """Run ``step(graph, item, states) -> (output, next states)`` over ``sequence`` ``[batch, frames, ...]``.

        Shapes are without batch and frames; ``item_shapes`` are those of an item and of an output. Returns the outputs
        ``[batch, frames, ...]`` and the last states.
        """
        inner = Graph(f"{self._prefix}step{len(self.nodes)}_")
        item, *now = (f"{inner._prefix}in{k}" for k in range(1 + len(states)))
        rows = f"{inner._prefix}rows"  # not the model's batch: linked channels go through as one
        out, following = step(inner, item, now)
        body = helper.make_graph(
            inner.nodes,
            f"{inner._prefix}body",
            [declare(n, [rows, *s]) for n, s in zip([*now, item], [*state_shapes, item_shapes[0]], strict=True)],
            [declare(n, [rows, *s]) for n, s in zip([*following, out], [*state_shapes, item_shapes[1]], strict=True)],
            inner.weights,
        )
        axes = {"num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [1]}
        *last, outputs = self.op("Scan", *states, sequence, outputs=1 + len(states), body=body, **axes)
        return outputs, last

    def either(self, condition: str, yes: Branch, no: Branch) -> list[str]:
        """Outputs of ``yes(graph)`` if the condition holds, else of ``no(graph)``; both may use this graph's values."""
        bodies = {}
        for name, describe in (("then_branch", yes), ("else_branch", no)):
            inner = Graph(f"{self._prefix}{name[:4]}{len(self.nodes)}_")
            outputs = [helper.make_empty_tensor_value_info(n) for n in describe(inner)]
            for output in outputs:
                output.type.tensor_type.elem_type = TensorProto.FLOAT
            bodies[name] = helper.make_graph(inner.nodes, f"{inner._prefix}body", [], outputs, inner.weights)
        return self.op("If", condition, outputs=len(outputs), **bodies)

    @staticmethod
    def folded(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
        """A trained batch norm as scale and shift of its channels."""
        scale = array(norm.weight) / np.sqrt(array(norm.state_dict()["running_var"]) + norm.eps)
        return scale, array(norm.bias) - array(norm.state_dict()["running_mean"]) * scale


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def declare(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def streaming_model(
    describe: Callable[[Graph, str, list[str]], tuple[str, list[str]]],
    bins: int,
    states: dict[str, tuple[int, ...]],
    metadata: dict[str, str],
) -> onnx.ModelProto:
    """A model under the contract. ``describe(graph, noisy, states)`` takes names of noisy ``[batch, frames, bins, 2]``
    and states ``[batch, ...]``, and returns those of enhanced and of the next states."""
    graph = Graph()
    enhanced, following = describe(graph, "noisy", list(states))
    for made, name in zip((enhanced, *following), ("enhanced", *(f"{n}_next" for n in states)), strict=True):
        graph.nodes.append(helper.make_node("Identity", [made], [name]))
    spectrum: list[str | int] = ["batch", "frames", bins, 2]
    shapes: dict[str, list[str | int]] = {n: ["batch", *s] for n, s in states.items()}
    outer = helper.make_graph(
        graph.nodes,
        metadata["name"],
        [declare("noisy", spectrum), *(declare(n, s) for n, s in shapes.items())],
        [declare("enhanced", spectrum), *(declare(f"{n}_next", s) for n, s in shapes.items())],
        graph.weights,
    )
    model = helper.make_model(outer, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
