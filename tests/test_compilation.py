"""Compiled code is kept between starts, never outlives a source it was woven from, and nothing needs it to be kept.

A package of two small modules stands for ours: one function is inlined from a file that another imports.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from command import ENVIRONMENT, ROOT, voice, write
from rtdenoise.native import code_cache, compilation
from rtdenoise.native.arguments import prepared
from rtdenoise.native.compilation import compiled
from test_layers import FILES, PUBLIC, imports

pytestmark = pytest.mark.slow

PART = """
from rtdenoise.native.arguments import prepared
from rtdenoise.native.compilation import compiled
FACTOR = {factor}
@compiled(inline="always")
def scaled(x):
    return FACTOR * x {more}
"""
WHOLE = """
from rtdenoise.native.compilation import compiled, listeners
from woven.part import scaled
told = []
listeners.append(told.append)
@compiled(nogil=True)
def run(x):
    return scaled(x)
said = f'{run(1.0)} {"compiled" if told else "kept"}'
"""
NOBODY = """
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
"""  # as in a container whose user has no entry in the list of users
START = "from woven.whole import said; print(said)"
DAC_OVERRIDE, DROP = 1, 24  # root's right to write everywhere, and prctl's number for giving a right up
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX rights")


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    (tmp_path / "woven").mkdir()
    (tmp_path / "woven" / "__init__.py").touch()
    (tmp_path / "woven" / "whole.py").write_text(WHOLE)
    edit(tmp_path)
    yield tmp_path
    for path in (tmp_path, *tmp_path.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def edit(folder: Path, factor: float = 2.0, more: str = "") -> None:
    (folder / "woven" / "part.py").write_text(PART.format(factor=factor, more=more))


@pytest.fixture
def begin(folder, monkeypatch):
    """A function that does what a start does with the package: load it, afresh."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(compilation, "listeners", [])
    memories = [f for f in vars(code_cache).values() if hasattr(f, "cache_clear")]

    def begin() -> str:
        for name in [name for name in sys.modules if name.partition(".")[0] == "woven"]:
            del sys.modules[name]
        for memory in memories:
            memory.cache_clear()
        importlib.invalidate_caches()
        return importlib.import_module("woven.whole").said

    yield begin
    for memory in memories:
        memory.cache_clear()


def start(folder: Path, code: str = START, **environment: str) -> subprocess.CompletedProcess:
    """A process without a home, unless it is given one, and without root's right to write everywhere."""
    kept = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("XDG_", "NUMBA_")) and k != "HOME"}
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
    return subprocess.run(
        [sys.executable, "-B", "-c", NOBODY + code],
        env=kept | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])} | environment,
        cwd=folder,
        preexec_fn=lambda: prctl(DROP, DAC_OVERRIDE, 0, 0, 0),
        capture_output=True,
        text=True,
    )


def test_a_second_start_compiles_nothing(begin):
    assert begin() == "2.0 compiled"
    assert begin() == "2.0 kept"


def test_what_is_kept_runs_without_the_compiler_which_still_comes_when_it_is_needed(folder):
    """Also numba's own code, which raises errors by functions that ours name without need."""
    ready = "import sys; print('numba' in sys.modules)"
    woven = "from woven.whole import run; print(run(4))"
    own = """
from numba import njit
try:
    njit(lambda x: [x][x])(4)
except IndexError:
    print("out of range")
print(sum(njit(lambda x: [x, x])(4)))"""
    code = "\n".join([START, ready, woven, own, ready])
    assert start(folder, code).stdout.split("\n") == ["2.0 compiled", "True", "8.0", "out of range", "8", "True", ""]
    assert start(folder, code).stdout.split("\n") == ["2.0 kept", "False", "8.0", "out of range", "8", "True", ""]


def test_a_second_start_of_a_filter_and_of_a_live_worker_needs_no_compiler():
    code = """
import sys
import numpy as np
from rtdenoise import denoise
from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.live.callback import CALLBACKS
from rtdenoise.live.ring import Rings
from rtdenoise.live.worker import Worker
denoise(np.zeros(1000, np.float32), 16_000)
filter = HopDenoiser("unet", 48_000)
worker = Worker(filter, Rings(filter.geometry.hop, 1, 48_000))
assert all(callback.address for callback in CALLBACKS.values())
print(worker.kind, "numba" in sys.modules)
"""
    for _ in range(2):  # The first may have to compile.
        done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "native False\n", done.stderr


