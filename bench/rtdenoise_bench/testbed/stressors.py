"""What may disturb audio, on purpose: a process that keeps a core busy, a thread that holds the GIL."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

START_S = 0.05


def _python_hog(stop: threading.Event) -> None:
    n = 0
    while not stop.is_set():
        for i in range(10_000):
            n += i * i


def _c_hog(stop: threading.Event) -> None:
    """C calls of 20 ms each that keep the GIL."""
    usleep = ctypes.PyDLL(None).usleep
    while not stop.is_set():
        usleep(20_000)


HOGS = {"python": _python_hog, "c": _c_hog}
ALONE, BUSY_CORE, HELD_GIL = "alone", "a core kept busy", "the GIL held by C calls"
CONDITIONS = (ALONE, BUSY_CORE, HELD_GIL)


@contextlib.contextmanager
def disturbed(condition: str) -> Iterator[None]:
    """Hold one of `CONDITIONS`."""
    if condition == BUSY_CORE:
        process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            time.sleep(START_S)
            yield
        finally:
            process.kill()
            process.wait()
    elif condition == HELD_GIL:
        stop = threading.Event()
        thread = threading.Thread(target=HOGS["c"], args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
    else:
        yield
