"""ONNX graphs written node by node: one frame as a graph, and the streaming model around it.

Owns the builder and the contract's outer shape. A network describes one frame only (`FrameGraph`); `streaming_model`
runs that description over any number of frames with one Scan, so one frame a call and many give the same numbers.
Written by hand because a live step costs as many microseconds as it has nodes: exporters produce three times as many.
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
END = np.iinfo(np.int64).max  # of a slice
TURN = np.array([[1, 0], [0, 1], [0, -1], [1, 0]])  # (re, im) -> (re, im, -im, re): the spectrum and j times it


class FrameGraph:
    """Nodes and weights of one frame's work. Values are referred to by name; `op` makes a node and returns its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._known: dict[bytes, str] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; its output's name, or a list of them."""
        names = [f"{kind.lower()}_{len(self.nodes)}" + (f"_{k}" if outputs > 1 else "") for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """A weight; equal ones are stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        key = repr((array.dtype, array.shape)).encode() + array.tobytes()
        if key not in self._known:
            self._known[key] = f"w{len(self.weights)}"
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
        """`spectra.compressed` of planar spectra ``[batch, 2, bins]``."""
        power = self.op("ReduceSum", self.op("Mul", planar, planar), self.shape(1), keepdims=1)
        power = self.op("Add", power, self.constant(SMALL**2))
        return self.op("Mul", planar, self.op("Pow", power, self.constant((COMPRESSION - 1) / 2)))

    def filtered(self, planar: str, taps: str, past: str, bins: int = 129) -> tuple[str, str]:
        """Sum of this spectrum ``[batch, 2, bins]`` and the past ones, each times its complex tap; and the next past.

        taps ``[batch, 2 * count, bins]`` (re, im of each), past ``[batch, count - 1, 4, bins]``; the oldest comes first.
        Spectra are kept beside j times themselves, so that a complex product is one real product and one sum.
        """
        turned = self.op("Unsqueeze", self.op("MatMul", self.constant(TURN), planar), self.shape(1))
        frames = self.op("Concat", past, turned, axis=1)
        pairs = self.op("Reshape", frames, self.shape(0, -1, 2, bins))
        weighted = self.op("Mul", pairs, self.op("Unsqueeze", taps, self.shape(2)))
        return self.op("ReduceSum", weighted, self.shape(1), keepdims=0), self.cut(frames, 1, 1, END)

    @staticmethod
    def folded(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
        """A trained batch norm as scale and shift of its channels."""
        scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
        return scale, array(norm.bias) - array(norm.running_mean) * scale


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def streaming_model(
    frame: Callable[[FrameGraph, str, Sequence[str]], tuple[str, Sequence[str]]],
    bins: int,
    states: dict[str, tuple[int, ...]],
    metadata: dict[str, str],
) -> onnx.ModelProto:
    """A model under the contract. ``frame(graph, noisy, states)`` describes one frame: noisy ``[batch, bins, 2]`` and
    states ``[batch, ...]`` by name in, names of enhanced and next states out."""
    graph = FrameGraph()
    inner_states = [f"{name}_now" for name in states]
    enhanced, following = frame(graph, "frame", inner_states)
    shapes = {"frame": ["batch", bins, 2], **{f"{n}_now": ["batch", *s] for n, s in states.items()}}
    declare = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    body = helper.make_graph(
        graph.nodes,
        "one_frame",
        [declare(n, shapes[n]) for n in (*inner_states, "frame")],
        [declare(n, ["batch", *s]) for n, s in zip(following, states.values(), strict=True)]
        + [declare(enhanced, ["batch", bins, 2])],
        graph.weights,
    )
    scan = helper.make_node(
        "Scan",
        [*states, "noisy"],
        [*(f"{n}_next" for n in states), "enhanced"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    outer_shape = ["batch", "frames", bins, 2]
    outer = helper.make_graph(
        [scan],
        metadata["name"],
        [declare("noisy", outer_shape), *(declare(n, ["batch", *s]) for n, s in states.items())],
        [declare("enhanced", outer_shape), *(declare(f"{n}_next", ["batch", *s]) for n, s in states.items())],
    )
    model = helper.make_model(outer, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model