def test_an_edit_of_an_inlined_function_or_constant_shows_at_once_and_old_code_goes(begin, folder):
    begin()
    edit(folder, factor=3.0)
    assert begin() == "3.0 compiled"
    edit(folder, factor=3.0, more="+ 1")
    assert begin() == "4.0 compiled"
    assert begin() == "4.0 kept"
    assert len(list(folder.rglob("*.kernel"))) == 1


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"no code" * 9, lambda b: b[:-9] + bytes(9)]
)
def test_a_damaged_cache_is_compiled_anew_and_mended(begin, folder, damage):
    begin()
    for path in folder.rglob("*.kernel"):
        path.write_bytes(damage(path.read_bytes()))
    assert begin() == "2.0 compiled"
    assert begin() == "2.0 kept"


def test_what_a_package_carries_needs_no_compiler_until_it_is_damaged_or_a_source_is_edited(begin, folder, monkeypatch):
    carried = folder / "carried"
    monkeypatch.setattr(code_cache, "SHIPPED", carried)

    def afresh(**settings: object) -> str:
        for path in folder.rglob("*.kernel"):
            path.unlink()
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setattr(compilation, name, value)
            return begin()

    afresh(shipping=True)
    assert afresh(left_as_it_is=None).startswith("2.0")
    assert begin() == "2.0 kept"
    (code,) = carried.glob("*.bc")
    content = code.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"no code"):
        code.write_bytes(damaged)
        with pytest.raises(TypeError, match="NoneType"):
            afresh(left_as_it_is=None)
        assert afresh().startswith("2.0")
    code.write_bytes(content)
    edit(folder, factor=3.0)
    assert afresh().startswith("3.0")


@POSIX
def test_a_full_disk_is_one_line_and_not_the_end(folder):
    done = start(folder, f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)); {START}")
    assert (done.returncode, done.stdout) == (0, "2.0 compiled\n"), done.stderr
    assert done.stderr.count("\n") == 1
    assert "compiled code is not kept" in done.stderr
    assert not list(folder.rglob("*.part"))


@POSIX
@pytest.mark.parametrize("home", [None, "closed", "closed/none", "/dev/null"])
def test_where_neither_sources_nor_home_can_be_written_there_is_one_line(folder, home):
    for name in ("closed", "woven", "."):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o555)
    done = start(folder, **({"HOME": str(folder / home)} if home else {}))
    assert (done.returncode, done.stdout) == (0, "2.0 compiled\n"), done.stderr
    assert done.stderr.count("\n") == 1
    assert "NUMBA_CACHE_DIR" in done.stderr


@POSIX
def test_the_users_cache_takes_what_the_sources_folder_cannot(folder):
    home = folder / "home"
    home.mkdir()
    (folder / "woven").chmod(0o555)
    for says in ("2.0 compiled\n", "2.0 kept\n"):
        done = start(folder, HOME=str(home))
        assert (done.returncode, done.stdout, done.stderr) == (0, says, "")
    (kept,) = home.rglob("*.kernel")
    assert kept.parent.stat().st_mode & 0o777 == 0o700


class Pair(NamedTuple):
    """A tuple with names, as kernels take them."""

    numbers: np.ndarray
    scale: int


@compiled(nogil=True)
def taken(a, pair, nothing, factor, others):
    total = 0.0
    for row in range(a.shape[0]):
        for column in range(a.shape[1]):
            total += a[row, column] * (row + 1)
    for k in range(pair.numbers.shape[0]):
        total += pair.numbers[k] * pair.scale
    pair.numbers[0] = total
    if nothing is None:
        total *= factor
    return total + others[0][0]


@compiled(nogil=True)
def counts(a, wanted):
    return a.shape[0], a.shape[0] == wanted


@compiled(nogil=True)
def two(a):
    return a.shape[0], a.shape[1]


@pytest.mark.parametrize("layout", [lambda a: a, lambda a: a.T.copy().T, lambda a: np.repeat(a, 2, 1)[:, ::2]])
@pytest.mark.parametrize("prepare", [lambda value: value, prepared])
def test_what_python_passes_comes_as_it_is(layout, prepare):
    a, numbers, one = np.arange(6.0).reshape(2, 3), np.array([1, 2], np.int64), np.full(1, 0.5, np.float32)
    given = prepare(layout(a)), prepare(Pair(numbers, np.int64(10))), None, 2.0, prepare((one,))
    assert taken(*given) == 2 * (3 + 2 * 12 + 30) + 0.5
    assert numbers[0] == 57  # and memory is shared
    assert two(layout(a)) == (2, 3)


