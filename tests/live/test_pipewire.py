"""Through PipeWire: small and steady delay, a virtual microphone of the right level, sinks that come back."""

from __future__ import annotations

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
from rtdenoise_bench.measure import correlation, probes, recordings

ROOT = Path(__file__).resolve().parents[2]
LEAD_S = 0.5
PORTAUDIO = ("--backend", "portaudio")  # the way of other programs; tests/live/test_graph.py has the usual one
MOST_MS, STEADY_MS = 60.0, 1.0
# Of all windows, and of the clean ones. In seven runs on two cores that others used too: 0.89 to 1, and 1 always; a
# window with a stall of the host in it is not clean, and says nothing about the product.
LEAST_CLEAN, LEAST_STEADY = 0.6, 0.9


@pytest.mark.steady
def test_delay_is_small_and_steady_while_python_is_busy(pipewire_env, plain_path):
    crossing = probes.cross_pulse(pipewire_env, LEAD_S, plain_path, 2.5, *PORTAUDIO, "--hog", "python")
    delay, stats = crossing.delay(), crossing.stats
    clean = delay.ms[delay.correlation > correlation.CLEAN]
    assert delay.clean_share > LEAST_CLEAN
    assert delay.median_ms < MOST_MS
    assert np.mean(np.abs(clean - delay.median_ms) < STEADY_MS) > LEAST_STEADY
    assert abs(stats["measured_latency_ms"] - stats["latency_ms"]) < 1.5


def test_delay_is_the_same_whatever_is_exported_for_other_programs(pipewire_env, plain_path):
    exported = {"PULSE_LATENCY_MSEC": "200", "PIPEWIRE_LATENCY": "8192/48000", "PIPEWIRE_QUANTUM": "8192/48000"}
    crossing = probes.cross_pulse(pipewire_env, None, plain_path, 2, exported=exported)
    delay, stats = crossing.delay(), crossing.stats
    assert delay.median_ms < MOST_MS
    assert abs(stats["measured_latency_ms"] - stats["latency_ms"]) < 1.5


def test_devices_are_listed_under_their_server(pipewire_env):
    line = [sys.executable, "-m", "rtdenoise", "devices"]
    listed = subprocess.run(
        line, env=pipewire_env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert [row.split()[-5:] for row in listed.stdout.splitlines() if "Monitor of A" in row]
    assert "PipeWire" in listed.stdout


def test_the_virtual_microphone_is_there_at_the_level_of_its_input_and_goes(pipewire_env, plain_path):
    env = pipewire_env | {"PYTHONPATH": str(ROOT)}
    before = pactl(env, "list", "short", "sources")
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "virtual-mic", "--json"]
    with recordings.pulse_playing(env, "A", correlation.noise(30)):
        process = subprocess.Popen([*line, "--model", str(plain_path)], env=env, stdout=subprocess.PIPE, text=True)
        assert "running" in process.stdout.readline()
        assert "Description: rtdenoise microphone" in pactl(env, "list", "sources")
        hear(env, "rtdenoise_microphone")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    assert pactl(env, "list", "short", "sources").split("\n")[0].split()[:2] == before.split("\n")[0].split()[:2]
    assert "rtdenoise" not in pactl(env, "list", "short", "sources")


def test_a_sink_that_vanishes_is_taken_again(pipewire_env, plain_path):
    sink = ("load-module", "module-null-sink", "sink_name=plug", "rate=48000", "channels=1", "channel_map=mono")
    module = pactl(pipewire_env, *sink)
    playing = recordings.pulse_playing(pipewire_env, "A", correlation.noise(30))
    with playing, probes.product(pipewire_env, "A.monitor", "plug", plain_path) as product:
        time.sleep(1)
        pactl(pipewire_env, "unload-module", module)
        time.sleep(1.5)
        pactl(pipewire_env, *sink)
        hear(pipewire_env, "plug.monitor")
        stats = probes.finish(product)
    assert stats["reopened"] >= 1
    assert stats["state"] == "running"
