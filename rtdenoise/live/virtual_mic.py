"""The virtual microphone: what other programs list as "rtdenoise microphone".

    our output ─▶ null sink `rtdenoise_sink` ─▶ its monitor ─▶ remap source `rtdenoise_microphone` ─▶ other programs

The remap source is there because Chromium-based programs hide monitors; a loopback to the default output may be added,
to hear oneself. All are modules of the PulseAudio or
PipeWire server, traces with their owner: the process that made them (by pid and start time), or nobody, if they were
made to stay. Modules without that mark are never touched. Other systems need a cable driver, which is found by its
name.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import pulse
from rtdenoise.live.devices import Device, find_device, list_devices, server_bridge, server_device
from rtdenoise.live.server import connection, listed

SINK, SINK_DESCRIPTION = f"{pulse.OWN_PREFIX}sink", f"{pulse.OWN_DESCRIPTION}output"
SOURCE, DESCRIPTION = f"{pulse.OWN_PREFIX}microphone", f"{pulse.OWN_DESCRIPTION}microphone"
MARK = "rtdenoise.owner"
FOREVER = "nobody"  # The owner of a microphone that outlives its maker.
RATE_HZ = 48_000
# Given at both ends, since PipeWire would otherwise make the source stereo, and 3 dB too loud.
MONO = "channels=1 channel_map=mono"
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


class VirtualMicrophone:
    """Exists while the context holds (and keeps one that was made to stay).

    With ``monitor`` the server also plays it on the default output. Raises `DeviceError` without a server (or cable
    driver), or while another process runs one.
    """

    def __init__(self, monitor: bool = False) -> None:
        self._monitor = monitor
        self._heard_on: str | None = None  # The server's name for the monitor's output.

    def device(self, source: Device) -> Device:
        """What a session that records ``source`` will play to; nothing is made yet. Raises as the context would, and
        `UsageError` if ``source`` records what the monitor plays."""
        if sys.platform != "linux":
            if self._monitor:
                raise DeviceError(
                    "--monitor needs PulseAudio or PipeWire; here, listen to the cable by the system's sound settings"
                )
            return _cable()
        with _server() as client:
            _refuse_living_owner(client)
            if self._monitor:
                self._heard_on = _default_output(client)
            server = pulse.endpoints_of(client)[0]
        if self._heard_on is not None and source.endpoint == f"{self._heard_on}.monitor":
            raise UsageError(f"{source.name} records what --monitor plays, a feedback loop; choose another input")
        sink = pulse.Endpoint(-1, SINK, SINK_DESCRIPTION, False, RATE_HZ, 1, False, own=True)
        return server_device(sink, server, server_bridge())

    def __enter__(self) -> VirtualMicrophone:
        if sys.platform == "linux":
            with _server() as client:
                _refuse_living_owner(client)
            try:
                self.ensure()
            except BaseException:  # For example a signal, which waited until the server had made everything.
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        """Everything that bears our mark goes, whatever happened since it was made."""
        with contextlib.suppress(DeviceError), connection() as client:  # Without a server, all of it is gone.
            if client is not None:
                _unload(client, [m for m, owner in _owners(client).items() if owner == _this_process()])

    def is_in(self, serials: dict[tuple[str, bool], int]) -> bool:
        """Whether the server that has these sources and sinks (`pulse.serials`) has all of it."""
        return sys.platform != "linux" or {(SINK, False), (SOURCE, True)} <= serials.keys()

    def ensure(self) -> None:
        """Make it, or make it anew if the server lost all of it or a part."""
        with _server() as client:
            _sweep(client)
            _refuse_living_owner(client, but=os.getpid())
            if not self.is_in(pulse.serials(client)):
                owners = _owners(client)
                _unload(client, list(owners))
                owner = FOREVER if FOREVER in owners.values() else _this_process()
                _load(client, owner, _microphone(owner))
            if self._monitor and not any(map(_is_our_loopback, listed(client.module_list))):
                sinks = [s.name for s in listed(client.sink_list)]
                output = self._heard_on if self._heard_on and self._heard_on in sinks else _default_output(client)
                _load(client, _this_process(), [_loopback(_this_process(), output)])


def create() -> Status:
    """Make a virtual microphone that stays until `remove` or the server's end."""
    if sys.platform != "linux":
        _cable()
    else:
        with _server() as client:
            _sweep(client)
            if not _owners(client):
                _load(client, FOREVER, _microphone(FOREVER))
    return status()


def remove() -> Status:
    """Remove it and what dead processes left; refuses while a living process uses it."""
    if sys.platform == "linux":
        with _server() as client:
            _refuse_living_owner(client)
            _unload(client, list(_owners(client)))
    return status()


