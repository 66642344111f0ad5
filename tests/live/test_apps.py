"""`--app` sends a program's streams through the filter and back to where they were, whatever ended the command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from command import COMMAND, DEADLINE_S, ROOT, wait_for
from programs import desk, pactl, playing, program, recording
from rtdenoise_bench.measure.correlation import LEVEL
from running import record, running

HEARD, RECORDED = "rtdenoise_speaker", "rtdenoise_microphone"
EARS = ("--in", "virtual-speaker", "--out", "B")


@pytest.fixture(params=["pulse_env", "pipewire_env"])
def env(request) -> dict[str, str]:
    env = request.getfixturevalue(request.param) | {"PYTHONPATH": str(ROOT)}
    pactl(env, "set-default-sink", "A")
    return env


def said(env, *argv: str) -> subprocess.CompletedProcess:
    line = [*COMMAND, *argv]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@contextmanager
def session(env, model, *argv: str) -> Iterator[subprocess.Popen]:
    with running(env, [*COMMAND, *argv, "--json", "--model", str(model)]) as process:
        record(process, lambda stats: stats["state"] == "running")
        yield process


def test_a_program_goes_through_the_filter_and_back(env, plain_path):
    with program(env, "Player", "--device=A"), program(env, "Other", "--device=A"):
        listed = map(json.loads, said(env, "apps", "--json").stdout.splitlines())
        assert [(p["name"], p["plays"], p["where"]) for p in listed] == [("Other", True, "A"), ("Player", True, "A")]
        with session(env, plain_path, *EARS, "--app", "play") as process:
            wait_for(lambda: playing(env) == {"Player": HEARD, "Other": "A"})
            record(process, lambda stats: stats["level_out_db"] == pytest.approx(20 * np.log10(LEVEL), abs=1))
        assert playing(env) == {"Player": "A", "Other": "A"}


def test_a_program_that_records_gets_the_virtual_microphone(env, plain_path):
    ends = ("--in", "A.monitor", "--out", "virtual-mic")
    with desk(env), program(env, "Recorder", "--record", "--device=desk"):
        assert recording(env) == {"Recorder": "desk"}
        with session(env, plain_path, *ends, "--app", "Recorder"):
            wait_for(lambda: recording(env) == {"Recorder": RECORDED})
        wait_for(lambda: recording(env) == {"Recorder": "desk"})


@pytest.mark.parametrize("env", ["pulse_env"], indirect=True)
def test_streams_that_come_later_are_moved_and_who_moves_one_away_is_heeded(env, plain_path):
    with program(env, "Player", "--device=A"), session(env, plain_path, *EARS, "--app", "Player"):
        stream = pactl(env, "list", "short", "sink-inputs").split()[0]
        wait_for(lambda: playing(env) == {"Player": HEARD})
        pactl(env, "move-sink-input", stream, "B")
        with program(env, "Player", "--device=A"):
            sinks = {line.split()[1]: line.split()[0] for line in pactl(env, "list", "short", "sinks").splitlines()}
            at = lambda: dict(line.split()[:2] for line in pactl(env, "list", "short", "sink-inputs").splitlines())
            wait_for(lambda: sinks[HEARD] in at().values())
            assert at()[stream] == sinks["B"]
    wait_for(lambda: HEARD not in pactl(env, "list", "short", "sinks"))


@pytest.mark.parametrize("env", ["pulse_env"], indirect=True)
def test_what_cannot_be_meant_is_one_line_with_the_list(env, plain_path):
    line = (*EARS, "--model", str(plain_path), "--app")
    none = said(env, *line, "Player")
    assert "no program plays anything now" in none.stderr
    with program(env, "Player one", "--device=A"), program(env, "Player two", "--device=A"):
        several, missing = said(env, *line, "player"), said(env, *line, "Firefox")
    for done, words in ((several, "several programs match"), (missing, "no program of this name")):
        assert words in done.stderr
        assert "Player one (plays on" in done.stderr
        assert "Player two (plays on" in done.stderr
    for done in (none, several, missing):
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
    alone = said(env, "--in", "mic", "--out", "speakers", "--app", "Player")
    assert "--app is only valid with" in alone.stderr
