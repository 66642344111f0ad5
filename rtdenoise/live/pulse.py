"""Sources and sinks of a PulseAudio or PipeWire server, as devices that PortAudio alone cannot name.

PortAudio reaches such a server through ALSA's ``pulse`` device, which means the server's default source and sink. Which
others it means is told to the client library by environment variables while a stream opens (`addressed`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rtdenoise.live import signals

PORTAUDIO_NAME = "pulse"  # ALSA's name for the server
OWN_PREFIX = "rtdenoise_"  # sinks and sources that we made
ATTEMPTS, PAUSE_S = 4, 0.1  # at a connection; the pause before the next one, growing
refusal: deque[str] = deque(maxlen=1)  # why the last connection failed although there is a server, for error messages
_opening = threading.Lock()  # the environment belongs to the whole process


@dataclass(frozen=True)
class Endpoint:
    """A source or sink: the server's number and name for it, what people read, its rate in Hz and channels."""

    index: int
    name: str
    description: str
    is_source: bool
    rate: int
    channels: int
    default: bool
    monitor: bool  # a source that carries what a sink plays


@contextmanager
def connection() -> Iterator:
    """A short-lived connection (pulsectl), or None where there is no server or no pulsectl. Signals wait until it is
    over: pulsectl waits for ever for an answer whose callback a signal cut short."""
    with signals.held():
        client = _connect() if sys.platform == "linux" else None
        try:
            yield client
        finally:
            if client is not None:
                client.close()


def _connect():
    """A client, or None. A server that is there and refuses, as a busy one now and then does, is asked again: devices
    would seem to be gone, and a virtual microphone would stay behind."""
    for attempt in range(ATTEMPTS):
        try:
            import pulsectl

            client = pulsectl.Pulse("rtdenoise", connect=False)
            client.connect(autospawn=False)
            refusal.clear()
            return client
        except Exception as e:  # not installed, no library, no server, refused: all mean that there is nothing to list
            if not _socket_is_there():
                return None
            refusal.append(f"the sound server is there but does not answer ({e or type(e).__name__})")
            time.sleep(PAUSE_S * attempt)
    return None


def listed(ask: Callable[[], list]) -> list:
    """What the server lists, asked again where that is nothing: it always has a module, a source and a sink, but seen
    was that a busy one answers with none."""
    for attempt in range(ATTEMPTS):
        if found := ask():
            return found
        time.sleep(PAUSE_S * attempt)
    return []


def _socket_is_there() -> bool:
    """Whether a local server's socket exists; one on another machine is asked once."""
    named = os.environ.get("PULSE_SERVER", "").removeprefix("unix:")
    homes = os.environ.get("PULSE_RUNTIME_PATH"), os.environ.get("XDG_RUNTIME_DIR", "") + "/pulse"
    return any(map(os.path.exists, [named] if named else [f"{home}/native" for home in homes if home]))


def endpoints() -> tuple[str, list[Endpoint]]:
    """``(server, endpoints)``: "PulseAudio" or "PipeWire" with its sources and sinks; ``("", [])`` without a server."""
    with connection() as client:
        if client is None:
            return "", []
        info = client.server_info()
        server = "PipeWire" if "PipeWire" in info.server_name else "PulseAudio"
        found = []
        for is_source, items, default in (
            (True, listed(client.source_list), info.default_source_name),
            (False, listed(client.sink_list), info.default_sink_name),
        ):
            for i in items:
                spec = i.sample_spec
                monitor = is_source and i.proplist.get("device.class") == "monitor"
                end = Endpoint(
                    i.index, i.name, i.description, is_source, spec.rate, spec.channels, i.name == default, monitor
                )
                found.append(end)
        return server, found


def serials() -> dict[tuple[str, bool], int]:
    """The server's numbers of ``(name, is a source)``; a source or sink that comes back has another number."""
    return {(e.name, e.is_source): e.index for e in endpoints()[1]}


@contextmanager
def addressed(source: str | None = None, sink: str | None = None) -> Iterator[None]:
    """While this holds, a ``pulse`` stream that opens goes to these (server's names; None: the default)."""
    wanted = {"PULSE_SOURCE": source, "PULSE_SINK": sink, "PULSE_PROP": "application.name=rtdenoise"}
    with _opening:
        before = {k: os.environ.get(k) for k in wanted}
        try:
            for k, v in wanted.items():
                _set(k, v if v is not None else before[k])
            yield
        finally:
            for k, v in before.items():
                _set(k, v)


def refresh_sink(name: str) -> None:
    """Make a null sink of our own start afresh now that a stream is on it: an idle one has played 2 s ahead."""
    with connection() as client:
        if client is not None:
            sink = client.get_sink_by_name(name)
            client.sink_suspend(sink.index, 1)
            client.sink_suspend(sink.index, 0)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
