"""Functions of float32 arrays element by element, their sums, and copies between layouts, for `tensor_kernels`.

A row of a program names the function, addresses, sizes and strides in floats. All of it is compiled as part of
`tensor_kernels.run`, not before.
"""

from __future__ import annotations

import math

import numpy as np

from rtdenoise.native.compilation import F, carray, compiled
from rtdenoise.native.functions import HALF, LEAST, MOST, ONE, REASSOCIATED, ZERO, exponential, logarithm, tanh
from rtdenoise.native.intrinsics import move4, move8, move16, part8, pointer, turn8, weave8

ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM = range(6)
RELU, SIGMOID, TANH, ROOT, POWER, HARD_SIGMOID, LOGARITHM, NEGATIVE = range(8)
SUM, MEAN = range(2)
SIDE = 8  # of the blocks that are turned as a whole
DIMENSIONS = 6  # of the arrays that `copy` takes; `binary` takes one less


def layer(function: F) -> F:
    """Compiled as part of `tensor_kernels.run`."""
    return compiled(nogil=True, error_model="numpy", fastmath=REASSOCIATED)(function)


@layer
def floats(address: int, count: int) -> np.ndarray:
    """The floats at an address, as an array."""
    samples: np.ndarray = carray(pointer(address), (count,), np.float32)
    return samples


@layer
def copy_line(out: int, a: int, n: int) -> None:
    """Copy ``n`` floats that lie side by side, from the first to the last: to where they lie, or to before that."""
    to, at = int(np.int64(out)), int(np.int64(a))  # A pointer comes without a sign, and would make floats of sums.
    end = at + 4 * n
    while end - at >= 64:
        move16(to, at)
        to, at = to + 64, at + 64
    if end - at >= 32:
        move8(to, at)
        to, at = to + 32, at + 32
    if end - at >= 16:
        move4(to, at)
        to, at = to + 16, at + 16
    left = (end - at) // 4
    y, x = floats(to, left), floats(at, left)
    for i in range(left):
        y[i] = x[i]


@layer
def _copy_line(out: int, out_step: int, a: int, a_step: int, n: int) -> None:
    if out_step == 1 and a_step == 1:
        copy_line(out, a, n)
    else:
        y, x = floats(out, n * out_step), floats(a, n * a_step + 1)
        for i in range(n):
            y[i * out_step] = x[i * a_step]


@layer
def copy(p: np.ndarray) -> None:
    """out, a, six sizes, six strides of out and of a, in floats, the outermost first."""
    out, a = p[1], p[2]
    for i in range(p[3]):
        for j in range(p[4]):
            for k in range(p[5]):
                for m in range(p[6]):
                    to = out + 4 * (i * p[9] + j * p[10] + k * p[11] + m * p[12])
                    at = a + 4 * (i * p[15] + j * p[16] + k * p[17] + m * p[18])
                    _copy_lines(to, 4 * p[13], p[14], at, 4 * p[19], p[20], p[7], p[8])


@layer
def _copy_lines(out: int, out_row: int, out_step: int, a: int, a_row: int, a_step: int, rows: int, n: int) -> None:
    if n == 8 and out_step == 1 and a_step == 1:
        for _ in range(rows):
            move8(out, a)
            out, a = out + out_row, a + a_row
    elif n >= SIDE and rows == 2 and out_row == 4 and out_step == 2 and a_step == 1:
        for i in range(0, n, SIDE):
            k = min(i, n - SIDE)  # The last block overlaps the one before.
            weave8(out + 8 * k, a + 4 * k, a_row)
    elif n >= SIDE and rows == 2 and a_row == 4 and a_step == 2 and out_step == 1:
        for i in range(0, n, SIDE):
            k = min(i, n - SIDE)
            part8(out + 4 * k, out_row, a + 8 * k)
    elif n >= SIDE and rows >= SIDE and a_row == 4 and out_step == 1:
        for j in range(0, rows, SIDE):
            r = min(j, rows - SIDE)
            for i in range(0, n, SIDE):
                k = min(i, n - SIDE)
                turn8(out + r * out_row + 4 * k, out_row, a + 4 * (r + k * a_step), 4 * a_step)
    else:
        for _ in range(rows):
            _copy_line(out, out_step, a, a_step, n)
            out, a = out + out_row, a + a_row


