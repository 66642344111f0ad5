"""The report of a manifest: one record a line of it, each whole, appended as files are done.

A run that was killed leaves at most one line half written, and that is cut off by the next. Records of files that are
done stay; errors, and records whose output is gone or older than its input, are dropped, so that these are tried again.
Outputs in buckets are believed to be there: to ask for each would take hours.
Owns the file, and a lock on it while a run lasts. Memory is 4 bytes a line of the manifest.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zlib
from array import array
from typing import IO, Any

from rtdenoise.errors import AudioFileError, UsageError
from rtdenoise.io.atomic import lock, replacing
from rtdenoise.io.remote import is_remote

PATH, LINE, OUT, ERROR, SKIPPED = "audio_filepath", "line", "out", "error", "skipped"
_LONGEST_LINE = 1 << 22
_MOST_LINES = 1_000_000_000


class Report:
    """Records of a run, and of the runs before that it goes on with; none of these if ``afresh``."""

    def __init__(self, path: str, afresh: bool = False):
        self.path = path
        self._done = array("I")  # by line of the manifest: a check of the path there, 0 where nothing is done
        try:
            self._check_is_ours()
            self._file = self._opened()
            if afresh:
                self._file.truncate(0)
            elif not self._taken_in():
                self._without_failures()
        except OSError as problem:
            raise AudioFileError(f"cannot write {path}: {problem.strerror}; choose another place") from problem

    def _check_is_ours(self) -> None:
        """Whatever else lies under this name stays as it is."""
        try:
            with open(self.path, "rb") as file:
                first = file.readline(_LONGEST_LINE)
        except FileNotFoundError:
            return
        try:
            ours = LINE in json.loads(first) if first.endswith(b"\n") else first[:1] in (b"", b"{")
        except (ValueError, TypeError):
            ours = False
        if not ours:
            raise UsageError(f"{self.path} is no report of an earlier run; name another file")

    def _opened(self) -> IO[bytes]:
        file = open(self.path, "ab+", buffering=0)  # noqa: SIM115
        if lock(file.fileno()) is False:
            file.close()
            raise UsageError(f"{self.path} is being written by another run; give each its own report")
        return file

    def _taken_in(self) -> bool:
        """Note what is done; cut off half a line. False: there are records to drop."""
        clean, end = True, 0
        for line in self._lines():
            whole = line.endswith(b"\n")
            kept = whole and self._note(line)
            if not whole:
                self._file.truncate(end)
            clean &= kept or not whole
            end += len(line)
        return clean

    def _without_failures(self) -> None:
        self._done = array("I")
        with replacing(self.path) as kept:
            for line in self._lines():
                if self._note(line):
                    kept.write(line)
        self._file.close()
        self._file = self._opened()

    def _lines(self) -> Any:
        with open(self.path, "rb") as file:
            yield from file

    def _note(self, line: bytes) -> bool:
        """Whether a record says that something is done, and it still is."""
        try:
            record = json.loads(line)
            number, path, out = record[LINE], record[PATH], record[OUT]
            good = ERROR not in record and isinstance(number, int) and 0 < number <= _MOST_LINES
            if not good or self._check(number) or not (isinstance(path, str) and isinstance(out, str)):
                return False
            written_ns = math.inf if is_remote(out) else os.stat(out).st_mtime_ns
        except (ValueError, KeyError, TypeError, OSError):
            return False
        with contextlib.suppress(OSError, KeyError, TypeError):  # An input that is gone cannot be done again.
            if not is_remote(record["in"]) and os.stat(record["in"]).st_mtime_ns > written_ns:
                return False
        if number > len(self._done):
            self._done.extend([0] * (number - len(self._done)))
        self._done[number - 1] = _check_of(path)
        return True

    def _check(self, number: int) -> int:
        return self._done[number - 1] if number <= len(self._done) else 0

    def holds(self, number: int, path: str) -> bool:
        """Whether a line of the manifest is done. UsageError if the report says of that line that it was another."""
        if not (known := self._check(number)):
            return False
        if known != _check_of(path):
            raise UsageError(
                f"{self.path} belongs to another manifest: line {number} was not {path} there; name another report, "
                "or begin it anew with --overwrite"
            )
        return True

    def add(self, record: dict[str, Any]) -> None:
        """Append a record."""
        data = memoryview(json.dumps(record, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as problem:
            raise AudioFileError(
                f"cannot write {self.path}: {problem.strerror}; free some space, and run this again"
            ) from problem

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *problem: object) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()


def _check_of(path: str) -> int:
    return zlib.crc32(path.encode(errors="surrogatepass")) or 1
