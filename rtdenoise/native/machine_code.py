"""Machine code out of its object file, linked by LLVM alone: numba, which made it, need not be loaded for it.

An object file calls functions of the C library and, where it could raise an error or give memory back, of numba's
run-time library. Ours do neither, but name some of these all the same; until numba comes, they end the process.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FORMAT = 3  # of what is kept
DONT_NEED = 4  # of madvise
# Of numba's run-time library: what is named for the case of an error, or of an array that numba has made.
UNUSED = {
    "NRT_Free",
    "NRT_MemInfo_call_dtor",
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
    "numba_unpickle",
}
NUMBAS = ("NRT_", "numba_")


def pack(head: list[Any], content: bytes) -> bytes:
    """What is said of code, and the code."""
    return b"".join([json.dumps(head).encode(), b"\n", content])


def unpack(packed: bytes) -> tuple[list[Any], bytes]:
    """What `pack` was given."""
    head, _, content = packed.partition(b"\n")
    return json.loads(head), content


@dataclass(frozen=True)
class MachineCode:
    """One function.

    Attributes
    ----------
    symbol : str
        Its name in the object file.
    needs : list of str
        Functions of numba's run-time library that the file names.
    result : str
        What it returns: ``"none"``, ``"int"``, ``"bool"``, ``"float"`` or ``"ints N"``.
    content : bytes
        The object file.
    """

    symbol: str
    needs: list[str]
    result: str
    content: bytes

    def packed(self) -> bytes:
        """As `unpacked` takes it."""
        return pack([self.symbol, self.needs, self.result], self.content)

    @classmethod
    def unpacked(cls, packed: bytes) -> MachineCode:
        """What `packed` has made."""
        (symbol, needs, result), content = unpack(packed)
        return cls(symbol, needs, result, content)

    def address(self) -> int:
        """Where it lies, from now on until the process ends."""
        llvm = initialised_llvm()
        for name in self.needs:
            if llvm.address_of_symbol(name) is None and name in UNUSED:
                llvm.add_symbol(name, _end())
            elif llvm.address_of_symbol(name) is None:
                _initialise_numba()
        target = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        engine.add_object_file(llvm.ObjectFileRef.from_data(self.content))
        engine.finalize_object()
        _engines.append(engine)
        return int(engine.get_function_address(self.symbol))


_engines: list[Any] = []  # They own the code.


@cache
def initialised_llvm() -> Any:
    """LLVM, able to make machine code for this processor."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def _end() -> int:
    """The address of what ends the process."""
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    return ctypes.cast(library.abort, ctypes.c_void_p).value or 0


def _initialise_numba() -> None:
    """Have numba's run-time library known."""
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys

    rtsys.initialize(cpu_target.target_context)


@cache
def machine() -> str:
    """All that machine code depends on beside its sources: processor, versions, and what the user tells numba."""
    llvm = initialised_llvm()
    numba = find_spec("numba")
    version = Path(numba.origin).with_name("_version.py").read_text() if numba and numba.origin else ""
    told = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_") and item[0] != "NUMBA_CACHE_DIR")
    features = llvm.get_host_cpu_features().flatten()
    cpu = llvm.get_default_triple(), llvm.get_host_cpu_name(), features
    return repr((FORMAT, version, llvm.llvm_version_info, platform.machine(), cpu, told))


def release_compiler() -> None:
    """Give the memory back that holds the compiler's own instructions, on Linux: tens of megabytes, of no use once all
    is compiled. Whoever compiles again has them read from their file again."""
    if sys.platform != "linux":
        return
    import llvmlite

    library, libc = Path(llvmlite.__file__).parent.as_posix(), ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        place, rights, *_, path = line.split(maxsplit=5)
        if path.startswith(library) and rights == "r-xp":  # Nothing else is sure to be as it is in the file.
            begin, end = (int(address, 16) for address in place.split("-"))
            where = ctypes.c_void_p(begin), ctypes.c_size_t(end - begin)
            libc.munlock(*where)  # What is locked cannot be given back.
            libc.madvise(*where, DONT_NEED)
