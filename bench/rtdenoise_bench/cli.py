"""The program `rtdenoise-bench COMMAND`: each command has ``add_arguments(parser)`` and ``run(args) -> int``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any

from rtdenoise.arguments import refuse_empty
from rtdenoise.errors import RtdenoiseError
from rtdenoise.io import descriptors

COMMANDS = {  # name: module or module:object, and its help text
    "report": ("commands:REPORT", "the latency report: latency and load of this machine, in under a minute"),
    "engine": ("commands:ENGINE", "the sections that need no device: stages of a hop, deadlines, start-up"),
    "live": ("commands:LIVE", "the section on end-to-end latency through sound servers"),
    "cost": ("commands:COST", "what a second of sound costs one core: models, hops a call, warm and cold caches"),
    "load": ("measure.load", "processor time, memory and gaps of whole live sessions, also beside another version's"),
    "models": ("commands:MODELS", "the section on the load of every model at every rate"),
    "compare": ("report.compare", "compare two reports; fails if the second is slower"),
    "exactness": ("measure.exactness", "check that the streaming core is exact and has the latency it reports"),
    "files": ("measure.files", "measure speed, memory and start-up of the command"),
    "serve": ("measure.serving", "sessions of rtdenoise serve that one core carries, also beside hostile clients"),
    "latency": ("measure.latency", "print the algorithmic latency at common rates"),
    "stress": ("measure.stress", "measure live audio under stalls, overload, drift and load, on null devices"),
    "soak": ("measure.soak", "measure live audio over many minutes: latency, memory, threads"),
    "readme": ("report.readme", "refresh the tables in a Markdown file from the commands that print them"),
}
DEFAULT_COMMAND = "report"


def main(argv: list[str] | None = None) -> int:
    """Run a command, by default `report`; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    descriptors.settle()
    try:
        return _run(argv)
    except RtdenoiseError as e:
        print(f"rtdenoise-bench: error: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        return 130


def _run(argv: list[str]) -> int:
    refuse_empty(argv)
    if not argv or (argv[0] not in COMMANDS and argv[0] not in ("-h", "--help")):
        argv.insert(0, DEFAULT_COMMAND)
    parser = argparse.ArgumentParser(
        prog="rtdenoise-bench", description="Measure the latency and load of rtdenoise on this machine."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, text) in COMMANDS.items():
        subparser = commands.add_parser(name, help=text, description=text)
        if name == argv[0]:
            _command(name).add_arguments(subparser)
    args = parser.parse_args(argv)
    return _command(args.command).run(args)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, by how its command line begins."""
    found = {}
    for name, (_, text) in COMMANDS.items():
        found[f"rtdenoise-bench {name}"] = parser = argparse.ArgumentParser(f"rtdenoise-bench {name}", description=text)
        _command(name).add_arguments(parser)
    return found


def _command(name: str) -> Any:
    module, _, thing = COMMANDS[name][0].partition(":")
    loaded = import_module(f"rtdenoise_bench.{module}")
    return getattr(loaded, thing) if thing else loaded
