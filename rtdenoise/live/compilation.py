"""Says that numba compiles, which it does once on a machine: a first start looks dead for a quarter of a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rtdenoise.native import compilation

LINE = "compiling the filter for this machine; the first start takes a while"


@contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """``say(LINE)`` when something is first compiled meanwhile; what comes out of the cache is not."""
    said: list[str] = []

    def tell(name: str) -> None:
        if not said:
            said.append(LINE)
            say(LINE)

    compilation.listeners.append(tell)
    try:
        yield
    finally:
        compilation.listeners.remove(tell)
