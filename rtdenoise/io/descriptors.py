"""Descriptors 0 to 2 of the command's own process: filled where closed, waited for where they do not block.

What is done here holds for the whole process. So only the command line does it, never the package inside another
program; `wait_until` alone changes nothing.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_speaking = threading.Lock()
_restorers: list[Callable[[], None]] = []  # There is one for each block that holds; the last to leave runs its own.


def settle() -> set[int]:
    """Make 0 to 2 safe to use, whatever is written, and return those that were closed.

    A closed one leads to nowhere from now on; otherwise the next file that is opened would get its number, and messages
    would end inside the sound. Text that goes to one that does not block waits until there is room.
    """
    closed = set()
    for fd, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(fd)
        except OSError:
            closed.add(fd)
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != fd:
                os.dup2(nowhere, fd)
                os.close(nowhere)
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, mode, errors="backslashreplace", closefd=False))  # noqa: SIM115
        stream = getattr(sys, name)
        strict = isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape")
        if mode == "w" and strict:
            stream.reconfigure(errors="replace")  # a name that a terminal or pipe cannot show is no reason to end
        if mode == "w" and sys.platform != "win32" and not os.get_blocking(fd):
            _be_patient(name, fd)
    return closed


def _be_patient(name: str, fd: int) -> None:
    stream = getattr(sys, name)
    try:
        ours = stream.fileno() == fd
    except (AttributeError, OSError, ValueError):  # Whoever runs us may have replaced it.
        return
    if ours and isinstance(stream, io.TextIOWrapper):
        setattr(sys, name, _patient_text(fd, stream, stream.line_buffering))


def _patient_text(fd: int, like: Any, line_buffering: bool) -> io.TextIOWrapper:
    raw = io.BufferedWriter(_Patient(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, like.encoding, like.errors, line_buffering=line_buffering)


class _Patient(io.FileIO):
    """Bytes to a descriptor that does not block: written when there is room."""

    def write(self, data: Any) -> int:
        while (done := super().write(data)) is None:
            wait_until(self.fileno(), write=True)
        return done


def wait_until(fd: int, write: bool = False) -> None:
    """Return when a descriptor that does not block can be read, or written."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT if write else select.POLLIN)
    poll.poll()


@contextmanager
def only_python_speaks() -> Iterator[None]:
    """While this holds, standard error is Python's alone: MP3 decoders and PortAudio write lines of their source there,
    from threads of their own too. Blocks within blocks, and of several threads, share it."""
    with _speaking:
        _restorers.append(_restorers[-1] if _restorers else _redirect())
    try:
        yield
    finally:
        with _speaking:
            restore = _restorers.pop()
            if not _restorers:
                restore()


def _redirect() -> Callable[[], None]:
    before = sys.stderr
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # Nobody reads it anyhow.
        return lambda: None
    os.dup2(nowhere, 2)
    os.close(nowhere)
    if before is not None:
        before.flush()
        sys.stderr = _patient_text(kept, before, line_buffering=True)

    def restore() -> None:
        if before is not None:
            sys.stderr.flush()
            sys.stderr = before
        os.dup2(kept, 2)
        os.close(kept)

    return restore
