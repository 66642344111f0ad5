"""What must be ended before the program is: a worker left running would outlive the interpreter it stands on."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from functools import cache

_stops: set[Callable[[], None]] = set()


def end_with_program(stop: Callable[[], None]) -> None:
    """Call ``stop`` when the program ends, unless `forget` comes first."""
    _register()
    _stops.add(stop)


def forget(stop: Callable[[], None]) -> None:
    _stops.discard(stop)


@cache
def _register() -> None:
    """Once a process, since a place that is taken back stays empty; after PortAudio's own, so that it comes before."""
    atexit.register(_stop_all)


def _stop_all() -> None:
    for stop in list(_stops):
        stop()
