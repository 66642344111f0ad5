"""The command `rtdenoise-bench PART`: each part has ``add_arguments(parser)`` and ``run(args) -> int``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Any

from rtdenoise.arguments import refuse_empty
from rtdenoise.errors import RtdenoiseError
from rtdenoise.io import descriptors

PARTS = {  # name: module, or module:object, and what it tells
    "report": ("commands:REPORT", "the latency report: delay and load of this machine, in under a minute"),
    "engine": ("commands:ENGINE", "of it what needs no device: stages of a hop, deadlines, start-up"),
    "live": ("commands:LIVE", "of it the delay through sound servers, measured from outside"),
    "models": ("commands:MODELS", "of it the load of every model at every rate"),
    "compare": ("report.compare", "two reports against each other; fails if the second is slower"),
    "exactness": ("measure.exactness", "whether the streaming core is exact and its delay the printed one"),
    "files": ("measure.files", "speed, memory and start-up of the command"),
    "latency": ("measure.latency", "the algorithmic delay at common rates"),
    "stress": ("measure.stress", "live audio under stalls, overload, drift and load, on null devices"),
    "soak": ("measure.soak", "live audio over many minutes: delay, memory, threads"),
    "readme": ("report.readme", "refresh the tables of a Markdown file from the commands that print them"),
}
DEFAULT_PART = "report"


def main(argv: list[str] | None = None) -> int:
    """Run a part, by default the whole report; returns the exit code."""
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
    if not argv or (argv[0] not in PARTS and argv[0] not in ("-h", "--help")):
        argv.insert(0, DEFAULT_PART)
    parser = argparse.ArgumentParser(prog="rtdenoise-bench", description="What latency and load this machine gives.")
    parts = parser.add_subparsers(dest="part", metavar="PART")
    for name, (_, text) in PARTS.items():
        part = parts.add_parser(name, help=text, description=text)
        if name == argv[0]:
            _part(name).add_arguments(part)
    args = parser.parse_args(argv)
    return _part(args.part).run(args)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every part, by how its command line begins."""
    found = {}
    for name, (_, text) in PARTS.items():
        found[f"rtdenoise-bench {name}"] = parser = argparse.ArgumentParser(f"rtdenoise-bench {name}", description=text)
        _part(name).add_arguments(parser)
    return found


def _part(name: str) -> Any:
    module, _, thing = PARTS[name][0].partition(":")
    loaded = import_module(f"rtdenoise_bench.{module}")
    return getattr(loaded, thing) if thing else loaded
