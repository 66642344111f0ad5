"""Folder to folder: every sound file of a tree, in several processes, resumable, one bad file never stopping the rest.

Owns the walk and the decision what is already done. How a job is done is `jobs`' business, where `executors`'.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io import media
from rtdenoise.io.executors import Executor, Here, Processes
from rtdenoise.io.jobs import FileOutcome, Job, run_jobs
from rtdenoise.io.pipeline import Settings
from rtdenoise.io.remote import Entry, find, is_remote, joined, look, plain
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
    inputs: Iterator[tuple[str, str, Entry | None, str | None]]
    if is_remote(source):
        inputs = _found_elsewhere(source, target)
    else:
        inputs = ((os.path.relpath(p, source), p, None, why) for p, why in _found(source, os.path.realpath(target)))
    there = {url: entry for _, url, entry in find(target)} if is_remote(target) else None
    jobs, names = [], []
    for name, path, entry, problem in inputs:
        jobs.append(find_job(path, joined(target, name), overwrite, problem, entry, there))
        names.append(name)
    if not jobs:
        raise UsageError(f"{source} holds no sound file ({' '.join(sorted({*CONTAINERS, *_FILMS}))}); check the folder")
    sources = {_true_name(job.source) for job in jobs}
    for job in jobs:
        if not job.problem and _true_name(job.target) in sources:
            raise UsageError(f"{job.target} would replace an input; give the output a folder of its own")
    return [job for job, name in zip(jobs, names, strict=True) if shard is None or shard.holds(name)]


def find_job(
    path: str,
    target: str,
    overwrite: bool,
    problem: str | None,
    entry: Entry | None = None,
    there: Mapping[str, Entry] | None = None,
) -> Job:
    """The job that makes ``target`` of a file: nothing to do if it is there and no older, unless ``overwrite``.

    ``entry`` is what is known of the file, ``there`` of all outputs; what is not given is looked up.
    """
    size, done = 0, False
    try:
        if (entry := entry or _look(path)) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        size = entry.size_bytes
        if not (overwrite or problem):
            made = there.get(target) if there is not None else _look(target)
            done = made is not None and made.changed_ns >= entry.changed_ns
    except OSError as gone:
        problem = problem or f"{path}: {gone.strerror}"
    except RtdenoiseError as gone:
        problem = problem or str(gone)
    return Job(path, target, 0 if problem else size, done and not problem, problem)


def _look(path: str) -> Entry | None:
    """A file here or elsewhere; None if there is none."""
    if is_remote(path):
        return look(path)
    if not os.path.isfile(path):
        return None
    there = os.stat(path)
    return Entry(there.st_size, there.st_mtime_ns)


def _true_name(path: str) -> str:
    return path if is_remote(path) else os.path.realpath(path)


def _found_elsewhere(source: str, target: str) -> Iterator[tuple[str, str, Entry | None, str | None]]:
    """Sounds below a URL: name, URL, what is known of it, and what stands in its way. Never what lies in ``target``."""
    seen: set[str] = set()
    for key, url, entry in find(source):
        hidden = any(part.startswith(".") and part.strip(".") for part in key.split("/"))
        if hidden or not is_sound(key) or url.startswith(target.rstrip("/") + "/"):
            continue
        try:
            name = plain(key)
        except UsageError as problem:
            yield os.path.basename(key), url, entry, f"{url}: {problem}"
            continue
        twice = f"{url} would have the same output as another file; rename it" if name in seen else None
        seen.add(name)
        yield name, url, entry, twice or obstacle(url)


def _check_target(source: str, target: str) -> None:
    if is_remote(target):
        if Path(target).suffix.lower() in CONTAINERS or media.is_media(target):
            raise UsageError(f"{source} is a folder and {target} the name of a file; name a folder for the output")
        return
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
    return None if is_remote(path) or os.path.isfile(path) else f"{path} is no file, or a link that leads nowhere"
