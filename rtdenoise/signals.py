"""The signals that end a live session, while libraries call back into Python.

Python drops an exception that a signal's handler raises while a C library calls back. PulseAudio's answers come so: one
that is dropped is waited for until the end of days. So signals wait while a server is asked (`held`); and since other
callbacks drop exceptions too, a session keeps a note of what came (`noted`). Off the main thread, where Python takes no
signals, nothing changes.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
PATIENCE_S = 2.0  # a server that works has answered by then


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
def held() -> Iterator[None]:
    """Signals wait meanwhile, and come afterwards, whatever else went wrong. Who sends another one `PATIENCE_S` after
    the first does not wait: the server may never answer."""
    came: list[tuple[int, float]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        came.append((number, time.monotonic()))
        if came[-1][1] - came[0][1] > PATIENCE_S and callable(handler := before[number]):
            handler(number, frame)

    try:
        with _handled(ENDING, hold) as before:
            yield
    finally:
        for number, _ in came[:1]:
            signal.raise_signal(number)


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[dict[int, Any]]:
    """Another handler meanwhile; gives the ones that were there before."""
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    before = {n: signal.signal(n, handler) or signal.SIG_DFL for n in numbers}
    try:
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)
