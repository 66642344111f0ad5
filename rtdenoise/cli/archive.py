"""`rtdenoise` on many files: a folder or a manifest, a share of it or all, its progress and how it ended."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext

from rtdenoise import console
from rtdenoise.cli import request
from rtdenoise.io.batch import find_jobs, run_folder
from rtdenoise.io.cluster import connected
from rtdenoise.io.executors import Executor, Here, Processes
from rtdenoise.io.jobs import FileOutcome
from rtdenoise.io.manifest import count_lines, run_manifest
from rtdenoise.io.pipeline import Settings
from rtdenoise.io.remote import here_and_elsewhere
from rtdenoise.io.report import Report
from rtdenoise.io.shard import Shard, read_shard

_Show = Callable[[FileOutcome], object]


def run(args: argparse.Namespace) -> int:
    """Filter them all; exit code 1 if a file failed or has lost sound."""
    tally = console.Tally()
    shard = read_shard(args.shard) if args.shard else None
    with ExitStack() as stack:
        begin = _manifest if args.kind == "manifest" else _folder
        outcomes, files, total_bytes = begin(args, shard, stack)
        show = stack.enter_context(_progress(args, tally, files, total_bytes))
        for outcome in stack.enter_context(closing(outcomes)):
            tally.add(outcome)
            show(outcome)
    tally.say(summary=not (args.quiet or args.json))
    return 1 if tally.failed or tally.damaged else 0


def _folder(
    args: argparse.Namespace, shard: Shard | None, stack: ExitStack
) -> tuple[Generator[FileOutcome], int, int | None]:
    jobs = find_jobs(_place(args, args.source), _place(args, args.target), bool(args.overwrite), shard)
    waiting = [job.size_bytes for job in jobs if not (job.done or job.problem)]
    executor = _executor(args, len(waiting), stack)
    return run_folder(jobs, _settings(args), executor), len(jobs), sum(waiting)


def _manifest(
    args: argparse.Namespace, shard: Shard | None, stack: ExitStack
) -> tuple[Generator[FileOutcome], int, int | None]:
    lines = count_lines(args.manifest)
    report = stack.enter_context(Report(args.report, bool(args.overwrite)))
    executor = _executor(args, lines, stack)
    outcomes = run_manifest(
        args.manifest, _place(args, args.target), report, _settings(args), executor, bool(args.overwrite), shard
    )
    return outcomes, max(1, lines // (shard.count if shard else 1)), None


def _place(args: argparse.Namespace, path: str) -> str:
    """A folder by the name that the workers know it by."""
    return here_and_elsewhere(path) if args.cluster else path


def _settings(args: argparse.Namespace) -> Settings:
    settings = request.settings(args)
    return settings.elsewhere() if args.cluster else settings


def _executor(args: argparse.Namespace, files: int, stack: ExitStack) -> Executor:
    if args.cluster and files:
        return stack.enter_context(connected(args.cluster))
    processes = min(args.jobs or 1, files)
    return Processes(processes) if processes > 1 else Here()


def _progress(
    args: argparse.Namespace, tally: console.Tally, files: int, total_bytes: int | None
) -> AbstractContextManager[_Show]:
    if args.json:
        return nullcontext(lambda outcome: console.print_json(outcome.as_json(), sys.stdout))
    if args.quiet:
        return nullcontext(lambda outcome: None)
    if console.has_terminal():
        return console.archive_progress(tally, files, total_bytes)
    return nullcontext(console.lines_of_progress(tally, files))
