"""The signals that end a live session, while libraries call back into Python.

Python drops an exception that a signal's handler raises while a C library calls back, as PortAudio and PulseAudio do;
so whoever talks to them keeps a note of what came. Off the main thread, where Python takes no signals, nothing changes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


@contextmanager
def noted() -> Iterator[list[int]]:
    """The signals to end that have come so far. Each also does at once what it did before."""
    came: list[int] = []
    before = {n: handler for n in ENDING if callable(handler := signal.getsignal(n))}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        before[number](number, frame)

    with _handled(before, note):
        yield came


@contextmanager
def heeded(came: list[int]) -> Iterator[None]:
    """An error after one of the signals that `noted` gave is taken for its doing, as when a dropped exception cut a
    list of devices short: the signal comes again instead. For the way in alone; on the way out errors are true."""
    try:
        yield
    except Exception:
        if came:
            signal.raise_signal(came[0])
        raise


@contextmanager
def held() -> Iterator[None]:
    """Signals wait meanwhile: one between making a thing and noting it would leave it behind."""
    came: list[int] = []
    with _handled(ENDING, lambda number, _: came.append(number)):
        yield
    for number in came[:1]:
        signal.raise_signal(number)


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, handler) or signal.SIG_DFL for n in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
