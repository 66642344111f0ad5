"""A connection to a PulseAudio server for streams of our own, with a thread of the library's that calls them back.

Nothing of Python runs in that thread. What is to be known (whether a stream is ready, or has failed) is looked up.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.pulse_library import CONTEXT_FAILED, CONTEXT_READY, NO_AUTOSPAWN, loaded

NAME = b"rtdenoise"
ANSWER_S, LOOK_S = 5.0, 0.002  # A working server answers much sooner, even on a busy machine.


class PulseConnection:
    """Begins to connect at once; `DeviceError` where there is no library or no server. Close it."""

    def __init__(self) -> None:
        self.library = loaded()
        self.open = contextlib.ExitStack()  # ends what was begun, in the order that is safe
        with self.open:
            self._connect()
            self.open = self.open.pop_all()

    def close(self) -> None:
        """End it, with its streams; safe to call twice."""
        self.open.close()

    def _connect(self) -> None:
        pa = self.library
        self.loop = pa.pa_threaded_mainloop_new()
        self.open.callback(pa.pa_threaded_mainloop_free, self.loop)
        with self.properties({"application.name": NAME.decode()}) as words:
            self.context = pa.pa_context_new_with_proplist(pa.pa_threaded_mainloop_get_api(self.loop), NAME, words)
        self.open.callback(pa.pa_context_unref, self.context)
        self.open.callback(pa.pa_context_disconnect, self.context)
        if pa.pa_context_connect(self.context, None, NO_AUTOSPAWN, None) < 0 or pa.pa_threaded_mainloop_start(
            self.loop
        ):
            raise DeviceError(f"no sound server responds ({self.error}); start PulseAudio")
        self.open.callback(pa.pa_threaded_mainloop_stop, self.loop)
        self.wait(lambda: self.state == CONTEXT_READY, lambda: self.gone, "no sound server responds")

    @property
    def state(self) -> int:
        """Looked up without stopping the library's thread, which would wait for whoever holds the GIL."""
        return int(self.library.pa_context_get_state(self.context))

    @property
    def gone(self) -> bool:
        """Whether the server has closed it, or never opened it."""
        return self.state >= CONTEXT_FAILED

    @property
    def error(self) -> str:
        """What went wrong last, in the library's words."""
        number = self.library.pa_context_errno(self.context)
        return str(self.library.pa_strerror(number).decode(errors="replace")).lower()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While this holds, the library's thread stands still: only to open and close a stream."""
        self.library.pa_threaded_mainloop_lock(self.loop)
        try:
            yield
        finally:
            self.library.pa_threaded_mainloop_unlock(self.loop)

    @contextmanager
    def properties(self, words: dict[str, str]) -> Iterator[Any]:
        """Properties as the library takes them; it copies what it needs."""
        made = self.library.pa_proplist_new()
        try:
            for key, value in words.items():
                self.library.pa_proplist_sets(made, key.encode(), value.encode())
            yield made
        finally:
            self.library.pa_proplist_free(made)

    def wait(self, done: Callable[[], bool], failed: Callable[[], bool], what: str) -> None:
        """Until it is done; `DeviceError` if it fails, or takes too long."""
        until = time.monotonic() + ANSWER_S
        while not done():
            if failed():
                raise DeviceError(f"{what} ({self.error})")
            if time.monotonic() > until:
                raise DeviceError(f"{what} (no response in {ANSWER_S:g} s)")
            time.sleep(LOOK_S)
