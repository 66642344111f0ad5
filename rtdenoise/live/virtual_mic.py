"""The virtual microphone: what other programs list as "rtdenoise microphone".

    our output ─▶ null sink `rtdenoise_sink` ─▶ its monitor ─▶ remap source `rtdenoise_microphone` ─▶ other programs

The remap source is there because Chromium-based programs hide monitors; a loopback to the default output may be added,
to hear oneself. All are modules of the server (`rtdenoise.live.own_modules`). In PipeWire's graph it is one node
instead, which `rtdenoise.live.graph_streams` makes, and which sleeps while nobody records. Other systems need a cable
driver, which is found by its name.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import pulse
from rtdenoise.live.devices import Device, find_device, list_devices, server_bridge, server_device
from rtdenoise.live.own_modules import FOREVER, MONO, RATE_HZ, OwnModules, is_alive, sweep, this_process, unload
from rtdenoise.live.server import listed
from rtdenoise.live.virtual_end import VirtualEnd

SINK, SINK_DESCRIPTION = f"{pulse.OWN_PREFIX}sink", f"{pulse.OWN_DESCRIPTION}output"
SOURCE, DESCRIPTION = f"{pulse.OWN_PREFIX}microphone", f"{pulse.OWN_DESCRIPTION}microphone"
OWN = OwnModules("rtdenoise.owner", "a virtual microphone")
MONITOR_MS = 30  # The server may buffer this much between the virtual microphone and its listener.
CABLES = {
    "darwin": ("BlackHole", "https://existential.audio/blackhole"),
    "win32": ("CABLE Input", "https://vb-audio.com/Cable"),
}


@dataclass(frozen=True)
class Status:
    """``exists``: sink and source are there. ``owner``: pid of the living process they belong to, None if they stay."""

    exists: bool
    owner: int | None
    stale: int  # modules left by a process that is gone
    server: str


class VirtualMicrophone(VirtualEnd):
    """Exists while the context holds (and keeps one that was made to stay).

    With ``monitor`` the server also plays it on the default output; ``app`` and ``later`` are as for `VirtualEnd`.
    Raises `DeviceError` without a server (or cable driver), or while another process runs one.
    """

    modules, side, end = OWN, "output", SOURCE
    description, media_class = DESCRIPTION, "Audio/Source/Virtual"

    def __init__(self, monitor: bool = False, app: str | None = None, later: bool = False) -> None:
        super().__init__(app, later)
        self._monitor, self._stays = monitor, False
        self.heard_on: str | None = None  # The server's name for the monitor's output.

    def device(self, source: Device) -> Device:
        """What a session that records ``source`` will play to; nothing is made yet. Raises as the context would, and
        `UsageError` if ``source`` records what the monitor plays."""
        if sys.platform != "linux":
            if self._moves is not None:
                raise DeviceError(
                    "--app needs PulseAudio or PipeWire; here, choose the cable in the program's settings"
                )
            if self._monitor:
                raise DeviceError(
                    "--monitor needs PulseAudio or PipeWire; here, listen to the cable by the system's sound settings"
                )
            return _cable()
        with _server() as client:
            self.check(client)
            self._stays = FOREVER in OWN.owners(client).values()
            if self._monitor:
                self.heard_on = _default_output(client)
            server = pulse.endpoints_of(client)[0]
        if self.heard_on is not None and source.endpoint == f"{self.heard_on}.monitor":
            raise UsageError(f"{source.name} records what --monitor plays, a feedback loop; choose another input")
        sink = pulse.Endpoint(-1, SINK, SINK_DESCRIPTION, False, RATE_HZ, 1, False, own=True)
        return server_device(sink, server, server_bridge())

    def enter_graph(self, wanted: bool) -> None:
        self.in_graph = wanted and not self._stays

    @property
    def parts(self) -> set[tuple[str, bool]]:
        return {(SINK, False), (SOURCE, True)}

    def load(self, client: Any) -> None:
        owners = OWN.owners(client)
        unload(client, list(owners))
        owner = FOREVER if FOREVER in owners.values() else this_process()
        OWN.load(client, owner, _microphone(owner))

    def ensure(self) -> None:
        super().ensure()
        if self._monitor and not self.in_graph:
            with _server() as client:
                self._listen(client)

    def _listen(self, client: Any) -> None:
        if not any(map(_is_our_loopback, listed(client.module_list))):
            sinks = [s.name for s in listed(client.sink_list)]
            output = self.heard_on if self.heard_on and self.heard_on in sinks else _default_output(client)
            OWN.load(client, this_process(), [_loopback(this_process(), output)])


def create() -> Status:
    """Make a virtual microphone that stays until `remove` or the server's end."""
    if sys.platform != "linux":
        _cable()
    else:
        with _server() as client:
            sweep(client)
            if not OWN.owners(client):
                OWN.load(client, FOREVER, _microphone(FOREVER))
    return status()


def remove() -> Status:
    """Remove it and what dead processes left; refuses while a living process uses it."""
    if sys.platform == "linux":
        with _server() as client:
            OWN.refuse_living_owner(client)
            unload(client, list(OWN.owners(client)))
    return status()


def status() -> Status:
    with _server() as client:
        server = "PipeWire" if "PipeWire" in client.server_info().server_name else "PulseAudio"
        owners = OWN.owners(client)
        stale = OWN.stale(client)
        is_node = any(map(is_alive, OWN.node_owners(client)))
        return Status(is_node or len(owners) - len(stale) >= 2, OWN.living_owner(client), len(stale), server)


@contextlib.contextmanager
def _server() -> Iterator[Any]:
    if sys.platform != "linux":
        raise DeviceError(
            f"this system has no virtual microphones of its own; install {' from '.join(CABLES[sys.platform])}"
        )
    with OWN.server() as client:
        yield client


def _microphone(owner: str) -> list[tuple[str, str]]:
    sink = f"sink_name={SINK} rate={RATE_HZ} {MONO} " + OWN.properties(SINK_DESCRIPTION, owner, "sink")
    source = f"source_name={SOURCE} master={SINK}.monitor {MONO} master_channel_map=mono "
    source += OWN.properties(DESCRIPTION, owner, "source")
    return [("module-null-sink", sink), ("module-remap-source", source)]


def _loopback(owner: str, output: str) -> tuple[str, str]:
    properties = OWN.properties("rtdenoise monitor", owner, "sink_input")
    return "module-loopback", f"source={SINK}.monitor sink={output} latency_msec={MONITOR_MS} {properties}"


def _default_output(client: Any) -> str:
    """What the user listens on: the server's default sink, never our own."""
    default = client.server_info().default_sink_name
    others = [s.name for s in listed(client.sink_list) if not s.name.startswith(pulse.OWN_PREFIX)]
    if not others:
        raise DeviceError("--monitor finds no output to listen on; connect one, or remove --monitor")
    return str(default if default in others else others[0])


def _is_our_loopback(module: Any) -> bool:
    return module.name == "module-loopback" and OWN.owner(module) == this_process()


def _cable() -> Device:
    name, where = CABLES[sys.platform]
    if not any(name.lower() in d.name.lower() and d.outputs for d in list_devices()):
        raise DeviceError(f"no virtual cable found; install {name.split()[0]} from {where}, then start again")
    return find_device(name, "output")
