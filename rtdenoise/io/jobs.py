"""A job is one file to filter: how it is done, by any executor, and what becomes of it.

    jobs ─▶ tasks: a whole file, or one piece of a long recording ─▶ executor ─▶ outcomes
                              └─ the last piece done: join them ─┘

Whatever goes wrong with one file is that file's error. Owns the order of a recording's pieces; knows nothing of folders
or manifests.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.atomic import sweep
from rtdenoise.io.executors import Executor, Futures
from rtdenoise.io.pieces import Piece, clear, cut, filter_piece, join
from rtdenoise.io.pipeline import FileReport, Settings, check_extras, filter_sound, lent_denoiser
from rtdenoise.io.process_pool import WorkerDied
from rtdenoise.io.remote import is_remote

_ANY_RATE_HZ, _ANY_CHANNELS = 16_000, 1
_MOST_KNOWN = 1_000  # outcomes that wait to be heard
# Smaller files travel together to a cluster. This takes a worker a tenth of a second or more: a hundred times what a
# parcel costs, and little to wait for at the end, when the other workers have nothing left to do.
_PARCEL_BYTES = 250_000


@dataclass(frozen=True, slots=True)
class Job:
    """One file to filter. ``done``: its output is there and no older than the input. ``problem``: why it, or the
    folder that it stands for, cannot be filtered."""

    source: str
    target: str
    size_bytes: int
    done: bool
    problem: str | None = None


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file of a folder.

    Attributes
    ----------
    source, target : str
        The file that was to be read, and its place in the output folder.
    size_bytes : int
        Size of the source, 0 where it cannot be read.
    report : FileReport or None
        How it went, if the file was filtered.
    error : str or None
        Why it could not be filtered, in one line.
    """

    source: str
    target: str
    size_bytes: int
    report: FileReport | None = None
    error: str | None = None

    @property
    def skipped(self) -> bool:
        """Whether the output was there before and no older than the input, so nothing was done."""
        return self.report is None and self.error is None

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as the command line prints it with ``--json``.

        Returns
        -------
        dict
            The report's fields, or ``in``, ``out`` and either ``error`` or ``skipped``.
        """
        if self.report:
            return self.report.as_json()
        ends = {"in": self.source, "out": self.target}
        return ends | ({"error": self.error} if self.error else {"skipped": True})


def _outcome(job: Job, report: FileReport | None = None, error: str | None = None) -> FileOutcome:
    return FileOutcome(job.source, job.target, job.size_bytes, report, error)


def run_jobs(jobs: Iterator[Job], settings: Settings, executor: Executor) -> Generator[FileOutcome]:
    """What becomes of every job, as it comes. Jobs are taken as they are needed.

    Raises ModelError or UsageError before the first file if the settings themselves are wrong, and RtdenoiseError if
    the executor is lost.
    """
    feed = _Feed(jobs, settings)
    while (first := next(feed, None)) is None:
        yield from feed.known()
        if feed.is_over:
            return  # Nothing was loaded, as nothing was to be done.
    check_extras(settings)
    with lent_denoiser(settings, _ANY_RATE_HZ, _ANY_CHANNELS):
        pass  # A wrong model fails once, here, not once a file.
    feed.put_back(first)
    cost = lambda call: call[0].cost_bytes / _PARCEL_BYTES
    while not feed.is_over:
        with closing(executor.run(_perform, feed, cost)) as running:
            for (task, _), result in running:
                if (outcome := feed.hear(task, result)) is not None:
                    yield outcome
                yield from feed.known()
        yield from feed.known()
    for folder in feed.folders if isinstance(executor, Futures) else ():
        sweep(Path(os.path.realpath(folder)), now=True)  # What a worker left that was killed, and its call done again.


@dataclass(frozen=True)
class _Task:
    """A whole job; one ``piece`` of it; or all of its ``pieces``, to be joined."""

    job: Job
    piece: Piece | None = None
    pieces: list[Piece] = field(default_factory=list)

    @property
    def cost_bytes(self) -> int:
        return self.piece.size_bytes if self.piece else self.job.size_bytes


class _Feed:
    """The calls that make up the jobs. There may be none for now, and more once results or `known` are heard."""

    def __init__(self, jobs: Iterator[Job], settings: Settings):
        self.is_over = False
        self._jobs, self._settings = jobs, settings
        self._soon: deque[_Task] = deque()
        self.folders: set[str] = set()  # of the outputs
        self._known: list[FileOutcome] = []
        self._open: dict[str, tuple[list[Piece], int]] = {}  # by target: pieces, and how many are still to come

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> tuple[_Task, Settings]:
        while not self._soon:
            if len(self._known) >= _MOST_KNOWN:
                raise StopIteration
            if (job := next(self._jobs, None)) is None:
                self.is_over = not self._open
                raise StopIteration
            if job.done or job.problem:
                self._known.append(_outcome(job, error=job.problem))
                continue
            if not is_remote(job.target):
                self.folders.add(os.path.dirname(job.target))
            if pieces := _cut(job, self._settings):
                self._open[job.target] = pieces, len(pieces)
                self._soon += [_Task(job, piece) for piece in pieces]
            else:
                self._soon.append(_Task(job))
        return self._soon.popleft(), self._settings

    def put_back(self, call: tuple[_Task, Settings]) -> None:
        self._soon.appendleft(call[0])

    def known(self) -> list[FileOutcome]:
        """Outcomes of jobs on which nothing had to be done."""
        known, self._known = self._known, []
        return known

    def hear(self, task: _Task, result: Any) -> FileOutcome | None:
        """Take in a result; the outcome of its job, if that is done."""
        job = task.job
        if isinstance(result, WorkerDied):
            if not is_remote(job.target):
                sweep(Path(os.path.realpath(job.target)).parent, now=True)  # This removes what it was writing.
            self._soon = deque(other for other in self._soon if other.job is not job)
            if task.piece and self._open.pop(job.target, None) is None:
                return None  # Another piece's death has ended the job.
            return _outcome(job, error=f"{job.source}: its worker process {result}; try fewer jobs")
        if task.piece is None:
            return _outcome(job, **result)
        if job.target not in self._open:
            return None
        pieces, left = self._open[job.target]
        self._open[job.target] = pieces, left - 1
        if result.get("error"):
            del self._open[job.target]
            self._soon = deque(other for other in self._soon if other.job is not job)
            self._soon.appendleft(_Task(job))  # One pass gets over what is odd, or says what it is.
        elif left == 1:
            del self._open[job.target]
            self._soon.appendleft(_Task(job, pieces=pieces))
        return None


def _perform(task: _Task, settings: Settings) -> dict[str, Any]:
    """Do a task, in whatever process this is: fields of its outcome."""
    job = task.job
    if task.piece is not None:
        return _caught(job, partial(filter_piece, task.piece, settings))
    if task.pieces:
        return _caught(job, partial(join, task.pieces, settings))
    return _caught(job, partial(_whole, job, settings))


def _whole(job: Job, settings: Settings) -> FileReport:
    if is_remote(job.target):
        return filter_sound(job.source, job.target, settings)
    os.makedirs(os.path.dirname(job.target) or ".", exist_ok=True)
    report = filter_sound(job.source, job.target, settings)
    clear(job.target)  # It was to be done in pieces, and could not.
    return report


def _cut(job: Job, settings: Settings) -> list[Piece]:
    """The pieces of a long recording, which lies here and goes to here: pieces are files beside it."""
    if is_remote(job.source) or is_remote(job.target):
        return []
    return cut(job.source, job.target, job.size_bytes, settings)


def _caught(job: Job, work: Callable[[], FileReport | None]) -> dict[str, Any]:
    try:
        return {"report": work()}
    except RtdenoiseError as problem:
        text = str(problem)
    except OSError as problem:
        text = f"{problem.filename or job.target}: {problem.strerror or problem}"
    except Exception as problem:
        text = f"{type(problem).__name__}: {str(problem).partition(os.linesep)[0]}"
    return {"error": text if job.source in text or job.target in text else f"{job.source}: {text}"}
