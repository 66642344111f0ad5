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

from rtdenoise.errors import UsageError
from rtdenoise.io.atomic import write_text


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
        raise UsageError(f"{path} has no place for the table; put {begin.strip()} and {end} where it belongs")
    return before + begin, end + after


def put(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of ``name``."""
    before, after = around(path, name)
    write_text(path, before + text + after)


def how(args: argparse.Namespace, texts: list[str]) -> str:
    """What a card says about where its tables come from; folders by what they hold, files by their names alone."""
    words = ["rtdenoise", "evaluate", *(Path(t).name if Path(t).exists() else t for t in texts)]
    words += ["MUSIC_DIR", "--tape"] if args.tape else ["PAIRS_DIR"] * (len(args.systems) - len(texts))
    words += ["--dnsmos", args.dnsmos.name] if args.dnsmos else []
    words += ["--against", *(file.name for file in args.against)] if args.against else []
    words += ["--rir", *("RIR_DIR" for _ in args.rir)] if args.rir else []
    words += ["--quick"] if args.quick else []
    words += ["--jobs", str(args.jobs)] if args.jobs > 1 else []
    asked = shlex.join([*words, "--card", args.card.name])
    at_once = "one file at a time" if args.jobs == 1 else f"{args.jobs} files at a time"
    return f"Written by `{asked}` on {os.cpu_count()} CPU cores ({platform.machine()}), {at_once}.\n"
