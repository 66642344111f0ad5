"""The configuration file: defaults of the command, which its command line overrides.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtdenoise import console
from rtdenoise.arguments import VALUES
from rtdenoise.errors import UsageError
from rtdenoise.home import user_folder
from rtdenoise.io.atomic import write_text
from rtdenoise.toml_dataclass import fill, read_table

DEFAULT_EDITOR = "notepad" if sys.platform == "win32" else "vi"
TEMPLATE = """\
# Defaults of rtdenoise; the command line takes precedence. Remove a # to set a value.
# model = "unet"            # a name (see rtdenoise models) or a path
# strength = 18             # attenuation limit in dB
# low_cut = 80              # Hz, 60 to 120: attenuate what lies below
# latency = "low"           # "normal" or "low"
# quiet = true

[live]
# latency = 30              # target in ms, a mode, or "economy"; overrides the one above
# rate = 48000
# channels = 1
# blocksize = 256
# fixed_latency = 40        # ms, held even if it causes dropouts
# worker = "native"
# backend = "portaudio"     # also between two devices of PipeWire
# monitor = true            # also play the virtual microphone on the default output
# control = false           # no socket for rtdenoise ctl

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
    fixed_latency: float | None = None
    worker: str | None = None
    backend: str | None = None
    monitor: bool | None = None
    control: bool | None = None


@dataclass(frozen=True)
class Folders:
    jobs: int | None = None
    overwrite: bool | None = None


@dataclass(frozen=True)
class Config:
    model: str | None = None
    strength: float | None = None
    low_cut: float | None = None
    latency: str | float | None = None
    quiet: bool | None = None
    live: Live = field(default_factory=Live)
    folders: Folders = field(default_factory=Folders)

    def for_live(self) -> dict[str, Any]:
        """What is set for live audio, by the name of the option; ``[live]`` before what holds for all."""
        common = _given(self)
        if self.live.fixed_latency is not None and not isinstance(self.latency, str):
            common.pop("latency", None)  # A target in ms and a fixed latency exclude each other.
        return common | _given(self.live)

    def for_files(self, folder: bool) -> dict[str, Any]:
        """What is set for files and pipes, or for a folder."""
        return _given(self) | (_given(self.folders) if folder else {})


def config_path() -> Path:
    """Where the file is or would be; `UsageError` for a user without a home."""
    folder = user_folder("config")
    if folder is None:
        raise UsageError("this user has no home folder and so no configuration file; set HOME or XDG_CONFIG_HOME")
    return folder / "config.toml"


def load_config() -> Config:
    """What the file says; nothing if there is none. Raises `UsageError` that names the file."""
    try:
        path = config_path()
    except UsageError:
        return Config()
    try:
        config = fill(Config(), read_table(path), str(path))
    except FileNotFoundError:
        return Config()
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror}") from problem
    for values, where in ((config, ""), (config.live, " [live]"), (config.folders, " [folders]")):
        _check(values, f"{path}{where}")
    return config


def _given(values: object) -> dict[str, Any]:
    return {name: value for name, value in vars(values).items() if isinstance(value, bool | str | int | float)}


def _check(values: Live | Folders | Config, where: str) -> None:
    """What the command line would refuse is wrong here too."""
    for name, value in _given(values).items():
        if name in VALUES:
            try:
                VALUES[name](str(value))
            except argparse.ArgumentTypeError as problem:
                raise UsageError(f"{where}: {name}: {problem}") from problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--show", action="store_true", help="print the configuration file")
    action.add_argument(
        "--edit", action="store_true", help="open it in $EDITOR, creating it from a template if necessary"
    )
    action.add_argument("--path", action="store_true", help="print its path")


def run(args: argparse.Namespace) -> int:
    path = config_path()
    if args.path:
        print(path)
    elif args.show:
        if path.exists():
            print(path.read_text(encoding="utf-8"), end="")
            load_config()  # This raises if the file is invalid.
        else:
            console.say(f"{path} does not exist; create it with: rtdenoise config --edit")
    else:
        _edit(path)
    return 0


def _edit(path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, TEMPLATE)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or DEFAULT_EDITOR
    try:
        words = shlex.split(editor) or [DEFAULT_EDITOR]
        subprocess.run([*words, str(path)], check=True)
    except (
        OSError,
        ValueError,
        subprocess.CalledProcessError,
    ) as problem:  # ValueError means that a quote is not closed.
        raise UsageError(f"cannot run {editor!r}; set EDITOR, or open {path} yourself") from problem
    load_config()
