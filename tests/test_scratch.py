"""What is under way on this machine goes with its process, and after it if it was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from command import ENVIRONMENT
from rtdenoise.io.scratch import scratch

HOLD = """
import sys
from rtdenoise.io.scratch import scratch
with scratch("held-") as folder:
    open(folder + "/sound", "w").close()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A process that has a folder, and that folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, text=True, **pipes)
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_a_folder_goes_with_its_block(tmp_path, held):
    process, folder = held
    assert (folder / "sound").exists()
    process.communicate("")
    assert not folder.exists()


def test_that_of_a_killed_process_goes_later_and_that_of_a_living_one_stays(tmp_path, held):
    process, folder = held
    with scratch("held-"):
        assert (folder / "sound").exists()
    process.kill()
    process.wait()
    assert (folder / "sound").exists()
    with scratch("other-"):
        assert (folder / "sound").exists()
    with scratch("held-") as own:
        assert not folder.exists()
        assert Path(own).is_dir()
    assert not list(tmp_path.iterdir())
