"""Tables in Markdown files, written by the command that measured them: never typed in by hand.

Owns the marks ``<!-- NAME -->`` and ``<!-- /NAME -->``: between them stands what a command wrote, around them what
people did.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
from pathlib import Path

from rtdenoise.atomic import write_text
from rtdenoise.errors import UsageError


def around(path: Path, name: str) -> tuple[str, str]:
    """What stands around the place of ``name`` in a file: all up to its first mark, and from its last mark on."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise UsageError(
            f"cannot read {path}: {problem.strerror}; give a Markdown file with {begin.strip()}"
        ) from problem
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise UsageError(f"{path} has no place for the table; put {begin.strip()} and {end} where it should stand")
    return before + begin, end + after


def put(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of ``name``."""
    before, after = around(path, name)
    write_text(path, before + text + after)


def how(args: argparse.Namespace) -> str:
    """What a card says about where its tables come from."""
    sounds = ["MUSIC_DIR", "--tape"] if args.tape else ["PAIRS_DIR"]
    for name in ("dnsmos", "against"):
        sounds += [f"--{name}", file.name] if (file := getattr(args, name)) else []
    asked = shlex.join(["rtdenoise", "evaluate", *args.systems, *sounds, "--card", args.card.name])
    return f"Written by `{asked}` on {os.cpu_count()} CPU cores ({platform.machine()}), one file at a time.\n"
