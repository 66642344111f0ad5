"""A session as a node of PipeWire's graph: half the latency, as printed; gone with its process; errors in lines."""

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
import soundfile

from command import DEADLINE_S
from hearing import hear
from programs import pactl
from rtdenoise.errors import DeviceError
from rtdenoise.live import pipewire, pipewire_library
from rtdenoise_bench.measure import correlation, probes, recordings
from rtdenoise_bench.testbed import servers
from running import running, wait_until

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ("--backend", "pipewire")
SAMPLE_MS = 1000 / 48_000
# Of windows of 0.1 s, and of what is lost: a stall of the host costs some cycles, in one of six runs on two idle cores.
LEAST_SHARE, MOST_DROPOUT_MS = 0.8, 60.0
FILTER_MS = {"normal": 16.0, "low": 8.0}
MOST_MS = {"normal": 26.0, "low": 18.0}


def rtdenoise(env: dict[str, str], *argv: object, source: str = "A.monitor") -> list[str]:
    return [sys.executable, "-m", "rtdenoise", "--in", source, *map(str, argv)]


def run(env: dict[str, str], *argv: object) -> subprocess.CompletedProcess:
    env = env | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        rtdenoise(env, *argv), env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def links(env: dict[str, str]) -> str:
    return subprocess.run(["pw-link", "-l"], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.steady
@pytest.mark.parametrize(("mode", "hog"), [("low", ()), ("normal", ("--hog", "python"))], ids=["low", "python-hog"])
def test_latency_is_half_of_portaudios_and_as_printed(pipewire_env, plain_path, mode, hog):
    crossing = probes.across_graph(pipewire_env, plain_path, 2.5, *GRAPH, "--latency", mode, *hog)
    delay, stats = crossing.delay, crossing.stats
    assert delay.clean_share > LEAST_SHARE
    assert FILTER_MS[mode] < delay.median_ms < MOST_MS[mode]
    assert stats["latency_ms"] == stats["measured_latency_ms"]
    assert delay.median_ms == pytest.approx(stats["latency_ms"], abs=SAMPLE_MS)
    clean = delay.ms[delay.correlation > correlation.CLEAN]
    assert np.ptp(clean) < SAMPLE_MS  # The graph has one clock.
    assert stats["backend"] == "pipewire"
    assert stats["drift_ppm"] is None


@pytest.mark.steady
@pytest.mark.parametrize("quantum", [64, 1024])
def test_sound_is_whole_whatever_the_graph_usually_runs_at(plain_path, quantum):
    if reason := servers.missing("pipewire", "wireplumber", "pipewire-pulse", "dbus-run-session", "pactl", "pacat"):
        pytest.skip(reason)
    with servers.pipewire(quantum=quantum) as env:
        crossing = probes.across_graph(env, plain_path, 2, *GRAPH)
    assert crossing.stats["block_in"] == 128  # what the session asks for
    assert crossing.stats["dropout_ms"] < MOST_DROPOUT_MS
    assert crossing.delay.clean_share > LEAST_SHARE


@pytest.mark.steady
def test_latency_returns_after_the_process_stood_still(pipewire_env, plain_path):
    def stand_still(product: subprocess.Popen) -> None:
        os.kill(product.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(product.pid, signal.SIGCONT)

    crossing = probes.across_graph(pipewire_env, plain_path, 4, *GRAPH, during=stand_still)
    after, stats = crossing.delay.after(crossing.done + 0.5), crossing.stats
    assert after.clean_share > 0.9
    assert after.median_ms == pytest.approx(stats["latency_ms"], abs=SAMPLE_MS)
    assert stats["measured_latency_ms"] == stats["latency_ms"]
    assert stats["state"] == "running"


def test_the_virtual_microphone_is_heard_at_the_level_of_its_input(pipewire_env, plain_path):
    env = pipewire_env | {"PYTHONPATH": str(ROOT)}
    line = rtdenoise(env, "--out", "virtual-mic", "--json", "--model", plain_path, *GRAPH)
    with recordings.pulse_playing(env, "A", correlation.noise(30)):
        process = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True)
        assert "running" in process.stdout.readline()
        hear(env, "rtdenoise_microphone")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert "rtdenoise" not in links(env)


@pytest.mark.parametrize(("played", "channels"), [("wide", 1), ("wide", 2), ("rtdenoise_speaker", 1)])
def test_a_side_alone_is_heard_in_the_mean_of_both(pipewire_env, plain_path, played, channels):
    """As sound servers mix down: on the way into a session of one channel, and from one of two to an output of one."""
    env = pipewire_env | {"PYTHONPATH": str(ROOT)}
    module = pactl(env, "load-module", "module-null-sink", "sink_name=wide", "rate=48000", "channels=2")
    right = np.stack([0 * (x := correlation.noise(20)), x], axis=1)
    argv = "--out", "B", "--channels", str(channels), "--json", "--model", str(plain_path), *GRAPH
    line = rtdenoise(env, *argv, source="virtual-speaker" if "speaker" in played else "wide.monitor")
    with running(env, line) as process:
        assert "running" in process.stdout.readline()
        with recordings.pulse_playing(env, played, right):
            hear(env, "B.monitor", correlation.LEVEL / 2)
    pactl(env, "unload-module", module)


@pytest.mark.parametrize(("output", "heard_at"), [("B", "B.monitor"), ("virtual-mic", "rtdenoise_microphone")])
def test_a_file_is_played_to_its_end_by_a_node(pipewire_env, plain_path, tmp_path, output, heard_at):
    soundfile.write(tmp_path / "a.wav", correlation.noise(4), 48_000, "FLOAT")
    env = pipewire_env | {"PYTHONPATH": str(ROOT)}
    line = rtdenoise(env, "--out", output, "--json", "--model", plain_path, source=str(tmp_path / "a.wav"))
    with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["backend"] == "pipewire"
        heard = recordings.Recorder(env, heard_at)
        assert process.wait(DEADLINE_S) == 0
        last = json.loads(process.stdout.read().splitlines()[-1])
        y = heard.stop().samples
    assert last["file_problem"] is None
    assert last["seconds"] > 4
    levels = np.std(y[: len(y) // 4800 * 4800].reshape(-1, 4800), axis=1)
    assert np.median(levels[levels > correlation.LEVEL / 2]) == pytest.approx(correlation.LEVEL, rel=0.1)
    assert "rtdenoise" not in links(env)


def test_a_node_records_a_file(pipewire_env, plain_path, tmp_path):
    path = tmp_path / "a.wav"
    with recordings.pulse_playing(pipewire_env, "A", correlation.noise(30)):
        done = run(pipewire_env, "--out", path, "--seconds", "1.5", "--json", "--model", plain_path, *GRAPH)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["backend"] == "pipewire"
    sound, rate = soundfile.read(path)
    assert rate == 48_000
    assert len(sound) == pytest.approx(1.5 * rate, abs=0.4 * rate)
    assert np.std(sound[rate // 2 :]) == pytest.approx(correlation.LEVEL, rel=0.1)


def test_a_file_that_the_graph_cannot_play_is_left_to_a_pulse_client_which_says_why(pipewire_env, plain_path, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(22_050), 44_100)
    env = pipewire_env | {"PYTHONPATH": str(ROOT)}
    line = rtdenoise(env, "--out", "B", "--json", "--model", plain_path, source=str(tmp_path / "a.wav"))
    done, strict = (
        subprocess.run([*line, *more], env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        for more in ((), GRAPH)
    )
    assert (done.returncode, strict.returncode) == (0, 2)
    stats = json.loads(done.stdout.splitlines()[-1])
    assert (stats["backend"], stats["fallback"]) == ("pulse", "PipeWire's graph runs at 48000 Hz, not 44100")
    assert "graph runs at 48000 Hz, not 44100; use --backend portaudio" in strict.stderr


def test_a_killed_process_leaves_no_node_and_no_link(pipewire_env, plain_path):
    before = links(pipewire_env)
    with probes.product(pipewire_env, "A.monitor", "B", plain_path, *GRAPH) as product:
        wait_until(lambda: links(pipewire_env).count("rtdenoise:") == 4)
        product.kill()
        product.wait()
        wait_until(lambda: "rtdenoise" not in links(pipewire_env))
    assert links(pipewire_env) == before


def test_a_sink_that_vanishes_is_taken_again(pipewire_env, plain_path):
    sink = ("load-module", "module-null-sink", "sink_name=plug", "rate=48000", "channels=1", "channel_map=mono")
    module = pactl(pipewire_env, *sink)
    playing = recordings.pulse_playing(pipewire_env, "A", correlation.noise(30))
    with playing, probes.product(pipewire_env, "A.monitor", "plug", plain_path, *GRAPH) as product:
        pactl(pipewire_env, "unload-module", module)
        wait_until(lambda: "rtdenoise" not in links(pipewire_env))
        module = pactl(pipewire_env, *sink)
        wait_until(lambda: links(pipewire_env).count("rtdenoise:") == 4)
        hear(pipewire_env, "plug.monitor")
        stats = probes.finish(product)
    pactl(pipewire_env, "unload-module", module)
    assert stats["reopened"] >= 1
    assert stats["state"] == "running"


def test_what_is_exported_for_other_programs_changes_nothing(pipewire_env, plain_path):
    exported = {"PIPEWIRE_LATENCY": "8192/48000", "PIPEWIRE_QUANTUM": "8192/48000", "PIPEWIRE_NODE": "A"}
    done = run(pipewire_env | exported, "--out", "B", "--seconds", "1", "--json", "--model", plain_path, *GRAPH)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["block_in"] == 128


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--out", "B", "--rate", "44100"), "graph runs at 48000 Hz, not 44100"),
        (("--out", "B", "--channels", "3"), "at most 2 channels"),
    ],
)
def test_what_the_graph_does_not_do_is_said_in_a_line(pipewire_env, plain_path, argv, said):
    done = run(pipewire_env, *argv, "--model", plain_path, *GRAPH)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_device_of_another_server_is_refused_in_a_line(pulse_env, plain_path):
    done = run(pulse_env, "--out", "B", "--model", plain_path, *GRAPH)
    assert done.returncode == 2
    assert "use --backend portaudio" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_server_or_a_library_a_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    if pipewire_library.library() is not None:
        with pytest.raises(DeviceError, match="no PipeWire server responds"):
            pipewire.Connection()
    monkeypatch.setattr(pipewire_library, "library", lambda: None)
    with pytest.raises(DeviceError, match="is not installed; use --backend portaudio"):
        pipewire.Connection()


def test_a_server_that_ends_is_noticed(pipewire_env, plain_path):
    """The last of this file: its server is gone afterwards."""
    with probes.product(pipewire_env, "A.monitor", "B", plain_path, *GRAPH) as product:
        for pid in servers.processes("pipewire", pipewire_env):
            os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        stats = probes.finish(product)
    assert stats["state"].startswith("waiting for")
