"""Says that numba compiles, which it does once on a machine: a first start looks dead for a quarter of a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core import event

LINE = "compiling the filter for this machine; the first start takes a while"


@contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """``say(LINE)`` when something is first compiled meanwhile; what comes out of the cache is not."""
    said: list[str] = []

    class Listener(event.Listener):
        def on_start(self, event: event.Event) -> None:
            if not said:
                said.append(LINE)
                say(LINE)

        def on_end(self, event: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
