"""The wheel carries models and bench, files need no PortAudio, and dependencies go one way."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rtdenoise"


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


ORDER = """
errors atomic tables geometry signals native fft stft contract foreign model denoiser views pcm chunks flac pipes parts
metadata files sound_source transfer folders ui config catalog cli __main__
""".split()  # a module imports only modules that stand before it


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, at any depth of the code; typing-only imports do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rtdenoise"):
            base = (node.module or "").split(".")[1:]
            names |= {base[0]} if base else {alias.name for alias in node.names}
    return names & set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_arrows_go_one_way(name):
    assert imports(PACKAGE / f"{name}.py") <= set(ORDER[: ORDER.index(name)])


def test_every_module_has_its_place_in_the_order():
    assert {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"} == set(ORDER)


def test_live_imports_neither_training_nor_the_command():
    for path in (PACKAGE / "live").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "rtdenoise.training" not in text
        assert "rtdenoise.cli" not in text
