"""A connection to PipeWire: what the server lists, and links and nodes that are made there.

Everything that a connection made goes when it is closed, and the server clears it away when the process dies. A node of
our own in machine code is `rtdenoise.live.pipewire_filter`'s.
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
from rtdenoise.live import pulse
from rtdenoise.live.devices import Device
from rtdenoise.live.environment import changed
from rtdenoise.live.pipewire_library import (
    DONE,
    ERROR,
    GLOBAL,
    REMOVED,
    CoreEvents,
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
REFUSALS = -1, -13  # EPERM and EACCES: a sandbox lets its programs see less, and do less
# People export these for games and for JACK programs; they would overrule what a session asks for.
OVERRULING = dict.fromkeys(f"PIPEWIRE_{name}" for name in ("LATENCY", "QUANTUM", "RATE", "NODE", "PROPS"))
# Positions in the tables of functions, after the version in the first word.
CORE_ADD_LISTENER, CORE_SYNC, CORE_GET_REGISTRY, CORE_CREATE_OBJECT = 1, 3, 6, 7
REGISTRY_ADD_LISTENER = 1


class Unmanaged(DeviceError):
    """Nobody connects programs with devices, so no way through this server works, and PortAudio would wait for ever."""


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
        self.library = loaded()
        self._objects: dict[int, Object] = {}
        self._answered = -1
        self.gone = False
        self._refused = ""
        self.kept: list[Any] = []  # what the library points to
        self.open = contextlib.ExitStack()  # ends what was begun, in the order that is safe
        with self.open:
            self._connect()
            self.open = self.open.pop_all()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and with it all that it made."""
        self.open.close()

    def objects(self, kind: str) -> list[Object]:
        """All that the server lists of a kind."""
        return [o for o in list(self._objects.values()) if o.kind == kind]

    def _connect(self) -> None:
        pw = self.library
        self.loop = pw.pw_thread_loop_new(b"rtdenoise-pipewire", None)
        self.open.callback(pw.pw_thread_loop_destroy, self.loop)
        settings = pw.pw_properties_new_dict(C.byref(as_dict({"config.name": CONFIGURATION})))
        with changed(OVERRULING):
            context = pw.pw_context_new(pw.pw_thread_loop_get_loop(self.loop), settings, 0)
        if not context:
            raise DeviceError("PipeWire's client library does not start; is its configuration installed?")
        self.open.callback(pw.pw_context_destroy, context)
        if pw.pw_thread_loop_start(self.loop) < 0:
            raise DeviceError("PipeWire's client library cannot start a thread")
        self.open.callback(pw.pw_thread_loop_stop, self.loop)
        with self.locked():
            self.core = pw.pw_context_connect(context, None, 0)
            if not self.core:
                raise DeviceError("no PipeWire server responds; start one, or use --backend portaudio")
            self._listen_to_core()
            self._listen_to_registry()
        self._settle()

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.library.pw_thread_loop_lock(self.loop)
        try:
            yield
        finally:
            self.library.pw_thread_loop_unlock(self.loop)

    def _listen_to_core(self) -> None:
        def done(_: Any, id: int, sequence: int) -> None:
            self._answered = sequence

        def error(_: Any, id: int, sequence: int, code: int, message: bytes) -> None:
            self.gone = self.gone or (id == 0 and code == SERVER_GONE)
            if code in REFUSALS:
                self._refused = message.decode(errors="replace")

        events, hook = CoreEvents(0, None, DONE(done), None, ERROR(error)), Hook()
        self.kept += [events, hook]
        method(self.core, CORE_ADD_LISTENER, C.c_int, *[C.c_void_p] * 3)(C.addressof(hook), C.addressof(events), None)

    def _listen_to_registry(self) -> None:
        def added(_: Any, id: int, permissions: int, kind: bytes, version: int, properties: Any) -> None:
            self._objects[id] = Object(id, kind.decode().rpartition(":")[2], as_words(properties))

        def removed(_: Any, id: int) -> None:
            self._objects.pop(id, None)

        registry = method(self.core, CORE_GET_REGISTRY, C.c_void_p, C.c_uint32, C.c_size_t)(3, 0)
        events, hook = RegistryEvents(0, GLOBAL(added), REMOVED(removed)), Hook()
        self.kept += [events, hook]
        listen = method(registry, REGISTRY_ADD_LISTENER, C.c_int, *[C.c_void_p] * 3)
        listen(C.addressof(hook), C.addressof(events), None)

    def _settle(self) -> None:
        """Wait until the server has answered all that was asked so far."""
        with self.locked():
            sequence = method(self.core, CORE_SYNC, C.c_int, C.c_uint32, C.c_int)(0, 0)
        self.wait(lambda: self._answered == sequence, "PipeWire does not answer; restart it")

    def wait(self, ready: Callable[[], bool], otherwise: str) -> None:
        """Wait until ``ready()``; `DeviceError` with ``otherwise`` when it takes too long, or the server ends."""
        until = time.monotonic() + ANSWER_S
        while not ready():
            if self.gone:
                raise DeviceError("PipeWire ended; start it again")
            if self._refused:
                raise DeviceError(f"PipeWire refuses ({self._refused}); does a sandbox restrict this program?")
            if time.monotonic() > until:
                raise DeviceError(otherwise)
            time.sleep(LOOK_S)

    def require_manager(self) -> None:
        """`Unmanaged` without a session manager, which sets up devices and connects what asks for it."""
        managed = lambda: any(o.properties.get("metadata.name") == "default" for o in self.objects("Metadata"))
        try:
            self.wait(managed, "")
        except DeviceError as e:
            raise Unmanaged(str(e) or "PipeWire runs without a session manager; start one (wireplumber)") from e

    def make(self, factory: str, kind: str, properties: Words) -> None:
        """Make an object (a node, a link) that lives as long as this connection."""
        with self.locked():
            make = method(
                self.core,
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


def refuse_unmanaged(*devices: Device) -> None:
    """`Unmanaged` where one of these is reached through a PipeWire server without a session manager, as far as this
    process can see (a sandbox may hide it): PortAudio would wait for the manager for ever, also when it only asks."""
    hosts = {d.host if d.endpoint else pulse.endpoints()[0] for d in devices if d.is_server}
    if pulse.PIPEWIRE not in hosts:
        return
    try:
        with Connection() as graph:
            graph.require_manager()
    except Unmanaged:
        raise
    except DeviceError:
        pass
