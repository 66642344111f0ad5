"""Folder to folder: every sound file of a tree, in several processes, resumable, one bad file never stopping the rest.

Owns the walk, the decision what is already done, and the worker processes. How one file is filtered is `transfer`'s.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.files import CONTAINERS
from rtdenoise.transfer import Report, Settings, filter_sound, lent_denoiser

_ANY_RATE_HZ, _ANY_CHANNELS = 16_000, 1


@dataclass(frozen=True)
class Job:
    """One file to filter. ``done``: its output is there and no older than the input."""

    source: str
    target: str
    size_bytes: int
    done: bool


@dataclass(frozen=True)
class Outcome:
    """What became of a job: a report, an error in one line, or neither if it was done before."""

    job: Job
    report: Report | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        if self.report:
            return self.report.as_json()
        ends = {"in": self.job.source, "out": self.job.target}
        return ends | ({"error": self.error} if self.error else {"skipped": True})


def find_jobs(source: str, target: str, overwrite: bool = False) -> list[Job]:
    """Every sound file below ``source``, with its place below ``target``. Hidden files are left alone.

    Raises UsageError if there is none, if ``target`` is a file, or if an output would replace an input.
    """
    if os.path.exists(target) and not os.path.isdir(target):
        raise UsageError(f"{target} is a file; when --in is a folder, --out must be one too")
    if Path(target).suffix.lower() in CONTAINERS and not os.path.isdir(target):
        raise UsageError(f"{source} is a folder and {target} the name of a file; give --out a folder")
    jobs = []
    for path in _sound_files(source, os.path.realpath(target)):
        end = os.path.join(target, os.path.relpath(path, source))
        there = os.stat(path)
        done = not overwrite and os.path.isfile(end) and os.stat(end).st_mtime_ns >= there.st_mtime_ns
        jobs.append(Job(path, end, there.st_size, done))
    if not jobs:
        raise UsageError(f"{source} holds no sound file ({' '.join(sorted(CONTAINERS))}); check the folder")
    inputs = {os.path.realpath(job.source) for job in jobs}
    for job in jobs:
        if os.path.realpath(job.target) in inputs:
            raise UsageError(f"{job.target} would replace an input; give --out a folder of its own")
    return jobs


def filter_jobs(
    jobs: list[Job], settings: Settings, processes: int, progress: Callable[[Outcome], None] | None = None
) -> list[Outcome]:
    """Filter what is not done yet; ``progress`` hears of every outcome as it comes. Raises ModelError or UsageError
    before the first file if the settings themselves are wrong."""
    outcomes = []
    with closing(_run(jobs, settings, processes)) as running:  # ends the workers, whatever happens here
        for outcome in running:
            outcomes.append(outcome)
            if progress:
                progress(outcome)
    return outcomes


def _run(jobs: list[Job], settings: Settings, processes: int) -> Generator[Outcome]:
    yield from (Outcome(job) for job in jobs if job.done)
    waiting = [job for job in jobs if not job.done]
    if not waiting:
        return
    with lent_denoiser(settings, _ANY_RATE_HZ, _ANY_CHANNELS):
        pass  # a wrong model fails once, here, not once a file
    for folder in {os.path.dirname(job.target) for job in waiting}:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as problem:
            raise UsageError(f"cannot create {folder}: {problem.strerror}; choose another --out") from problem
    processes = min(processes, len(waiting))
    if processes == 1:
        yield from (_filter_job(job, settings) for job in waiting)
    else:
        yield from _run_in_processes(waiting, settings, processes)


def _run_in_processes(jobs: list[Job], settings: Settings, processes: int) -> Iterator[Outcome]:
    # Spawned, not forked: a fork would copy the locks of onnxruntime's and numba's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_no_part_behind)
    try:
        on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the parent's to handle
        futures: dict[Future[Outcome], Job] = {pool.submit(_filter_in_worker, job, settings): job for job in jobs}
        signal.signal(signal.SIGINT, on_interrupt)
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield Outcome(futures[future], error="a worker process was killed; try a smaller --jobs")
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_no_part_behind() -> None:
    """In a worker: end on SIGTERM by an exception, so that the half-written file is removed."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


def _filter_in_worker(job: Job, settings: Settings) -> Outcome:
    try:
        return _filter_job(job, settings)
    except SystemExit as end:  # the half-written file is gone; the pool would hand this worker its next job
        os._exit(int(end.code or 0))


def _filter_job(job: Job, settings: Settings) -> Outcome:
    try:
        return Outcome(job, report=filter_sound(job.source, job.target, settings))
    except RtdenoiseError as problem:
        text = str(problem)
        return Outcome(job, error=text if job.source in text or job.target in text else f"{job.source}: {text}")


def _sound_files(source: str, output_folder: str) -> Iterator[str]:
    """Sound files below ``source`` in the order of their names; never into ``output_folder``."""
    for folder, below, names in os.walk(source):
        below[:] = sorted(
            d for d in below if not d.startswith(".") and os.path.realpath(os.path.join(folder, d)) != output_folder
        )
        for name in sorted(names):
            path = os.path.join(folder, name)
            if Path(name).suffix.lower() in CONTAINERS and not name.startswith(".") and os.path.isfile(path):
                yield path