def status() -> Status:
    with _server() as client:
        server = "PipeWire" if "PipeWire" in client.server_info().server_name else "PulseAudio"
        owners = _owners(client)
        stale = [m for m, o in owners.items() if o != FOREVER and not _alive(o)]
        return Status(len(owners) - len(stale) >= 2, _living_owner(client), len(stale), server)


@contextlib.contextmanager
def _server() -> Iterator[Any]:
    if sys.platform != "linux":
        raise DeviceError(
            f"this system has no virtual microphones of its own; install {' from '.join(CABLES[sys.platform])}"
        )
    with connection() as client:
        if client is None:
            raise DeviceError(
                "a virtual microphone needs PulseAudio or PipeWire (pipewire-pulse), and neither responds; start one, "
                "and check that pulsectl is installed"
            )
        yield client


def _load(client: Any, owner: str, modules: list[tuple[str, str]]) -> None:
    """Load ``(name, arguments)`` of all modules or none, and leave none of this owner's behind."""
    try:
        for name, arguments in modules:
            client.module_load(name, arguments)
    except Exception as e:  # pulsectl's errors share no useful base class.
        _unload(client, [m for m, o in _owners(client).items() if o == owner])
        raise DeviceError(f"the sound server refuses a virtual microphone ({e}); does `{SINK}` already exist?") from e


def _microphone(owner: str) -> list[tuple[str, str]]:
    sink = f"sink_name={SINK} rate={RATE_HZ} {MONO} " + _properties(SINK_DESCRIPTION, owner, "sink")
    source = f"source_name={SOURCE} master={SINK}.monitor {MONO} master_channel_map=mono "
    source += _properties(DESCRIPTION, owner, "source")
    return [("module-null-sink", sink), ("module-remap-source", source)]


def _loopback(owner: str, output: str) -> tuple[str, str]:
    properties = _properties("rtdenoise monitor", owner, "sink_input")
    return "module-loopback", f"source={SINK}.monitor sink={output} latency_msec={MONITOR_MS} {properties}"


def _default_output(client: Any) -> str:
    """What the user listens on: the server's default sink, never our own."""
    default = client.server_info().default_sink_name
    others = [s.name for s in listed(client.sink_list) if not s.name.startswith(pulse.OWN_PREFIX)]
    if not others:
        raise DeviceError("--monitor finds no output to listen on; connect one, or remove --monitor")
    return str(default if default in others else others[0])


def _properties(description: str, owner: str, kind: str) -> str:
    return f"{kind}_properties=\"device.description='{description}' {MARK}='{owner}'\""


def _owners(client: Any) -> dict[int, str]:
    """Our modules by number, in the order they were loaded, and whose they are."""
    found = {m.index: owner for m in listed(client.module_list) if (owner := _owner(m))}
    return dict(sorted(found.items()))


def _owner(module: Any) -> str | None:
    mark = re.search(rf"{re.escape(MARK)}\s*=\s*\W*([\w-]+)", module.argument or "")
    return mark and mark[1]


def _is_our_loopback(module: Any) -> bool:
    return module.name == "module-loopback" and _owner(module) == _this_process()


def _sweep(client: Any) -> None:
    """Remove what processes left that were killed."""
    _unload(client, [m for m, o in _owners(client).items() if o != FOREVER and not _alive(o)])


def _unload(client: Any, modules: list[int]) -> None:
    for module in reversed(modules):
        with contextlib.suppress(Exception):
            client.module_unload(module)


def _living_owner(client: Any) -> int | None:
    return next((int(o.split("-")[0]) for o in _owners(client).values() if o != FOREVER and _alive(o)), None)


def _refuse_living_owner(client: Any, but: int | None = None) -> None:
    owner = _living_owner(client)
    if owner not in (None, but):
        raise DeviceError(f"the virtual microphone is in use by process {owner}; stop that one first")


def _this_process() -> str:
    return f"{os.getpid()}-{_start_time(os.getpid())}"


def _alive(owner: str) -> bool:
    """Whether the process that left this mark still runs (a later one with its pid has another start time)."""
    pid, _, started = owner.partition("-")
    return pid.isdigit() and _start_time(int(pid)) == started


def _start_time(pid: int) -> str | None:
    """In clock ticks since boot; None if there is no such process, or one that ended and whose parent has not looked
    yet, as stays for ever in a container without an init."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def _cable() -> Device:
    name, where = CABLES[sys.platform]
    if not any(name.lower() in d.name.lower() and d.outputs for d in list_devices()):
        raise DeviceError(f"no virtual cable found; install {name.split()[0]} from {where}, then start again")
    return find_device(name, "output")
