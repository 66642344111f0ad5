"""The virtual microphone exists as long as its command; a killed run leaves nothing; nobody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command import DEADLINE_S
from hearing import hear
from programs import pactl
from rtdenoise.live import server
from rtdenoise_bench.measure import correlation, recordings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def env(pulse_env) -> dict[str, str]:
    return pulse_env | {"PYTHONPATH": str(ROOT)}


def modules(env) -> list[str]:
    listed = subprocess.run(["pactl", "list", "short", "modules"], env=env, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def command(env, *argv: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "rtdenoise", *argv]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def start(env, model, *argv: str) -> subprocess.Popen:
    """A running `--out virtual-mic`, after its first record."""
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "virtual-mic", "--json", *argv]
    process = subprocess.Popen([*line, "--model", str(model)], env=env, stdout=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["state"] == "running"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_exists_while_the_command_runs(env, plain_path, number):
    before = modules(env)
    process = start(env, plain_path)
    try:
        sources = subprocess.run(
            ["pactl", "list", "sources"], env=env, capture_output=True, text=True, check=True
        ).stdout
        assert "Description: rtdenoise microphone" in sources
        assert "in use by process" in command(env, "virtual-mic", "remove").stderr
    finally:
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    assert modules(env) == before


def test_a_killed_run_is_cleared_away_by_the_next(env, plain_path):
    before = modules(env)
    process = start(env, plain_path)
    process.kill()
    process.communicate()
    assert len(modules(env)) == len(before) + 2
    assert json.loads(command(env, "virtual-mic", "status", "--json").stdout)["stale"] == 2
    again = start(env, plain_path)
    assert len(modules(env)) == len(before) + 2
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=DEADLINE_S)
    assert modules(env) == before


def test_a_killed_run_whose_parent_has_not_looked_is_dead(env, plain_path):
    """A zombie, as it stays in a container without an init, owns nothing."""
    before = modules(env)
    process = start(env, plain_path)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    said = json.loads(command(env, "virtual-mic", "status", "--json").stdout)
    removed = command(env, "virtual-mic", "remove")
    process.communicate()
    assert (said["owner"], said["stale"]) == (None, 2)
    assert removed.returncode == 0, removed.stderr
    assert modules(env) == before


def test_one_that_stays_is_made_used_and_removed(env, plain_path):
    before = modules(env)
    assert "exists" in command(env, "virtual-mic", "create").stderr
    made = modules(env)
    process = start(env, plain_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert modules(env) == made
    assert "there is no" in command(env, "virtual-mic", "remove").stderr
    assert modules(env) == before


def test_monitor_plays_it_on_the_default_output_and_goes_with_it(env, plain_path):
    before = modules(env)
    subprocess.run(["pactl", "set-default-sink", "B"], env=env, check=True)
    with recordings.pulse_playing(env, "A", correlation.noise(30)):
        process = start(env, plain_path, "--monitor")
        hear(env, "B.monitor")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
    assert modules(env) == before


@pytest.mark.parametrize("server", ["pulse_env", "pipewire_env"])
def test_it_is_heard_though_it_is_the_default_microphone(request, plain_path, server):
    """People choose it as the default; the server then moves to it who records the default before, us among them."""
    env = request.getfixturevalue(server) | {"PYTHONPATH": str(ROOT)}
    pactl(env, "set-default-source", "A.monitor")
    with recordings.pulse_playing(env, "A", correlation.noise(60)):
        for _ in range(2):  # the second time it is the default from the start
            process = start(env, plain_path)
            pactl(env, "set-default-source", "rtdenoise_microphone")
            hear(env, "rtdenoise_microphone")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE_S)
    pactl(env, "set-default-source", "A.monitor")


def test_a_monitor_that_the_input_records_is_refused(env, plain_path):
    before = modules(env)
    subprocess.run(["pactl", "set-default-sink", "A"], env=env, check=True)
    ends = ("--in", "A.monitor", "--out", "virtual-mic", "--monitor")
    answer = command(env, *ends, "--model", str(plain_path))
    assert answer.returncode == 2
    assert "a feedback loop" in answer.stderr
    assert modules(env) == before


def test_a_first_start_says_that_it_compiles_and_lists_the_microphone_when_it_sounds(env, plain_path, nearly_compiled):
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "virtual-mic", "--model", str(plain_path)]
    env = env | {"NUMBA_CACHE_DIR": nearly_compiled}
    with recordings.pulse_playing(env, "A", correlation.noise(150)):
        process = subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True)
        said = process.stderr.readline()
        assert "compiling the filter for this machine" in said
        assert "rtdenoise_sink" not in "".join(modules(env))
        until = time.monotonic() + 120
        while "rtdenoise_microphone" not in "".join(modules(env)):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        listed, heard = time.monotonic(), recordings.Recorder(env, "rtdenoise_microphone")
        time.sleep(3)
        recording = heard.stop()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    loud = np.flatnonzero(np.abs(recording.samples) > 0.01)
    assert recording.clock(loud[:1])[0] + loud[0] / correlation.RATE - listed < 2


def test_a_signal_during_start_leaves_nothing(env, plain_path):
    """At whatever moment it comes: while Python loads, while modules are made, while devices open."""
    before = modules(env)
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "virtual-mic", "--model", str(plain_path)]
    for moment in (0.0, 0.05, 0.2):  # seconds after our sink appeared
        process = subprocess.Popen(line, env=env, stderr=subprocess.PIPE)
        until = time.monotonic() + DEADLINE_S
        while len(modules(env)) == len(before) and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode in (0, 128 + signal.SIGINT)  # it may run by then, which one ends so
        assert modules(env) == before


def test_a_signal_that_comes_while_the_server_answers_waits_for_the_answer(env, monkeypatch):
    """Seen: the exception of Ctrl-C was dropped in pulsectl's callback, and with it the end of a list: it hung."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found = []

    def ask():
        with server.connection() as client:
            answer = client._pulse_info_cb

            def interrupted(*info):
                signal.raise_signal(signal.SIGINT)
                answer(*info)

            client._pulse_info_cb = interrupted
            found.extend(s.name for s in client.source_list())
            raise RuntimeError("what else goes wrong is of no interest by now")

    with pytest.raises(KeyboardInterrupt):
        ask()
    assert "A.monitor" in found
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_server_that_never_answers_can_be_left(env):
    """One that is stopped still takes connections; the first Ctrl-C waits for it, a later one does not."""
    code = """if True:
        from rtdenoise import signals
        from rtdenoise.live import server
        with signals.held():
            print("asking", flush=True)
            with server.connection():
                print("answered")
    """
    own = subprocess.run(["pgrep", "-P", str(os.getpid()), "-n", "pulseaudio"], capture_output=True, check=True)
    os.kill(int(own.stdout), signal.SIGSTOP)
    try:
        asking = subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert asking.stdout.readline() == "asking\n"
        until = time.monotonic() + DEADLINE_S
        while asking.poll() is None and time.monotonic() < until:
            asking.send_signal(signal.SIGINT)
            time.sleep(0.1)
    finally:
        os.kill(int(own.stdout), signal.SIGCONT)
    out, err = asking.communicate(timeout=DEADLINE_S)
    assert (out, asking.returncode) == ("", -signal.SIGINT)
    assert "KeyboardInterrupt" in err


def test_without_a_server_one_line_says_so(env, tmp_path):
    answer = command(env | {"PULSE_SERVER": f"unix:{tmp_path}/nothing"}, "virtual-mic", "create")
    assert answer.returncode == 1
    assert "needs PulseAudio or PipeWire" in answer.stderr
    assert answer.stderr.count("\n") == 1
