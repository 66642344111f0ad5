"""Instructions that numba lacks: C calls by run-time address, and ordered memory access. Loaded to compile only.

Addresses are arguments, not constants, so that functions using them can be cached on disk. Knows no audio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing.templates import Signature

WORD = ir.IntType(64)

Values: TypeAlias = list[ir.Value]
Code: TypeAlias = Callable[[BaseContext, ir.IRBuilder, Signature, Values], Any]  # Builds the instructions.
Build: TypeAlias = Callable[[ir.IRBuilder, Values], None]  # Does so where nothing is returned.
Typed: TypeAlias = tuple[Signature, Code]


def intrinsic(function: Callable[..., Typed]) -> Callable[..., Any]:
    """`numba.extending.intrinsic`, typed as it is called: without the typing context, with values in place of types."""
    made: Callable[..., Any] = extending.intrinsic(function)
    return made


def c_call(arguments: int) -> Callable[..., Any]:
    """An intrinsic for ``int64 f(int64, ...)`` at an address: ``call(address, (a, b, ...))``.

    Pointers and smaller integers travel as int64, which 64-bit calling conventions allow; C ignores surplus arguments
    and a caller may ignore the result, so one shape serves many functions.
    """

    @intrinsic
    def call(typingctx: Any, address: types.Type, values: types.Type) -> Typed:
        def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Values) -> ir.Value:
            function = builder.inttoptr(args[0], ir.FunctionType(WORD, [WORD] * arguments).as_pointer())
            return builder.call(function, cgutils.unpack_tuple(builder, args[1], arguments))

        return types.int64(types.int64, types.UniTuple(types.int64, arguments)), codegen

    return call


call3, call8 = c_call(3), c_call(8)


def _slot(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Values) -> ir.Value:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [args[1]], wraparound=False)


@intrinsic
def load_acquire(typingctx: Any, array: types.Type, index: types.Type) -> Typed:
    """``array[index]`` (int64); what its writer wrote before `store_release` is visible afterwards."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Values) -> ir.Value:
        return builder.load_atomic(_slot(context, builder, signature, args), "acquire", 8, typ=WORD)

    return types.int64(array, types.intp), codegen


@intrinsic
def store_release(typingctx: Any, array: types.Type, index: types.Type, value: types.Type) -> Typed:
    """``array[index] = value`` (int64), after everything written before it."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Values) -> ir.Value:
        builder.store_atomic(args[2], _slot(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def pointer(typingctx: Any, address: types.Type) -> Typed:
    """An int64 address as a C pointer (for ``carray``)."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Values) -> ir.Value:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


def code(build: Build) -> Code:
    """The code of an intrinsic that returns nothing, from what builds it of its arguments."""

    def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Values) -> ir.Value:
        build(builder, args)
        return context.get_dummy_value()

    return codegen


REAL, INTEGER = ir.FloatType(), ir.IntType(32)
MANTISSA_BITS, BIAS, ONE_BITS = 23, 127, 0x3F800000  # of float32


def _of_one_float(build: Callable[[ir.IRBuilder, ir.Value], ir.Value]) -> Callable[..., Any]:
    """An intrinsic that makes a float32 of one."""

    @intrinsic
    def made(typingctx: Any, x: types.Type) -> Typed:
        def codegen(context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Values) -> ir.Value:
            return build(builder, args[0])

        return types.float32(types.float32), codegen

    return made


def _exponent(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    biased = builder.lshr(builder.bitcast(x, INTEGER), INTEGER(MANTISSA_BITS))
    return builder.sitofp(builder.sub(biased, INTEGER(BIAS)), REAL)


def _mantissa(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    kept = builder.and_(builder.bitcast(x, INTEGER), INTEGER((1 << MANTISSA_BITS) - 1))
    return builder.bitcast(builder.or_(kept, INTEGER(ONE_BITS)), REAL)


def _power(builder: ir.IRBuilder, n: ir.Value) -> ir.Value:
    biased = builder.add(builder.fptosi(n, INTEGER), INTEGER(BIAS))
    return builder.bitcast(builder.shl(biased, INTEGER(MANTISSA_BITS)), REAL)


# Of a normal ``x = m 2^n``, ``1 <= m < 2``: n and m; and ``2^n`` of a whole n from -126 to 127.
exponent_of, mantissa_of, power_of_two = map(_of_one_float, (_exponent, _mantissa, _power))
