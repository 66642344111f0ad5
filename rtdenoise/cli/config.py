"""The configuration file: defaults of the command, which its command line overrides.

    command line ▸ its --profile ▸ remembered for the microphone ▸ the profile here ▸ the rest here ▸ built-in value

It is read at every start of a filter. Keys at its top hold for files and live audio alike, those below ``[live]``,
``[call]`` and ``[folders]`` only there, those below ``[profiles.NAME]`` where that profile is asked for.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rtdenoise import console
from rtdenoise.arguments import DEFAULT, VALUES
from rtdenoise.errors import UsageError
from rtdenoise.home import user_folder
from rtdenoise.io.atomic import write_text
from rtdenoise.profiles import BUILT_IN, LONGEST_NAME, Profile, find
from rtdenoise.toml_dataclass import fill, read_table

NO_PROFILE = ("none", DEFAULT)  # as a value: what the configuration says is taken back
DEFAULT_EDITOR = "notepad" if sys.platform == "win32" else "vi"
TEMPLATE = """\
# Defaults of rtdenoise; the command line takes precedence. Remove a # to set a value.
# model = "unet"            # a name (see rtdenoise models) or a path
# strength = 18             # attenuation limit in dB
# low_cut = 80              # Hz, 60 to 120: attenuate what lies below
# latency = "low"           # "normal" or "low"
# quiet = true
# profile = "call"          # one of rtdenoise profiles

[live]
# latency = 30              # target in ms, a mode, or "economy"; overrides the one above
# rate = 48000
# channels = 1
# blocksize = 256
# fixed_latency = 40        # ms, held even if it causes dropouts
# worker = "native"
# backend = "portaudio"     # also between two devices of a sound server
# monitor = true            # also play the virtual microphone on the default output
# echo_cancel = true        # the sound server takes the loudspeakers' echo out of the microphone
# control = false           # no socket for rtdenoise ctl

[call]                      # rtdenoise call; what is not set here is as above and in [live]
# mic = "USB"               # your microphone
# speakers = "Headphones"   # where you hear the others
# strength = 24             # of the microphone, in dB
# ears_strength = 12        # of what you hear
# low_cut = 80
# latency = "low"
# app = "firefox"           # moved there and back

[folders]
# jobs = 4
# overwrite = true

[profiles.call]             # changes of a profile; another name makes a new one
# about = "meetings"        # what it is for
# model = "unet"
# strength = 24             # or "none"
# low_cut = 80              # or "off"
# latency = "low"
# channels = 1              # live audio alone
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
    echo_cancel: bool | None = None
    control: bool | None = None


@dataclass(frozen=True)
class Call:
    mic: str | None = None
    speakers: str | None = None
    model: str | None = None
    strength: float | None = None
    ears_strength: float | None = None
    low_cut: float | None = None
    latency: str | float | None = None
    app: str | None = None
    echo_cancel: bool | None = None


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
    profile: str | None = None
    live: Live = field(default_factory=Live)
    call: Call = field(default_factory=Call)
    folders: Folders = field(default_factory=Folders)
    profiles: dict[str, Profile] = field(default_factory=lambda: dict(BUILT_IN))

    def for_live(self) -> dict[str, Any]:
        """What is set for live audio, by the name of the option; ``[live]`` before what holds for all."""
        common = _given(self)
        if self.live.fixed_latency is not None and not isinstance(self.latency, str):
            common.pop("latency", None)  # A target in ms and a fixed latency exclude each other.
        return common | _given(self.live)

    def for_call(self) -> dict[str, Any]:
        """What is set for both directions of a call; ``[call]`` before what holds for all live audio."""
        known = {f.name for f in fields(Call)} | {"backend", "control", "quiet"}
        return {name: value for name, value in self.for_live().items() if name in known} | _given(self.call)

    def of_profile(self, name: str | None) -> dict[str, Any]:
        """What a profile sets; nothing without one. `UsageError` if there is none of this name."""
        name = name and VALUES["profile"](name)
        return find(name, self.profiles).settings() if name else {}

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
        table = read_table(path)
        config = fill(Config(), table, str(path))
    except FileNotFoundError:
        return Config()
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror}") from problem
    for values, where in (
        (config, ""),
        (config.live, " [live]"),
        (config.call, " [call]"),
        (config.folders, " [folders]"),
    ):
        _check(values, f"{path}{where}")
    config = replace(config, profiles=_profiles(table.get("profiles", {}), str(path)))
    try:
        config.of_profile(config.profile)
    except UsageError as problem:
        raise UsageError(f"{path}: profile: {problem}") from problem
    return config


def _profiles(tables: dict[str, Any], path: str) -> dict[str, Profile]:
    """Those that are built in, with what the file changes in them and adds to them."""
    found = dict(BUILT_IN)
    for name, table in tables.items():
        where = f"{path} [profiles.{name}]"
        if not isinstance(table, dict):
            raise UsageError(f"{path}: profiles.{name} must be a table, not {table!r}")
        if name != name.strip() or not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name in NO_PROFILE:
            raise UsageError(f"{where}: choose another name, of at most {LONGEST_NAME} characters")
        found[name] = fill(found.get(name, Profile()), table, where)
        _check(found[name], where)
    return found


def _given(values: object) -> dict[str, Any]:
    return {name: value for name, value in vars(values).items() if isinstance(value, bool | str | int | float)}


def _check(values: Live | Call | Folders | Config | Profile, where: str) -> None:
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