def test_what_compiled_code_cannot_take_or_give_is_refused():
    with pytest.raises(TypeError, match="str"):
        two("text")
    with pytest.raises(TypeError, match="only compiled code"):
        counts(np.zeros(1), 1)


@POSIX
@pytest.mark.parametrize("fault", ["open to all", "another's"])
def test_code_is_never_taken_from_a_folder_that_others_write_in(begin, tmp_path, monkeypatch, caplog, fault):
    place = tmp_path / "place"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(place))
    monkeypatch.setattr(code_cache, "_said", [])  # a process says it once
    assert begin() == "2.0 compiled"
    assert begin() == "2.0 kept"
    if fault == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    else:
        next(place.iterdir()).chmod(0o777)
    assert begin() == "2.0 compiled"
    assert "private" in caplog.text


@POSIX
def test_files_are_filtered_where_nothing_but_the_output_can_be_written(folder):
    """Installed for another user, in a container whose user has neither home nor name."""
    shutil.copytree(ROOT / "rtdenoise", folder / "rtdenoise", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "models").symlink_to(ROOT / "models")
    out = folder / "out"
    out.mkdir()
    for name in ("a.wav", "b.wav"):
        write(folder / "in" / name, voice(8_000))
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and path != out and not path.is_symlink():
            path.chmod(0o555)
    line = ["--in", str(folder / "in"), "--out", str(out), "--jobs", "2"]
    done = start(folder, f"from rtdenoise.cli.main import main; raise SystemExit(main({line!r}))")
    assert done.returncode == 0, done.stderr
    assert len(list(out.glob("*.wav"))) == 2
    assert [text.split(":")[1][:8] for text in done.stderr.splitlines()] == [
        " warning",
        " 2 filte",
    ]  # not once a worker
    assert not list(folder.rglob("~"))


def closure(module: str) -> set[str]:
    found, waiting = {module}, [module]
    while waiting:
        path = FILES[waiting.pop()]
        for name in imports(path.read_text(encoding="utf-8"), "") - {PUBLIC} - found:
            found.add(name)
            waiting.append(name)
    return found


def compiles(path: Path) -> bool:
    words = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
    return bool(words & {"jit", "compiled", "callback"}) and path.name != "compilation.py"


@pytest.mark.parametrize("module", sorted(name for name, path in FILES.items() if compiles(path)))
def test_every_source_that_a_module_imports_counts(module, monkeypatch):
    """Two ways of reading the imports agree: by syntax tree, and the quick one at every start."""
    monkeypatch.setattr(code_cache, "_ours", {"rtdenoise", "rtdenoise_bench"})
    pytest.importorskip("rtdenoise_bench")
    for memory in (code_cache._file_of, code_cache._imported):
        memory.cache_clear()
    found, waiting = {FILES[module]}, [FILES[module]]
    while waiting:
        for path in set(code_cache._imported(waiting.pop())) - found:
            found.add(path)
            waiting.append(path)
    assert {FILES[name].resolve() for name in closure(module)} <= {p.resolve() for p in found}


def test_no_function_is_kept_by_its_own_file_alone():
    assert not [name for name, path in FILES.items() if "cache=True" in path.read_text(encoding="utf-8")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")
@pytest.mark.parametrize("locked", [False, True])
def test_the_compiler_s_memory_is_given_back_and_it_still_compiles(locked):
    """In a process of its own, which has nothing else that uses the compiler; locked as live audio locks it."""
    code = f"""
        import ctypes, pathlib
        from numba import njit
        from rtdenoise.native.machine_code import release_compiler
        from rtdenoise.live.realtime import LOCK_CURRENT, LOCK_ON_FAULT
        def held_kb():
            parts = pathlib.Path("/proc/self/smaps").read_text().split("libllvmlite.so")[1:]
            return sum(int(part.partition("Rss:")[2].split()[0]) for part in parts)
        njit(lambda x: x + 1)(1)
        if {locked}:
            ctypes.CDLL(None).mlockall(LOCK_CURRENT | LOCK_ON_FAULT)
        before = held_kb()
        release_compiler()
        print(held_kb() < before / 2, njit(lambda x: x + 2.5)(1.0))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "3.5"], done.stderr
