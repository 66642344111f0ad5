"""ONNX's operators as layers of a `Program`, for fixed shapes: as many as streaming models of the contract use.

A graph is walked once. What depends on weights and shapes alone is computed then, branches are chosen, loops unrolled,
and slices, transpositions and reshapes become views: nothing of them is left when the program runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rtdenoise.model.graph_file import Graph, Node
from rtdenoise.model.program import Program, Unsupported
from rtdenoise.native import elementwise


@dataclass(frozen=True)
class Tensor:
    """An array, and whether its values are known already; otherwise the program will put them there."""

    array: np.ndarray
    fixed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def integers(self) -> list[int]:
        """What a shape, an axis or the like is given by."""
        if not self.fixed:
            raise Unsupported("a shape that depends on the sound")
        return [int(v) for v in self.array.reshape(-1)]


Given = Sequence["Tensor | None"]
BINARY: dict[str, tuple[int, Callable[..., np.ndarray]]] = {
    "Add": (elementwise.ADD, np.add),
    "Sub": (elementwise.SUBTRACT, np.subtract),
    "Mul": (elementwise.MULTIPLY, np.multiply),
    "Div": (elementwise.DIVIDE, lambda a, b: a // b if a.dtype.kind == "i" else a / b),
    "Max": (elementwise.MAXIMUM, np.maximum),
    "Min": (elementwise.MINIMUM, np.minimum),
}
UNARY = {
    "Relu": elementwise.RELU,
    "Sigmoid": elementwise.SIGMOID,
    "Tanh": elementwise.TANH,
    "Sqrt": elementwise.ROOT,
    "Log": elementwise.LOGARITHM,
    "Neg": elementwise.NEGATIVE,
}
REDUCTIONS = {"ReduceSum": elementwise.SUM, "ReduceMean": elementwise.MEAN}


class Walk:
    """One walk through a graph, and through those inside it.

    Parameters
    ----------
    program : Program
        Where layers go.
    """

    def __init__(self, program: Program):
        self._program = program

    def run(self, graph: Graph, known: dict[str, Tensor]) -> dict[str, Tensor]:
        """Walk a graph whose inputs and surroundings are ``known``; returns all that is known then.

        Raises `Unsupported` for what a program cannot do.
        """
        known = known | {name: Tensor(array, True) for name, array in graph.weights.items()}
        uses = _uses(graph)
        for node in graph.nodes:
            given = [known[name] if name else None for name in node.inputs]
            known |= zip(node.outputs, self._node(node, given, known, uses), strict=False)
        return known

    def _node(self, node: Node, given: Given, known: dict[str, Tensor], uses: Counter[str]) -> list[Tensor]:
        kind, attributes = node.kind, {name: v for name, v in node.attributes.items() if v is not None}
        if kind == "If":
            return self._if(attributes, given, known)
        if kind == "Scan":
            return self._scan(attributes, given, known)
        if kind == "Relu" and given[0] and uses[node.inputs[0]] == 1 and self._program.relu_of_last(given[0].array):
            return [given[0]]
        if kind in BINARY:
            return [self._binary(kind, given)]
        if kind in UNARY:
            return [Tensor(self._program.unary(UNARY[kind], _floats(given[0])))]
        if kind in REDUCTIONS:
            return [self._reduce(kind, attributes, given)]
        operator: Callable[..., Any] | None = getattr(self, f"_{kind.lower()}", None)
        if operator is None or kind.lower() == kind:
            raise Unsupported(f"operator {kind}")
        made = operator(attributes, *given)
        return made if isinstance(made, list) else [made]

    # What chooses and repeats.

    def _if(self, attributes: dict[str, Any], given: Given, known: dict[str, Tensor]) -> list[Tensor]:
        [condition] = given
        assert condition is not None
        branch = attributes["then_branch" if condition.integers()[0] else "else_branch"]
        inside = self.run(branch, known)
        return [inside[name] for name in branch.outputs]

    def _scan(self, attributes: dict[str, Any], given: Given, known: dict[str, Tensor]) -> list[Tensor]:
        body, scanned = attributes["body"], attributes["num_scan_inputs"]
        every = [t for t in given if t is not None]
        states, items = every[:-scanned], every[-scanned:]
        axes = attributes.get("scan_input_axes", [0] * scanned)
        out_axes = attributes.get("scan_output_axes", [0] * (len(body.outputs) - len(states)))
        if any(attributes.get("scan_input_directions", [])) or any(attributes.get("scan_output_directions", [])):
            raise Unsupported("a loop that runs backwards")
        made: list[list[np.ndarray]] = []
        for k in range(items[0].shape[axes[0]]):
            now = [Tensor(np.moveaxis(t.array, axis, 0)[k], t.fixed) for t, axis in zip(items, axes, strict=True)]
            inside = self.run(body, known | dict(zip(body.inputs, [*states, *now], strict=True)))
            results = [inside[name] for name in body.outputs]
            states = results[: len(states)]
            made.append([_floats(t) for t in results[len(states) :]])
        stacked = [
            self._program.concatenated([np.expand_dims(a, axis) for a in steps], axis)
            for steps, axis in zip(zip(*made, strict=True), out_axes, strict=True)
        ]
        return [*states, *map(Tensor, stacked)]

    # What is done element by element, and sums.

    def _binary(self, kind: str, given: Given) -> Tensor:
        a, b = (t for t in given if t is not None)
        number, compute = BINARY[kind]
        if a.fixed and b.fixed:
            return Tensor(compute(a.array, b.array), True)
        known = 0 if a.fixed else 1 if b.fixed else None
        return Tensor(self._program.binary(number, _floats(a), _floats(b), known))

    def _pow(self, attributes: dict[str, Any], a: Tensor, exponent: Tensor) -> Tensor:
        if not exponent.fixed or exponent.array.size != 1:
            raise Unsupported("a power that is no constant")
        return Tensor(self._program.unary(elementwise.POWER, _floats(a), float(exponent.array.reshape(-1)[0])))

    def _hardsigmoid(self, attributes: dict[str, Any], a: Tensor) -> Tensor:
        numbers = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
        return Tensor(self._program.unary(elementwise.HARD_SIGMOID, _floats(a), *numbers))

    def _equal(self, attributes: dict[str, Any], a: Tensor, b: Tensor) -> Tensor:
        if not (a.fixed and b.fixed):
            raise Unsupported("a comparison of sounds")
        return Tensor(a.array == b.array, True)

    def _reduce(self, kind: str, attributes: dict[str, Any], given: Given) -> Tensor:
        a, axes = given[0], given[1] if len(given) > 1 else None
        assert a is not None
        chosen = axes.integers() if axes else attributes.get("axes") or list(range(a.array.ndim))
        chosen = [axis % a.array.ndim for axis in chosen]
        return Tensor(self._program.reduced(REDUCTIONS[kind], _floats(a), chosen, bool(attributes.get("keepdims", 1))))

    # What only moves.

    def _identity(self, attributes: dict[str, Any], a: Tensor) -> Tensor:
        return a

    def _shape(self, attributes: dict[str, Any], a: Tensor) -> Tensor:
        return Tensor(
            np.array(a.shape[attributes.get("start", 0) : attributes.get("end", a.array.ndim)], np.int64), True
        )

    def _transpose(self, attributes: dict[str, Any], a: Tensor) -> Tensor:
        return Tensor(a.array.transpose(attributes.get("perm")), a.fixed)

    def _reshape(self, attributes: dict[str, Any], a: Tensor, shape: Tensor) -> Tensor:
        wanted = shape.integers()
        if not attributes.get("allowzero", 0):
            wanted = [a.shape[k] if size == 0 else size for k, size in enumerate(wanted)]
        if a.fixed:
            return Tensor(a.array.reshape(wanted), True)
        sizes = np.empty(a.shape, np.bool_).reshape(wanted).shape  # what -1 stands for
        return Tensor(self._program.reshaped(a.array, sizes))

    def _unsqueeze(self, attributes: dict[str, Any], a: Tensor, axes: Tensor) -> Tensor:
        return Tensor(np.expand_dims(a.array, tuple(axes.integers())), a.fixed)

    def _squeeze(self, attributes: dict[str, Any], a: Tensor, axes: Tensor | None = None) -> Tensor:
        return Tensor(np.squeeze(a.array, tuple(axes.integers()) if axes else None), a.fixed)

    def _slice(
        self,
        attributes: dict[str, Any],
        a: Tensor,
        starts: Tensor,
        ends: Tensor,
        axes: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        begins = starts.integers()
        chosen = axes.integers() if axes else range(len(begins))
        by = steps.integers() if steps else [1] * len(begins)
        where = [slice(None)] * a.array.ndim
        for axis, begin, end, step in zip(chosen, begins, ends.integers(), by, strict=True):
            if step < 1:
                raise Unsupported("a slice that runs backwards")
            where[axis] = slice(begin, end, step)
        return Tensor(self._program.sliced(a.array, where), a.fixed)

    def _split(self, attributes: dict[str, Any], a: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
        if sizes is None:
            raise Unsupported("a split into parts without sizes")
        ends = np.cumsum(sizes.integers())[:-1]
        return [Tensor(part, a.fixed) for part in np.split(a.array, ends, attributes.get("axis", 0))]

    def _expand(self, attributes: dict[str, Any], a: Tensor, shape: Tensor) -> Tensor:
        return Tensor(np.broadcast_to(a.array, np.broadcast_shapes(a.shape, tuple(shape.integers()))), a.fixed)

    def _concat(self, attributes: dict[str, Any], *parts: Tensor) -> Tensor:
        axis = attributes["axis"] % parts[0].array.ndim
        if all(part.fixed for part in parts):
            return Tensor(np.concatenate([part.array for part in parts], axis), True)
        return Tensor(self._program.concatenated([_floats(part) for part in parts], axis))

    def _pad(self, attributes: dict[str, Any], a: Tensor, pads: Tensor, value: Tensor | None = None) -> Tensor:
        count, mode = a.array.ndim, attributes.get("mode", "constant")
        sizes = pads.integers()
        if mode not in ("constant", "edge") or len(sizes) != 2 * count or min(sizes) < 0:
            raise Unsupported("padding of this kind")
        filled = None if mode == "edge" else float(value.array.reshape(-1)[0]) if value else 0.0
        both = list(zip(sizes[:count], sizes[count:], strict=True))
        return Tensor(self._program.padded(_floats(a), both, filled))

    # What multiplies by weights.

    def _matmul(self, attributes: dict[str, Any], a: Tensor, b: Tensor) -> Tensor:
        if b.fixed and b.array.ndim == 2:
            rows = self._program.reshaped(_floats(a), (-1, a.shape[-1]))
            made = self._program.product(rows, _floats(b))
            return Tensor(made.reshape(*a.shape[:-1], b.shape[-1]))
        return Tensor(self._program.small_product(_floats(a), _floats(b)))

    def _gemm(self, attributes: dict[str, Any], a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        plain = all(attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta")) and not attributes.get("transA", 0)
        if not plain or not b.fixed or not (c is None or (c.fixed and c.shape == (c.array.size,))):
            raise Unsupported("a product of this kind")
        weight = _floats(b).T if attributes.get("transB", 0) else _floats(b)
        return Tensor(self._program.product(_floats(a), weight, None if c is None else _floats(c)))

    def _conv(self, attributes: dict[str, Any], a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        plain = attributes.get("group", 1) == 1 and attributes.get("auto_pad", "NOTSET") == "NOTSET"
        if not plain or a.array.ndim != 4 or not weight.fixed or any(v != 1 for v in attributes.get("dilations", [])):
            raise Unsupported("a convolution of this kind")
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        down, along = attributes.get("strides", [1, 1])
        x, w = _floats(a), _floats(weight)
        beside = x.strides[1] < x.strides[3]  # Channels lie side by side: so do those of a patch then.
        order = (0, 2, 3, 1) if beside else (0, 1, 2, 3)
        pads = [[(0, 0), (0, 0), (top, bottom), (left, right)][axis] for axis in order]
        x = x.transpose(order)
        x = self._program.padded(x, pads, 0.0)
        axes = order.index(2), order.index(3)
        windows: Any = sliding_window_view(x, w.shape[2:], axes)
        windows = windows.transpose(*(order.index(axis) for axis in (0, 2, 3)), 4, *((5, 3) if beside else (1, 5)))
        windows = windows[:, ::down, ::along]  # batch, rows, columns, then what a patch has, its rows first
        matrix = w.transpose(2, *((3, 1) if beside else (1, 3)), 0)
        used = np.flatnonzero(matrix.any((1, 2, 3)))  # A convolution over time may leave out frames.
        runs = np.split(used, np.flatnonzero(np.diff(used) > 1) + 1)
        if len(used) < len(matrix):
            windows = self._program.concatenated([windows[:, :, :, r[0] : r[-1] + 1] for r in runs if len(r)], 3)
        matrix = matrix[used].reshape(-1, matrix.shape[3])
        rows = self._program.reshaped(windows, (-1, len(matrix)))
        made = self._program.product(rows, matrix, None if bias is None else _floats(bias))
        return Tensor(made.reshape(*windows.shape[:3], -1).transpose(0, 3, 1, 2))

    def _gru(
        self,
        attributes: dict[str, Any],
        x: Tensor,
        weight: Tensor,
        recurrent: Tensor,
        bias: Tensor | None = None,
        lengths: Tensor | None = None,
        first: Tensor | None = None,
    ) -> list[Tensor]:
        usual = attributes.get("direction", "forward") == "forward" and attributes.get("linear_before_reset", 0) == 1
        odd = set(attributes) - {"direction", "linear_before_reset", "hidden_size"}
        if not usual or odd or lengths is not None or not (weight.fixed and recurrent.fixed):
            raise Unsupported("a GRU of this kind")
        channels = recurrent.shape[2]
        biases = np.zeros(6 * channels, np.float32) if bias is None else _floats(bias)[0]
        h = self._program.new(x.shape[1], channels) if first is None else _floats(first)[0]
        every = self._program.recurrent(_floats(x), [_floats(w)[0].T for w in (weight, recurrent)], biases, h)
        return [Tensor(every[:, None]), Tensor(every[-1:])]

    def _layernormalization(
        self, attributes: dict[str, Any], a: Tensor, scale: Tensor, shift: Tensor | None = None
    ) -> Tensor:
        if attributes.get("axis", -1) not in (-1, a.array.ndim - 1) or shift is None:
            raise Unsupported("a norm over other axes than the last")
        return Tensor(self._program.normed(_floats(a), _floats(scale), _floats(shift), attributes.get("epsilon", 1e-5)))


def _uses(graph: Graph) -> Counter[str]:
    """How often each value is taken, in graphs within this one too."""
    uses = Counter(graph.outputs)
    for node in graph.nodes:
        uses.update(node.inputs)
        for inner in node.attributes.values():
            if isinstance(inner, Graph):
                uses.update(_uses(inner))
    return uses


def _floats(tensor: Tensor | None) -> np.ndarray:
    if tensor is None or tensor.array.dtype != np.float32:
        raise Unsupported("integers where floats are expected")
    return tensor.array
