"""What a network's layers do to float32 arrays, as compiled code that runs a whole list of them in one call.

    program: rows of int64 (which layer, addresses, sizes, strides) ─▶ run ─▶ results in the arrays that rows point to

ONNX Runtime takes half a microsecond for each node of a graph, however small, and reads weights as float32. Here a
layer costs some nanoseconds beside its arithmetic, and weights that half precision holds exactly are read as such: in
a step of one frame nothing is multiplied twice, so what a step costs is the reading of weights. Knows no model and no
file; whoever writes a program (`rtdenoise.model.program`) answers for its addresses.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.native.compilation import callback, carray
from rtdenoise.native.elementwise import binary, copy, copy_line, floats, layer, reduce, unary
from rtdenoise.native.functions import ONE, ZERO, sigmoids, tanh
from rtdenoise.native.intrinsics import (
    pointer,
    product_of_eight,
    product_of_four,
    product_of_fourteen,
    product_of_fourteen_short,
    product_of_one,
    product_of_two,
    widen,
)
from rtdenoise.native.panels import LANES, PANEL

# What a row of a program does; the columns after it are named where it is done.
COPY, BINARY, UNARY, REDUCE, PRODUCT, GATES, NORM, SMALL_PRODUCT = range(8)
COLUMNS = 24  # of a row
MOST_ROWS = 14  # that a product takes at once
MANY_ROWS = 28  # A panel is widened once for so many.
MOST_WIDENED = 1024  # values of a column, as far as scratch memory reaches
SCRATCH = (MOST_ROWS + MOST_WIDENED) * PANEL  # floats


@layer
def _at_once(rows: int, wide: bool) -> int:
    """How many of the rows left a product takes now."""
    if wide and (rows >= 28 or 14 <= rows < 16 or 18 <= rows < 20):
        return 14
    return 8 if rows >= 8 else 4 if rows >= 4 else 2 if rows >= 2 else 1


@layer
def _product(p: np.ndarray, temp: int) -> None:
    """out, a, weight, bias, rows, inner, columns, stride of a's rows, of out's, half, relu.

    ``out = a @ weight + bias``; weight as `panels.packed` lays it. ``temp`` is the address of scratch memory.
    """
    out, a, weight, bias = p[1], p[2], p[3], p[4]
    rows, inner, columns, a_row, out_row = p[5], p[6], p[7], p[8], p[9]
    half, relu = p[10], p[11]
    size = 2 if half else 4
    widened = half != 0 and rows >= MANY_ROWS and inner <= MOST_WIDENED
    wide = half == 0 or widened
    for panel in range((columns + PANEL - 1) // PANEL):
        width = min(PANEL, columns - panel * PANEL)
        w = weight + panel * PANEL * inner * size
        b = bias + 4 * panel * PANEL
        if widened:
            w, half = temp + 4 * MOST_ROWS * PANEL, 0
            widen(w, weight + panel * PANEL * inner * size, inner)
        r = 0
        while r < rows:
            count = _at_once(rows - r, wide)
            if width == PANEL:
                to, to_row = out + 4 * (r * out_row + panel * PANEL), out_row
            else:
                to, to_row = temp, PANEL
            at = a + 4 * r * a_row
            if count == 14 and width <= LANES:
                product_of_fourteen_short(to, to_row, at, a_row, w, b, inner, 0, relu)
            elif count == 14:
                product_of_fourteen(to, to_row, at, a_row, w, b, inner, 0, relu)
            elif count == 8:
                product_of_eight(to, to_row, at, a_row, w, b, inner, half, relu)
            elif count == 4:
                product_of_four(to, to_row, at, a_row, w, b, inner, half, relu)
            elif count == 2:
                product_of_two(to, to_row, at, a_row, w, b, inner, half, relu)
            else:
                product_of_one(to, to_row, at, a_row, w, b, inner, half, relu)
            if width != PANEL:
                for m in range(count):
                    copy_line(out + 4 * ((r + m) * out_row + panel * PANEL), temp + 4 * m * PANEL, width)
            r += count


@layer
def _gates(p: np.ndarray) -> None:
    """out, given, recalled, old, rows, channels, stride of given's rows: a GRU's step after its products, whose columns
    are keep, reset and new."""
    rows, n, given_row = p[5], p[6], p[7]
    for r in range(rows):
        y, h = floats(p[1] + 4 * r * n, n), floats(p[4] + 4 * r * n, n)
        g, s = floats(p[2] + 4 * r * given_row, 3 * n), floats(p[3] + 12 * r * n, 3 * n)
        for c in range(n):
            keep, reset = sigmoids(g[c] + s[c], g[n + c] + s[n + c])
            new = tanh(g[2 * n + c] + reset * s[2 * n + c])
            y[c] = new + keep * (h[c] - new)


@layer
def _norm(p: np.ndarray, epsilon: np.float32) -> None:
    """out, a, scale, shift, rows, channels."""
    rows, n = p[5], p[6]
    scale, shift = floats(p[3], n), floats(p[4], n)
    for r in range(rows):
        y, x = floats(p[1] + 4 * r * n, n), floats(p[2] + 4 * r * n, n)
        total = ZERO
        for c in range(n):
            total += x[c]
        mean = total / np.float32(n)
        total = ZERO
        for c in range(n):
            total += (x[c] - mean) * (x[c] - mean)
        size = ONE / np.sqrt(total / np.float32(n) + epsilon)
        for c in range(n):
            y[c] = (x[c] - mean) * size * scale[c] + shift[c]


@layer
def _small_product(p: np.ndarray) -> None:
    """out, a, b, count, rows, inner, columns, strides from one matrix to the next of a and b: matrices without gaps."""
    count, rows, inner, columns = p[4], p[5], p[6], p[7]
    for o in range(count):
        a, b = floats(p[2] + 4 * o * p[8], rows * inner), floats(p[3] + 4 * o * p[9], inner * columns)
        y = floats(p[1] + 4 * o * rows * columns, rows * columns)
        for r in range(rows):
            for c in range(columns):
                y[r * columns + c] = ZERO
            for k in range(inner):
                s = a[r * inner + k]
                for c in range(columns):
                    y[r * columns + c] += s * b[k * columns + c]


@callback(f"int64({', '.join(['int64'] * 8)})", passes=2, nogil=True, error_model="numpy")
def run(program: int, _1: int, numbers: int, _3: int, rows: int, scratch: int, _6: int, _7: int) -> int:
    """Run ``rows`` rows of a program (see `rtdenoise.model.program`); returns 0. It is called as OrtApi's Run is."""
    table = carray(pointer(program), (rows, COLUMNS), np.int64)
    values = carray(pointer(numbers), (rows, 2), np.float32)
    for i in range(rows):
        p = table[i]
        kind = p[0]
        if kind == PRODUCT:
            _product(p, scratch)
        elif kind == COPY:
            copy(p)
        elif kind == BINARY:
            binary(p)
        elif kind == UNARY:
            unary(p, values[i, 0], values[i, 1])
        elif kind == GATES:
            _gates(p)
        elif kind == REDUCE:
            reduce(p)
        elif kind == NORM:
            _norm(p, values[i, 0])
        elif kind == SMALL_PRODUCT:
            _small_product(p)
    return 0
