"""Sources and sinks of a PulseAudio or PipeWire server, as devices that PortAudio alone cannot name.

PortAudio reaches such a server through ALSA's ``pulse`` device, which means the server's default source and sink. Which
others it means is told to the client library by environment variables while a stream opens (`addressed`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.environment import changed
from rtdenoise.live.pulse_client import private_memory
from rtdenoise.live.server import connection, listed

PORTAUDIO_NAME = "pulse"  # ALSA's name for the server
PULSEAUDIO, PIPEWIRE = "PulseAudio", "PipeWire"
# The sinks and sources that we made begin with these, in their names and in what people read.
OWN_PREFIX, OWN_DESCRIPTION = "rtdenoise_", "rtdenoise "
# Variables that address a stream, and the properties that say afterwards how it was addressed.
SOURCE_MARK, SINK_MARK = "rtdenoise.source", "rtdenoise.sink"
BY_SOURCE, BY_SINK = ("PULSE_SOURCE", SOURCE_MARK), ("PULSE_SINK", SINK_MARK)
# This overrides the buffers of every stream; people export it for games and video players.
OVERRULING = ("PULSE_LATENCY_MSEC",)


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
    monitor: bool = False  # a source that carries what a sink plays
    own: bool = False  # made by this package, or standing on one that was


def endpoints() -> tuple[str, list[Endpoint]]:
    """``(server, endpoints)``: "PulseAudio" or "PipeWire" with its sources and sinks; ``("", [])`` without a server."""
    with connection() as client:
        return ("", []) if client is None else endpoints_of(client)


def usual_rate() -> int:
    """What the server usually runs at, in Hz; PipeWire's graph is meant too. `DeviceError` without a server."""
    with connection() as client:
        if client is None:
            raise DeviceError("no sound server responds; start PipeWire or PulseAudio")
        return int(client.usual_rate())


def endpoints_of(client: Any) -> tuple[str, list[Endpoint]]:
    """The same, over a connection that is there already."""
    info = client.server_info()
    server = PIPEWIRE if PIPEWIRE in info.server_name else PULSEAUDIO
    found = []
    for is_source, items, default in (
        (True, listed(client.source_list), info.default_source_name),
        (False, listed(client.sink_list), info.default_sink_name),
    ):
        names = {i.name: i for i in items}
        for i in items:
            spec = i.sample_spec
            end = Endpoint(
                i.index,
                i.name,
                i.description,
                is_source,
                spec.rate,
                spec.channels,
                i.name == default,
                monitor=is_source and i.proplist.get("device.class") == "monitor",
                own=_is_own(i, names),
            )
            found.append(end)
    return server, found


def _is_own(item: Any, by_name: dict[str, Any]) -> bool:
    """Whether this is one of ours, or stands on one (an echo canceller, say, over our microphone)."""
    for _ in by_name:
        if item.name.startswith(OWN_PREFIX):
            return True
        masters = item.proplist.get("device.master_device"), item.proplist.get("target.object")
        item = next((by_name[m] for m in masters if m in by_name), None)
        if item is None:
            return False
    return False


def serials(client: Any) -> dict[tuple[str, bool], int]:
    """The server's numbers of ``(name, is a source)``; a source or sink that comes back has another number."""
    return {(e.name, e.is_source): e.index for e in endpoints_of(client)[1]}


def keep_off_our_own(client: Any, source: str | None, sink: str | None) -> None:
    """Bring our streams back to ``source`` and ``sink`` where one of them hears our own microphone, or plays to our own
    speaker; None leaves that side alone.

    A server moves the streams of its defaults when another becomes the default, and people make ours the default. A
    stream that was moved by hand, as here, stays where it is. Streams of another session of this process, which may
    hear or play to our own rightly, are told by what they were `addressed` to.
    """
    own = {(e.index, e.is_source) for e in endpoints_of(client)[1] if e.own}
    for stream in client.source_output_list() if source else ():
        if (stream.source, True) in own and _is_addressed(stream, SOURCE_MARK, source):
            client.source_output_move(stream.index, client.get_source_by_name(source).index)
    for stream in client.sink_input_list() if sink else ():
        if (stream.sink, False) in own and _is_addressed(stream, SINK_MARK, sink):
            client.sink_input_move(stream.index, client.get_sink_by_name(sink).index)


def _is_addressed(stream: Any, mark: str, end: str | None) -> bool:
    """Whether it is a stream of this process that was opened for this end."""
    words = stream.proplist
    return bool(words.get("application.process.id") == str(os.getpid()) and words.get(mark) == end)


@contextmanager
def addressed(source: str | None = None, sink: str | None = None) -> Iterator[None]:
    """While this holds, a ``pulse`` stream that opens goes to these (server's names; None: the default), with the
    buffers that we ask for."""
    given = [(variable, mark, end) for variable, mark, end in ((*BY_SOURCE, source), (*BY_SINK, sink)) if end]
    ends = {variable: end for variable, _, end in given}
    words = " ".join(["application.name=rtdenoise", *(f'{mark}="{end}"' for _, mark, end in given)])
    wanted = {"PULSE_PROP_OVERRIDE": words} | dict.fromkeys(OVERRULING)
    with private_memory() as settings, changed(wanted | ends | settings):
        yield


def refresh_sink(name: str) -> None:
    """Make a null sink of our own start afresh now that a stream is on it: an idle one has played 2 s ahead."""
    with connection() as client:
        if client is not None:
            sink = client.get_sink_by_name(name)
            client.sink_suspend(sink.index, 1)
            client.sink_suspend(sink.index, 0)
