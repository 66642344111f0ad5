"""What compiled code needs beyond numba: C calls by run-time address, and ordered memory access.

Addresses are arguments, not constants, so that functions using them can be cached on disk. Knows no audio.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD = ir.IntType(64)


def c_call(arguments: int):
    """An intrinsic for ``int64 f(int64, ...)`` at an address: ``call(address, (a, b, ...))``.

    Pointers and smaller integers travel as int64, which 64-bit calling conventions allow; C ignores surplus arguments
    and a caller may ignore the result, so one shape serves many functions.
    """

    @intrinsic
    def call(typingctx, address, values):
        def codegen(context, builder, signature, args):
            function = builder.inttoptr(args[0], ir.FunctionType(WORD, [WORD] * arguments).as_pointer())
            return builder.call(function, cgutils.unpack_tuple(builder, args[1], arguments))

        return types.int64(types.int64, types.UniTuple(types.int64, arguments)), codegen

    return call


call3, call8 = c_call(3), c_call(8)


def _slot(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [args[1]], wraparound=False)


@intrinsic
def load_acquire(typingctx, array, index):
    """``array[index]`` (int64); what its writer wrote before `store_release` is visible afterwards."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_slot(context, builder, signature, args), "acquire", 8, typ=WORD)

    return types.int64(array, types.intp), codegen


@intrinsic
def store_release(typingctx, array, index, value):
    """``array[index] = value`` (int64), after everything written before it."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _slot(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def pointer(typingctx, address):
    """An int64 address as a C pointer (for ``carray``)."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen
