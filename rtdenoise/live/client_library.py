"""A sound server's client library by ctypes, with the types of the functions that are called."""

from __future__ import annotations

import ctypes as C
from collections.abc import Mapping
from typing import Any


def typed(name: str, functions: Mapping[str, tuple[Any, ...]]) -> C.CDLL | None:
    """The library, or None where it is not installed; of each function the type of the result, and of the arguments."""
    try:
        found = C.CDLL(name)
    except OSError:
        return None
    for function, (result, *arguments) in functions.items():
        getattr(found, function).restype, getattr(found, function).argtypes = result, arguments
    return found
