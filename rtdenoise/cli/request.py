"""What a request to filter asks for: which kind it is, and which settings hold for it.

    command line ▸ its --profile ▸ remembered for the microphone ▸ configured profile ▸ configuration ▸ built-in value

The command line wins always: a setting of the others that does not go with what it says, or with this kind of
request, is ignored. An option that does not fit is an error, since somebody typed it.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rtdenoise.arguments import MODES, VALUES, VIRTUAL_MIC, VIRTUAL_SPEAKER, Parser
from rtdenoise.cli.ends import Kind, is_live_file, kind_of, refuse_wrong_side
from rtdenoise.errors import DeviceError, ModelError, UsageError
from rtdenoise.io.remote import is_remote

if TYPE_CHECKING:
    from rtdenoise.io.pipeline import Settings

LIVE_OPTIONS = (
    "blocksize",
    "fixed_latency",
    "worker",
    "backend",
    "tee",
    "monitor",
    "app",
    "echo_cancel",
    "seconds",
    "control",
)


def read(parser: Parser, argv: list[str]) -> argparse.Namespace:
    """All settings of a request, checked; beside them ``kind``, ``said``: the names that the command line gave, by an
    option or by a profile, and ``configured``: where each stands that no option gave. Raises UsageError for what does
    not fit together."""
    said = parser.parse_all(argv)
    _check_ends(parser, said)
    kind: Kind = "manifest" if said.manifest else kind_of(said.source, said.target)
    settings = {
        name: given for name, given in _configured(kind, said, argv).items() if _goes_with(name, given[0], said, kind)
    }
    args = parser.parse_all([*as_options({name: value for name, (value, _) in settings.items()}), *argv])
    args.kind = kind
    of_profile = {name for name, (_, where) in settings.items() if where == f"profile {said.profile}"}
    args.said = [name for name in VALUES if is_said(name, argv) or name in of_profile]
    args.configured = {name: where for name, (_, where) in settings.items() if not is_said(name, argv)}
    if kind == "live":
        _check_live(args)
    else:
        _check_files(args)
    return args


@contextmanager
def told_where(args: argparse.Namespace) -> Iterator[None]:
    """An error about a setting that nobody typed names the file it stands in."""
    try:
        yield
    except (UsageError, DeviceError, ModelError) as problem:
        text, blamed = str(problem), []
        for name in sorted(
            args.configured, key=len, reverse=True
        ):  # "fixed latency" before "latency", which it contains
            text, found = re.subn(rf"\b{name.replace('_', '[ -]')}\b", "", text)
            blamed += [name] * bool(found)
        if not blamed:
            raise
        raise type(problem)(
            f"{problem} ({', '.join(f'{name}: see {args.configured[name]}' for name in blamed)})"
        ) from problem


def _configured(kind: Kind, said: argparse.Namespace, argv: list[str]) -> dict[str, tuple[object, str]]:
    """What is configured or in the profile, and where each value stands."""
    from rtdenoise.cli.config import config_path, load_config  # --help does without

    config = load_config()
    settings = config.for_live() if kind == "live" else config.for_files(kind in ("folder", "manifest"))
    name = said.profile if is_said("profile", argv) else config.profile
    chosen = config.of_profile(name)
    if not isinstance(chosen.get("latency", ""), str):
        settings.pop("fixed_latency", None)  # The two exclude each other.
    return {k: (v, str(config_path())) for k, v in settings.items()} | {
        k: (v, f"profile {name}") for k, v in chosen.items()
    }


def _goes_with(name: str, value: object, said: argparse.Namespace, kind: Kind) -> bool:
    """Whether a configured setting means anything beside what the command line says."""
    if kind == "live":
        figures = [x for x in (said.fixed_latency, said.latency) if isinstance(x, float)]
        if name == "monitor":
            return bool(said.target == VIRTUAL_MIC)
        if name == "echo_cancel":
            return bool(said.target == VIRTUAL_MIC) and said.source != VIRTUAL_SPEAKER and not is_live_file(said.source)
        if name in ("rate", "channels"):
            return not is_live_file(said.source)
        if name == "fixed_latency" or (name == "latency" and isinstance(value, float)):
            return not figures  # The latency that the command line gives takes precedence.
        return True
    return name != "channels" and (name != "latency" or value in MODES)


def as_options(settings: dict[str, object]) -> list[str]:
    flags = {True: "--{}", False: "--no-{}"}
    return [
        flags[value].format(option) if isinstance(value, bool) else f"--{option}={value}"
        for option, value in ((name.replace("_", "-"), value) for name, value in settings.items())
    ]


def is_said(name: str, argv: list[str]) -> bool:
    option = name.replace("_", "-")
    spellings = {f"--{option}", f"--no-{option}"} | ({"--budget"} if name == "fixed_latency" else set())
    return any(text.partition("=")[0] in spellings for text in argv)


def _check_ends(parser: Parser, args: argparse.Namespace) -> None:
    """What is to be filtered and whereto: two ends, or a manifest, a folder and a report."""
    needed = {"out": args.target, **({"report": args.report} if args.manifest else {"in": args.source})}
    if missing := [f"--{name}" for name in sorted(needed) if needed[name] is None]:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    if args.manifest and args.source is not None:
        raise UsageError("--in and --manifest both say what to filter; give one of them")
    if args.report and not args.manifest:
        raise UsageError("--report is only valid with --manifest; remove it")


def settings(args: argparse.Namespace) -> Settings:
    """How to filter files."""
    from rtdenoise.io.pipeline import Settings  # --help does without

    return Settings(
        args.model,
        args.strength,
        args.latency,
        args.bypass,
        args.learn_noise or 0.0,
        args.track,
        args.audio_codec,
        args.loudness,
        args.low_cut,
    )


def _check_live(args: argparse.Namespace) -> None:
    for name in (
        "jobs",
        "raw",
        "learn_noise",
        "track",
        "audio_codec",
        "loudness",
        "shard",
        "cluster",
        *([] if is_live_file(args.target) else ["overwrite"]),
    ):
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} is only valid for files and pipes; remove it for live audio")
    refuse_wrong_side(args.source, args.target)
    for end in (args.source, args.target):
        if is_remote(end):
            raise UsageError(f"{end} and a device cannot be combined; name a file of this machine")
    if "-" in (args.source, args.target):
        raise UsageError("a device and a pipe cannot be combined; use a file, or two pipes: `--in - --out -`")
    if args.monitor and args.target != VIRTUAL_MIC:
        raise UsageError(f"--monitor is only valid with --out virtual-mic, not with --out {args.target}; remove it")
    if args.echo_cancel and (
        is_live_file(args.source)
        or args.source == VIRTUAL_SPEAKER
        or not (args.target == VIRTUAL_MIC or is_live_file(args.target))
    ):
        raise UsageError(
            "--echo-cancel is only valid between a microphone and --out virtual-mic or a file, or with rtdenoise call"
        )
    if args.app and args.source != VIRTUAL_SPEAKER and args.target != VIRTUAL_MIC:
        raise UsageError("--app is only valid with --in virtual-speaker or --out virtual-mic; remove it")
    if args.tee and is_live_file(args.target):
        raise UsageError(f"--tee {args.tee}: --out {args.target} is already a recording; remove one of them")
    if args.tee and is_live_file(args.source) and os.path.realpath(args.source) == os.path.realpath(args.tee):
        raise UsageError(f"--tee {args.tee} is the input itself; give it another name")
    if is_live_file(args.source) and (args.rate or args.channels):
        raise UsageError(f"--rate and --channels are only valid for devices; {args.source} has its own; remove them")


def _check_files(args: argparse.Namespace) -> None:
    for name in LIVE_OPTIONS:
        if getattr(args, name):
            option = name.replace("_", "-")
            raise UsageError(
                f"--{option} is only valid for live audio, and neither --in nor --out is a device; remove it"
            )
    if args.latency not in MODES:
        raise UsageError(
            f"--latency {args.latency}: must be normal or low for files; other values are only valid for live audio"
        )
    if args.kind in ("folder", "manifest"):
        if args.raw or args.rate or args.channels:
            raise UsageError("--raw, --rate and --channels are only valid for pipes; remove them for a folder")
        if args.cluster and "jobs" in args.said:
            raise UsageError("--jobs and --cluster both say where files are filtered; give one of them")
        if args.target == "-":
            raise UsageError("a folder cannot be written to a pipe; name a folder with --out")
        return
    for name in ("jobs", "shard", "cluster"):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name} is only valid for folders and manifests, and {args.source} is none; remove it")
