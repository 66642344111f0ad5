"""The configuration file: what the command takes as given when the command line does not say it.

    command line ▸ configuration ▸ built-in value

It is read at every start of a filter. Keys at its top hold for files and live audio alike, those below ``[live]`` and
``[folders]`` only there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

from rtdenoise import ui
from rtdenoise.atomic import write_text
from rtdenoise.errors import UsageError
from rtdenoise.home import user_folder
from rtdenoise.tables import fill, read_table

TEMPLATE = """\
# What rtdenoise takes as given; the command line wins over it. Take away a # to set a value.
# model = "unet"            # a name (rtdenoise models) or a path
# strength = 18             # dB that are taken away at most
# latency = "low"           # "normal" or "low"
# quiet = true

[live]
# latency = 30              # ms, or a mode; before the one above
# rate = 48000
# channels = 1
# blocksize = 256
# budget = 40
# worker = "native"
# monitor = true            # hear yourself beside the virtual microphone

[folders]
# jobs = 4
# overwrite = true
"""


@dataclass(frozen=True)
class Live:
    latency: str | float | None = None
    rate: int | None = None
    channels: int | None = None
    blocksize: int | None = None
    budget: float | None = None
    worker: str | None = None
    monitor: bool | None = None


@dataclass(frozen=True)
class Folders:
    jobs: int | None = None
    overwrite: bool | None = None


@dataclass(frozen=True)
class Config:
    model: str | None = None
    strength: float | None = None
    latency: str | float | None = None
    quiet: bool | None = None
    live: Live = field(default_factory=Live)
    folders: Folders = field(default_factory=Folders)

    def for_live(self) -> list[str]:
        """Options for live audio, as a command line would give them."""
        latency = self.latency if self.live.latency is None else None
        return _options(self, latency=latency) + _options(self.live)

    def for_files(self, folder: bool) -> list[str]:
        """Options for files and pipes, or for a folder."""
        return _options(self) + (_options(self.folders) if folder else [])


def config_path() -> Path:
    """Where the file is or would be; `UsageError` for a user without a home."""
    folder = user_folder("config")
    if folder is None:
        raise UsageError("this user has no home folder, so no configuration file either; set HOME or XDG_CONFIG_HOME")
    return folder / "config.toml"


def load_config() -> Config:
    """What the file says; nothing if there is none. Raises `UsageError` that names the file."""
    try:
        path = config_path()
    except UsageError:
        return Config()
    try:
        return fill(Config(), read_table(path), str(path))
    except FileNotFoundError:
        return Config()
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror}") from problem


def _options(values: object, **instead: object) -> list[str]:
    argv = []
    for f in fields(values):  # type: ignore[arg-type]
        value = instead.get(f.name, getattr(values, f.name))
        if isinstance(value, bool):
            argv.append(f"--{f.name}" if value else f"--no-{f.name}")
        elif isinstance(value, str | int | float):
            argv.append(f"--{f.name}={value}")
    return argv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--show", action="store_true", help="print the file")
    action.add_argument("--edit", action="store_true", help="open it in $EDITOR; made from a template if there is none")
    action.add_argument("--path", action="store_true", help="print where it is")


def run(args: argparse.Namespace) -> int:
    path = config_path()
    if args.path:
        print(path)
    elif args.show:
        if path.exists():
            print(path.read_text(encoding="utf-8"), end="")
            load_config()  # says what is wrong with it
        else:
            ui.say(f"there is no {path}; make one with: rtdenoise config --edit")
    else:
        _edit(path)
    return 0


def _edit(path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, TEMPLATE)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if sys.platform == "win32" else "vi")
    try:
        subprocess.run([*shlex.split(editor), str(path)], check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise UsageError(f"{editor!r} does not run; set EDITOR, or open {path} yourself") from problem
    load_config()
