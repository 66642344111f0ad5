"""Products of matrices with few rows, as vector instructions: what most of a network's step is. Loaded to compile only.

Weights lie as `rtdenoise.native.panels` lays them out: each panel is read once from its beginning to its end.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from rtdenoise.native.instructions import WORD, Typed, Values, code, intrinsic
from rtdenoise.native.panels import LANES, PANEL, VECTORS

FLOAT, HALF_FLOAT, INDEX = ir.FloatType(), ir.HalfType(), ir.IntType(32)
BYTE, LINE = ir.IntType(8), 64  # bytes of a cache line
# With so few rows, reading weights is most of the work: they are asked for so many bytes ahead.
FEW_ROWS, AHEAD = 8, 2048
VECTOR, HALF_VECTOR = ir.VectorType(FLOAT, LANES), ir.VectorType(HALF_FLOAT, LANES)


def _product(rows: int, chains: int, wide: bool = False, vectors: int = VECTORS) -> Any:
    """An intrinsic for ``rows`` rows times one panel, summed in ``chains`` parts, so that none waits for another.

    Sums stand in registers, of which AVX-512 has 32; ``wide`` takes float32 alone. Of a panel it takes so many
    ``vectors``. A ReLU follows if it is asked for.
    """

    @intrinsic
    def product(
        typingctx: Any,
        out: types.Type,
        out_row: types.Type,
        a: types.Type,
        a_row: types.Type,
        weight: types.Type,
        bias: types.Type,
        inner: types.Type,
        half: types.Type,
        relu: types.Type,
    ) -> Typed:
        def build(builder: ir.IRBuilder, args: Values) -> None:
            if wide:
                _loop(builder, args, rows, chains, vectors, VECTOR)
                return
            is_half = builder.icmp_signed("!=", args[7], WORD(0))
            with builder.if_else(is_half) as (yes, no):
                with yes:
                    _loop(builder, args, rows, chains, vectors, HALF_VECTOR)
                with no:
                    _loop(builder, args, rows, chains, vectors, VECTOR)

        return types.void(*[types.int64] * 9), code(build)

    return product


def _loop(builder: ir.IRBuilder, args: Values, rows: int, chains: int, vectors: int, held: ir.VectorType) -> None:
    out, out_row, a, a_row, weight, bias, inner, _, relu = args
    size = 2 if held is HALF_VECTOR else 4
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), INDEX, INDEX, INDEX])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    at = lambda base, offset, kind: builder.inttoptr(builder.add(base, offset), kind.as_pointer())
    bytes_of = lambda count, each: builder.mul(count, WORD(each))

    def load(base: ir.Value, offset: ir.Value, kind: ir.Type, align: int) -> ir.Value:
        return builder.load(at(base, offset, kind), align=align)

    sums = [
        [[cgutils.alloca_once(builder, VECTOR) for _ in range(vectors)] for _ in range(rows)] for _ in range(chains)
    ]
    for v in range(vectors):
        first = load(bias, WORD(4 * LANES * v), VECTOR, 4)
        for chain in range(chains):
            for r in range(rows):
                builder.store(first if chain == 0 else ir.Constant(VECTOR, None), sums[chain][r][v])

    def add(k: ir.Value, chain: int) -> None:
        row = bytes_of(k, PANEL * size)
        weights = [load(weight, builder.add(row, WORD(v * LANES * size)), held, size) for v in range(vectors)]
        if rows <= FEW_ROWS:
            for line in range(0, PANEL * size, LINE):
                ahead = at(weight, builder.add(row, WORD(AHEAD + line)), BYTE)
                builder.call(prefetch, [ahead, INDEX(0), INDEX(3), INDEX(1)])  # to read it, into all caches
        if held is HALF_VECTOR:
            weights = [builder.fpext(w, VECTOR) for w in weights]
        for r in range(rows):
            where = builder.add(bytes_of(k, 4), bytes_of(a_row, 4 * r))
            value = load(a, where, FLOAT, 4)
            one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, INDEX(0))
            spread = builder.shuffle_vector(
                one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(ir.VectorType(INDEX, LANES), None)
            )
            for v in range(vectors):
                slot = sums[chain][r][v]
                builder.store(builder.call(fma, [spread, weights[v], builder.load(slot)]), slot)

    whole = builder.udiv(inner, WORD(chains))
    with cgutils.for_range(builder, whole) as loop:
        first_k = builder.mul(loop.index, WORD(chains))
        for chain in range(chains):
            add(builder.add(first_k, WORD(chain)), chain)
    if chains > 1:
        done = builder.mul(whole, WORD(chains))
        with cgutils.for_range(builder, builder.sub(inner, done)) as loop:
            add(builder.add(done, loop.index), 0)
    is_relu = builder.icmp_signed("!=", relu, WORD(0))
    least = builder.select(is_relu, ir.Constant(VECTOR, [0.0] * LANES), ir.Constant(VECTOR, [-math.inf] * LANES))
    for r in range(rows):
        for v in range(vectors):
            total = builder.load(sums[0][r][v])
            for chain in range(1, chains):
                total = builder.fadd(total, builder.load(sums[chain][r][v]))
            total = builder.select(builder.fcmp_ordered("<", total, least), least, total)  # NaN stays.
            where = builder.add(bytes_of(out_row, 4 * r), WORD(4 * LANES * v))
            builder.store(total, at(out, where, VECTOR), align=4)


@intrinsic
def widen(typingctx: Any, to: types.Type, weight: types.Type, inner: types.Type) -> Typed:
    """A panel in half precision as float32, for products of so many rows that to widen it for each costs more."""

    def build(builder: ir.IRBuilder, args: Values) -> None:
        to, weight, inner = args
        with cgutils.for_range(builder, builder.mul(inner, WORD(VECTORS))) as loop:
            at = lambda base, size, kind: builder.inttoptr(
                builder.add(base, builder.mul(loop.index, WORD(LANES * size))), kind.as_pointer()
            )
            half = builder.load(at(weight, 2, HALF_VECTOR), align=2)
            builder.store(builder.fpext(half, VECTOR), at(to, 4, VECTOR), align=4)

    return types.void(*[types.int64] * 3), code(build)


of_one, of_two, of_four = _product(1, 4), _product(2, 2), _product(4, 1)
of_eight, of_fourteen = _product(8, 1), _product(14, 1, wide=True)
of_fourteen_short = _product(14, 1, wide=True, vectors=1)
