"""A plain Python thread beside the audio, for what may be late: files and devices that come and go."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class BackgroundThread(ABC):
    """Does its `_run` from `start` to `stop`. Audio never waits for it, nor a program's end.

    Parameters
    ----------
    name : str
        Name of the thread, as a debugger shows it.
    """

    def __init__(self, name: str):
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, once."""
        self._thread.start()

    def stop(self) -> None:
        """End it and wait until it has ended; also one that was never started, and twice."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """The work: returns soon after `_end` is set."""
