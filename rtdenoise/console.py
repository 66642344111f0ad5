"""What the command shows: a progress bar on a terminal, one line a result, JSON on request.

Everything for people goes to standard error, so standard output stays free for audio and data. rich is loaded only
where there is something to draw.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from rtdenoise.io.batch import FileOutcome, Job
    from rtdenoise.io.pipeline import FileReport, Progress

_WIDE_COLUMNS = 160  # A table that goes to a file or a pipe need not fit into 80 columns.


def has_terminal() -> bool:
    """Whether a person is watching; a job in the background would draw over what its terminal is used for meanwhile."""
    return sys.stderr.isatty() and in_foreground(sys.stderr)


def in_foreground(terminal: IO[str]) -> bool:
    """Whether this terminal is ours to draw on and to read from; one that has no jobs is anybody's."""
    if not hasattr(os, "tcgetpgrp"):
        return True
    try:
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError as e:
        return e.errno == errno.ENOTTY and terminal.isatty()


def say(line: str) -> None:
    print(f"rtdenoise: {line}", file=sys.stderr, flush=True)


def say_report(report: FileReport, summary: bool = True) -> None:
    """What a listener should know (clipped or faulty samples, a truncated input), then one line on the result."""
    for warning in report.warnings:
        say(f"warning: {warning}")
    if report.clipped:
        say(f"warning: {report.target}: {report.clipped} samples exceeded full scale and were clipped")
    if report.nonfinite:
        say(f"warning: {report.source}: {report.nonfinite} samples were NaN, infinite or far beyond full scale; zeroed")
    if summary:
        took = f"{_clock(report.seconds)} of audio in {_clock(report.work_seconds)}, {report.speed:.0f}x real time"
        say(f"{report.target}: {took}; the latency of {report.latency_ms:g} ms is removed")


def say_folder(outcomes: list[FileOutcome], summary: bool = True) -> None:
    """Warnings and errors of a folder, then one line that counts."""
    for outcome in outcomes:
        if outcome.report:
            say_report(outcome.report, summary=False)
    for outcome in outcomes:
        if outcome.error:
            say(f"error: {outcome.error}")
    if summary:
        reports = [outcome.report for outcome in outcomes if outcome.report]
        failed = sum(bool(outcome.error) for outcome in outcomes)
        counts = {"filtered": len(reports), "already done": len(outcomes) - len(reports) - failed, "failed": failed}
        length = f" ({_clock(sum(report.seconds for report in reports))} of audio)" if reports else ""
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "no file in this share"
        say(said + length)


def print_json(fields: dict[str, Any], stream: IO[str]) -> None:
    print(json.dumps(fields), file=stream, flush=True)


def print_table(titles: list[str], rows: list[list[str]]) -> None:
    """A table on standard output."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _WIDE_COLUMNS, highlight=False).print(table)


@contextmanager
def file_progress(name: str) -> Iterator[Progress]:
    """A bar for one sound; feed it seconds done and seconds in all."""
    began = time.perf_counter()
    with _bar() as bar:
        task = bar.add_task(os.path.basename(name), total=None, speed="")

        def show(done: float, total: float | None) -> None:
            bar.update(task, completed=done, total=total, speed=_speed(done, began))

        yield show


@contextmanager
def folder_progress(jobs: list[Job]) -> Iterator[Callable[[FileOutcome], None]]:
    """A bar for a folder, in bytes of its files, so that one long file counts for what it is."""
    began, seconds, finished = time.perf_counter(), 0.0, 0
    total = sum(job.size_bytes for job in jobs if not job.done)
    with _bar() as bar:
        task = bar.add_task(f"0/{len(jobs)} files", total=max(1, total), speed="")

        def show(outcome: FileOutcome) -> None:
            nonlocal seconds, finished
            finished += 1
            seconds += outcome.report.seconds if outcome.report else 0
            size = 0 if outcome.skipped else outcome.size_bytes
            bar.update(task, advance=size, description=f"{finished}/{len(jobs)} files", speed=_speed(seconds, began))

        yield show


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}", style="cyan"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _speed(seconds: float, began: float) -> str:
    return f"{seconds / max(1e-9, time.perf_counter() - began):.0f}x real time" if seconds else ""


def _clock(seconds: float) -> str:
    """
    >>> _clock(7.96), _clock(75), _clock(7_265)
    ('8.0 s', '1:15 min', '2:01:05 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds:.2f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02} h" if hours else f"{minutes}:{left:02} min"
