"""Fill the tables of a Markdown file from the commands that print them.

A table stands between ``<!-- $ rtdenoise-bench latency -->`` and ``<!-- end -->``; the text between is replaced by the
command's output. Only this project's own commands run.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rtdenoise.errors import UsageError
from rtdenoise.io.atomic import write_text

SECTION = re.compile(r"(<!-- \$ (?P<command>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
MODULES = {"rtdenoise": "rtdenoise", "rtdenoise-bench": "rtdenoise_bench"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, help="Markdown files to refresh")
    parser.add_argument("--only", default="", help="refresh only commands that contain this text")


def run(args: argparse.Namespace) -> int:
    for path in args.files:
        text = path.read_text(encoding="utf-8")
        write_text(path, SECTION.sub(lambda m: refreshed(m, args.only), text))
    return 0


def refreshed(match: re.Match[str], only: str) -> str:
    command = match["command"]
    if only not in command:
        return match[0]
    program, *arguments = shlex.split(command)
    if program not in MODULES:
        raise UsageError(f"{command!r} is not a command of this project; use one of {', '.join(MODULES)}")
    print(f"$ {command}", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", MODULES[program], *arguments], capture_output=True, text=True)
    if not done.stdout.strip():
        raise UsageError(f"{command!r} printed nothing: {done.stderr.strip()[-200:]}")
    return f"{match[1]}{done.stdout.strip()}\n{match[3]}"
