"""The command `rtdenoise ctl`: look at a running session and steer it, from a shell or a desktop's shortcut.

Loads nothing but the standard library, since a key that mutes must not wait for numba.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from rtdenoise.arguments import VALUES, count
from rtdenoise.control import client, sockets
from rtdenoise.control.client import Client
from rtdenoise.control.messages import EARS, TOGGLE

SWITCHES = {"bypass": "bypass", "mute": "muted"}
EPILOG = """\
actions:
  status               how it goes
  mute, unmute         silence at the output, and sound again
  bypass [on|off]      pass the sound unfiltered
  toggle mute|bypass   the other state
  strength DB|none     attenuation limit
  low-cut HZ|off       attenuate what lies below 60 to 120 Hz
  model NAME|PATH      another model of the same framing
  profile NAME         a set of settings (see rtdenoise profiles)
  watch                a line, or with --json a record, whenever something changes and once a second
  sessions             all that run
Of a call (rtdenoise call), they are the microphone's; with --ears those of what is heard.
The answer comes once the effect is heard. With several sessions the newest is meant. Exit code 1: nobody runs, or it
was refused.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help="one of the actions below")
    parser.add_argument("value", nargs="?", help="what bypass, toggle, strength, low-cut, model and profile take")
    parser.add_argument("--session", type=count(), metavar="PID", help="the process of the session (default: newest)")
    parser.add_argument("--ears", action="store_true", help="of a call: change what is heard, not the microphone")
    parser.add_argument("--json", action="store_true", help="print the status as JSON")


def run(args: argparse.Namespace) -> int:
    if args.action == "sessions":
        return _sessions(args.json)
    try:
        settings = ACTIONS[args.action](args.value)
    except (ValueError, argparse.ArgumentTypeError) as problem:
        from rtdenoise.errors import UsageError

        raise UsageError(f"ctl {args.action}: {problem}; see rtdenoise ctl --help") from None
    with Client(args.session) as session:
        if args.ears and settings:
            settings = {EARS: settings}
        if args.action == "watch":
            last = ""
            for status in session.watch():
                if args.json or (text := _line(status)) != last:
                    last = "" if args.json else text
                    _print(status, args.json)
            return 0
        answer = session.ask("set" if settings else "status", settings or None)
    _print(answer["status"], args.json)
    if not answer["heard"]:
        print("rtdenoise: no sound flows, so the change is not heard yet", file=sys.stderr)
    return 0


def _sessions(as_json: bool) -> int:
    """All that answer, the newest first."""
    found = 0
    for path in sockets.sessions():
        try:
            with Client(path) as session:
                _print(session.ask("status")["status"], as_json)
                found += 1
        except sockets.ControlError:
            continue
    if not found:
        raise sockets.ControlError(client.NOBODY)
    return 0


def _print(status: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(status) if as_json else _line(status), flush=True)


def _line(status: dict[str, Any]) -> str:
    """A line, and of a call another for what is heard."""
    lines = [f"{status['pid']}: {_direction(status)}"]
    if EARS in status:
        lines.append(f"{status['pid']} {EARS}: {_direction(status[EARS])}")
    return "\n".join(lines)


def _direction(status: dict[str, Any]) -> str:
    limit = "no limit" if status["strength_db"] is None else f"limit {status['strength_db']:g} dB"
    marks = [word for word, true in (("muted", status["muted"]), ("bypass", status["bypass"])) if true]
    marks += [f"profile {status['profile']}"] if status.get("profile") else []
    marks += [f"low cut {status['low_cut_hz']:g} Hz"] if status.get("low_cut_hz") else []
    marks += [limit, status["model"], f"latency {status['latency_ms']:.1f} ms", status["failure"] or status["state"]]
    return f"{status['input']} -> {status['output']}: {', '.join(marks)}"


def _nothing(value: str | None) -> dict[str, Any]:
    if value is not None:
        raise ValueError(f"takes no value, and {value!r} was given")
    return {}


def _bypass(value: str | None) -> dict[str, Any]:
    if value not in (None, "on", "off"):
        raise ValueError(f"{value!r} is neither on nor off")
    return {"bypass": value != "off"}


def _toggle(value: str | None) -> dict[str, Any]:
    if value not in SWITCHES:
        raise ValueError("give mute or bypass")
    return {SWITCHES[value]: TOGGLE}


def _strength(value: str | None) -> dict[str, Any]:
    if value is None:
        raise ValueError("give the attenuation limit in dB, or none")
    return {"strength_db": VALUES["strength"](value)}


def _low_cut(value: str | None) -> dict[str, Any]:
    if value is None:
        raise ValueError("give a frequency in Hz, or off")
    return {"low_cut_hz": VALUES["low_cut"](value)}


def _model(value: str | None) -> dict[str, Any]:
    if value is None:
        raise ValueError("give the name or the path of a model")
    # The session's working folder may be another.
    is_path = os.sep in value or value.endswith(".onnx")
    return {"model": os.path.abspath(value) if is_path else value}


def _profile(value: str | None) -> dict[str, Any]:
    if value is None:
        raise ValueError("give the name of a profile; rtdenoise profiles lists them")
    return {"profile": value}


ACTIONS = {
    "status": _nothing,
    "mute": lambda value: _nothing(value) | {"muted": True},
    "unmute": lambda value: _nothing(value) | {"muted": False},
    "bypass": _bypass,
    "toggle": _toggle,
    "strength": _strength,
    "low-cut": _low_cut,
    "model": _model,
    "profile": _profile,
    "watch": _nothing,
    "sessions": _nothing,
}
