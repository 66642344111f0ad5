"""The wheel carries what runs and no more; the sdist carries everything that the wheel was made from."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from command import ENVIRONMENT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
WHEEL_LIMIT_BYTES = 10_000_000  # three models of 2.6 MB each, packed, and what a first start need not compile


def built(kind: str, folder: Path) -> Path:
    build = f"import sys, hatchling.build; print(hatchling.build.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def in_wheel(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def in_sdist(tmp_path_factory) -> set[str]:
    with tarfile.open(built("sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        return {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}


def test_wheel_carries_every_model_with_its_card(in_wheel):
    models = {p.stem for p in (ROOT / "models").glob("*.onnx")}
    assert models
    assert {f"rtdenoise/models/{name}{end}" for name in models for end in (".onnx", ".md")} <= in_wheel


def test_wheel_carries_every_module_the_panels_page_and_the_types(in_wheel):
    modules = {p.relative_to(ROOT) for p in (ROOT / "rtdenoise").rglob("*.py")}
    modules |= {p.relative_to(ROOT / "bench") for p in (ROOT / "bench/rtdenoise_bench").rglob("*.py")}
    data = {p.relative_to(ROOT) for p in (ROOT / "rtdenoise").rglob("*.toml")}
    data |= {p.relative_to(ROOT) for p in (ROOT / "rtdenoise/panel/page").rglob("*") if p.is_file()}
    assert {p.as_posix() for p in modules | data} | {"rtdenoise/py.typed"} <= in_wheel


def test_wheel_leaves_out_checkpoints_pictures_tests_and_examples(in_wheel):
    assert not [name for name in in_wheel if name.endswith((".pt", ".png", ".wav", ".mp3"))]
    assert {name.split("/")[0].split("-")[0] for name in in_wheel} == {"rtdenoise", "rtdenoise_bench"}


def test_a_first_start_from_the_wheel_compiles_nothing(wheel, tmp_path):
    """Neither a filter nor a live worker needs numba, on the kind of machine that the wheel was built on."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = """
import sys
import numpy as np
import rtdenoise
from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.live.callback import CALLBACKS
from rtdenoise.live.ring import Rings
from rtdenoise.live.worker import Worker
rtdenoise.denoise(np.zeros((1000, 2)), 44_100)
filter = HopDenoiser("unet", 16_000, 2)
worker = Worker(filter, Rings(filter.geometry.hop, 2, 16_000))
assert all(callback.address for callback in CALLBACKS.values())
print(rtdenoise.__file__, worker.kind, "numba" in sys.modules)
"""
    environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "empty")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'rtdenoise' / '__init__.py'} native False\n", done.stderr


def test_wheel_stays_light(wheel):
    assert wheel.stat().st_size <= WHEEL_LIMIT_BYTES


def test_sdist_carries_checkpoints_tests_docs_and_what_contributors_need(in_sdist):
    checkpoints = {f"models/{p.name}" for p in (ROOT / "models").glob("*.pt")}
    assert checkpoints
    wanted = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile", "docs/conf.py"}
    assert checkpoints | wanted | {"tests/test_distributions.py", "examples/noisy.wav"} <= in_sdist
