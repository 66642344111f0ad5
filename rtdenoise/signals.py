"""The signals that end a command, while libraries load, compile and call back into Python.

Python runs a signal's handler between any two steps of its own, and what the handler raises goes wherever that is: an
extension module that just loads makes an ImportError of it, and a C library that called back drops it. So signals end
the process at once while it owns nothing (`end_at_once`, `at_once`); wait while a library must not be cut short
(`held`); and are noted, and raised again where they were dropped, for the rest (`noted`, `raising`). Not every drop is
reported, so whatever may run for long asks between its steps (`raise_dropped`).

All of this is for the command's own process. Off the main thread, where Python takes no signals, nothing changes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

ENDING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
TERMINAL = [getattr(signal, n) for n in ("SIGTTIN", "SIGTTOU") if hasattr(signal, n)]
PATIENCE_S = 2.0  # a library or server that works is done by then
AGAIN_S = 0.01  # after an exception was dropped, until it is raised anew


_came: list[int] = []  # the signals that `raising` has raised an exception for, while it is entered


class Interrupted(KeyboardInterrupt):
    """What `raising` makes of Ctrl-C. Python ends by the signal itself, whatever the exit code, once a plain
    KeyboardInterrupt has left code that was compiled from text, as numba does."""


Handler = Callable[[int, "FrameType | None"], object]


def end_at_once() -> None:
    """From now on a signal ends the process with 128 + its number, without a word of Python's."""
    if _takes_signals():
        for number in ENDING:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not what `nohup` ignores
                signal.signal(number, _end)


@contextmanager
def at_once() -> Iterator[None]:
    """A signal ends the process at once meanwhile: only where it holds nothing that must be put back in order."""
    with _handled((n for n in ENDING if callable(signal.getsignal(n))), _end):
        yield


@contextmanager
def raising() -> Iterator[list[int]]:
    """Signals to end raise `KeyboardInterrupt` or, with 128 + their number, `SystemExit`, so that all is put in order
    on the way out; again, if a library drops the exception. Gives those that have come so far."""
    global _came
    came: list[int] = []
    again: list[threading.Timer] = []
    usual = signal.SIG_DFL, signal.default_int_handler, _end
    before_hook, leaving = sys.unraisablehook, threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if leaving.is_set():
            return
        if _is_within(frame, dropped):  # an exception raised there would be dropped for good
            put_off()
        else:
            raise _exception(number)

    def put_off() -> None:
        for timer in again:  # one is enough: another would come while things are put in order
            timer.cancel()
        again.append(threading.Timer(AGAIN_S, _send_to_main_thread, came[-1:]))
        again[-1].start()

    def dropped(what: Any) -> None:
        if came and issubclass(what.exc_type, (KeyboardInterrupt, SystemExit)):
            put_off()
        elif not came or getattr(what.object, "__name__", None) != "__del__":
            # An object whose making was interrupted may lack what its finalizer closes; that is no news to anyone.
            before_hook(what)

    with _handled((n for n in ENDING if signal.getsignal(n) in usual), _noting(came, lambda number: end)):
        sys.unraisablehook = dropped
        outer, _came = _came, came
        try:
            yield came
        finally:
            leaving.set()
            _came = outer
            sys.unraisablehook = before_hook
            for timer in again:  # or it would end what comes after
                timer.cancel()
                timer.join()


def raise_dropped() -> None:
    """Raise anew what `raising` raised and a library dropped without a word: a lookup in a dictionary clears any
    exception of its key's comparison, and an optional import takes the ImportError that an interrupt became for a
    missing library. For the main thread, between the steps of what may run for long; never while things are put in
    order."""
    if _came and _takes_signals():
        raise _exception(_came[-1])


@contextmanager
def noted() -> Iterator[list[int]]:
    """The signals to end that have come so far, for who looks at them again and again. Each also does at once what it
    did before, except that nobody else has to note it."""
    came: list[int] = []
    before = {n: handler for n in ENDING if callable(handler := signal.getsignal(n))}
    with _handled(before, _noting(came, before.__getitem__)):
        yield came


@contextmanager
def awaited() -> Iterator[list[int]]:
    """The signals to end that have come so far, for who looks at them again and again and ends in an order of its own,
    as a server does. The first does nothing else; the next does what it did before."""
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1 and callable(handler := before[number]):
            handler(number, frame)

    with _handled((n for n in ENDING if callable(signal.getsignal(n))), wait) as before:
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
def of_terminal_ignored() -> Iterator[None]:
    """A job in the background may write to its terminal meanwhile, and is not stopped for asking about it."""
    with _handled(TERMINAL, signal.SIG_IGN):
        yield


def _noting(came: list[int], before: Callable[[int], Handler]) -> Handler:
    """A handler that notes and then does what the one before did, unless that was such a note itself: then what that
    one does beside noting."""

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        handler = before(number)
        getattr(handler, "beside", lambda _: handler)(number)(number, frame)

    note.beside = before  # type: ignore[attr-defined]
    return note


def _is_within(frame: FrameType | None, function: Callable[..., object]) -> bool:
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def _exception(number: int) -> BaseException:
    return Interrupted() if number == signal.SIGINT else SystemExit(128 + number)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    with suppress(Exception):  # a print may have been interrupted in its midst
        print("rtdenoise: interrupted", file=sys.stderr, flush=True)
    os._exit(128 + number)


def _send_to_main_thread(number: int) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        import _thread

        _thread.interrupt_main(signal.Signals(number))


def _takes_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _handled(numbers: Iterable[int], handler: Handler | signal.Handlers) -> Iterator[dict[int, Any]]:
    """Another handler meanwhile; gives the ones that were there before."""
    if not _takes_signals():
        yield {}
        return
    before = {n: signal.signal(n, handler) or signal.SIG_DFL for n in numbers}
    try:
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)
