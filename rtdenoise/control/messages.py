"""What a session and those who control it say to each other: one JSON object a line, either way.

    {"v": 1, "id": 7, "do": "set", "set": {"muted": "toggle"}}  ─▶
    ◀─  {"v": 1, "id": 7, "ok": true, "heard": true, "status": {...}}  or  {..., "ok": false, "error": "..."}

``docs/reference/control.md`` describes them for who writes a client. What comes from outside is checked here, so that
the rest may trust it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rtdenoise.arguments import LOW_CUT
from rtdenoise.errors import UsageError

VERSION = 1
LONGEST_LINE = 16 * 1024  # bytes of a request: the longest path of Linux, escaped, and the rest around it
LONGEST_NAME = 4096
TOGGLE = "toggle"
STRONGEST_DB = 1000
ACTIONS = ("status", "set", "watch")


def _switch(value: Any) -> bool:
    return isinstance(value, bool) or value == TOGGLE


def _number(low: float, high: float) -> Callable[[Any], bool]:
    """A number within a range, or null."""

    def fits(value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value is None or (number and low <= value <= high)

    return fits


def _name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= LONGEST_NAME and "\0" not in value


# What can be set, by the names that the status has, with the check of its value and the words for it.
SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "muted": (_switch, 'true, false or "toggle"'),
    "bypass": (_switch, 'true, false or "toggle"'),
    "strength_db": (_number(0, STRONGEST_DB), f"a number from 0 to {STRONGEST_DB}, or null for no limit"),
    "low_cut_hz": (
        _number(LOW_CUT.low, LOW_CUT.high),
        f"a number from {LOW_CUT.low} to {LOW_CUT.high}, or null for no low cut",
    ),
    "model": (_name, "the name or the path of a model"),
    "profile": (_name, "the name of a profile"),
}
EARS = "ears"
SLOW = ("model", "profile")  # Either may have a model to load.


@dataclass(frozen=True)
class Request:
    """A request that has been checked."""

    do: str
    id: int | str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def request(do: str, id: int | str | None = None, settings: dict[str, Any] | None = None) -> bytes:
    """The line of a request."""
    message: dict[str, Any] = {"v": VERSION, "id": id, "do": do}
    return line(message | ({"set": settings} if settings is not None else {}))


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def read_object(data: bytes | str) -> dict[str, Any]:
    """The object of a line; `UsageError` for anything else."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):  # ValueError: bytes that are no UTF-8, too
        raise UsageError("this is no JSON") from None
    if not isinstance(message, dict):
        raise UsageError("a message is a JSON object")
    return message


def id_of(message: dict[str, Any]) -> int | str | None:
    """What its answer is to bear, if it is fit for that."""
    value = message.get("id")
    fits = isinstance(value, int | str) and not isinstance(value, bool) and len(str(value)) <= 64
    return value if fits else None


def read_request(message: dict[str, Any]) -> Request:
    """`UsageError` names what is wrong with it."""
    if message.get("v") != VERSION:
        raise UsageError(f'this session speaks version {VERSION}: give "v": {VERSION}')
    do = message.get("do")
    if do not in ACTIONS:
        raise UsageError(f'"do" is one of {", ".join(ACTIONS)}')
    settings = message.get("set", {})
    if not isinstance(settings, dict) or (do == "set") != bool(settings):
        raise UsageError('"set" is an object with at least one setting, and belongs to "do": "set"')
    return Request(do, id_of(message), checked(settings))


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, if all are known and in range; `UsageError` names the first that is not.

    Those of what is heard in a call stand below ``ears``, alone, so that all of a request are changed or none.
    """
    if EARS in settings:
        ears = settings[EARS]
        if len(settings) > 1 or not isinstance(ears, dict) or not ears or EARS in ears:
            raise UsageError(f"{EARS} is an object with at least one setting, and stands alone")
        return {EARS: checked(ears)}
    for name, value in settings.items():
        if name not in SETTINGS:
            raise UsageError(f"{name[:40]!r} cannot be set; {', '.join(SETTINGS)} can")
        fits, words = SETTINGS[name]
        if not fits(value):
            raise UsageError(f"{name} is {words}")
    return settings
