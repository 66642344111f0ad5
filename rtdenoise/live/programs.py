"""Programs that play or record through a PulseAudio or PipeWire server: listed, found by name, moved and moved back.

Where a program was before is written down, in the folder of running sessions, before it is moved. A process that is
killed so leaves word, and the next one moves back what still plays to, or records from, the dead one's device.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtdenoise.control import sockets
from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.io.atomic import write_text
from rtdenoise.live import pulse
from rtdenoise.live.own_modules import is_alive, this_process
from rtdenoise.live.server import connection

METERS = "Peak detect"  # What volume controls call the streams of their meters.
FOLDER = "moved"  # beside the sockets of running sessions
NOWHERE = "no device"
Origins = dict[int, tuple[str, str]]  # A stream's number, the name of its program, and where it was.


@dataclass(frozen=True)
class Program:
    """One stream of a program: ``id`` is the server's number, ``where`` the name of the sink or source it uses, empty
    while it has none."""

    id: int
    name: str
    plays: bool
    where: str
    device: str  # what people read for ``where``
    pid: int | None
    title: str  # what the program calls this stream

    def __str__(self) -> str:
        return f"[{self.id}] {self.name} ({'plays on' if self.plays else 'records'} {self.device})"


def list_programs() -> list[Program]:
    """All that play or record now; `DeviceError` without a server."""
    with connection() as client:
        if client is None:
            raise DeviceError("programs are listed by PulseAudio or PipeWire (pipewire-pulse), and neither responds")
        return programs_of(client)


def programs_of(client: Any) -> list[Program]:
    """The same, over a connection that is there already. The streams of modules, of meters and our own are left out."""
    ends = {(e.index, e.is_source): e for e in pulse.endpoints_of(client)[1]}
    streams = [(s, True, s.sink) for s in client.sink_input_list()]
    streams += [(s, False, s.source) for s in client.source_output_list()]
    found = []
    for stream, plays, where in streams:
        properties, end = stream.proplist, ends.get((where, not plays))
        name, pid = properties.get("application.name", ""), properties.get("application.process.id", "")
        if not name or name == "rtdenoise" or stream.name == METERS:
            continue
        at = (end.name, end.description) if end else ("", NOWHERE)
        found.append(Program(stream.index, name, plays, *at, int(pid) if pid.isdigit() else None, stream.name))
    return sorted(found, key=lambda p: (p.name.casefold(), p.id))


def program_named(wanted: str) -> str:
    """The whole name of the program that ``wanted`` means, whether it plays or records. Raises as `meant`."""
    with connection() as client:
        if client is None:
            raise DeviceError("--app needs PulseAudio or PipeWire (pipewire-pulse), and neither responds")
        wanted = meant(client, wanted)
        return next((p.name for p in programs_of(client) if str(p.id) == wanted), wanted)


def meant(client: Any, wanted: str, plays: bool | None = None) -> str:
    """The number of the stream, or the name of the program, that is meant by one or by a part of the name.

    `UsageError` with the list if there is none that ``plays``, or records (None: does either), or several programs fit.
    """
    able = [p for p in programs_of(client) if plays in (None, p.plays)]
    text = wanted.strip().casefold()
    does = "plays or records" if plays is None else "plays" if plays else "records"
    if not able:
        raise UsageError(f"--app {wanted}: no program {does} anything now; let it begin, then start again")
    if any(str(p.id) == text for p in able):
        return text
    listed = "; ".join(map(str, able))
    names = {p.name for p in able if p.name.casefold() == text} or {p.name for p in able if text in p.name.casefold()}
    if not names:
        raise UsageError(f"--app {wanted}: no program of this name {does}; there are: {listed}")
    if len(names) > 1:
        raise UsageError(f"--app {wanted}: several programs match; give more of the name, or a number: {listed}")
    return names.pop()  # Its later streams are meant too, and nobody else's.


class Moves:
    """Moves the streams of the program that ``wanted`` means to our sink or source ``end``, and back.

    ``wanted`` is what `meant` takes. A stream is moved once, and again if the end went and came back: who moves it
    elsewhere meanwhile means it.
    """

    def __init__(self, wanted: str, end: str, plays: bool):
        self._wanted, self._end, self._plays = wanted.strip(), end, plays
        self._place: str | None = None  # All that play there are meant.
        self._origins: Origins = {}
        self._at: int | None = None  # the server's number for the end
        self._moved: set[int] = set()  # the streams that were moved there

    @classmethod
    def from_end(cls, place: str, end: str) -> Moves:
        """For all that play on the sink ``place``."""
        moves = cls("", end, plays=True)
        moves._place = place
        return moves

    def find(self, client: Any) -> None:
        """Settle which program is meant; `UsageError` as by `meant`."""
        self._wanted = meant(client, self._wanted, self._plays)

    def follow(self, client: Any) -> None:
        """Move what has not been moved yet, if the end is there."""
        end = _end(client, self._end, self._plays)
        if end is None:
            return
        if end != self._at:
            self._at = end
            self._moved.clear()
        for program in self._meant(client):
            if program.id not in self._moved:
                self._moved.add(program.id)
                if program.where != self._end:
                    self._origins.setdefault(program.id, (program.name, program.where))
                    self._note()
                    _move(client, program, end)
            elif program.where not in ("", self._end, self._origins.get(program.id, ("", ""))[1]):
                self._origins.pop(program.id, None)  # Somebody took it elsewhere.

    def _meant(self, client: Any) -> list[Program]:
        text = self._wanted.casefold()
        able = [p for p in programs_of(client) if p.plays == self._plays]
        if self._place is not None:
            return [p for p in able if p.where in (self._place, self._end)]
        return [p for p in able if text in (str(p.id), p.name.casefold())]

    def restore(self, client: Any) -> None:
        """Move back what is still there, to where it was."""
        _restore(client, self._end, self._origins)
        self._origins.clear()
        with contextlib.suppress(OSError, sockets.ControlError):
            self._path().unlink(missing_ok=True)

    def _note(self) -> None:
        """Without a folder to write to, a crash leaves the streams to the server, which plays them on its default."""
        with contextlib.suppress(OSError, sockets.ControlError):
            path = self._path()
            path.parent.mkdir(0o700, exist_ok=True)
            write_text(path, json.dumps({"end": self._end, "origins": self._origins}))

    def _path(self) -> Path:
        return sockets.private_folder() / FOLDER / f"{this_process()}-{self._end}.json"


def restore_left(client: Any) -> None:
    """Move back what processes moved that are gone."""
    with contextlib.suppress(OSError, sockets.ControlError):
        notes: dict[str, Origins] = {}
        for path in (sockets.private_folder() / FOLDER).glob("*.json"):
            if not is_alive("-".join(path.stem.split("-")[:2])):  # An end's name may have dashes too.
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # It was damaged.
                    kept = json.loads(path.read_text(encoding="utf-8"))
                    origins = {int(id): (str(name), str(where)) for id, (name, where) in kept["origins"].items()}
                    notes.setdefault(str(kept["end"]), {}).update(origins)
                path.unlink(missing_ok=True)
        for end, origins in notes.items():
            _restore(client, end, {id: (name, _first(notes, id, where)) for id, (name, where) in origins.items()})


def _first(notes: dict[str, Origins], id: int, where: str) -> str:
    """Where a stream was before any of our ends: one may have been moved from the first of them to the second."""
    for _ in notes:
        where = notes.get(where, {}).get(id, ("", where))[1]
    return where


def _restore(client: Any, end: str, origins: Origins) -> None:
    """Move back the streams that are at ``end``, or lost it: a server leaves them anywhere then."""
    for program in programs_of(client):
        name, where = origins.get(program.id, ("", ""))
        lost = program.where == "" or _end(client, end, program.plays) is None
        origin = _end(client, where, program.plays)
        if name == program.name and origin is not None and (lost or program.where == end):
            with contextlib.suppress(DeviceError):  # It has just ended.
                _move(client, program, origin)


def _end(client: Any, name: str, plays: bool) -> int | None:
    """The server's number for a sink (``plays``) or source."""
    return pulse.serials(client).get((name, not plays))


def _move(client: Any, program: Program, end: int) -> None:
    try:
        (client.sink_input_move if program.plays else client.source_output_move)(program.id, end)
    except Exception as e:  # pulsectl's errors share no useful base class.
        if any(p.id == program.id for p in programs_of(client)):
            raise DeviceError(f"the sound server does not move {program.name} ({e})") from e
