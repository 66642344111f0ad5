"""A connection to PipeWire: what the server lists, links and nodes that are made there, and a filter of our own.

Everything that a connection made goes when it is closed, and the server clears it away when the process dies.
"""

from __future__ import annotations

import contextlib
import ctypes as C
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.environment import changed
from rtdenoise.live.pipewire_library import (
    DONE,
    ERROR,
    GLOBAL,
    INFO,
    REMOVED,
    CoreEvents,
    FilterEvents,
    Hook,
    RegistryEvents,
    Words,
    as_dict,
    as_words,
    loaded,
    method,
)

ANSWER_S = 5.0  # A working server answers much sooner, even on a busy machine.
LOOK_S = 0.005
CONFIGURATION = "client-rt.conf"  # The client configuration that asks for real-time priority.
SERVER_GONE = -32  # EPIPE
INPUT, OUTPUT = 0, 1  # PipeWire's directions
MAP_BUFFERS, RT_PROCESS = 1, 4  # flags of a port, and of a filter
INVALID_ID = 0xFFFFFFFF
# People export these for games and for JACK programs; they would overrule what a session asks for.
OVERRULING = dict.fromkeys(f"PIPEWIRE_{name}" for name in ("LATENCY", "QUANTUM", "RATE", "NODE", "PROPS"))
# Positions in the tables of functions, after the version in the first word.
CORE_ADD_LISTENER, CORE_SYNC, CORE_GET_REGISTRY, CORE_CREATE_OBJECT = 1, 3, 6, 7
REGISTRY_ADD_LISTENER = 1


@dataclass(frozen=True)
class Object:
    """What the server lists: its number, what kind of thing it is (Node, Port, Link, ...), and its properties."""

    id: int
    kind: str
    properties: Words


