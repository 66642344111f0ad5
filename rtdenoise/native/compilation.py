"""Compiled functions, and where they are kept from one start to the next.

numba keeps what it compiled under the stamp of the file that a function stands in. Ours are woven together from several
files by inlining, so a kept one counts only as long as every source that can be part of it is the same: its own file,
and those of ours that it imports, however far.

A cache is a help, never a need: one that is damaged is compiled anew, and one that cannot be written goes to the next
place, or nowhere. It is also code that is run, so a place of ours belongs to this user alone. The places, in order:
`NUMBA_CACHE_DIR`, if set; `__pycache__` beside the sources, as trustworthy as they are; the user's cache folder.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import multiprocessing
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import llvmlite
from numba import njit
from numba.core import config, sigutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.ccallback import CFunc
from numba.core.runtime import rtsys

from rtdenoise.home import user_folder

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)|import[ \t]+([^\n#]*))", re.M)

Function: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Function)

DONT_NEED = 4  # of madvise

_ours = {"rtdenoise"}  # packages with functions that are woven together


def compiled(**options: Any) -> Callable[[F], F]:
    """A decorator as `numba.njit`, whose code is kept; ``options`` are numba's."""

    def decorate(function: F) -> F:
        dispatcher: Any = njit(**options)(function)
        dispatcher._cache = _cache_for(function) or dispatcher._cache
        return cast(F, dispatcher)  # which is called as the function is

    return decorate


def callback(signature: Any, **options: Any) -> Callable[[Function], CFunc]:
    """A decorator as `numba.cfunc`, whose code is kept."""

    def decorate(function: Function) -> CFunc:
        made: Any = CFunc(function, sigutils.normalize_signature(signature), locals={}, options=options)
        made._cache = _cache_for(function) or made._cache
        made.compile()
        return cast("CFunc", made)

    return decorate


def release_compiler() -> None:
    """Give the memory back that holds the compiler's own instructions, on Linux: tens of megabytes, of no use once all
    is compiled. Whoever compiles again has them read from their file again."""
    if sys.platform != "linux":
        return
    library, libc = Path(llvmlite.__file__).parent.as_posix(), ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        place, rights, *_, path = line.split(maxsplit=5)
        if path.startswith(library) and rights == "r-xp":  # Nothing else is sure to be as it is in the file.
            begin, end = (int(address, 16) for address in place.split("-"))
            where = ctypes.c_void_p(begin), ctypes.c_size_t(end - begin)
            libc.munlock(*where)  # What is locked cannot be given back.
            libc.madvise(*where, DONT_NEED)


def _cache_for(function: Function) -> FunctionCache | None:
    source = Path(function.__code__.co_filename)
    _ours.add(function.__module__.partition(".")[0])
    try:
        return _Cache(function) if _place(source.parent) else None
    except OSError:  # no source file, as in a frozen program
        return None


class _Locator(_CacheLocator):
    def __init__(self, function: Function, source: Path):
        self._py_file, self._lineno = str(source), function.__code__.co_firstlineno
        self._stamp = _stamp(source)

    def get_cache_path(self) -> str:
        return str(_place(Path(self._py_file).parent))

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func: Function, py_file: str) -> _Locator:
        return cls(py_func, Path(py_file))


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class _Files(IndexDataCacheFile):
    """The index of one function and its code, whose names hold the stamp: an index that was written before its code,
    by a process that died or a disk that filled up, can then not point to the code of older sources."""

    def __init__(self, cache_path: str, filename_base: str, source_stamp: str):
        super().__init__(cache_path, filename_base, source_stamp)
        self._base = filename_base
        self._data_name_pattern = f"{filename_base}.{source_stamp[:12]}.{{number:d}}.nbc"

    def _load_index(self) -> dict[Any, Any]:
        try:
            return dict(super()._load_index())
        except Exception:  # a damaged pickle raises almost anything
            return {}

    def save(self, key: Any, data: Any) -> None:
        super().save(key, data)
        for path in Path(self._cache_path).glob(f"{self._base}.*.nbc"):
            if not path.name.startswith(self._data_name_pattern.removesuffix("{number:d}.nbc")):
                path.unlink(missing_ok=True)  # of sources that are gone


class _Cache(FunctionCache):
    _impl_class = _Implementation

    def __init__(self, function: Function):
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """As numba's, which first gets ready to compile: for half a second it installs every function it knows, with
        SciPy's linear algebra if that is there. What is kept is linked and needs only the symbols of numba's run-time
        library. A compilation gets numba ready by itself."""
        try:
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception:  # damaged: compiled anew
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as problem:
            _say_once(f"{self._cache_path}: {problem.strerror or problem}")


@cache
def _place(folder: Path) -> Path | None:
    """Where code compiled from the sources of ``folder`` is kept; None if nowhere."""
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:16]}"
    chosen = config.CACHE_DIR  # type: ignore[attr-defined]
    if chosen:
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
