"""The wheel carries models and bench, and files need no PortAudio."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(zipfile.ZipFile(next(folder.glob("*.whl"))).namelist())


def test_wheel_carries_every_model_with_its_card(wheel):
    shipped = {p.name for p in (ROOT / "models").iterdir() if p.suffix in (".onnx", ".md")}
    assert any(name.endswith(".onnx") for name in shipped)
    assert {f"rtdenoise/models/{name}" for name in shipped} <= wheel


def test_wheel_carries_bench_types_and_commands_and_no_tests(wheel):
    assert {"rtdenoise/py.typed", "rtdenoise_bench/cli.py", "rtdenoise/cli.py"} <= wheel
    assert not [name for name in wheel if name.startswith(("tests/", "examples/"))]


def test_files_and_arrays_work_without_portaudio():
    """sounddevice fails to import where libportaudio is missing; nothing but live audio may touch it."""
    code = (
        "import sys; sys.modules['sounddevice'] = None\n"
        "import numpy as np, rtdenoise, rtdenoise.cli, rtdenoise.folders\n"
        "assert rtdenoise.denoise(np.zeros(1000, np.float32), 16_000).shape == (1000,)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
