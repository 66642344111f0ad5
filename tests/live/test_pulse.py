"""Through a PulseAudio server: the delay is small and stays, whatever holds the GIL, stops the process, or unplugs."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from hearing import hear
from programs import pactl
from rtdenoise_bench.measure import correlation, probes, recordings
from rtdenoise_bench.measure.correlation import Delay

LEAD_S = 0.5
BACK_S = 10.0  # while other tests have the processors: a second or two without
MOST_MS, STEADY_MS = 60.0, 1.0
FOR_OTHERS = {"PULSE_LATENCY_MSEC": "200", "PULSE_SINK": "A", "PULSE_SOURCE": "B.monitor"}


@pytest.mark.steady
@pytest.mark.parametrize(
    ("argv", "exported"),
    [(("--hog", "python"), {}), (("--hog", "c"), {}), (("--latency", "economy"), {}), ((), FOR_OTHERS)],
    ids=["python-hog", "c-hog", "economy", "exported-for-other-programs"],
)
def test_delay_is_small_and_steady(pulse_env, plain_path, argv, exported):
    crossing = probes.cross_pulse(pulse_env, LEAD_S, plain_path, 2, *argv, exported=exported)
    delay, stats = crossing.delay(), crossing.stats
    assert delay.clean_share > 0.7  # the host itself stalls now and then
    assert delay.median_ms < MOST_MS
    assert np.mean(np.abs(delay.placed - delay.median_ms) < STEADY_MS) > 0.9
    assert abs(stats["measured_latency_ms"] - stats["latency_ms"]) < 1.5


@pytest.mark.steady
def test_delay_returns_after_the_process_stood_still(pulse_env, plain_path):
    def stop(product) -> None:
        os.kill(product.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(product.pid, signal.SIGCONT)

    crossing = probes.cross_pulse(pulse_env, LEAD_S, plain_path, 4, during=stop)
    delay, stats, continued = crossing.delay(), crossing.stats, crossing.done
    before = Delay(*(v[delay.at_s < continued - 0.7] for v in (delay.at_s, delay.ms, delay.correlation)))
    after = delay.after(continued + 1.0)
    assert abs(after.median_ms - before.median_ms) < 2.5  # the server's own buffers may settle a block elsewhere
    assert abs(stats["measured_latency_ms"] - stats["latency_ms"]) < 1.5


def test_a_sink_that_vanishes_is_taken_again(pulse_env, plain_path):
    sink = ("load-module", "module-null-sink", "sink_name=plug", "rate=48000", "channels=1")
    module = pactl(pulse_env, *sink)
    playing = recordings.pulse_playing(pulse_env, "A", correlation.noise(30))
    with playing, probes.product(pulse_env, "A.monitor", "plug", plain_path) as product:
        time.sleep(1)
        pactl(pulse_env, "unload-module", module)
        time.sleep(1.5)
        pactl(pulse_env, *sink)
        back = time.monotonic()
        recording = hear(pulse_env, "plug.monitor")
        stats = probes.finish(product)
    assert stats["reopened"] == 1
    assert stats["state"] == "running"
    loud = np.flatnonzero(np.abs(recording.samples) > 0.01)
    first = recording.clock(loud[:1])[0] + loud[0] / correlation.RATE
    assert first - back < BACK_S
