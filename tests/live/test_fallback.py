"""Where PipeWire's graph cannot carry a session, a Pulse client does; where nothing can, a line says so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import DEADLINE_S
from hearing import hear
from rtdenoise.live import backends, pipewire_library, pulse
from rtdenoise.live.devices import Device
from rtdenoise_bench.measure import correlation, probes, recordings
from rtdenoise_bench.testbed import servers
from running import record, running

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ("--backend", "pipewire")
USUAL_MS = 19.3  # as printed where cycles are of 128 frames
LONG = 1024  # frames: of a cycle that somebody forces
LEAST_SHARE = 0.8


def line(*argv: object) -> list[str]:
    return [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "B", *map(str, argv)]


def run(env: dict[str, str], *argv: object) -> subprocess.CompletedProcess:
    env = env | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(line(*argv), env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def force(env: dict[str, str], setting: str, value: int) -> None:
    argv = ["pw-metadata", "-n", "settings", "0", f"clock.force-{setting}", str(value)]
    subprocess.run(argv, env=env, capture_output=True, check=True)


@contextlib.contextmanager
def forced(env: dict[str, str], setting: str, value: int) -> Iterator[None]:
    force(env, setting, value)
    try:
        yield
    finally:
        force(env, setting, 0)


def test_a_graph_of_another_usual_rate_is_served_at_that_rate(plain_path):
    if reason := servers.missing("pipewire", "wireplumber", "pipewire-pulse", "dbus-run-session", "pactl", "parec"):
        pytest.skip(reason)
    with servers.pipewire(rate=44_100) as env, running(env, line("--json", "--model", plain_path)) as process:
        stats = record(process, lambda s: True)
    assert (stats["backend"], stats["rate"], stats["fallback"]) == ("pipewire", 44_100, None)


def test_a_graph_that_is_forced_to_another_rate_is_left_to_a_pulse_client(pipewire_env, plain_path):
    with forced(pipewire_env, "rate", 44_100), recordings.pulse_playing(pipewire_env, "A", correlation.noise(20)):
        done = run(pipewire_env, "--seconds", "2", "--model", plain_path)
        strict = run(pipewire_env, "--seconds", "2", "--model", plain_path, *GRAPH)
    assert done.returncode == 0, done.stderr
    assert "as a PulseAudio client, with more latency: PipeWire's graph runs at 44100 Hz now, not 48000" in done.stderr
    assert strict.returncode == 1
    assert strict.stderr.count("\n") == 1
    assert "44100 Hz now, not 48000" in strict.stderr


def test_a_rate_that_changes_while_it_runs_is_bridged_by_a_pulse_client(pipewire_env, plain_path):
    playing = recordings.pulse_playing(pipewire_env, "A", correlation.noise(60))
    with playing, running(pipewire_env, line("--json", "--model", plain_path)) as process:
        assert record(process, lambda s: s["latency_ms"])["backend"] == "pipewire"
        with forced(pipewire_env, "rate", 44_100):
            stats = record(process, lambda s: s["backend"] == "pulse" and s["latency_ms"])
            hear(pipewire_env, "B.monitor")
    assert "44100 Hz now" in stats["fallback"]
    assert stats["state"] == "running"
    assert stats["drift_ppm"] is not None


def test_who_insists_on_the_graph_waits_for_its_rate(pipewire_env, plain_path):
    playing = recordings.pulse_playing(pipewire_env, "A", correlation.noise(60))
    with playing, running(pipewire_env, line("--json", "--model", plain_path, *GRAPH)) as process:
        record(process, lambda s: s["latency_ms"])
        with forced(pipewire_env, "rate", 44_100):
            waiting = record(process, lambda s: s["state"].startswith("waiting: "))
            force(pipewire_env, "rate", 48_000)  # A running graph keeps the rate that it was forced to.
            again = record(process, lambda s: s["state"] == "running" and s["latency_ms"])
    assert "runs at 44100 Hz now, not 48000" in waiting["state"]
    assert again["backend"] == "pipewire"
    assert again["latency_ms"] == pytest.approx(USUAL_MS, abs=0.1)


def test_a_cycle_that_is_forced_while_it_runs_changes_the_latency_and_back(pipewire_env, plain_path):
    playing = recordings.pulse_playing(pipewire_env, "A", correlation.noise(60))
    with playing, probes.product(pipewire_env, "A.monitor", "B", plain_path, *GRAPH) as product:
        with forced(pipewire_env, "quantum", LONG):
            time.sleep(1)
            reference, heard = (recordings.Recorder(pipewire_env, f"{sink}.monitor") for sink in "AB")
            began = time.monotonic() + 0.5
            time.sleep(2.5)
            ended = time.monotonic() - 0.3
            delay = recordings.align(reference.stop(), heard.stop(), began, ended)
        time.sleep(1)
        stats = probes.finish(product)
    assert delay.clean_share > LEAST_SHARE
    assert stats["latency_ms"] == pytest.approx(USUAL_MS, abs=0.1)
    assert stats["measured_latency_ms"] == stats["latency_ms"]


def test_a_sandbox_without_pipewires_socket_is_left_to_a_pulse_client(pipewire_env, plain_path):
    with recordings.pulse_playing(pipewire_env, "A", correlation.noise(20)):
        done = run(pipewire_env | {"PIPEWIRE_REMOTE": "nothing"}, "--seconds", "2", "--model", plain_path)
    assert done.returncode == 0, done.stderr
    assert "as a PulseAudio client, with more latency: no PipeWire server responds" in done.stderr


def test_without_the_library_a_pulse_client_carries_the_sound(monkeypatch):
    ends = (Device(1, name, "PipeWire", 1, 1, 48_000, 0, name) for name in "AB")
    monkeypatch.setattr(pipewire_library, "library", lambda: None)
    monkeypatch.setattr(backends, "common_rate", lambda source, target, rate: 48_000)
    monkeypatch.setattr(pulse, "usual_rate", lambda: 48_000)
    route = backends.find_route(*ends)
    assert route.backend == "pulse"
    assert "is not installed" in route.reason


def test_without_a_session_manager_a_line_says_so(plain_path):
    """A server of its own, whose session manager ends; PortAudio would wait for ever."""
    with servers.pipewire() as env:
        for pid in servers.processes("wireplumber", env):
            os.kill(pid, signal.SIGKILL)
        for backend in (), ("--backend", "portaudio"):
            done = run(env, "--seconds", "2", "--model", plain_path, *backend)
            assert done.returncode == 1
            assert done.stderr.count("\n") == 1
            assert "wireplumber" in done.stderr
