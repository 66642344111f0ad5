"""The command `rtdenoise-bench PART`: each part is a module with ``add_arguments(parser)`` and ``run(args) -> int``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from rtdenoise.errors import RtdenoiseError

PARTS = {
    "engine": "exactness, delay and time of each stage of a hop, without a device",
    "forebears": "train the older ways of posing the task for a given time each, and compare them",
    "files": "speed, memory and start-up of the command",
    "latency": "the algorithmic delay at common rates",
    "live": "delay, stalls, overload, drift and load of live audio, on null devices",
    "readme": "refresh the tables of a Markdown file from the commands that print them",
}
DEFAULT_PART = "engine"


def main(argv: list[str] | None = None) -> int:
    """Run a part, by default the engine's; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (argv[0] not in PARTS and argv[0] not in ("-h", "--help")):
        argv.insert(0, DEFAULT_PART)
    parser = argparse.ArgumentParser(prog="rtdenoise-bench", description="What latency and load this machine gives.")
    parts = parser.add_subparsers(dest="part", metavar="PART")
    for name, text in PARTS.items():
        part = parts.add_parser(name, help=text, description=text)
        if name == argv[0]:
            import_module(f"rtdenoise_bench.{name}").add_arguments(part)
    args = parser.parse_args(argv)
    try:
        return import_module(f"rtdenoise_bench.{args.part}").run(args)
    except RtdenoiseError as e:
        print(f"rtdenoise-bench: error: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        return 130
