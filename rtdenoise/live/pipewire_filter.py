"""A node of our own in PipeWire's graph: its ports, a process function in machine code, its state, and its latency."""

from __future__ import annotations

import contextlib
import ctypes as C
import struct
from collections.abc import Callable, Sequence
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.environment import changed
from rtdenoise.live.pipewire import OVERRULING, Connection
from rtdenoise.live.pipewire_library import STATE_CHANGED, FilterEvents, Hook, Words, as_dict

INPUT, OUTPUT = 0, 1  # PipeWire's directions
MAP_BUFFERS, RT_PROCESS = 1, 4  # flags of a port, and of a filter
INVALID_ID = 0xFFFFFFFF
ERROR, UNCONNECTED, PAUSED, STREAMING = -1, 0, 2, 3  # states of a filter
FORMAT = "32 bit float mono audio"
# Numbers of SPA's types, and the object by which a node tells its latency.
LONG, OBJECT, PROCESS_LATENCY_OBJECT, PROCESS_LATENCY, NANOSECONDS = 5, 15, 0x4000C, 16, 3


class Filter:
    """A node whose samples are made by the C function at address ``process``, which gets ``data``.

    ports: direction, name and channel of each. ``prepare`` is given the ports' handles, which the function at
    `dsp_buffer_address` takes, before the first call; ``on_change`` is called from a thread of the library's whenever
    the graph begins or ceases to call. Goes with its connection, if not closed before.
    """

    def __init__(
        self,
        graph: Connection,
        properties: Words,
        ports: Sequence[tuple[int, str, str]],
        process: int = 0,
        data: int = 0,
        prepare: Callable[[list[int]], None] = lambda handles: None,
        on_change: Callable[[], None] = lambda: None,
    ):
        self.state = UNCONNECTED
        self._graph, self._on_change = graph, on_change
        self._end = contextlib.ExitStack()
        self._make(properties, ports, process, data, prepare)
        graph.wait(lambda: self.state == ERROR or self._number != INVALID_ID, "PipeWire does not start a filter")
        if self.state == ERROR:
            raise DeviceError("PipeWire refuses a filter")
        self.id = self._number

    @property
    def _number(self) -> int:
        return int(self._graph.library.pw_filter_get_node_id(self._filter))

    @property
    def runs(self) -> bool:
        """Whether the graph calls it, which it does while somebody needs it."""
        return self.state == STREAMING

    @property
    def ended(self) -> bool:
        """Whether the graph has given it up."""
        return self.state in (ERROR, UNCONNECTED)

    def _make(
        self, properties: Words, ports: Sequence[tuple[int, str, str]], process: int, data: int, prepare: Any
    ) -> None:
        def noted(_: Any, before: int, now: int, why: bytes | None) -> None:
            self.state = now
            self._on_change()

        graph, pw = self._graph, self._graph.library
        events, hook = FilterEvents(version=1, state_changed=STATE_CHANGED(noted), process=process), Hook()
        graph.kept += [events, hook]
        with changed(OVERRULING), graph.locked():
            name = properties["node.name"].encode()
            self._filter = pw.pw_filter_new(graph.core, name, pw.pw_properties_new_dict(C.byref(as_dict(properties))))
            if not self._filter:
                raise DeviceError("PipeWire refuses a filter")
            self._end.callback(self._destroy)
            graph.open.callback(self.close)
            pw.pw_filter_add_listener(self._filter, C.addressof(hook), C.addressof(events), data)
            handles = []
            for direction, port, channel in ports:
                words = as_dict({"format.dsp": FORMAT, "port.name": port, "audio.channel": channel})
                words = pw.pw_properties_new_dict(C.byref(words))
                handles.append(pw.pw_filter_add_port(self._filter, direction, MAP_BUFFERS, 0, words, None, 0))
            if not all(handles):
                raise DeviceError("PipeWire refuses the ports of a filter")
            prepare(handles)
            if pw.pw_filter_connect(self._filter, RT_PROCESS, None, 0) < 0:
                raise DeviceError("PipeWire refuses a filter")

    def close(self) -> None:
        """End it; safe to call twice."""
        self._end.close()

    def _destroy(self) -> None:
        with self._graph.locked():
            self._graph.library.pw_filter_destroy(self._filter)

    def tell_latency(self, ns: int) -> None:
        """Tell the graph how much later sound leaves than it came, so that programs can align it with a picture."""
        pod = C.create_string_buffer(process_latency(ns))
        with self._graph.locked():
            given = (C.c_void_p * 1)(C.addressof(pod))
            self._graph.library.pw_filter_update_params(self._filter, None, C.addressof(given), 1)


def process_latency(ns: int) -> bytes:
    """SPA's object that tells a latency in ns."""
    value = struct.pack("<IIIIq", NANOSECONDS, 0, 8, LONG, ns)
    body = struct.pack("<II", PROCESS_LATENCY_OBJECT, PROCESS_LATENCY) + value
    return struct.pack("<II", len(body), OBJECT) + body
