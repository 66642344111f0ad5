"""A sound server that ends is taken again once it is back, however long it was away, and so is what we made in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from command import DEADLINE_S
from hearing import hear
from programs import pactl
from rtdenoise_bench.measure import correlation, probes, recordings
from rtdenoise_bench.testbed import servers
from running import wait_until

ROOT = Path(__file__).resolve().parents[2]
BACK_S = 10.0  # from the server's return to sound, while other tests have the processors: a second or two without


@contextmanager
def command(env, *argv: object) -> Iterator[subprocess.Popen]:
    """A running session, after its first record; ended in order."""
    line = [sys.executable, "-m", "rtdenoise", *map(str, argv), "--json"]
    env = env | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            first = process.stdout.readline()
            assert first, process.stderr.read()
            assert json.loads(first)["state"] == "running"
            yield process
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE_S)
            assert process.returncode == 0, err
            assert json.loads(out.splitlines()[-1])["state"] == "running"
            assert json.loads(out.splitlines()[-1])["reopened"] >= 1
        finally:
            process.kill()


def seconds_until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    wait_until(condition)
    return time.monotonic() - began


def heard_after(env, source: str) -> float:
    """Seconds from now to the first sound of ``source`` while noise plays on A, which is heard at its level then."""
    back = time.monotonic()
    with recordings.pulse_playing(env, "A", correlation.noise(30), times=4):
        recording = hear(env, source)
    loud = np.flatnonzero(np.abs(recording.samples) > 0.01)
    return recording.clock(loud[:1])[0] + loud[0] / correlation.RATE - back


def end(name: str, env) -> None:
    for pid in servers.processes(name, env):
        os.kill(pid, signal.SIGKILL)
    seconds_until(lambda: not servers.processes(name, env))


def microphone(env) -> str | None:
    """The server's number of it."""
    answer = subprocess.run(["pactl", "list", "short", "sources"], env=env, capture_output=True, text=True, check=False)
    return next((s.split()[0] for s in answer.stdout.splitlines() if s.split()[1] == "rtdenoise_microphone"), None)


@pytest.mark.parametrize("outage_s", [0.2, 2.5, 6.0])
def test_sinks_and_sources_are_taken_again(plain_path, outage_s):
    with servers.pulseaudio() as env, command(env, "--in", "A.monitor", "--out", "B", "--model", plain_path):
        end("pulseaudio", env)
        time.sleep(outage_s)
        with servers.pulseaudio_again(env):
            assert heard_after(env, "B.monitor") < BACK_S


@pytest.mark.parametrize("outage_s", [0.2, 2.5])
def test_the_virtual_microphone_is_made_anew_and_goes_at_the_end(plain_path, outage_s):
    with servers.pulseaudio() as env:
        pactl(env, "set-default-sink", "B")
        ends = ("--in", "A.monitor", "--out", "virtual-mic", "--monitor", "--model", plain_path)
        with command(env, *ends):
            end("pulseaudio", env)
            time.sleep(outage_s)
            again = servers.pulseaudio_again(env)
            again.__enter__()
            assert seconds_until(lambda: microphone(env) is not None) < BACK_S
            assert heard_after(env, "rtdenoise_microphone") < BACK_S
            assert "module-loopback" in pactl(env, "list", "short", "modules")
        left = pactl(env, "list", "short", "modules")
        again.__exit__(None, None, None)
        assert "rtdenoise" not in left


@pytest.mark.parametrize("part", ["rtdenoise_sink", "rtdenoise_microphone"])
def test_a_virtual_microphone_that_somebody_unloads_is_made_anew(pulse_env, plain_path, part):
    before = pactl(pulse_env, "list", "short", "modules")
    with command(pulse_env, "--in", "A.monitor", "--out", "virtual-mic", "--model", plain_path):
        modules = [m.split("\t") for m in pactl(pulse_env, "list", "short", "modules").splitlines()]
        (number,) = (m[0] for m in modules if f"k_name={part} " in m[2] or f"e_name={part} " in m[2])
        old = microphone(pulse_env)
        pactl(pulse_env, "unload-module", number)
        assert seconds_until(lambda: microphone(pulse_env) not in (None, old)) < BACK_S
        heard_after(pulse_env, "rtdenoise_microphone")
    assert pactl(pulse_env, "list", "short", "modules") == before


@pytest.mark.parametrize("outage_s", [0.2, 2.5])
def test_a_restart_of_pipewires_pulse_server_is_survived(plain_path, outage_s):
    if reason := servers.missing("pipewire", "wireplumber", "pipewire-pulse", "dbus-run-session", "pactl", "parec"):
        pytest.skip(reason)
    with servers.pipewire() as env:
        with command(env, "--in", "A.monitor", "--out", "virtual-mic", "--model", plain_path):
            end("pipewire-pulse", env)
            time.sleep(outage_s)
            again = servers.pipewire_pulse_again(env)
            again.__enter__()
            assert seconds_until(lambda: microphone(env) is not None) < BACK_S
            heard_after(env, "rtdenoise_microphone")
        left = microphone(env)
        again.__exit__(None, None, None)
        assert left is None


def test_the_watching_thread_opens_one_connection_and_keeps_it(pulse_env, plain_path):
    clients = lambda: {c.split()[0] for c in pactl(pulse_env, "list", "short", "clients").splitlines()}
    with probes.product(pulse_env, "A.monitor", "B", plain_path) as product:
        time.sleep(1)
        seen = [clients() for _ in range(2)]
        own = set.intersection(*seen)  # each pactl is one of its own
        began = max(map(int, seen[-1]))
        time.sleep(4)
        last = clients()
        assert own <= last
        assert max(map(int, last)) == began + 1  # that last pactl
        assert probes.finish(product)["state"] == "running"
