"""The connection to a PulseAudio or PipeWire server: one way to ask it, and one to hear of what changes there.

pulsectl does the talking. What it leaves open is closed here: answers are copied out of the memory that the client
library takes back, a server that never answers is given up, and every failure is a `DeviceError`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rtdenoise import signals
from rtdenoise.errors import DeviceError

ATTEMPTS, PAUSE_S = 4, 0.1  # Attempts to connect, and the pause between them, which grows.
ANSWER_S = 5.0  # A working server answers much sooner, even on a busy machine.
# Why the last connection failed although a server exists, for error messages.
refusal: deque[str] = deque(maxlen=1)


class ServerEnded(DeviceError):
    """The server closed the connection: it ended, and with it all streams."""


@contextmanager
def connection() -> Iterator[Any]:
    """A short-lived connection (pulsectl), or None where there is no server or no pulsectl.

    Raises `DeviceError` if the server goes away or refuses while it is asked. Signals wait until the connection is
    over: pulsectl waits for ever for an answer whose callback a signal cut short.
    """
    with signals.held():
        client = _connect() if sys.platform == "linux" else None
        try:
            with _plain_errors():
                yield client
        finally:
            if client is not None:
                client.close()


def listed(ask: Callable[[], list[Any]]) -> list[Any]:
    """What the server lists, asked again where that is nothing: it always has a module, a source and a sink, but seen
    was that a busy one answers with none."""
    for attempt in range(ATTEMPTS):
        if found := ask():
            return found
        time.sleep(PAUSE_S * attempt)
    return []


class Changes:
    """A lasting connection that hears when sources, sinks, their programs or the defaults change, or the server goes.

    For one thread alone.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._came = False

    def connect(self) -> bool:
        """Whether a server is there to be heard, after one attempt."""
        if self._client is None:
            self._client, self._came = _connect(attempts=1), True
            if self._client is not None:
                with contextlib.suppress(DeviceError), self.asked() as client:
                    client.event_callback_set(self._note)
                    client.event_mask_set("sink", "source", "sink_input", "source_output", "server")
        return self._client is not None

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """The connection, for a question; closed if that goes wrong. Raises `ServerEnded` or `DeviceError`."""
        try:
            with _plain_errors():
                yield self._client
        except DeviceError as e:
            ended = not self._client.connected
            self.close()
            raise ServerEnded(str(e)) if ended else e from e
        except BaseException:
            self.close()
            raise

    def wait(self, seconds: float) -> bool:
        """Whether something changed, as soon as it does and after ``seconds`` at most. Raises as `asked`."""
        if not self._came:
            with self.asked() as client:
                client.event_listen(seconds)
        came, self._came = self._came, False
        return came

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _note(self, _event: object) -> None:
        import pulsectl

        self._came = True
        raise pulsectl.PulseLoopStop


def _connect(attempts: int = ATTEMPTS) -> Any:
    """A client, or None. A server that is there and refuses, as a busy one now and then does, is asked again: devices
    would seem to be gone, and a virtual microphone would stay behind."""
    for attempt in range(attempts):
        began, client = time.monotonic(), None
        try:
            client = _client_class()("rtdenoise", connect=False)
            client.connect(autospawn=False)
            refusal.clear()
            return client
        except Exception as e:  # Not installed, no library, no server, refused: in each case there is nothing to list.
            if client is not None:
                client.close()
            if not _socket_is_there():
                refusal.clear()
                return None
            refusal.append(f"the sound server is running but does not respond ({e or type(e).__name__})")
            if time.monotonic() - began > ANSWER_S:
                return None
            time.sleep(PAUSE_S * attempt)
        except BaseException:
            if client is not None:
                client.close()
            raise
    return None


@cache
def _client_class() -> type:
    """pulsectl's client, made safe. Its hooks are not public, but the same from 23.5 to 24.12."""
    import pulsectl
    from pulsectl import _pulsectl

    class Client(pulsectl.Pulse):  # type: ignore[misc]  # pulsectl has no types
        given_up = False

        def usual_rate(self) -> int:
            """What the server usually runs at, in Hz, which `server_info` leaves out."""
            rates: list[int] = []
            with self._pulse_op_cb(raw=True) as done:

                def note(_context: Any, info: Any, _data: Any) -> None:
                    rates.append(info[0].sample_spec.rate)
                    done()

                kept = _pulsectl.PA_SERVER_INFO_CB_T(note)
                _pulsectl.pa.operation_unref(_pulsectl.pa.context_get_server_info(self._ctx, kept, None))
            return rates[0]

        def _pulse_info_cb(self, info_cls: Any, data_list: list[Any], *more: Any) -> None:
            """Copy structures within structures: pulsectl keeps views into memory that is valid inside this callback
            only, and reads rate and channels of some other device from it later."""
            before = len(data_list)
            super()._pulse_info_cb(info_cls, data_list, *more)
            for info in data_list[before:]:
                for name, value in vars(info).items():
                    if isinstance(value, ctypes.Structure):
                        setattr(info, name, type(value).from_buffer_copy(value))

        def _pulse_iterate(self, block: bool = True) -> None:
            """One turn of the loop, but not for ever. None follows a question that was given up: its answer would be
            written to memory that is gone."""
            began = time.monotonic()
            if not self.given_up:
                with self._pulse_loop() as loop:
                    _pulsectl.pa.mainloop_prepare(loop, int(1e6 * ANSWER_S) if block else 0)
                    _pulsectl.pa.mainloop_poll(loop)
                    _pulsectl.pa.mainloop_dispatch(loop)
                self.given_up = block and time.monotonic() - began >= ANSWER_S
            if self.given_up:
                raise pulsectl.PulseError(f"no response in {ANSWER_S:g} s")

    return Client


@contextmanager
def _plain_errors() -> Iterator[None]:
    """pulsectl's exceptions, which share no base, as `DeviceError`."""
    try:
        yield
    except Exception as e:
        if type(e).__module__.partition(".")[0] != "pulsectl":
            raise
        raise DeviceError(
            f"the sound server closed the connection or refused the request ({e or type(e).__name__}); is it running?"
        ) from e


def _socket_is_there() -> bool:
    """Whether a local server's socket exists; one on another machine is asked once."""
    named = os.environ.get("PULSE_SERVER", "").removeprefix("unix:")
    homes = os.environ.get("PULSE_RUNTIME_PATH"), os.environ.get("XDG_RUNTIME_DIR", "") + "/pulse"
    return any(map(os.path.exists, [named] if named else [f"{home}/native" for home in homes if home]))
