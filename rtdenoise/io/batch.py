"""Folder to folder: every sound file of a tree, in several processes, resumable, one bad file never stopping the rest.

Owns the walk and the decision what is already done. How one file is filtered is `pipeline`'s business,
in which process `process_pool`'s.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io import media
from rtdenoise.io.atomic import sweep
from rtdenoise.io.pipeline import FileReport, Settings, check_extras, filter_sound, lent_denoiser
from rtdenoise.io.process_pool import WorkerDied, run_calls
from rtdenoise.io.shard import Shard
from rtdenoise.io.sound_sink import CONTAINERS

_ANY_RATE_HZ, _ANY_CHANNELS = 16_000, 1
# Names of sounds that cannot be written under the same name.
_OTHER_SOUNDS = media.READ_ONLY | set(".snd .voc .sph .sf .ircam .mp1 .mp2 .spx .raw .pcm".split())
_FILMS = set(media.CONTAINERS) - {".ts"}  # which is a program's text more often than a film


@dataclass(frozen=True)
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


def find_jobs(source: str, target: str, overwrite: bool = False, shard: Shard | None = None) -> list[Job]:
    """Every sound file below ``source``, or those of a ``shard``, with its place below ``target``, and what stands in
    the way of others.

    Hidden files are left alone, and so is what is no sound. Raises UsageError if there is nothing at all, if ``target``
    cannot be a folder, or if an output would replace an input.
    """
    _check_target(source, target)
    jobs = []
    for path, problem in _found(source, os.path.realpath(target)):
        end = os.path.join(target, os.path.relpath(path, source))
        size, done = 0, False
        try:
            there = os.stat(path)
            size = there.st_size
            done = not overwrite and os.path.isfile(end) and os.stat(end).st_mtime_ns >= there.st_mtime_ns
        except OSError as gone:
            problem = problem or f"{path}: {gone.strerror}"
        jobs.append(Job(path, end, 0 if problem else size, done and not problem, problem))
    if not jobs:
        raise UsageError(f"{source} holds no sound file ({' '.join(sorted({*CONTAINERS, *_FILMS}))}); check the folder")
    inputs = {os.path.realpath(job.source) for job in jobs}
    for job in jobs:
        if not job.problem and os.path.realpath(job.target) in inputs:
            raise UsageError(f"{job.target} would replace an input; give the output a folder of its own")
    return [job for job in jobs if shard is None or shard.holds(os.path.relpath(job.source, source))]


def _check_target(source: str, target: str) -> None:
    if os.path.exists(target) and not os.path.isdir(target):
        raise UsageError(f"{target} is a file, but {source} is a folder; name a folder for the output")
    if os.path.isdir(target):
        return
    if Path(target).suffix.lower() in CONTAINERS or media.is_media(target):
        raise UsageError(f"{source} is a folder and {target} the name of a file; name a folder for the output")
    above = next(folder for folder in Path(os.path.abspath(target)).parents if os.path.lexists(folder))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        why = os.strerror(errno.EACCES if above.is_dir() else errno.ENOTDIR)
        raise UsageError(f"cannot create {target}: {why}; choose another place")


def filter_jobs(
    jobs: list[Job], settings: Settings, processes: int, progress: Callable[[FileOutcome], object] | None = None
) -> list[FileOutcome]:
    """Filter what is not done yet; ``progress`` hears of every outcome as it comes. Raises ModelError or UsageError
    before the first file if the settings themselves are wrong."""
    outcomes = []
    with closing(_run(jobs, settings, processes)) as running:  # This ends the workers, whatever happens here.
        for outcome in running:
            outcomes.append(outcome)
            if progress:
                progress(outcome)
    return outcomes


def _run(jobs: list[Job], settings: Settings, processes: int) -> Generator[FileOutcome]:
    for job in jobs:
        if job.done or job.problem:
            yield _outcome(job, error=job.problem)
    waiting = [job for job in jobs if not (job.done or job.problem)]
    if not waiting:
        return
    check_extras(settings)
    with lent_denoiser(settings, _ANY_RATE_HZ, _ANY_CHANNELS):
        pass  # A wrong model fails once, here, not once a file.
    if min(processes, len(waiting)) == 1:
        yield from (_filter_job(job, settings) for job in waiting)
        return
    with closing(run_calls(_filter_job, [(job, settings) for job in waiting], processes)) as running:
        for (job, _), outcome in running:
            if isinstance(outcome, WorkerDied):
                sweep(Path(os.path.realpath(job.target)).parent, now=True)  # This removes what it was writing.
                outcome = _outcome(job, error=f"{job.source}: its worker process {outcome}; try fewer jobs")
            yield outcome


def _filter_job(job: Job, settings: Settings) -> FileOutcome:
    """Whatever goes wrong with one file is that file's error."""
    try:
        os.makedirs(os.path.dirname(job.target) or ".", exist_ok=True)
        return _outcome(job, report=filter_sound(job.source, job.target, settings))
    except RtdenoiseError as problem:
        text = str(problem)
    except OSError as problem:
        text = f"{problem.filename or job.target}: {problem.strerror or problem}"
    except Exception as problem:
        text = f"{type(problem).__name__}: {str(problem).partition(os.linesep)[0]}"
    return _outcome(job, error=text if job.source in text or job.target in text else f"{job.source}: {text}")


def _found(source: str, output_folder: str) -> Iterator[tuple[str, str | None]]:
    """Sound files below ``source`` in the order of their names, and what may hold some that cannot be had, with why.

    Never what lies in ``output_folder``.
    """
    closed: list[OSError] = []
    home = os.path.join(os.path.realpath(source), "")
    for folder, below, names in os.walk(source, onerror=closed.append):
        kept = []
        for name in sorted(name for name in below if not name.startswith(".")):
            path = os.path.join(folder, name)
            leads_to = os.path.realpath(path)
            if leads_to == output_folder:
                continue
            if os.path.islink(path):
                if not leads_to.startswith(home):  # What lies inside is found where it is.
                    yield path, f"{path} is a link to a folder, which is not followed; filter it on its own"
                continue
            kept.append(name)
        below[:] = kept
        for name in sorted(name for name in names if not name.startswith(".")):
            path, extension = os.path.join(folder, name), os.path.splitext(name)[1].lower()
            if extension in _OTHER_SOUNDS:
                yield path, f"{path} is left out: {extension} cannot be written; convert it to .wav or .flac"
            elif extension in _FILMS and not media.is_available():
                yield path, f"{path} is left out: {extension} needs PyAV; install it: pip install 'rtdenoise[media]'"
            elif extension in CONTAINERS or extension in _FILMS:
                yield path, None if os.path.isfile(path) else f"{path} is no file, or a link that leads nowhere"
    for problem in closed:
        yield problem.filename, f"cannot read {problem.filename}: {problem.strerror}"
