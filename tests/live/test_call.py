"""A call is cleaned in both directions by one command, and each direction is steered on its own."""

from __future__ import annotations

import argparse
import json
import subprocess

import pytest

from command import COMMAND, DEADLINE_S, ROOT, wait_for
from programs import desk, pactl, playing, program, recording
from rtdenoise.cli.call import with_configuration
from rtdenoise.errors import UsageError
from running import record, running

MICROPHONE, SPEAKER = "rtdenoise_microphone", "rtdenoise_speaker"


@pytest.fixture(params=["pulse_env", "pipewire_env"])
def env(request) -> dict[str, str]:
    """A server whose default output is B; A's monitor is the microphone."""
    env = request.getfixturevalue(request.param) | {"PYTHONPATH": str(ROOT)}
    pactl(env, "set-default-sink", "B")
    return env


def call(model, *argv: str) -> list[str]:
    return [*COMMAND, "call", "--mic", "A.monitor", "--json", "--model", str(model), *argv]


def ctl(env, *argv: str) -> subprocess.CompletedProcess:
    line = [*COMMAND, "ctl", *argv]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def is_up(stats: dict) -> bool:
    return stats["state"] == stats["ears"]["state"] == "running"


def test_one_command_cleans_both_directions_of_a_program_and_leaves_nothing(env, plain_path):
    before = pactl(env, "list", "short", "modules")
    line = call(plain_path, "--strength", "24", "--ears-strength", "12", "--app", "talk")
    with desk(env), program(env, "Talker", "--device=B"), running(env, line) as process:
        stats = record(process, is_up)
        assert (stats["strength_db"], stats["ears"]["strength_db"]) == (24, 12)
        wait_for(lambda: playing(env) == {"Talker": SPEAKER})
        with program(env, "Talker", "--record", "--device=desk"):
            wait_for(lambda: recording(env) == {"Talker": MICROPHONE})
            record(process, lambda stats: stats["ears"]["level_out_db"] > -20)
            assert ctl(env, "strength", "6", "--ears").returncode == 0
            assert ctl(env, "mute").returncode == 0
            status = json.loads(ctl(env, "status", "--json").stdout)
            assert (status["strength_db"], status["ears"]["strength_db"]) == (24, 6)
            assert (status["muted"], status["ears"]["muted"]) == (True, False)
            mine, heard = ctl(env, "status").stdout.splitlines()
            assert "rtdenoise" in mine
            assert "muted" in mine
            assert f"{process.pid} ears: rtdenoise speaker" in heard
    assert pactl(env, "list", "short", "modules") == before


def test_after_a_crash_the_next_start_puts_all_in_order_again(env, plain_path):
    before = pactl(env, "list", "short", "modules")
    with desk(env), program(env, "Talker", "--device=B"), program(env, "Talker", "--record", "--device=desk"):
        with running(env, call(plain_path, "--app", "talk", "--echo-cancel")) as process:
            stats = record(process, is_up)
            assert "without echo" in stats["input"]
            assert "echo cancelled" in stats["ears"]["output"]
            wait_for(lambda: playing(env) == {"Talker": SPEAKER} and recording(env) == {"Talker": MICROPHONE})
            process.kill()
        others = [*COMMAND, "--in", "A.monitor", "--out", "virtual-mic", "--json", "--model", str(plain_path)]
        with running(env, others) as process:
            record(process, lambda stats: stats["state"] == "running")
            wait_for(lambda: playing(env) == {"Talker": "B"} and recording(env) == {"Talker": "desk"})
            sinks = pactl(env, "list", "short", "sinks")
            assert SPEAKER not in sinks
            assert "echo" not in sinks
    assert pactl(env, "list", "short", "modules") == before


def test_the_configuration_has_a_section_for_calls(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "rtdenoise" / "config.toml"
    file.parent.mkdir()
    live = '[live]\nmonitor = true\nbackend = "portaudio"\n'
    of_call = '[call]\nmic = "USB"\nears_strength = 9\nlow_cut = 90\nlatency = "low"\necho_cancel = true\n'
    file.write_text(f"strength = 30\n{live}{of_call}")
    args = with_configuration(argparse.Namespace(argv=["--low-cut", "off", "--latency=economy"]))
    assert (args.mic, args.speakers, args.backend) == ("USB", "speakers", "portaudio")
    assert (args.strength, args.ears_strength, args.low_cut, args.latency) == (30, 9, None, "economy")
    assert args.echo_cancel is True
    file.write_text("[call]\nears_strength = -9\n")
    with pytest.raises(UsageError, match=r"config.toml \[call\]: ears_strength: '-9.0' is out of range"):
        with_configuration(argparse.Namespace(argv=[]))


@pytest.mark.parametrize("env", ["pulse_env"], indirect=True)
@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--mic", "B.monitor", "--speakers", "B"), "a feedback loop"),
        (("--mic", "noisy.wav"), "is no device"),
        (("--app", "nobody"), "no program plays or records anything now"),
        (("--ears-strength", "-1"), "out of range"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(env, plain_path, argv, says):
    done = subprocess.run(
        call(plain_path, *argv), env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
