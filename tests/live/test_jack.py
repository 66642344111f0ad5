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

from rtdenoise_bench import probes

ROOT = Path(__file__).resolve().parents[2]
BLOCK, HOP, WINDOW = 256, 192, 768
FILTER = WINDOW - HOP  # what the filter itself delays; the hop it collects is part of the buffer
BUFFER = BLOCK + HOP - 64  # a block, and what a hop may leave over


def start_probe(env: dict[str, str], seconds: float, *ports: str) -> subprocess.Popen:
    argv = [sys.executable, "-m", "rtdenoise_bench.jack_probe", str(seconds), *ports]
    env = env | {"PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}"}
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)


def windows(probe: subprocess.Popen) -> np.ndarray:
    """``[time, delay in frames, correlation]`` of each window."""
    return np.array(json.loads(probe.communicate(timeout=60)[0]))


def test_delay_is_exact_and_survives_a_stopped_process(jack_env, plain_path):
    direct = windows(start_probe(jack_env, 2))
    with probes.product(jack_env, "system", "system", plain_path) as product:
        probe = start_probe(jack_env, 6, "rtdenoise:in_0", "rtdenoise:out_0")
        time.sleep(4)
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
    assert len(later)
    assert np.median(later[:, 1]) == servers_own + FILTER + BUFFER
    assert stats["budget_ms"] == stats["delay_ms"] == 1000 * (FILTER + BUFFER) / 48_000
    assert stats["worker"] == "native"
