"""Folder to folder: every sound file of a tree, in several processes, resumable, one bad file never stopping the rest.

Owns the walk and the decision what is already done. How a job is done is `jobs`' business, where `executors`'.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

from rtdenoise.errors import UsageError
from rtdenoise.io import media
from rtdenoise.io.executors import Executor, Here, Processes
from rtdenoise.io.jobs import FileOutcome, Job, run_jobs
from rtdenoise.io.pipeline import Settings
from rtdenoise.io.shard import Shard
from rtdenoise.io.sound_sink import CONTAINERS

# Names of sounds that cannot be written under the same name.
_OTHER_SOUNDS = media.READ_ONLY | set(".snd .voc .sph .sf .ircam .mp1 .mp2 .spx .raw .pcm".split())
_FILMS = set(media.CONTAINERS) - {".ts"}  # which is a program's text more often than a film


def find_jobs(source: str, target: str, overwrite: bool = False, shard: Shard | None = None) -> list[Job]:
    """Every sound file below ``source``, or those of a ``shard``, with its place below ``target``, and what stands in
    the way of others.

    Hidden files are left alone, and so is what is no sound. Raises UsageError if there is nothing at all, if ``target``
    cannot be a folder, or if an output would replace an input.
    """
    _check_target(source, target)
    jobs = []
    for path, problem in _found(source, os.path.realpath(target)):
        jobs.append(find_job(path, os.path.join(target, os.path.relpath(path, source)), overwrite, problem))
    if not jobs:
        raise UsageError(f"{source} holds no sound file ({' '.join(sorted({*CONTAINERS, *_FILMS}))}); check the folder")
    inputs = {os.path.realpath(job.source) for job in jobs}
    for job in jobs:
        if not job.problem and os.path.realpath(job.target) in inputs:
            raise UsageError(f"{job.target} would replace an input; give the output a folder of its own")
    return [job for job in jobs if shard is None or shard.holds(os.path.relpath(job.source, source))]


def find_job(path: str, target: str, overwrite: bool, problem: str | None) -> Job:
    """The job that makes ``target`` of a file: nothing to do if it is there and no older, unless ``overwrite``."""
    size, done = 0, False
    try:
        there = os.stat(path)
        size = there.st_size
        done = not overwrite and os.path.isfile(target) and os.stat(target).st_mtime_ns >= there.st_mtime_ns
    except OSError as gone:
        problem = problem or f"{path}: {gone.strerror}"
    return Job(path, target, 0 if problem else size, done and not problem, problem)


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
    jobs: list[Job],
    settings: Settings,
    executor: Executor | int,
    progress: Callable[[FileOutcome], object] | None = None,
) -> list[FileOutcome]:
    """Filter what is not done yet, by an executor or in so many processes; ``progress`` hears of every outcome as it
    comes. Raises ModelError or UsageError before the first file if the settings themselves are wrong."""
    outcomes = []
    with closing(run_folder(jobs, settings, executor)) as running:  # This ends the workers, whatever happens here.
        for outcome in running:
            outcomes.append(outcome)
            if progress:
                progress(outcome)
    return outcomes


def run_folder(jobs: list[Job], settings: Settings, executor: Executor | int) -> Generator[FileOutcome]:
    """The same, without keeping the outcomes: there may be a million."""
    if isinstance(executor, int):
        waiting = sum(not (job.done or job.problem) for job in jobs)
        executor = Here() if min(executor, waiting) <= 1 else Processes(executor)
    if not isinstance(executor, Here):
        jobs.sort(key=lambda job: -job.size_bytes)  # Whoever begins with the largest is not left waiting for it.
    return run_jobs(iter(jobs), settings, executor)


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
            path = os.path.join(folder, name)
            if is_sound(path):
                yield path, obstacle(path)
    for problem in closed:
        yield problem.filename, f"cannot read {problem.filename}: {problem.strerror}"


def is_sound(path: str) -> bool:
    """Whether a file is a sound by its name."""
    extension = os.path.splitext(path)[1].lower()
    return extension in CONTAINERS or extension in _FILMS or extension in _OTHER_SOUNDS


def obstacle(path: str, named: bool = False) -> str | None:
    """What keeps a file from being filtered into one of the same name. ``named``: somebody says that it is a sound."""
    extension = os.path.splitext(path)[1].lower()
    if extension in _OTHER_SOUNDS:
        return f"{path} is left out: {extension} cannot be written; convert it to .wav or .flac"
    if extension in media.CONTAINERS and not media.is_available():
        return f"{path} is left out: {extension} needs PyAV; install it: pip install 'rtdenoise[media]'"
    if named and extension not in CONTAINERS and extension not in media.CONTAINERS:
        return f"{path} has no name of a sound file ({' '.join(sorted({*CONTAINERS, *_FILMS}))}); rename or convert it"
    return None if os.path.isfile(path) else f"{path} is no file, or a link that leads nowhere"
