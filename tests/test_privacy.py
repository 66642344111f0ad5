"""Nothing leaves the machine, and nothing about it is written down: no identifier, no data base, no connection."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import ENVIRONMENT, ROOT, voice, write
from rtdenoise.native.code_cache import SUFFIX

pytestmark = pytest.mark.slow

SESSIONS = """
import time
from rtdenoise.model.native_session import NativeSteps
from rtdenoise.model.registry import load_model
model = load_model("unet")
steps = NativeSteps(model, model.stream(1))
time.sleep(11)  # onnxruntime 1.32 would look for its collector some 9 s after it was loaded
steps.close()
"""


def run(home: Path, *line: str, **environment: str) -> subprocess.CompletedProcess:
    """A program with a fresh home, and without what this shell says of caches and telemetry."""
    kept = {k: v for k, v in ENVIRONMENT.items() if not k.startswith("XDG_") and k != "ORT_DISABLE_TELEMETRY"}
    return subprocess.run(line, env=kept | {"HOME": str(home)} | environment, capture_output=True, text=True)


def files_of(home: Path) -> list[str]:
    return [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file() and p.suffix != SUFFIX]


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("options", [(), ("--jobs", "2")], ids=["here", "in worker processes"])
def test_filtering_files_writes_nothing_into_the_home(tmp_path, home, options):
    for name in ("a.wav", "b.wav"):
        write(tmp_path / "in" / name, voice(16_000))
    ends = ("--in", f"{tmp_path}/in", "--out", f"{tmp_path}/out")
    done = run(home, sys.executable, "-m", "rtdenoise", *ends, *options)
    assert done.returncode == 0, done.stderr
    assert files_of(home) == []


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is missing: apt install strace")
def test_sessions_of_both_kinds_open_no_connection(tmp_path, home):
    calls = tmp_path / "calls"
    done = run(home, "strace", "-f", "-e", "trace=socket", "-o", str(calls), sys.executable, "-c", SESSIONS)
    assert done.returncode == 0, done.stderr
    assert "AF_INET" not in calls.read_text()
    assert files_of(home) == []


def test_what_a_user_has_set_stays(home):
    name = "ORT_DISABLE_TELEMETRY"
    code = (
        f"import os; from rtdenoise.model.onnx_runtime import onnxruntime; onnxruntime(); print(os.environ[{name!r}])"
    )
    assert run(home, sys.executable, "-c", code).stdout == "1\n"
    assert run(home, sys.executable, "-c", code, **{name: "true"}).stdout == "true\n"


def test_every_module_loads_onnxruntime_through_the_one_place():
    """Whoever imports it first decides."""
    files = [p for folder in ("rtdenoise", "bench") for p in (ROOT / folder).rglob("*.py")]
    others = [p.read_text(encoding="utf-8") for p in files if p.name != "onnx_runtime.py"]
    lines = [line for text in others for line in text.splitlines()]
    assert not [line for line in lines if line.lstrip().startswith("import onnxruntime")]
    assert not [line for line in lines if line.startswith("from onnxruntime")]  # indented: for the type checker
