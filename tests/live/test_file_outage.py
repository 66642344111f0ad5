"""A device that vanishes while a file is played or recorded is waited for; no sound is lost, no file half written."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import soundfile

from command import COMMAND, DEADLINE_S, ROOT
from programs import pactl
from rtdenoise_bench.measure import correlation, recordings
from running import record, running

RATE = correlation.RATE
SINK = ("load-module", "module-null-sink", "sink_name=plug", f"rate={RATE}", "channels=1", "channel_map=mono")
WAITING = "waiting for "


@pytest.fixture
def env(pipewire_env) -> dict[str, str]:
    return pipewire_env | {"PYTHONPATH": str(ROOT)}


def line(model, *argv: object) -> list[str]:
    return [*COMMAND, *map(str, argv), "--json", "--model", str(model)]


def test_a_file_goes_on_where_it_was_when_the_sink_comes_back(env, plain_path, tmp_path):
    sound = correlation.noise(60)
    soundfile.write(tmp_path / "talk.wav", sound, RATE, "FLOAT")
    heard = tmp_path / "heard.wav"
    module = pactl(env, *SINK)
    with running(env, line(plain_path, "--in", tmp_path / "talk.wav", "--out", "plug", "--tee", heard)) as process:
        record(process, lambda s: s["recorded_s"] > 0.3)
        pactl(env, "unload-module", module)
        before_s = record(process, lambda s: s["state"].startswith(WAITING))["recorded_s"]
        assert not heard.exists()
        module = pactl(env, *SINK)
        stats = record(process, lambda s: s["recorded_s"] > before_s + 1)
        assert (stats["backend"], stats["state"]) == ("pipewire", "running")
    pactl(env, "unload-module", module)
    assert process.returncode == 0
    written, _ = soundfile.read(heard, dtype="float32")
    assert len(written) / RATE > before_s + 1
    assert np.mean(np.abs(written - sound[: len(written)]) < 1e-3) > 0.95  # A stalled machine may have left a hole.


def test_a_recording_goes_on_and_is_complete_though_it_ends_in_the_wait(env, plain_path, tmp_path):
    def loud(stats: dict) -> bool:
        return stats["state"] == "running" and stats["level_out_db"] > 20 * np.log10(correlation.LEVEL) - 3

    clean, module = tmp_path / "clean.wav", pactl(env, *SINK)
    with running(env, line(plain_path, "--in", "plug.monitor", "--out", clean)) as process:
        with recordings.pulse_playing(env, "plug", correlation.noise(60)):
            record(process, loud)
            pactl(env, "unload-module", module)
            before_s = record(process, lambda s: s["state"].startswith(WAITING))["recorded_s"]
        module = pactl(env, *SINK)
        with recordings.pulse_playing(env, "plug", correlation.noise(60)):
            record(process, lambda s: loud(s) and s["recorded_s"] > before_s + 1)
            pactl(env, "unload-module", module)
            last_s = record(process, lambda s: s["state"].startswith(WAITING))["recorded_s"]
        assert os.listdir(tmp_path) != [clean.name]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    assert os.listdir(tmp_path) == [clean.name]
    sound, _ = soundfile.read(clean)
    assert len(sound) / RATE == pytest.approx(last_s, abs=0.1)
    cut = int(before_s * RATE)
    assert min(np.abs(part).max() for part in (sound[:cut], sound[cut:])) > correlation.LEVEL
