"""Modules of a PulseAudio or PipeWire server that are ours: made, found again, and taken away, and nobody else's.

Each carries a mark with its owner: the process that made it (by pid and start time), or nobody, if it was made to stay.
What a killed process left is known by that, and is cleared away by the next. Modules without a mark are never touched.
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

from rtdenoise.errors import DeviceError
from rtdenoise.live.server import connection, listed

FOREVER = "nobody"  # The owner of what outlives its maker.
RATE_HZ = 48_000
ANY_MARK = r"\brtdenoise\.\w+"  # a pattern of all marks
NAMED = re.compile(r"\b(?:source|sink)_name=(\S+)")  # in a module's arguments: what it makes
# Given wherever there is one channel, since PipeWire would otherwise make two, and 3 dB too loud.
MONO = "channels=1 channel_map=mono"


@dataclass(frozen=True)
class OwnModules:
    """The modules of one kind: ``mark`` is the name of the property that tells them, ``what`` the words for them."""

    mark: str
    what: str

    @contextlib.contextmanager
    def server(self) -> Iterator[Any]:
        """A connection to the server; `DeviceError` where there is none."""
        with connection() as client:
            if client is None:
                raise DeviceError(
                    f"{self.what} needs PulseAudio or PipeWire (pipewire-pulse), and neither responds; start one, "
                    "and check that pulsectl is installed"
                    if sys.platform == "linux"
                    else f"{self.what} needs PulseAudio or PipeWire, and so Linux"
                )
            yield client

    def properties(self, description: str, owner: str, kind: str) -> str:
        """The argument of a module that names and marks its ``kind``: sink, source, sink_input."""
        return f"{kind}_properties=\"device.description='{description}' {self.mark}='{owner}'\""

    def owner(self, module: Any) -> str | None:
        """Whose a module is; None if it is not of ours."""
        return _marked(module, re.escape(self.mark))

    def owners(self, client: Any) -> dict[int, str]:
        """Our modules by number, in the order they were loaded, and whose they are."""
        found = {m.index: owner for m in listed(client.module_list) if (owner := self.owner(m))}
        return dict(sorted(found.items()))

    def stale(self, client: Any) -> list[int]:
        """Those of processes that are gone."""
        return [m for m, owner in self.owners(client).items() if _is_stale(owner)]

    def load(self, client: Any, owner: str, modules: list[tuple[str, str]]) -> None:
        """Load ``(name, arguments)`` of all modules or none, and leave none of this owner's behind."""
        self.refuse_taken(client, {name for _, arguments in modules for name in NAMED.findall(arguments)})
        for name, arguments in modules:
            try:
                client.module_load(name, arguments)
            except Exception as e:  # pulsectl's errors share no useful base class.
                unload(client, [m for m, o in self.owners(client).items() if o == owner])
                raise DeviceError(f"the sound server refuses {self.what} ({e}); is {name} installed?") from e

    def refuse_taken(self, client: Any, names: set[str]) -> None:
        """`DeviceError` while something else has one of these names: a server would list both, or rename ours."""
        ends = [e for e in (*listed(client.sink_list), *listed(client.source_list)) if e.name in names]
        foreign = [e for e in ends if self.mark not in e.proplist and e.proplist.get("device.class") != "monitor"]
        if foreign:
            raise DeviceError(f"something else is called {foreign[0].name}; remove it, so that {self.what} can be made")

    def unload_own(self, client: Any) -> None:
        """Take away all of this process's."""
        unload(client, [m for m, owner in self.owners(client).items() if owner == this_process()])

    def living_owner(self, client: Any) -> int | None:
        """The pid of the running process that has some, if any."""
        owners = [*self.owners(client).values(), *self.node_owners(client)]
        return next((int(o.split("-")[0]) for o in owners if o != FOREVER and is_alive(o)), None)

    def node_owners(self, client: Any) -> list[str]:
        """Whose the marked sinks and sources are, which a process may also have made without a module."""
        ends = *listed(client.sink_list), *listed(client.source_list)
        return [e.proplist[self.mark] for e in ends if self.mark in e.proplist]

    def refuse_living_owner(self, client: Any, but: int | None = None) -> None:
        """`DeviceError` while another process than ``but`` has some."""
        owner = self.living_owner(client)
        if owner not in (None, but):
            raise DeviceError(f"{self.what.replace('a ', 'the ', 1)} is in use by process {owner}; stop that one first")


def left(client: Any) -> list[int]:
    """The modules of every kind that processes left that were killed."""
    owners = {m.index: _marked(m, ANY_MARK) for m in listed(client.module_list)}
    return [m for m, owner in sorted(owners.items()) if _is_stale(owner)]


def sweep(client: Any) -> bool:
    """Take them away; whether there were any."""
    found = left(client)
    unload(client, found)
    return bool(found)


def unload(client: Any, modules: list[int]) -> None:
    """Take modules away, the last loaded first."""
    for module in reversed(modules):
        with contextlib.suppress(Exception):
            client.module_unload(module)


def _marked(module: Any, mark: str) -> str | None:
    """The owner that a module's ``mark`` names, a pattern."""
    found = re.search(rf"{mark}\s*=\s*\W*([\w-]+)", module.argument or "")
    return found and found[1]


def _is_stale(owner: str | None) -> bool:
    return owner is not None and owner != FOREVER and not is_alive(owner)


def this_process() -> str:
    """The owner that this process's modules bear."""
    return f"{os.getpid()}-{_start_time(os.getpid())}"


def is_alive(owner: str) -> bool:
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
