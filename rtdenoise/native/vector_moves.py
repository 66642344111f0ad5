"""Blocks of floats from one place to another, as vector instructions, turned on the way. Loaded to compile only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types

from rtdenoise.native.instructions import WORD, Typed, Values, code, intrinsic

SIDE = 8  # of the blocks that are turned


def _load(builder: ir.IRBuilder, at: ir.Value, floats: int) -> ir.Value:
    return builder.load(builder.inttoptr(at, ir.VectorType(ir.FloatType(), floats).as_pointer()), align=4)


def _store(builder: ir.IRBuilder, to: ir.Value, value: ir.Value) -> None:
    builder.store(value, builder.inttoptr(to, value.type.as_pointer()), align=4)


def _line(builder: ir.IRBuilder, base: ir.Value, row: ir.Value, r: int) -> ir.Value:
    return builder.add(base, builder.mul(row, WORD(r)))


def _picked(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """Lanes of two vectors one after the other, by their numbers."""
    chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(a, b, chosen)


def _woven(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """Lanes of two vectors in turns."""
    n = a.type.count
    return _picked(builder, a, b, [k // 2 + k % 2 * n for k in range(2 * n)])


def move(floats: int) -> Callable[..., Any]:
    """An intrinsic that copies so many neighbouring floats: ``move(to, at)``, of addresses."""

    @intrinsic
    def moved(typingctx: Any, to: types.Type, at: types.Type) -> Typed:
        def build(builder: ir.IRBuilder, args: Values) -> None:
            _store(builder, args[0], _load(builder, args[1], floats))

        return types.void(types.int64, types.int64), code(build)

    return moved


@intrinsic
def weave8(typingctx: Any, to: types.Type, at: types.Type, row: types.Type) -> Typed:
    """``to[i, r] = at[r, i]`` for 2 lines of 8, of which ``to`` has no gaps; ``row`` in bytes."""

    def build(builder: ir.IRBuilder, args: Values) -> None:
        to, at, row = args
        second = _load(builder, builder.add(at, row), SIDE)
        _store(builder, to, _woven(builder, _load(builder, at, SIDE), second))

    return types.void(*[types.int64] * 3), code(build)


@intrinsic
def part8(typingctx: Any, to: types.Type, row: types.Type, at: types.Type) -> Typed:
    """``to[r, i] = at[i, r]`` for 2 lines of 8, of which ``at`` has no gaps; ``row`` in bytes."""

    def build(builder: ir.IRBuilder, args: Values) -> None:
        to, row, at = args
        both = _load(builder, at, 2 * SIDE)
        for r in range(2):
            one = _picked(builder, both, both, range(r, 2 * SIDE, 2))
            _store(builder, _line(builder, to, row, r), one)

    return types.void(*[types.int64] * 3), code(build)


@intrinsic
def turn8(typingctx: Any, to: types.Type, to_row: types.Type, at: types.Type, at_row: types.Type) -> Typed:
    """``to[i, r] = at[r, i]`` for a square of 8 lines of 8; rows in bytes."""

    def build(builder: ir.IRBuilder, args: Values) -> None:
        to, to_row, at, at_row = args
        lines = [_load(builder, _line(builder, at, at_row, r), SIDE) for r in range(SIDE)]
        while len(lines) > 1:  # Weaving lines that are half of all apart, until all is one line.
            half = len(lines) // 2
            lines = [_woven(builder, a, b) for a, b in zip(lines[:half], lines[half:], strict=True)]
        for r in range(SIDE):
            one = _picked(builder, lines[0], lines[0], range(SIDE * r, SIDE * (r + 1)))
            _store(builder, _line(builder, to, to_row, r), one)

    return types.void(*[types.int64] * 4), code(build)


move4, move8, move16 = move(4), move(8), move(16)
