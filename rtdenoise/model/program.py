"""A list of layers in the making, for `rtdenoise.native.tensor_kernels.run`: arrays in, rows of a program out.

Arrays are numpy's own: a view of one (a slice, a transposition) costs nothing when the program runs. What a method
returns holds nothing yet; it will, once the program has run. Knows no file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from rtdenoise.model.placement import Addresses, PlacedProgram, Placement, needed
from rtdenoise.native import elementwise
from rtdenoise.native import tensor_kernels as kernels
from rtdenoise.native.fft import aligned
from rtdenoise.native.panels import PANEL, packed

FLOAT_BYTES = 4
SHORT = 8  # A line of fewer elements costs more than its elements do.


class Unsupported(Exception):
    """A program cannot do this."""


class Weights:
    """Weights as products read them, shared by all programs of a model.

    Attributes
    ----------
    bytes : int
        How much memory they take.
    """

    def __init__(self) -> None:
        self._packed: dict[tuple[tuple[int, ...], bytes], tuple[np.ndarray, bool]] = {}

    @property
    def bytes(self) -> int:
        return sum(laid.nbytes for laid, _ in self._packed.values())

    def laid_out(self, weight: np.ndarray) -> tuple[np.ndarray, bool]:
        """``weight`` ``[inner, columns]`` in panels, and whether in half precision."""
        key = weight.shape, hashlib.sha256(weight.tobytes()).digest()
        if key not in self._packed:
            found, half = packed(weight)
            # A vector that is part of two cache lines is read twice.
            laid = aligned(-(-found.nbytes // FLOAT_BYTES)).view(found.dtype)[: found.size].reshape(found.shape)
            laid[:] = found
            self._packed[key] = laid, half
        return self._packed[key]


class Program:
    """Rows of a program and the arrays they name.

    Parameters
    ----------
    weights : Weights
        Where weights are kept.
    """

    def __init__(self, weights: Weights):
        self._weights = weights
        self._rows: list[list[int]] = []
        self._numbers: list[tuple[float, float]] = []
        self._given: list[np.ndarray] = []
        self._made = Addresses()
        self._filled: list[np.ndarray] = []
        self._joined: list[tuple[np.ndarray, Sequence[np.ndarray], int]] = []
        self._named: list[list[int]] = []  # columns of addresses in each row, what it writes first

    def placed(self) -> PlacedProgram:
        """The program, ready to run."""
        addresses = [[row[k] for k in columns] for row, columns in zip(self._rows, self._named, strict=True)]
        kept = needed(self._made, addresses)
        named = np.zeros((len(kept), kernels.COLUMNS), np.bool_)
        table = np.zeros(named.shape, np.int64)
        for k, number in enumerate(kept):
            table[k, : len(self._rows[number])] = self._rows[number]
            named[k, self._named[number]] = True
        addresses = [addresses[number] for number in kept]
        placement = Placement(self._made, self._filled, addresses)
        table[named] = [placement.address(address) for address in table[named].tolist()]
        numbers = np.array([self._numbers[number] for number in kept], np.float32).reshape(-1, 2)
        outside = [a for a in self._given if self._made.find(a.ctypes.data) is None]
        return PlacedProgram(table, numbers, named, placement.memory, outside)

    def new(self, *shape: int) -> np.ndarray:
        """An array for one result."""
        made = aligned(*shape)
        self._made.add(made)
        return made

    def _add(self, kind: int, *columns: object, numbers: tuple[float, float] = (0.0, 0.0)) -> None:
        row, named = [kind], []
        for value in columns:
            if isinstance(value, np.ndarray):
                self._given.append(value)
                named.append(len(row))
                row.append(value.ctypes.data)
            else:
                row.append(int(value))  # type: ignore[call-overload]
        self._rows.append(row)
        self._named.append(named)
        self._numbers.append(numbers)

    def copy(self, to: np.ndarray, a: np.ndarray) -> None:
        """``to[:] = a``, of equal shapes or broadcast."""
        if to.size:
            axes = _axes([to, np.broadcast_to(a, to.shape)])
            near = [axis for axis in axes if min(axis[1]) == 1]
            if near and max(axes[-1][1]) > 1:  # No line lies side by side in both: the longest then, by large steps.
                longest = max(near)
                axes.remove(longest)
                axes.append(longest)
            if len(axes) > 2:  # Lines are copied in one go with those beside them, or with as many as can be.
                beside = max(axes[:-1], key=lambda axis: (min(axis[1]) == 1, axis[0]))
                axes.remove(beside)
                axes.insert(-1, beside)
            sizes, (out, source) = _columns(axes, 2, elementwise.DIMENSIONS)
            self._add(kernels.COPY, to, a, *sizes, *out, *source)

    def dense(self, a: np.ndarray) -> np.ndarray:
        """``a`` without gaps: itself, or a copy."""
        if a.flags.c_contiguous:
            return a
        made = self.new(*a.shape)
        self.copy(made, a)
        return made

    def reshaped(self, a: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """``a`` in another shape: a view where that is possible."""
        view = a.view()
        try:
            view.shape = tuple(shape)
        except AttributeError:  # its elements do not lie so
            return self.dense(a).reshape(shape)
        return view

    def concatenated(self, parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
        """Arrays one after the other along an axis: a view where they lie so."""
        for where in (lambda part: part, self._copied):
            these = [where(part) for part in parts]
            homes = {place[0] if (place := self._made.find(part.ctypes.data)) else None for part in these}
            if len(homes) == 1 and None not in homes and (view := _side_by_side(these, axis)) is not None:
                return view
        whole = list(parts[0].shape)
        whole[axis] = sum(part.shape[axis] for part in parts)
        made, at = self.new(*whole), 0
        for part in parts:
            self.copy(made.swapaxes(0, axis)[at : at + part.shape[axis]].swapaxes(0, axis), part)
            at += part.shape[axis]
        self._joined.append((made, parts, axis))
        return made

    def sliced(self, a: np.ndarray, where: Sequence[slice]) -> np.ndarray:
        """A view of ``a``; of a concatenation one of a part, if all lies there: nothing is copied then."""
        for made, parts, axis in self._joined:
            if a is made:
                begin, end, step = where[axis].indices(a.shape[axis])
                for part in parts:
                    if 0 <= begin < end <= part.shape[axis]:
                        inside = list(where)
                        inside[axis] = slice(begin, end, step)
                        return part[tuple(inside)]
                    begin, end = begin - part.shape[axis], end - part.shape[axis]
        return a[tuple(where)]

    def _copied(self, a: np.ndarray) -> np.ndarray:
        """The same elements where a concatenation has them."""
        address = a.ctypes.data
        extent = FLOAT_BYTES + sum((n - 1) * step for n, step in zip(a.shape, a.strides, strict=True))
        for made, parts, axis in self._joined:
            before = 0
            for part in parts:
                inside = address - part.ctypes.data
                fits = 0 <= inside <= part.nbytes - extent and part.flags.c_contiguous
                if fits and math.prod(part.shape[:axis]) == 1:
                    return as_strided(made.reshape(-1)[(before + inside) // FLOAT_BYTES :], a.shape, a.strides)
                before += part.nbytes
        return a

    def padded(self, a: np.ndarray, pads: Sequence[tuple[int, int]], value: float | None) -> np.ndarray:
        """``a`` with so many elements before and after it, axis by axis: a value, or with None its own last ones."""
        if not any(map(any, pads)):
            return a
        made = self.new(*(size + before + after for size, (before, after) in zip(a.shape, pads, strict=True)))
        made[:] = value or 0.0
        self._filled.append(made)
        inner = tuple(slice(before, before + size) for size, (before, _) in zip(a.shape, pads, strict=True))
        self.copy(made[inner], a)
        for axis, (before, after) in enumerate(pads if value is None else ()):
            turned = made.swapaxes(0, axis)
            if before:
                self.copy(turned[:before], turned[before : before + 1])
            if after:
                self.copy(turned[-after:], turned[-after - 1 : -after])
        return made

    def binary(self, kind: int, a: np.ndarray, b: np.ndarray, known: int | None = None) -> np.ndarray:
        """Two arrays element by element, broadcast as numpy does; ``kind`` is one of `elementwise`'s.

        ``known`` is the index of the one whose values are known already; it is laid out as the other one is.
        """
        shape, given = np.broadcast_shapes(a.shape, b.shape), [a, b]
        whole = [v for k, v in enumerate(given) if v.shape == shape and k != known]
        natural = tuple(range(len(shape)))
        order = next((o for v in whole if (o := _order(v)) and shape[o[-1]] >= SHORT), natural)
        back = np.argsort(order)
        if known is not None:
            v = given[known]
            full = v.reshape([1] * (len(shape) - v.ndim) + list(v.shape))
            given[known] = np.ascontiguousarray(full.transpose(order)).transpose(back)
        made = self.new(*(shape[axis] for axis in order))
        if made.size:
            spread = [np.broadcast_to(v, shape).transpose(order) for v in given]
            spread = [v if v.strides[-1] in (0, FLOAT_BYTES) else self.dense(v) for v in spread]
            sizes, (_, first, second) = _columns(_axes([made, *spread]), 3, elementwise.DIMENSIONS - 1)
            self._add(kernels.BINARY, kind, made, *spread, *sizes, *first, *second)
        return made.transpose(back)

    def unary(self, kind: int, a: np.ndarray, *numbers: float) -> np.ndarray:
        """A function of every element; ``kind`` is one of `elementwise`'s, with its numbers."""
        order = _order(a) or tuple(range(a.ndim))
        a = self.dense(a.transpose(order))
        made = self.new(*a.shape)
        first, second = (*numbers, 0.0, 0.0)[:2]
        self._add(kernels.UNARY, kind, made, a, a.size, numbers=(first, second))
        return made.transpose(np.argsort(order))

    def reduced(self, kind: int, a: np.ndarray, axes: Sequence[int], keep: bool) -> np.ndarray:
        """Sum or mean over neighbouring axes."""
        first, last = min(axes), max(axes)
        if sorted(axes) != list(range(first, last + 1)):
            raise Unsupported("a sum over axes that are no neighbours")
        outer, axis, inner = (math.prod(s) for s in (a.shape[:first], a.shape[first : last + 1], a.shape[last + 1 :]))
        made = self.new(*a.shape[:first], *[1] * (len(axes) if keep else 0), *a.shape[last + 1 :])
        self._add(kernels.REDUCE, kind, made, self.dense(a), outer, axis, inner)
        return made

    def product(self, a: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """Rows ``[rows, inner] @ weight [inner, columns] + bias``."""
        if a.strides[1] != FLOAT_BYTES or a.strides[0] < 0:
            a = self.dense(a)
        (rows, inner), columns = a.shape, weight.shape[1]
        laid, half = self._weights.laid_out(weight)
        added = aligned(len(laid) * PANEL)
        if bias is not None:
            added[:columns] = bias
        made = self.new(rows, columns)
        row = a.strides[0] // FLOAT_BYTES
        self._add(kernels.PRODUCT, made, a, laid, added, rows, inner, columns, row, columns, half, 0)
        return made

    def relu_of_last(self, a: np.ndarray) -> bool:
        """Make the last layer, a product whose whole result is ``a``, end in a ReLU; False if it is none."""
        row = self._rows[-1] if self._rows else [-1]
        fits = row[0] == kernels.PRODUCT and row[1] == a.ctypes.data and a.size == row[5] * row[7]
        if fits:
            row[11] = 1
        return fits

    def small_product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``a @ b`` of stacks of matrices; one of them may be a single matrix."""
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        for v in (a, b):
            if v.ndim > 2 and v.shape[:-2] != stack:
                raise Unsupported("a product of stacks of different sizes")
        a, b = self.dense(a), self.dense(b)
        rows, inner, columns = *a.shape[-2:], b.shape[-1]
        made = self.new(*stack, rows, columns)
        steps = [v[0].size if v.ndim == 3 else (0 if v.ndim == 2 else math.prod(v.shape[-2:])) for v in (a, b)]
        self._add(kernels.SMALL_PRODUCT, made, a, b, math.prod(stack), rows, inner, columns, *steps)
        return made

    def recurrent(self, x: np.ndarray, weights: Sequence[np.ndarray], biases: np.ndarray, h: np.ndarray) -> np.ndarray:
        """A GRU (reset after its product) over ``x [steps, rows, inputs]`` from ``h [rows, channels]``: all its states.

        ``weights``: of input and state, ``[inputs, 3 channels]``, their biases one after the other; keep, reset, new.
        """
        (steps, rows, inputs), channels = x.shape, h.shape[1]
        given = self.product(self.reshaped(x, (steps * rows, inputs)), weights[0], biases[: 3 * channels])
        made, h = self.new(steps, rows, channels), self.dense(h)
        for t in range(steps):
            recalled = self.product(h, weights[1], biases[3 * channels :])
            now = given[t * rows : (t + 1) * rows]
            self._add(kernels.GATES, made[t], now, recalled, h, rows, channels, 3 * channels)
            h = made[t]
        return made

    def normed(self, a: np.ndarray, scale: np.ndarray, shift: np.ndarray, epsilon: float) -> np.ndarray:
        """Layer norm over the last axis."""
        made, n = self.new(*a.shape), a.shape[-1]
        given = [np.ascontiguousarray(np.broadcast_to(v, n)) for v in (scale, shift)]
        self._add(kernels.NORM, made, self.dense(a), *given, a.size // n, n, numbers=(epsilon, 0.0))
        return made


def _side_by_side(parts: Sequence[np.ndarray], axis: int) -> np.ndarray | None:
    """One view of parts of one array that follow each other in memory along an axis, if they do."""
    first, size = parts[0], sum(part.shape[axis] for part in parts)
    step = first.strides[axis]
    if len(parts) > 1 and first.shape[axis] == 1:
        step = parts[1].ctypes.data - first.ctypes.data
    at = first.ctypes.data
    for part in parts:
        others = [k for k, n in enumerate(part.shape) if k != axis and n > 1]
        alike = all(part.strides[k] == first.strides[k] for k in others)
        if part.ctypes.data != at or not alike or step < 0 or (part.shape[axis] > 1 and part.strides[axis] != step):
            return None
        at += step * part.shape[axis]
    shape, steps = list(first.shape), list(first.strides)
    shape[axis], steps[axis] = size, step
    return as_strided(first, shape, steps)


Axis = tuple[int, tuple[int, ...]]  # its size, and the step along it in each of some arrays, in floats


def _axes(arrays: Sequence[np.ndarray]) -> list[Axis]:
    """As few axes as reach the same elements of arrays of one shape, the one with the smallest steps last."""
    steps = list(zip(*([step // FLOAT_BYTES for step in a.strides] for a in arrays), strict=True))
    if any(step < 0 for now in steps for step in now):
        raise Unsupported("an array that runs backwards")
    found: list[Axis] = []
    for size, now in sorted(zip(arrays[0].shape, steps, strict=True), key=lambda axis: axis[1], reverse=True):
        if size == 1:
            continue
        if found and all(outer == step * size for outer, step in zip(found[-1][1], now, strict=True)):
            found[-1] = found[-1][0] * size, now
        else:
            found.append((size, now))
    return found


def _columns(axes: Sequence[Axis], arrays: int, count: int) -> tuple[list[int], list[list[int]]]:
    """Sizes of ``count`` axes, and the steps of each array, as a program's row holds them."""
    if len(axes) > count:
        raise Unsupported("an array of too many axes")
    filled = [(1, (0,) * arrays)] * (count - len(axes)) + list(axes)
    return [size for size, _ in filled], [[steps[k] for _, steps in filled] for k in range(arrays)]


def _order(a: np.ndarray) -> tuple[int, ...] | None:
    """The axes in the order in which they lie in memory, if there are no gaps."""
    order = tuple(sorted(range(a.ndim), key=lambda axis: (a.shape[axis] > 1, -a.strides[axis])))
    return order if a.transpose(order).flags.c_contiguous else None
