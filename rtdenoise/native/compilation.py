"""Functions that are machine code: compiled by numba once, kept, and called from then on without it.

To import numba takes longer than to filter ten seconds of sound, so nothing here does until something must be compiled.
What our functions are made of besides (`Later`) waits too. Python calls a function by its machine code's own interface,
with each array taken apart into numbers (`rtdenoise.native.arguments`).
"""

from __future__ import annotations

import builtins
import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any, TypeAlias, TypeVar, cast

from rtdenoise.native.arguments import INTEGER, Kinds, flatten, type_of, words_of
from rtdenoise.native.bitcode import Bitcode, callback_of, function_of, left_as_it_is
from rtdenoise.native.code_cache import Shelf
from rtdenoise.native.machine_code import MachineCode, machine

Function: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Function)

OK = (0, -2)  # what numba's functions return unless they raised an error; the second is for None
MOST_RESULTS = 4
NEVER_WRAPPED = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
C_TYPES: dict[str, Any] = {
    "void": None,
    "voidptr": ctypes.c_void_p,
    "intc": ctypes.c_int,
    "int64": ctypes.c_int64,
    "uint32": ctypes.c_uint32,
    "uint64": ctypes.c_uint64,
}

_compiling = threading.RLock()
listeners: list[Callable[[str], None]] = []  # are told the name of each function that is compiled, before
shipping = False  # whether the package that is being built is to carry what is compiled


class Later:
    """Something that only compiling needs. It is made when it comes to that.

    Parameters
    ----------
    make : callable
        Makes it.
    """

    def __init__(self, make: Callable[[], Any]):
        self._make = make

    @cached_property
    def value(self) -> Any:
        """The thing itself."""
        return self._make()


def _carray() -> Any:
    from numba import carray

    return carray


carray: Any = Later(_carray)


class Kernel(Later):
    """A function that numba compiles for the kinds of its arguments. Python may call it too, from several threads.

    Arguments are as `rtdenoise.native.arguments` has them; results are numbers.

    Parameters
    ----------
    function : callable
        What is compiled.
    options : dict
        Numba's.
    """

    def __init__(self, function: Function, options: dict[str, Any]):
        super().__init__(self._dispatcher)
        self.__name__, self.__qualname__, self.__module__ = (
            function.__name__,
            function.__qualname__,
            function.__module__,
        )
        self.__doc__, self.__wrapped__ = function.__doc__, function
        self._options, self._shelf = options, Shelf(function.__code__, function.__module__)
        self._entries: dict[Kinds, Callable[[bytes], Any]] = {}

    def __call__(self, *given: Any) -> Any:
        words: list[bytes] = []
        kinds: list[Any] = []
        for value in given:
            flatten(value, words, kinds)
        key = tuple(kinds)
        entry = self._entries.get(key) or self._load(key, given)
        return entry(b"".join(words))

    def _load(self, kinds: Kinds, given: Sequence[Any]) -> Callable[[bytes], Any]:
        with _compiling:
            if kinds not in self._entries:
                code = _kept(self._shelf, self.__qualname__, repr(kinds), lambda: self._compiled(given))
                self._entries[kinds] = _entry(code, self.__qualname__)
            return self._entries[kinds]

    def _dispatcher(self) -> Any:
        from numba import njit

        jit: Any = njit
        return jit(**self._options, **NEVER_WRAPPED)(resolved(self.__wrapped__))

    def _compiled(self, given: Sequence[Any]) -> Bitcode:
        from numba.core.registry import cpu_target

        types = tuple(map(type_of, given))
        self.value.compile(types)
        made = self.value.overloads[types]
        kinds = [kind for value in given for kind in words_of(value)]
        if len(cpu_target.target_context.get_arg_packer(types).argument_types) != len(kinds):
            raise TypeError(f"{self.__qualname__} takes its arguments in another form than they are given in")
        result = _result(made.signature.return_type, self.__qualname__)
        return function_of(made.library, made.fndesc.mangled_name, result, kinds)


