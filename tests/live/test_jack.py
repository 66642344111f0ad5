"""On JACK the delay is exact: to the frame, always, also after the process stood still."""

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
from rtdenoise_bench.measure import probes
from rtdenoise_bench.testbed import servers

ROOT = Path(__file__).resolve().parents[2]
BLOCK, HOP, WINDOW = 256, 192, 768
FILTER = WINDOW - HOP  # what the filter itself delays; the hop it collects is part of the buffer
BUFFER = BLOCK + HOP - 64  # a block, and what a hop may leave over


def start_probe(env: dict[str, str], seconds: float, *ports: str) -> subprocess.Popen:
    argv = [sys.executable, "-m", "rtdenoise_bench.measure.jack_probe", str(seconds), *ports]
    env = env | {"PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}"}
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)


def windows(probe: subprocess.Popen) -> np.ndarray:
    """``[time, delay in frames, correlation]`` of each window."""
    return np.array(json.loads(probe.communicate(timeout=DEADLINE_S)[0]))


@pytest.mark.steady
def test_delay_is_exact_and_survives_a_stopped_process(jack_env, plain_path):
    direct = windows(start_probe(jack_env, 1))
    with probes.product(jack_env, "system", "system", plain_path) as product:
        probe = start_probe(jack_env, 4.5, "rtdenoise:in_0", "rtdenoise:out_0")
        servers.wait_for_jack_connection(jack_env, "probe:out_0", "rtdenoise:in_0")
        time.sleep(2)
        os.kill(product.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(product.pid, signal.SIGCONT)
        continued = time.monotonic()
        through = windows(probe)
        stats = probes.finish(product)
    servers_own = np.median(direct[:, 1])
    placed = through[through[:, 2] > 0.9]
    assert len(placed) > 0.5 * len(through)
    assert np.mean(placed[:, 1] == servers_own + FILTER + BUFFER) > 0.97
    later = through[through[:, 0] > continued + 1]
    assert np.mean(later[:, 2] > 0.9) > 0.5  # a busy host tears further gaps of its own
    assert np.nanmedian(later[:, 1]) == servers_own + FILTER + BUFFER
    assert stats["latency_ms"] == stats["measured_latency_ms"] == 1000 * (FILTER + BUFFER) / 48_000
    assert stats["worker"] == "native"


def command(env: dict[str, str], *argv: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "rtdenoise", "--in", "system", "--out", "system", *argv]
    env = env | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.parametrize(("wanted_ms", "filter_ms"), [(30, 12), (20, 12), (13, 4)])
def test_a_latency_in_ms_is_reached_by_the_mode_that_allows_it(jack_env, plain_path, wanted_ms, filter_ms):
    done = command(jack_env, "--latency", str(wanted_ms), "--json", "--seconds", "0.5", "--model", str(plain_path))
    stats = json.loads(done.stdout.splitlines()[-1])
    assert stats["latency_ms"] == stats["measured_latency_ms"] == wanted_ms
    assert stats["measured_latency_ms"] - filter_ms >= 1000 * BUFFER / 48_000


def test_a_latency_that_cannot_be_reached_is_answered_by_the_smallest(jack_env, plain_path):
    done = command(jack_env, "--latency", "9", "--model", str(plain_path))
    assert done.returncode == 2
    assert "need at least 12.0 ms" in done.stderr
    assert done.stderr.count("\n") == 1
