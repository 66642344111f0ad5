"""`rtdenoise service` writes, removes and looks at one unit file, with and without a systemd that answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from rtdenoise.cli import main
from rtdenoise.cli.service import UNIT, unit_path


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A `systemctl` that notes what it is asked and answers with the exit code in a file."""
    tools = tmp_path / "bin"
    tools.mkdir()
    tool = tools / "systemctl"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit $(cat {tmp_path}/code)\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def answer(code: int) -> list[str]:
        (tmp_path / "code").write_text(str(code))
        asked = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
        (tmp_path / "asked").unlink(missing_ok=True)
        return asked

    return answer


def test_install_starts_it_and_remove_ends_it(manager, capfd):
    manager(0)
    assert main.main(["service", "install"]) == 0
    unit = unit_path().read_text()
    assert f'ExecStart="{sys.executable}" -m rtdenoise --in mic --out virtual-mic\n' in unit
    assert manager(0) == ["--user daemon-reload", f"--user enable --now {UNIT}"]
    assert main.main(["service", "status"]) == 0
    assert "is installed and running" in capfd.readouterr().err
    manager(0)
    assert main.main(["service", "remove"]) == 0
    assert manager(0) == [f"--user disable --now {UNIT}", "--user daemon-reload"]
    assert os.listdir(unit_path().parent) == []
    assert main.main(["service", "status"]) == 1


def test_without_a_running_systemd_the_unit_is_written_and_the_command_said(manager, capfd):
    manager(1)
    assert main.main(["service", "install"]) == 0
    assert f"run: systemctl --user enable --now {UNIT}" in capfd.readouterr().err
    assert main.main(["service", "status"]) == 0
    assert "not running" in capfd.readouterr().err
    assert main.main(["service", "remove"]) == 0
    assert not unit_path().exists()


def test_a_unit_that_a_person_wrote_is_left_alone(manager, capfd):
    manager(0)
    unit_path().parent.mkdir(parents=True)
    unit_path().write_text("[Unit]\n")
    for action in ("install", "remove"):
        assert main.main(["service", action]) == 2
        assert "move it away" in capfd.readouterr().err
    assert unit_path().read_text() == "[Unit]\n"


def test_the_unit_is_one_that_systemd_understands(manager, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("not installed: systemd-analyze (systemd)")
    manager(0)
    main.main(["service", "install"])
    done = subprocess.run(["systemd-analyze", "verify", "--user", unit_path()], capture_output=True, text=True)
    assert "rtdenoise.service" not in done.stderr, done.stderr


def test_without_systemd_one_line_says_what_else_to_do(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main.main(["service", "install"]) == 1
    said = capfd.readouterr().err
    assert "no systemd" in said
    assert said.count("\n") == 1
