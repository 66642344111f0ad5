"""What Python passes to compiled code: arrays, whole numbers, floats, None, and tuples of such.

Numba's compiled functions pass each other an array as the numbers that describe it, and a tuple as its parts, one by
one. So they are given here, as words in memory.
"""

from __future__ import annotations

import ctypes
from struct import Struct
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

T = TypeVar("T")
Kinds: TypeAlias = tuple[Any, ...]  # of arguments: what decides which machine code can take them

INTEGER, FLOAT = Struct("=q"), Struct("=d")  # The words in memory that arguments are passed as.
NOTHING = bytes(INTEGER.size)
ARRAYS = [Struct(f"={5 + 2 * axes}q") for axes in range(9)]  # by their axes
C_CONTIGUOUS, F_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x2, 0x100, 0x400  # of numpy's flags


def prepared(value: T) -> T:
    """An array, or a tuple of arrays, that many calls have in common, taken apart once.

    Only compiled code takes it; to be called as what it was, it has that type. What lies in the arrays may change, but
    not where they lie.
    """
    return cast(T, _Prepared(value))


class _Prepared:
    """What `prepared` gives; ``given`` is what it was given."""

    def __init__(self, given: Any):
        self.given = given
        words: list[bytes] = []
        self.kinds: list[Any] = []
        flatten(given, words, self.kinds)
        self.words = b"".join(words)


def flatten(value: Any, words: list[bytes], kinds: list[Any]) -> None:
    """Add the numbers that a value is passed as, as they lie in memory, and what kind of value it is."""
    if isinstance(value, np.ndarray):
        flags = value.flags.num
        layout = C_CONTIGUOUS if flags & C_CONTIGUOUS else flags & F_CONTIGUOUS
        kinds.append((value.dtype, value.ndim, layout, flags & (ALIGNED | WRITEABLE)))
        # Python owns the memory, so nobody counts references to it; nor is there an object that it is part of.
        pack = ARRAYS[value.ndim].pack
        words.append(pack(0, 0, value.size, value.itemsize, _address(value), *value.shape, *value.strides))
    elif isinstance(value, _Prepared):
        words.append(value.words)
        kinds += value.kinds
    elif isinstance(value, tuple):
        kinds.append((type(value).__qualname__, len(value)))
        for part in value:
            flatten(part, words, kinds)
    elif value is None:
        kinds.append(None)
        words.append(NOTHING)
    elif isinstance(value, (int, np.integer, np.bool_)):
        kinds.append("int")
        words.append(INTEGER.pack(int(value)))
    elif isinstance(value, float):
        kinds.append("float")
        words.append(FLOAT.pack(value))
    else:
        raise TypeError(f"compiled code does not take {type(value).__name__}")


def _address(a: np.ndarray) -> int:
    """``a.ctypes.data``, which takes ten times as long."""
    try:
        return ctypes.addressof(_first_byte(a))
    except (TypeError, ValueError):  # It has gaps, is empty, or is not to be written.
        return a.ctypes.data


_first_byte: Any = ctypes.c_char.from_buffer


def words_of(value: Any) -> list[str]:
    """What each of the numbers is that `flatten` makes of a value."""
    if isinstance(value, _Prepared):
        return words_of(value.given)
    if isinstance(value, tuple):
        return [kind for part in value for kind in words_of(part)]
    if isinstance(value, np.ndarray):
        return ["int"] * (ARRAYS[value.ndim].size // INTEGER.size)
    return ["float" if isinstance(value, float) else "int"]


def type_of(value: Any) -> Any:
    """Numba's type of it, which agrees with `flatten`."""
    from numba import typeof, types

    if isinstance(value, _Prepared):
        return type_of(value.given)
    if isinstance(value, tuple):
        return types.BaseTuple.from_types([type_of(part) for part in value], type(value))
    return types.int64 if isinstance(value, (int, np.integer, np.bool_)) else typeof(value)
