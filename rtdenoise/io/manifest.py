"""A manifest in, a report out: every recording that a JSON Lines file names, as NeMo and lhotse write them.

    manifest ─▶ entries ─▶ jobs, a thousand at a time, largest first ─▶ outcomes ─▶ report
                  └─ several entries of one recording: one job ──────────┘

It is read once, line by line, so memory does not grow with it. Owns what an entry means and what its record says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any

from rtdenoise.errors import UsageError
from rtdenoise.io.batch import find_job, obstacle
from rtdenoise.io.executors import Executor
from rtdenoise.io.jobs import FileOutcome, Job, run_jobs
from rtdenoise.io.pipeline import Settings
from rtdenoise.io.remote import here_and_elsewhere, is_remote, joined, name_below
from rtdenoise.io.report import ERROR, LINE, OUT, PATH, SKIPPED, Report
from rtdenoise.io.shard import Shard

WINDOW = 1_000  # entries that are looked at before the first of them is filtered
_LONGEST_LINE = 1 << 20
_FROM_REPORT = ("rate", "channels", "in", OUT)  # These keys of an entry mean the input, or are said otherwise.


@dataclass
class _Entry:
    """A line of the manifest, counted from 1."""

    number: int
    fields: dict[str, Any]

    def record(self, outcome: FileOutcome) -> dict[str, Any]:
        """All keys of the entry, and what became of it."""
        said = outcome.as_json()
        told = {key: value for key, value in said.items() if key not in _FROM_REPORT}
        own = {LINE, "in", OUT, ERROR, SKIPPED}
        kept = {key: value for key, value in self.fields.items() if key not in own}  # of a report used as a manifest
        ends = {LINE: self.number, "in": here_and_elsewhere(outcome.source)}
        if ERROR not in told:
            ends[OUT] = here_and_elsewhere(outcome.target)
        return told | kept | ends


def count_lines(path: str) -> int:
    """Lines of a manifest, for a progress bar."""
    _check(path)
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def run_manifest(
    path: str,
    target: str,
    report: Report,
    settings: Settings,
    executor: Executor,
    overwrite: bool = False,
    shard: Shard | None = None,
) -> Generator[FileOutcome]:
    """Filter what the manifest names, of a ``shard`` or all, into the folder ``target``; an outcome for each entry.

    Entries that the report says are done are passed over.
    """
    _check(path)
    home = os.path.dirname(os.path.abspath(path))
    if os.path.realpath(target) == os.path.realpath(home):
        raise UsageError(f"{target} is the manifest's own folder; give the output a folder of its own")
    waiting: dict[str, list[_Entry]] = {}
    jobs = _Jobs(path, home, target, report, overwrite, shard, waiting)
    with closing(run_jobs(jobs.found(), settings, executor)) as running:
        for outcome in running:
            for entry in waiting.pop(outcome.target):
                report.add(entry.record(outcome))
                yield outcome


def _check(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror}") from problem


class _Jobs:
    """The jobs of a manifest. ``waiting`` holds the entries of each until its outcome is known."""

    def __init__(
        self,
        path: str,
        home: str,
        target: str,
        report: Report,
        overwrite: bool,
        shard: Shard | None,
        waiting: dict[str, list[_Entry]],
    ):
        self._path, self._home, self._target, self._report = path, home, target, report
        self._overwrite, self._shard, self._waiting = overwrite, shard, waiting

    def found(self) -> Iterator[Job]:
        jobs: list[Job] = []
        entries = 0
        for entry in self._entries():
            job = self._job(entry)
            if job.target in self._waiting:
                self._waiting[job.target].append(entry)
            else:
                self._waiting[job.target] = [entry]
                jobs.append(job)
            entries += 1
            if entries == WINDOW:
                yield from sorted(jobs, key=lambda job: -job.size_bytes)
                jobs, entries = [], 0
        yield from sorted(jobs, key=lambda job: -job.size_bytes)

    def _entries(self) -> Iterator[_Entry]:
        """Those that are ours and not done."""
        for number, fields in read_entries(self._path):
            name = fields.get(PATH)
            known = name if isinstance(name, str) else ""
            if self._shard and not self._shard.holds(self._name(known) if known else f"line {number}"):
                continue
            if not (known and self._report.holds(number, known)):
                yield _Entry(number, fields)

    def _name(self, path: str) -> str:
        """A recording's name below the manifest's folder, or its whole path or URL if it lies elsewhere."""
        if is_remote(path):
            return path
        whole = os.path.normpath(os.path.join(self._home, path))
        inside = os.path.relpath(whole, self._home)
        return whole if inside.partition(os.sep)[0] == os.pardir else inside

    def _job(self, entry: _Entry) -> Job:
        path = entry.fields.get(PATH)
        if not isinstance(path, str) or not path or "\0" in path:
            where = f"{self._path}, line {entry.number}"
            return Job(where, where, 0, False, f"{where} is no JSON object with {PATH}, the name of a sound file")
        name = self._name(path)
        source = path if is_remote(path) else os.path.join(self._home, name)
        try:
            below = name_below(path) if is_remote(path) else os.path.splitdrive(name)[1].lstrip(os.sep)
        except UsageError as problem:
            return Job(source, source, 0, False, str(problem))
        target = joined(self._target, below)
        return find_job(source, target, self._overwrite, obstacle(source, named=True))


def read_entries(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and keys of each line that is not empty; without any where it is no JSON object. UsageError if the file
    cannot be read."""
    _check(path)
    with open(path, "rb") as file:
        for number, line in enumerate(_lines(file), 1):
            if not line.isspace():
                yield number, _fields(line)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file; one that is too long to be an entry is cut short, and so is none."""
    while line := file.readline(_LONGEST_LINE):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(_LONGEST_LINE)


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
