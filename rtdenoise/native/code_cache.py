"""Where machine code is kept from one start to the next, and by which sources it is told to be out of date.

Our functions are woven together from several files by inlining, so a kept one counts only as long as every source that
can be part of it is the same: its own file, and those of ours that it imports, however far.

A cache is a help, never a need: code that is damaged is compiled anew, and code that cannot be written goes to the next
place, or nowhere. It is also code that is run, so a place of ours belongs to this user alone. The places, in order:
`NUMBA_CACHE_DIR`, if set; `__pycache__` beside the sources, as trustworthy as they are; the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import multiprocessing
import os
import platform
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType

from rtdenoise.home import user_folder

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)|import[ \t]+([^\n#]*))", re.M)
SUFFIX = ".kernel"
SHIPPED, SHIPPED_SUFFIX = Path(__file__).with_name("shipped"), ".bc"  # what came with the package
DIGEST_BYTES = 32  # a file begins with the SHA-256 of what follows

_ours = {"rtdenoise"}  # packages with functions that are woven together


class Shelf:
    """What is kept of one function: a file for each ``variant``, which says for what machine and arguments it is.

    Parameters
    ----------
    code : CodeType
        The function's.
    module : str
        Where it stands.
    """

    def __init__(self, code: CodeType, module: str):
        self._source, self._module = Path(code.co_filename), module
        self._base = f"{self._source.stem}.{code.co_name}-{code.co_firstlineno}"
        _ours.add(module.partition(".")[0])

    def find(self, variant: str) -> bytes | None:
        """What was kept, or None."""
        try:
            content = self._path(variant).read_bytes()
        except (OSError, LookupError):
            return None
        digest, kept = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        return kept if hashlib.sha256(kept).digest() == digest else None

    def keep(self, variant: str, content: bytes) -> None:
        """Keep it, whole or not at all; what was made of sources that are gone goes."""
        with contextlib.suppress(LookupError):
            path = self._path(variant)
            try:
                _write(path, hashlib.sha256(content).digest() + content)
            except OSError as problem:
                _say_once(f"{path.parent}: {problem.strerror or problem}")
                return
            stamp = path.name.split(".")[-2]
            for other in path.parent.glob(f"{self._base}.*{SUFFIX}"):
                if other.name.split(".")[-2] != stamp:
                    other.unlink(missing_ok=True)

    def shipped(self, kind: str) -> bytes | None:
        """What came with the package for arguments of this ``kind``, made of the same sources, or None."""
        try:
            return self._shipped_path(kind).read_bytes()
        except OSError:
            return None

    def ship(self, kind: str, content: bytes) -> None:
        """Have the package that is being built carry it."""
        SHIPPED.mkdir(exist_ok=True)
        self._shipped_path(kind).write_bytes(content)

    def _shipped_path(self, kind: str) -> Path:
        """Sizes of C's types and the names of its functions depend on the system, and on the family of processors."""
        return SHIPPED / self._file(f"{sys.platform} {platform.machine()} {self._module} {kind}", SHIPPED_SUFFIX)

    def _path(self, variant: str) -> Path:
        """`LookupError` if there is no place, or no source file, as in a frozen program."""
        place = _place(self._source.parent) if self._source.is_file() else None
        if place is None:
            raise LookupError
        return place / self._file(variant, SUFFIX)

    def _file(self, variant: str, suffix: str) -> str:
        name = hashlib.sha256(variant.encode()).hexdigest()[:16]
        return f"{self._base}.{name}.{_stamp(self._source)[:12]}{suffix}"


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


@cache
def _place(folder: Path) -> Path | None:
    """Where code compiled from the sources of ``folder`` is kept; None if nowhere."""
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:16]}"
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        places = [Path(chosen, name)]
    else:
        places = [folder / "__pycache__"]
        if home := user_folder("cache"):
            places.append(home / name)
    for place in places:
        if _is_usable(place, place.parent == folder):
            return place
    _say_once(f"no private folder to write in: tried {' and '.join(map(str, places))}")
    return None


def _is_usable(place: Path, beside_sources: bool) -> bool:
    """Whether we can write there and, unless whoever writes there could change the sources too, nobody else can."""
    try:
        place.mkdir(mode=0o777 if beside_sources else 0o700, parents=not beside_sources, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
        seen = os.stat(place)
    except OSError:
        return False
    if beside_sources or sys.platform == "win32":
        return True
    return seen.st_uid == os.geteuid() and not seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


_said: list[str] = []  # the problem that was told: those of further folders are of the same kind


def _say_once(problem: str) -> None:
    if not _said and multiprocessing.parent_process() is None:  # of many worker processes, none says it again
        _said.append(problem)
        logging.getLogger(__name__).warning(
            "compiled code is not kept (%s); every start takes seconds longer, until NUMBA_CACHE_DIR names a private "
            "folder with room",
            problem,
        )


@cache
def _stamp(source: Path) -> str:
    """A hash of this file and of all of ours that it imports, directly or not."""
    found, waiting = {source}, [source]
    while waiting:
        for path in _imported(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.append(path)
    whole = hashlib.sha256()
    for path in sorted(found):
        whole.update(_content(path).encode(errors="surrogateescape") + b"\0")
    return whole.hexdigest()


@cache
def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


@cache
def _imported(source: Path) -> list[Path]:
    """Files of ours that a file imports; one too many, out of a docstring, does no harm."""
    return [path for name in _names(_content(source)) if (path := _file_of(name))]


def _names(text: str) -> Iterator[str]:
    for home, some, modules in _IMPORT.findall(text):
        if home:
            yield home
            yield from (f"{home}.{name}" for name in re.findall(r"\w+", some))
        yield from re.findall(r"[\w.]+", modules)


@cache
def _file_of(name: str) -> Path | None:
    """The file of a module that lies in one of our packages."""
    package, *below = name.split(".")
    front = getattr(sys.modules.get(package), "__file__", None)
    if not front or package not in _ours:
        return None
    path = Path(front).parent.joinpath(*below)
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
