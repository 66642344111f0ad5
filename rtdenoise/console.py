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

    from rtdenoise.io.jobs import FileOutcome
    from rtdenoise.io.pipeline import FileReport, Progress

_MOST_LINES = 1_000  # warnings, errors and reasons that are kept, however many files there are
_FEW = 5  # Errors that are read without a table.
_A_LINE_S = 60.0
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


class Tally:
    """What became of many files: counts, and as much of what is to be said as a person reads."""

    def __init__(self) -> None:
        self.files = self.filtered = self.failed = self.damaged = 0
        self.seconds = 0.0
        self._reports: list[FileReport] = []  # those that have something to say
        self._errors: list[str] = []
        self._reasons: dict[str, tuple[int, str]] = {}  # how often, and the first file

    def add(self, outcome: FileOutcome) -> None:
        self.files += 1
        if (report := outcome.report) is not None:
            self.filtered += 1
            self.seconds += report.seconds
            self.damaged += report.damaged
            if len(self._reports) < _MOST_LINES and (report.warnings or report.clipped or report.nonfinite):
                self._reports.append(report)
        elif outcome.error:
            self.failed += 1
            if len(self._errors) < _MOST_LINES:
                self._errors.append(outcome.error)
            reason = outcome.error.replace(outcome.source, "").replace(outcome.target, "").strip(" :;")
            if reason in self._reasons or len(self._reasons) < _MOST_LINES:
                count, first = self._reasons.get(reason, (0, outcome.source))
                self._reasons[reason] = count + 1, first

    def say(self, summary: bool = True) -> None:
        """Warnings and errors, what failed and why if that is much, then one line that counts."""
        for report in self._reports:
            say_report(report, summary=False)
        for error in self._errors:
            say(f"error: {error}")
        if not summary:
            return
        if self.failed > _FEW:
            rows = sorted(self._reasons.items(), key=lambda row: -row[1][0])
            cells = [[f"{count:,}", reason, first] for reason, (count, first) in rows]
            print_table(["failed", "why", "first file"], cells, sys.stderr)
        kept = self.files - self.filtered - self.failed
        counts = {"filtered": self.filtered, "already done": kept, "failed": self.failed}
        length = f" ({_clock(self.seconds)} of audio)" if self.filtered else ""
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to filter here"
        say(said + length)


def print_json(fields: dict[str, Any], stream: IO[str]) -> None:
    print(json.dumps(fields), file=stream, flush=True)


def print_table(titles: list[str], rows: list[list[str]], stream: IO[str] | None = None) -> None:
    """A table, on standard output by default."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    stream = stream or sys.stdout
    width = None if stream.isatty() else _WIDE_COLUMNS
    Console(file=stream, width=width, highlight=False, markup=False).print(table)


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
def archive_progress(
    tally: Tally, files: int, total_bytes: int | None = None
) -> Iterator[Callable[[FileOutcome], None]]:
    """A bar for many files, in bytes of them where these are known, so that one long file counts for what it is."""
    began, done = time.perf_counter(), 0
    with _bar() as bar:
        task = bar.add_task(f"0/{files:,} files", total=max(1, files if total_bytes is None else total_bytes), speed="")

        def show(outcome: FileOutcome) -> None:
            nonlocal done
            done += 1 if total_bytes is None else 0 if outcome.skipped else outcome.size_bytes
            bar.update(task, completed=done, description=_state(tally, files), speed=_speed(tally.seconds, began))

        yield show


def lines_of_progress(
    tally: Tally, files: int, clock: Callable[[], float] = time.monotonic
) -> Callable[[FileOutcome], None]:
    """The same as a line a minute, for logs."""
    began = said = clock()

    def show(outcome: FileOutcome) -> None:
        nonlocal said
        now = clock()
        if now - said < _A_LINE_S:
            return
        said = now
        left = (now - began) * max(0, files - tally.files) / tally.files
        speed = f", {tally.seconds / (now - began):.0f}x real time" if tally.seconds else ""
        say(f"{_state(tally, files)}{speed}, about {_clock(left)} left")

    return show


def _state(tally: Tally, files: int) -> str:
    hours = f", {tally.seconds / 3600:.1f} h" if tally.seconds >= 360 else ""
    return f"{tally.files:,}/{files:,} files{hours}" + (f", {tally.failed:,} failed" if tally.failed else "")


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
