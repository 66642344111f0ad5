"""The command `rtdenoise service`: the virtual microphone at every login, as a unit of systemd's user manager.

Owns one unit file and calls `systemctl --user`. The configuration file sets
everything that the unit's command does not.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rtdenoise import console
from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.home import user_folder
from rtdenoise.io.atomic import write_text

UNIT = "rtdenoise.service"
MARK = "# made by `rtdenoise service install`"
TEMPLATE = """\
[Unit]
Description=rtdenoise microphone
After=pipewire-pulse.service pulseaudio.service
{mark}

[Service]
ExecStart={python} -m rtdenoise --in mic --out virtual-mic
Restart=on-failure
RestartSec=5
SuccessExitStatus=143

[Install]
WantedBy=default.target
"""
TIMEOUT_S = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "install: start it now and at every login; remove: undo both; status: whether it is installed and running"
    parser.add_argument("action", choices=ACTIONS, help=text)


def run(args: argparse.Namespace) -> int:
    if sys.platform != "linux" or shutil.which("systemctl") is None:
        raise DeviceError(
            "this system has no systemd; let your desktop start `rtdenoise --in mic --out virtual-mic` at login"
        )
    return ACTIONS[args.action]()


def unit_path() -> Path:
    ours = user_folder("config")
    if ours is None:
        raise DeviceError("this user has no home folder for the service; set HOME")
    return ours.parent / "systemd/user" / UNIT


def _ours() -> Path:
    """The unit's place, if it is free or ours; `UsageError` otherwise."""
    path = unit_path()
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{path} was not made by this command; move it away first")
    return path


def install() -> int:
    path = _ours()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, TEMPLATE.format(mark=MARK, python=_quoted(sys.executable)))
    if _systemctl("daemon-reload") and _systemctl("enable", "--now", UNIT):
        console.say(f'{path} is installed and running; choose "rtdenoise microphone" in the call')
    else:
        console.say(
            f"{path} is installed; systemd cannot be reached from here, so run: systemctl --user enable --now {UNIT}"
        )
    return 0


def remove() -> int:
    path = _ours()
    if not path.exists():
        console.say(f"{path} does not exist")
        return 0
    stopped = _systemctl("disable", "--now", UNIT)
    path.unlink()
    if stopped:
        _systemctl("daemon-reload")
        console.say(f"{path} was removed")
    else:
        console.say(f"{path} was removed; systemd cannot be reached from here, so run: systemctl --user stop {UNIT}")
    return 0


def status() -> int:
    """0 if it is installed, 1 if not."""
    path = unit_path()
    if not path.exists():
        console.say("the service is not installed; run: rtdenoise service install")
        return 1
    console.say(f"{path} is installed and {'running' if _systemctl('is-active', '--quiet', UNIT) else 'not running'}")
    return 0


ACTIONS = {"install": install, "remove": remove, "status": status}


def _systemctl(*argv: str) -> bool:
    """Whether the user's manager did it."""
    try:
        return subprocess.run(["systemctl", "--user", *argv], capture_output=True, timeout=TIMEOUT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _quoted(path: str) -> str:
    """As a unit file wants it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