class Connection:
    """A connection to the PipeWire server of this user, with a thread of the library's own.

    Raises `DeviceError` where there is no library or no server. Close it, or use it as a context manager.
    """

    def __init__(self) -> None:
        self._library = loaded()
        self._objects: dict[int, Object] = {}
        self._answered = -1
        self._info: Words = {}
        self.gone = False
        self._kept: list[Any] = []
        self._open = contextlib.ExitStack()
        with self._open:
            self._connect()
            self._open = self._open.pop_all()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and with it all that it made."""
        self._open.close()

    @property
    def rate(self) -> int:
        """What the graph usually runs at, in Hz."""
        return int(self._info.get("default.clock.rate", "48000"))

    def objects(self, kind: str) -> list[Object]:
        """All that the server lists of a kind."""
        return [o for o in list(self._objects.values()) if o.kind == kind]

    def _connect(self) -> None:
        pw = self._library
        self._loop = pw.pw_thread_loop_new(b"rtdenoise-pipewire", None)
        self._open.callback(pw.pw_thread_loop_destroy, self._loop)
        settings = pw.pw_properties_new_dict(C.byref(as_dict({"config.name": CONFIGURATION})))
        with changed(OVERRULING):
            context = pw.pw_context_new(pw.pw_thread_loop_get_loop(self._loop), settings, 0)
        if not context:
            raise DeviceError("PipeWire's client library does not start; is its configuration installed?")
        self._open.callback(pw.pw_context_destroy, context)
        if pw.pw_thread_loop_start(self._loop) < 0:
            raise DeviceError("PipeWire's client library cannot start a thread")
        self._open.callback(pw.pw_thread_loop_stop, self._loop)
        with self._locked():
            self._core = pw.pw_context_connect(context, None, 0)
            if not self._core:
                raise DeviceError("no PipeWire server responds; start one, or use --backend portaudio")
            self._listen_to_core()
            self._listen_to_registry()
        self._settle()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._library.pw_thread_loop_lock(self._loop)
        try:
            yield
        finally:
            self._library.pw_thread_loop_unlock(self._loop)

    def _listen_to_core(self) -> None:
        def info(_: Any, given: Any) -> None:
            self._info |= as_words(given[0].properties)

        def done(_: Any, id: int, sequence: int) -> None:
            self._answered = sequence

        def error(_: Any, id: int, sequence: int, code: int, message: bytes) -> None:
            self.gone = self.gone or (id == 0 and code == SERVER_GONE)

        events, hook = CoreEvents(0, INFO(info), DONE(done), None, ERROR(error)), Hook()
        self._kept += [events, hook]
        method(self._core, CORE_ADD_LISTENER, C.c_int, *[C.c_void_p] * 3)(C.addressof(hook), C.addressof(events), None)

    def _listen_to_registry(self) -> None:
        def added(_: Any, id: int, permissions: int, kind: bytes, version: int, properties: Any) -> None:
            self._objects[id] = Object(id, kind.decode().rpartition(":")[2], as_words(properties))

        def removed(_: Any, id: int) -> None:
            self._objects.pop(id, None)

        registry = method(self._core, CORE_GET_REGISTRY, C.c_void_p, C.c_uint32, C.c_size_t)(3, 0)
        events, hook = RegistryEvents(0, GLOBAL(added), REMOVED(removed)), Hook()
        self._kept += [events, hook]
        listen = method(registry, REGISTRY_ADD_LISTENER, C.c_int, *[C.c_void_p] * 3)
        listen(C.addressof(hook), C.addressof(events), None)

    def _settle(self) -> None:
        """Wait until the server has answered all that was asked so far."""
        with self._locked():
            sequence = method(self._core, CORE_SYNC, C.c_int, C.c_uint32, C.c_int)(0, 0)
        self.wait(lambda: self._answered == sequence, "PipeWire does not answer; restart it")

    def wait(self, ready: Callable[[], bool], otherwise: str) -> None:
        """Wait until ``ready()``; `DeviceError` with ``otherwise`` when it takes too long, or the server ends."""
        until = time.monotonic() + ANSWER_S
        while not ready():
            if self.gone:
                raise DeviceError("PipeWire ended; start it again")
            if time.monotonic() > until:
                raise DeviceError(otherwise)
            time.sleep(LOOK_S)

    def make(self, factory: str, kind: str, properties: Words) -> None:
        """Make an object (a node, a link) that lives as long as this connection."""
        with self._locked():
            make = method(
                self._core,
                CORE_CREATE_OBJECT,
                C.c_void_p,
                C.c_char_p,
                C.c_char_p,
                C.c_uint32,
                C.c_void_p,
                C.c_size_t,
            )
            given = as_dict(properties | {"object.linger": "false"})
            made = make(factory.encode(), f"PipeWire:Interface:{kind}".encode(), 3, C.addressof(given), 0)
        if not made:
            raise DeviceError(f"PipeWire does not make a {kind.lower()} ({factory})")

    def make_filter(
        self,
        properties: Words,
        ports: list[tuple[int, str, str]],
        process: int,
        data: int,
        prepare: Callable[[list[int]], None],
    ) -> int:
        """A node whose samples are made by the C function at address ``process``, which gets ``data``.

        ports: direction, name and channel of each. ``prepare`` is given the ports' handles, which the function at
        `dsp_buffer_address` takes, before the first call. Returns the node's number.
        """
        pw, format = self._library, "32 bit float mono audio"
        events, hook = FilterEvents(version=1, process=process), Hook()
        self._kept += [events, hook]
        with changed(OVERRULING), self._locked():
            name = properties["node.name"].encode()
            made = pw.pw_filter_new(self._core, name, pw.pw_properties_new_dict(C.byref(as_dict(properties))))
            if not made:
                raise DeviceError("PipeWire refuses a filter")
            self._open.callback(self._destroy_filter, made)
            pw.pw_filter_add_listener(made, C.addressof(hook), C.addressof(events), data)
            handles = []
            for direction, port, channel in ports:
                words = {"format.dsp": format, "port.name": port, "audio.channel": channel}
                words = pw.pw_properties_new_dict(C.byref(as_dict(words)))
                handles.append(pw.pw_filter_add_port(made, direction, MAP_BUFFERS, 0, words, None, 0))
            if not all(handles):
                raise DeviceError("PipeWire refuses the ports of a filter")
            prepare(handles)
            if pw.pw_filter_connect(made, RT_PROCESS, None, 0) < 0:
                raise DeviceError("PipeWire refuses a filter")

        def number() -> int:
            return int(pw.pw_filter_get_node_id(made))

        self.wait(lambda: number() != INVALID_ID, "PipeWire does not start a filter; is a session manager running?")
        return number()

    def _destroy_filter(self, made: int) -> None:
        with self._locked():
            self._library.pw_filter_destroy(made)