@layer
def _binary_line(kind: int, out: int, a: int, a_step: int, b: int, b_step: int, n: int) -> None:
    y, x, z = floats(out, n), floats(a, n * a_step + 1), floats(b, n * b_step + 1)
    if a_step == 1 and b_step == 1:
        if kind == ADD:
            for i in range(n):
                y[i] = x[i] + z[i]
        elif kind == MULTIPLY:
            for i in range(n):
                y[i] = x[i] * z[i]
        elif kind == SUBTRACT:
            for i in range(n):
                y[i] = x[i] - z[i]
        else:
            _others(kind, y, x, a_step, z, b_step)
    elif a_step == 1 and b_step == 0:
        s = z[0]
        if kind == ADD:
            for i in range(n):
                y[i] = x[i] + s
        elif kind == MULTIPLY:
            for i in range(n):
                y[i] = x[i] * s
        else:
            _others(kind, y, x, a_step, z, b_step)
    elif a_step == 0 and b_step == 1 and kind == SUBTRACT:
        s = x[0]
        for i in range(n):
            y[i] = s - z[i]
    else:
        _others(kind, y, x, a_step, z, b_step)


@layer
def _others(kind: int, y: np.ndarray, x: np.ndarray, a_step: int, z: np.ndarray, b_step: int) -> None:
    for i in range(y.shape[0]):
        u, v = x[i * a_step], z[i * b_step]
        if kind == ADD:
            y[i] = u + v
        elif kind == SUBTRACT:
            y[i] = u - v
        elif kind == MULTIPLY:
            y[i] = u * v
        elif kind == DIVIDE:
            y[i] = u / v
        elif kind == MAXIMUM:
            y[i] = v if v > u or v != v else u
        else:
            y[i] = v if v < u or v != v else u


@layer
def binary(p: np.ndarray) -> None:
    """kind, out (whose elements lie side by side), a, b, five sizes, five strides of a and of b."""
    out = p[2]
    for i in range(p[5]):
        for j in range(p[6]):
            for k in range(p[7]):
                for m in range(p[8]):
                    a = p[3] + 4 * (i * p[10] + j * p[11] + k * p[12] + m * p[13])
                    b = p[4] + 4 * (i * p[15] + j * p[16] + k * p[17] + m * p[18])
                    _binary_line(p[1], out, a, p[14], b, p[19], p[9])
                    out += 4 * p[9]


@layer
def _ordinary(x: np.ndarray) -> bool:
    """Whether all are positive, finite and normal numbers."""
    others = 0
    for i in range(x.shape[0]):
        others += not LEAST <= x[i] <= MOST
    return others == 0


@layer
def unary(p: np.ndarray, u: np.float32, v: np.float32) -> None:
    """kind, out, a, count; both without gaps. u, v: exponent, or slope and offset."""
    kind, n = p[1], p[4]
    y, x = floats(p[2], n), floats(p[3], n)
    if kind == RELU:
        for i in range(n):
            y[i] = ZERO if x[i] < ZERO else x[i]
    elif kind == SIGMOID:
        for i in range(n):
            y[i] = HALF + HALF * tanh(HALF * x[i])
    elif kind == TANH:
        for i in range(n):
            y[i] = tanh(x[i])
    elif kind == ROOT:
        for i in range(n):
            y[i] = np.sqrt(x[i])
    elif kind == POWER and abs(u) <= HALF and _ordinary(x):
        for i in range(n):
            y[i] = exponential(u * logarithm(x[i]))
    elif kind == POWER:
        for i in range(n):
            y[i] = x[i] ** u
    elif kind == HARD_SIGMOID:
        for i in range(n):
            w = u * x[i] + v
            w = ZERO if w < ZERO else w
            y[i] = ONE if w > ONE else w
    elif kind == LOGARITHM and _ordinary(x):
        for i in range(n):
            y[i] = logarithm(x[i])
    elif kind == LOGARITHM:
        for i in range(n):
            y[i] = math.log(x[i])
    else:
        for i in range(n):
            y[i] = -x[i]


@layer
def reduce(p: np.ndarray) -> None:
    """kind, out, a, outer, axis, inner: ``a[outer, axis, inner]`` without gaps, over its middle."""
    outer, axis, inner = p[4], p[5], p[6]
    scale = ONE / np.float32(axis) if p[1] == MEAN else ONE
    for o in range(outer):
        if inner == 1:
            x = floats(p[3] + 4 * o * axis, axis)
            total = ZERO
            for i in range(axis):
                total += x[i]
            floats(p[2] + 4 * o, 1)[0] = scale * total
        else:
            y, x = floats(p[2] + 4 * o * inner, inner), floats(p[3] + 4 * o * axis * inner, inner)
            for k in range(inner):
                y[k] = scale * x[k]
            for i in range(1, axis):
                x = floats(p[3] + 4 * (o * axis + i) * inner, inner)
                for k in range(inner):
                    y[k] += scale * x[k]
