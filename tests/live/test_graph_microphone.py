"""In PipeWire's graph the virtual microphone is one node: no later than its filter, asleep while nobody records."""

from __future__ import annotations

import contextlib
import json
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
from rtdenoise_bench.measure import correlation, probes, recordings
from running import output_of, record, running, wait_until

ROOT = Path(__file__).resolve().parents[2]
NAME = "rtdenoise_microphone"
MOST_ASLEEP_PERCENT = 1.0
ASLEEP_S = 4.0  # A measurement of processor time, which the system counts in steps of 10 ms.
HEARD_S = 5.0  # Of 1.5 s, one stall of the host spoils a fifth.


@pytest.fixture
def env(pipewire_env) -> dict[str, str]:
    return pipewire_env | probes.import_path()


def nodes(env) -> list[dict]:
    return [n["info"] for n in json.loads(output_of(env, "pw-dump")) if n["type"].endswith("Node")]


def ours(env) -> list[str]:
    """What the graph and the server have of ours: nodes, links, modules."""
    names = [n["props"].get("node.name", "") for n in nodes(env)]
    modules = output_of(env, "pactl", "list", "short", "modules").splitlines()
    return [text for text in names + modules + output_of(env, "pw-link", "-l").splitlines() if "rtdenoise" in text]


def line(*argv: object) -> list[str]:
    return [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "virtual-mic", *map(str, argv)]


@contextlib.contextmanager
def microphone(env, *argv: object) -> Iterator[subprocess.Popen]:
    """A running session, after its first record."""
    with running(env, line("--json", *argv)) as process:
        assert json.loads(process.stdout.readline())["backend"] == "pipewire"
        yield process


def seconds_used(process: subprocess.Popen) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("recorded", [False, True], ids=["asleep", "recorded"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_is_one_node_that_goes_with_the_process(env, plain_path, number, recorded):
    assert ours(env) == []
    with microphone(env, "--model", plain_path) as process, contextlib.ExitStack() as stack:
        latency_ms = record(process, lambda s: s["asleep"])["latency_ms"]
        assert "Description: rtdenoise microphone" in output_of(env, "pactl", "list", "sources")
        assert "rtdenoise" not in output_of(env, "pactl", "list", "short", "modules")
        assert "rtdenoise" not in output_of(env, "pactl", "list", "short", "sinks")
        told = [p["ns"] for n in nodes(env) for p in n["params"].get("ProcessLatency", ()) if "ns" in p]
        assert 1e6 * latency_ms in [pytest.approx(ns, abs=1000) for ns in told]
        if recorded:
            recorder = recordings.Recorder(env, NAME)
            stack.callback(recorder.stop)
            wait_until(lambda: "parec" in output_of(env, "pw-link", "-l"))
        process.send_signal(number)
        process.wait(DEADLINE_S)
        wait_until(lambda: ours(env) == [])


@pytest.mark.steady
def test_it_sleeps_while_nobody_records_and_wakes_as_late_as_printed(env, plain_path):
    def states() -> dict[str, str]:
        return {n["props"]["node.name"]: n["state"] for n in nodes(env)}

    with microphone(env, "--model", plain_path) as process:
        asleep = record(process, lambda s: s["asleep"])
        assert {states()[name] for name in ("A", "rtdenoise", NAME)} <= {"idle", "suspended"}
        before = seconds_used(process)
        time.sleep(ASLEEP_S)
        percent = 100 * (seconds_used(process) - before) / ASLEEP_S
        assert record(process, lambda s: s["seconds"] > asleep["seconds"] + ASLEEP_S)["asleep"]
        with recordings.pulse_playing(env, "A", correlation.noise(20)):
            heard, reference = (recordings.Recorder(env, name) for name in (NAME, "A.monitor"))
            began = time.monotonic() + 0.2
            time.sleep(HEARD_S)
            delay = recordings.align(reference.stop(), heard.stop(), began, time.monotonic() - 0.3)
        stats = record(process, lambda s: s["asleep"])
    assert delay.clean_share > 0.8
    assert percent <= MOST_ASLEEP_PERCENT
    assert stats["measured_latency_ms"] == stats["latency_ms"] == asleep["latency_ms"]
    assert abs(delay.median_ms - stats["latency_ms"]) < 1000 * 128 / 48_000  # Recorders hear a cycle sooner or later.
    assert stats["device_xruns"] <= 2  # a stall of the host, not the time that was slept
    assert stats["reopened"] == 0


@pytest.mark.steady
def test_a_program_that_records_it_hears_no_more_than_the_filters_latency(env, plain_path):
    """To the sample: a node behind both the source and the microphone hears one later than the other."""
    with recordings.pulse_playing(env, "A", correlation.noise(30)), microphone(env, "--model", plain_path) as process:
        with probes.GraphProbe(env, "A", NAME) as probe:
            time.sleep(2)
            delay, _ = probe.stop()
        stats = record(process, lambda s: s["latency_ms"])
    assert delay.clean_share > 0.5
    assert delay.median_ms == pytest.approx(stats["latency_ms"], abs=1000 / 48_000)


def test_the_second_one_says_who_runs(env, plain_path):
    with microphone(env, "--model", plain_path) as process:
        second = subprocess.run(line("--model", plain_path), env=env, capture_output=True, text=True, check=False)
        status = json.loads(output_of(env, sys.executable, "-m", "rtdenoise", "virtual-mic", "status", "--json"))
    assert second.returncode == 1
    assert second.stderr.strip().endswith(f"is in use by process {process.pid}; stop that one first")
    assert second.stderr.count("\n") == 1
    assert (status["exists"], status["owner"]) == (True, process.pid)


def test_two_that_start_at_once_agree_on_one(env, plain_path):
    argv = line("--model", plain_path, "--seconds", "2", "--quiet")
    both = [subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=DEADLINE_S)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert sum("is in use by process" in text for text in said) == 1
    assert ours(env) == []


def test_monitor_plays_it_on_the_default_output(env, plain_path):
    output_of(env, "pactl", "set-default-sink", "B")
    with recordings.pulse_playing(env, "A", correlation.noise(30)), microphone(env, "--monitor", "--model", plain_path):
        hear(env, "B.monitor")
    assert ours(env) == []


def test_without_pipewires_socket_it_is_made_of_modules(env, plain_path):
    alone = env | {"PIPEWIRE_REMOTE": "nothing"}
    with subprocess.Popen(
        line("--json", "--model", plain_path), env=alone, stdout=subprocess.PIPE, text=True
    ) as process:
        stats = json.loads(process.stdout.readline())
        heard = recordings.Recorder(env, NAME)
        time.sleep(0.5)
        heard.stop()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, stats["backend"]) == (0, "pulse")
    assert "no PipeWire server responds" in stats["fallback"]
    assert ours(env) == []
