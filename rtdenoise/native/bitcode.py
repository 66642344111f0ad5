"""Functions as LLVM's bitcode: what numba makes of them, before anything depends on the processor.

    numba ─▶ bitcode ─▶ optimised for this processor, as a whole ─▶ `rtdenoise.native.machine_code`

Numba would optimise each function by itself, and once more within each that calls it. Here that is done once, and it
needs no numba: a wheel carries the bitcode of what starts compile (`rtdenoise.live.prebuilt`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rtdenoise.native.machine_code import NUMBAS, MachineCode, initialised_llvm, pack, unpack

WIDE = ",-prefer-256-bit"  # Products take vectors of 512 bits anyway and slow the clock: so may all else.
MOST = 3  # LLVM's highest level of optimisation


@dataclass(frozen=True)
class Bitcode:
    """One function, with all that it calls of ours.

    Attributes
    ----------
    symbol, result : str
        As for `MachineCode`.
    passes : int
        How often LLVM optimises it: what is made up of many functions gains by a second time, when they are one.
    content : bytes
        The module of LLVM that holds it.
    """

    symbol: str
    result: str
    passes: int
    content: bytes

    def packed(self) -> bytes:
        """As `unpacked` takes it."""
        return pack([self.symbol, self.result, self.passes], self.content)

    @classmethod
    def unpacked(cls, packed: bytes) -> Bitcode:
        """What `packed` has made."""
        (symbol, result, passes), content = unpack(packed)
        return cls(symbol, result, passes, content)

    def machine_code(self) -> MachineCode:
        """The same for this processor."""
        llvm = initialised_llvm()
        module = llvm.parse_bitcode(self.content)
        for function in module.functions:
            if not function.is_declaration and function.name != self.symbol:
                function.linkage = "internal"  # Once it is part of its callers, it need not be there by itself.
        target, options = _host(llvm), llvm.create_pipeline_tuning_options(MOST)
        options.loop_vectorization = True
        for _ in range(self.passes):
            builder = llvm.create_pass_builder(target, options)
            builder.getModulePassManager().run(module, builder)
        named = (function.name for function in module.functions if function.is_declaration)
        needs = [name for name in named if name.startswith(NUMBAS)]
        return MachineCode(self.symbol, needs, self.result, target.emit_object(module))


def _host(llvm: Any) -> Any:
    target = llvm.Target.from_default_triple()
    x86 = target.name.startswith("x86")
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten() + (WIDE if x86 else ""),
        opt=MOST,
        reloc="static" if x86 else "default",
        codemodel="jitdefault",
        jit=True,
    )


@contextmanager
def left_as_it_is() -> Iterator[None]:
    """Numba optimises nothing that it compiles meanwhile."""
    from numba.core import config
    from numba.core.compiler_lock import global_compiler_lock

    settings = vars(config)
    with global_compiler_lock:
        level = settings["OPT"]
        settings["OPT"] = type(level)(0)
        try:
            yield
        finally:
            settings["OPT"] = level


def callback_of(library: Any, symbol: str, passes: int) -> Bitcode:
    """A function for C to call, out of a library of numba's."""
    return Bitcode(symbol, "none", passes, library._final_module.as_bitcode())


def function_of(library: Any, symbol: str, result: str, kinds: Sequence[str]) -> Bitcode:
    """A function for Python to call, out of a library of numba's: one that takes its arguments out of memory.

    Parameters
    ----------
    library : CodeLibrary
        Numba's.
    symbol : str
        What it calls: a function of numba's, which takes the addresses for its result and an error, then arguments.
    result : str
        As for `MachineCode`.
    kinds : sequence of str
        Of these arguments: ``"float"``, or anything else for a whole number or an address.

    Returns
    -------
    Bitcode
        Of ``int call(const int64 *arguments, void *result, void *error)``.
    """
    from llvmlite import ir

    word, status = ir.IntType(64), ir.IntType(32)
    types = [ir.DoubleType() if kind == "float" else word for kind in kinds]
    module, name = ir.Module(), f"call {symbol}"
    called = ir.Function(module, ir.FunctionType(status, [word, word, *types]), symbol)
    caller = ir.Function(module, ir.FunctionType(status, [word] * 3), name)
    builder, (memory, result_at, error) = ir.IRBuilder(caller.append_basic_block()), caller.args
    place = lambda k, kind: builder.inttoptr(builder.add(memory, word(8 * k)), kind.as_pointer())
    arguments = [builder.load(place(k, kind)) for k, kind in enumerate(types)]
    builder.ret(builder.call(called, [result_at, error, *arguments]))
    llvm = initialised_llvm()
    whole = llvm.parse_bitcode(library._final_module.as_bitcode())
    whole.link_in(llvm.parse_assembly(str(module)))
    return Bitcode(name, result, 1, whole.as_bitcode())