class Callback:
    """A function that numba compiles for C to call.

    Parameters
    ----------
    function : callable
        What is compiled.
    signature : str
        Result and arguments, by numba's names for C's types.
    passes : int
        How often LLVM optimises it.
    options : dict
        Numba's.
    """

    def __init__(self, function: Function, signature: str, passes: int, options: dict[str, Any]):
        self.__name__, self.__doc__, self.__wrapped__ = function.__name__, function.__doc__, function
        self._signature, self._passes, self._options = signature, passes, options
        self._shelf = Shelf(function.__code__, function.__module__)

    @cached_property
    def address(self) -> int:
        """Where its machine code lies."""
        with _compiling:
            return _kept(self._shelf, self.__name__, self._signature, self._compiled).address()

    @cached_property
    def ctypes(self) -> Any:
        """The same as a function for Python."""
        result, _, arguments = self._signature.removesuffix(")").partition("(")
        kinds = [C_TYPES[name.strip()] for name in arguments.split(",")]
        return ctypes.CFUNCTYPE(C_TYPES[result], *kinds)(self.address)

    def _compiled(self) -> Bitcode:
        from numba.core import sigutils
        from numba.core.ccallback import CFunc

        signature = sigutils.normalize_signature(self._signature)
        made: Any = CFunc(resolved(self.__wrapped__), signature, locals={}, options=self._options)
        made.compile()
        return callback_of(made._library, made.native_name, self._passes)


def compiled(**options: Any) -> Callable[[F], F]:
    """A decorator that makes a `Kernel`, with numba's ``options``."""

    def decorate(function: F) -> F:
        return cast(F, Kernel(function, options))  # which is called as the function is

    return decorate


def callback(signature: str, passes: int = 1, **options: Any) -> Callable[[Function], Callback]:
    """A decorator that makes a `Callback`."""
    return lambda function: Callback(function, signature, passes, options)


def resolved(function: Function) -> Function:
    """The same function, with the values of all that waits among the names it uses."""
    known = function.__globals__
    used = {name: known[name] for name in _names(function.__code__) if name in known}
    used = {name: v.value if isinstance(v, Later) else v for name, v in used.items()}
    used |= {"__name__": function.__module__, "__builtins__": builtins}
    made = FunctionType(function.__code__, used, function.__name__, function.__defaults__, function.__closure__)
    made.__qualname__, made.__annotations__ = function.__qualname__, function.__annotations__
    return made


def _names(code: CodeType) -> set[str]:
    return {*code.co_names}.union(*(_names(part) for part in code.co_consts if isinstance(part, CodeType)))


def _kept(shelf: Shelf, name: str, kind: str, compile: Callable[[], Bitcode]) -> MachineCode:
    variant = f"{machine()} {kind}"
    if found := shelf.find(variant):
        return MachineCode.unpacked(found)
    for listener in list(listeners):
        listener(name)
    made = _shipped(shelf, kind)
    if made is None:
        with left_as_it_is():
            bitcode = compile()
        if shipping:
            shelf.ship(kind, bitcode.packed())
        made = bitcode.machine_code()
    shelf.keep(variant, made.packed())
    return made


def _shipped(shelf: Shelf, kind: str) -> MachineCode | None:
    try:
        return Bitcode.unpacked(found).machine_code() if (found := shelf.shipped(kind)) else None
    except (RuntimeError, ValueError):  # of an LLVM that is newer than ours, or damaged
        return None


def _result(kind: Any, name: str) -> str:
    """What `MachineCode` says of a result of numba's type."""
    known = {"none": "none", "int64": "int", "bool": "bool", "float64": "float"}
    if (text := str(kind)) in known:
        return known[text]
    parts = [str(part) for part in getattr(kind, "types", ())]
    if 0 < len(parts) <= MOST_RESULTS and set(parts) == {"int64"}:
        return f"ints {len(parts)}"
    raise TypeError(f"{name} returns {text}, which only compiled code can take")


def _entry(code: MachineCode, name: str) -> Callable[[bytes], Any]:
    """The function of Python that calls it with arguments as they lie in memory."""
    native = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)(code.address())
    kind, _, count = code.result.partition(" ")
    results_of = ctypes.c_int64 * (MOST_RESULTS + 1)  # The last is where an error would be.
    error = MOST_RESULTS * INTEGER.size

    def call(words: bytes) -> Any:
        results = results_of()
        if native(words, results, ctypes.addressof(results) + error) not in OK:
            raise RuntimeError(f"{name} failed")
        if kind == "int":
            return results[0]
        if kind == "bool":
            return bool(results[0] & 1)
        if kind == "float":
            return ctypes.c_double.from_buffer(results).value
        return tuple(results[: int(count)]) if kind == "ints" else None

    return call
