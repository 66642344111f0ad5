"""The configuration file sets what the command line does not say, and a mistake in it is named in one line."""

from __future__ import annotations

import json
import os
import re
import stat

import pytest

from command import call, voice, write
from rtdenoise.cli import main
from rtdenoise.cli.config import TEMPLATE, Config, config_path, load_config


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Where the file is to be; its folder does not exist yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return config_path()


def configure(path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_it_sets_what_the_command_line_does_not(path, tmp_path, capfd):
    configure(path, 'latency = "low"\n[live]\nfixed_latency = 40\n[folders]\njobs = 2\n')
    ends = ("--in", write(tmp_path / "a.wav", voice(16_000)), "--out", tmp_path / "b.wav", "--json")
    assert json.loads(call(capfd, *ends)[1])["latency_ms"] == 8
    assert json.loads(call(capfd, *ends, "--latency", "normal")[1])["latency_ms"] == 16


def test_a_flag_of_the_file_can_be_taken_back(path, tmp_path, capfd):
    configure(path, "quiet = true\n")
    ends = ("--in", write(tmp_path / "a.wav", voice(16_000)), "--out", tmp_path / "b.wav")
    assert call(capfd, *ends)[2] == ""
    assert "of audio" in call(capfd, *ends, "--no-quiet")[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("strenght = 3", "unknown key 'strenght'; did you mean 'strength'?"),
        ("[live]\nblock = 3", "[live]: unknown key 'block'; did you mean 'blocksize'?"),
        ("model = 3", "model must be str, not 3"),
        ("live = 3", "live must be a table, not 3"),
        ('[live]\nrate = "high"', "rate must be int"),
        ("latency = ", "is not valid TOML"),
        ('latency = "lowest"', "latency: 'lowest' is not normal, low, economy or a number of ms"),
        ("strength = -3", "strength: '-3.0' is out of range"),
        ("strength = nan", "strength: 'nan' is out of range"),
        ("latency = 1e9", "latency: "),
        ("[live]\nfixed_latency = inf", "[live]: fixed_latency: 'inf' is out of range"),
        ("[live]\nblocksize = -5", "[live]: blocksize: "),
        ('[live]\nworker = "nativ"', "[live]: worker: 'nativ' is not one of native, python"),
        ("[folders]\njobs = 0", "[folders]: jobs: '0' is out of range"),
        ('model = "unett"', "did you mean 'unet'?"),
        ("a = " + "[" * 20_000, "is not valid TOML"),
        ("a = " + "1" * 20_000, "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_in_one_line(path, tmp_path, capfd, text, says):
    configure(path, text)
    ends = ["--in", str(write(tmp_path / "a.wav", voice(1_000))), "--out", str(tmp_path / "b.wav")]
    code, said = main.main(ends), capfd.readouterr().err
    assert code == 2
    assert says in said
    assert str(path) in said
    assert said.count("\n") == 1


def test_the_template_is_valid_and_every_line_of_it_is_too(path):
    configure(path, TEMPLATE)
    assert load_config() == Config()
    configure(path, re.sub(r"^# (\w+ = \S+).*", r"\1", TEMPLATE, flags=re.MULTILINE))
    config = load_config()
    values = [getattr(part, name) for part in (config, config.live, config.folders) for name in vars(part)]
    assert None not in values


def test_show_path_and_edit(path, tmp_path, monkeypatch, capfd):
    assert main.main(["config", "--path"]) == 0
    assert capfd.readouterr().out == f"{path}\n"
    assert main.main(["config", "--show"]) == 0
    assert "config --edit" in capfd.readouterr().err
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "strength = 7" > "$1"\n')
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(editor))
    assert main.main(["config", "--edit"]) == 0
    assert main.main(["config", "--show"]) == 0
    assert capfd.readouterr().out == "strength = 7\n"
    assert os.listdir(path.parent) == ["config.toml"]
    monkeypatch.setenv("EDITOR", str(tmp_path / "none"))
    assert main.main(["config", "--edit"]) == 2
    assert "set EDITOR" in capfd.readouterr().err


@pytest.mark.parametrize("editor", ['"x', "", " ", "'"])
def test_an_editor_that_cannot_be_meant_is_one_line(path, monkeypatch, capfd, editor):
    monkeypatch.setenv("PATH", str(path.parent))  # no vi either
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    assert main.main(["config", "--edit"]) == 2
    said = capfd.readouterr().err
    assert "set EDITOR" in said
    assert said.count("\n") == 1


def test_a_byte_order_mark_is_no_part_of_the_file(path):
    configure(path, "\ufeffstrength = 6\n")
    assert load_config().strength == 6


def test_a_user_without_a_home_has_no_configuration(monkeypatch, capfd):
    monkeypatch.setattr("rtdenoise.cli.config.user_folder", lambda kind: None)
    assert load_config() == Config()
    assert main.main(["config", "--show"]) == 2
    assert "no home folder" in capfd.readouterr().err
