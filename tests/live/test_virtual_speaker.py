"""The virtual speaker: programs sent there are heard cleaned, soon; it goes with its command, whatever ended that."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import DEADLINE_S, wait_for
from hearing import hear
from programs import pactl, playing, program
from rtdenoise_bench.measure import correlation, recordings
from running import output_of, record

ROOT = Path(__file__).resolve().parents[2]
SINK = "rtdenoise_speaker"
MOST_MS, LEAST_CLEAN = 30.0, 0.8


@pytest.fixture(params=["pulse_env"])
def env(request) -> dict[str, str]:
    """A server whose default output is B."""
    env = request.getfixturevalue(request.param) | {"PYTHONPATH": str(ROOT)}
    pactl(env, "set-default-sink", "B")
    return env


both = pytest.mark.parametrize("env", ["pulse_env", "pipewire_env"], indirect=True)
on_pipewire = pytest.mark.parametrize("env", ["pipewire_env"], indirect=True)


def modules(env) -> list[str]:
    return pactl(env, "list", "short", "modules").splitlines()


def line(model, *argv: str, ends=("--in", "virtual-speaker", "--out", "speakers")) -> list[str]:
    return [sys.executable, "-m", "rtdenoise", *ends, "--json", "--model", str(model), *argv]


def refused(env, model, *argv: str, **ends) -> subprocess.CompletedProcess:
    done = subprocess.run(
        line(model, *argv, **ends), env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    return done


def said(env, command: str) -> subprocess.CompletedProcess:
    argv = [sys.executable, "-m", "rtdenoise", command]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@contextmanager
def running(env, model, *argv: str, **ends) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        line(model, *argv, **ends), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        first = process.stdout.readline()
        assert first, process.stderr.read()
        assert json.loads(first)["state"] == "running"
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)


@both
def test_what_programs_play_there_is_heard_on_the_loudspeakers(env, plain_path):
    before = modules(env)
    with running(env, plain_path) as process:
        assert "Description: rtdenoise speaker" in pactl(env, "list", "sinks")
        with recordings.pulse_playing(env, SINK, correlation.noise(20)):
            hear(env, "B.monitor")
    assert process.returncode == 0
    assert modules(env) == before


@on_pipewire
@pytest.mark.steady
def test_it_is_heard_within_thirty_milliseconds(env, plain_path, capsys):
    with running(env, plain_path) as process, recordings.pulse_playing(env, SINK, correlation.noise(20)):
        heard, reference = (recordings.Recorder(env, f"{sink}.monitor") for sink in ("B", SINK))
        began = time.monotonic() + 1
        time.sleep(4)
        ended = time.monotonic()
        time.sleep(0.5)
        delay = recordings.align(reference.stop(), heard.stop(), began, ended - 0.3)
        process.send_signal(signal.SIGINT)
        stats = json.loads(process.communicate(timeout=DEADLINE_S)[0].splitlines()[-1])
    with capsys.disabled():
        print(f"\nvirtual speaker to loudspeakers: {delay.median_ms:.1f} ms, printed {stats['latency_ms']:.1f} ms")
    assert stats["backend"] == "pipewire"
    assert delay.clean_share > LEAST_CLEAN
    assert delay.median_ms <= MOST_MS


@pytest.mark.parametrize("by", ["the next start", "the list of programs"])
def test_a_killed_run_is_cleared_away_by(env, plain_path, by):
    before = modules(env)
    with program(env, "Player", "--device=A"):
        with running(env, plain_path, "--app", "Player") as process:
            wait_for(lambda: playing(env) == {"Player": SINK})
            process.kill()
        assert len(modules(env)) == len(before) + 1
        if by == "the next start":
            with running(env, plain_path):
                assert len(modules(env)) == len(before) + 1
        else:
            assert "a killed session left a virtual device" in said(env, "doctor").stdout
            assert "a killed session had left" in said(env, "apps").stderr
            assert said(env, "apps").stderr == ""
        assert modules(env) == before
        assert playing(env) == {"Player": "A"}


@on_pipewire
def test_a_killed_run_leaves_nothing_and_its_programs_are_heard(env, plain_path):
    """By the server alone, without another start: the speaker is a node that goes with the process."""
    before = modules(env)
    with program(env, "Player", "--device=A"), running(env, plain_path, "--app", "Player") as process:
        wait_for(lambda: playing(env) == {"Player": SINK})
        process.kill()
        process.wait()
        wait_for(lambda: playing(env) == {"Player": "B"})  # the default
        assert SINK not in pactl(env, "list", "short", "sinks")
        wait_for(lambda: "rtdenoise" not in output_of(env, "pw-link", "-l"))
        assert modules(env) == before
        with running(env, plain_path):
            assert playing(env) == {"Player": "A"}  # where it was


@on_pipewire
def test_programs_stay_there_while_the_loudspeakers_are_away(env, plain_path):
    number = lambda: [s.split()[0] for s in pactl(env, "list", "short", "sinks").splitlines() if SINK in s]
    plug = ("load-module", "module-null-sink", "sink_name=plug")
    module = pactl(env, *plug)
    with running(env, plain_path, ends=("--in", "virtual-speaker", "--out", "plug")) as process:
        wait_for(number)
        before = number()
        pactl(env, "unload-module", module)
        record(process, lambda stats: stats["state"].startswith("waiting for plug"))
        assert number() == before
        module = pactl(env, *plug)
        record(process, lambda stats: stats["state"] == "running")
        assert number() == before
    pactl(env, "unload-module", module)


def test_a_second_one_says_who_runs_and_a_microphone_may_run_beside_it(env, plain_path):
    before = modules(env)
    with running(env, plain_path) as process:
        assert f"in use by process {process.pid}" in refused(env, plain_path).stderr
        other = line(plain_path, "--seconds", "1", ends=("--in", "A.monitor", "--out", "virtual-mic"))
        assert subprocess.run(other, env=env, capture_output=True, timeout=DEADLINE_S, check=False).returncode == 0
        assert SINK in pactl(env, "list", "short", "sinks")
    assert modules(env) == before


def test_it_plays_on_though_it_is_the_default_output(env, plain_path):
    """People choose it as the default; the server then moves to it who plays to the default before, us among them."""
    for _ in range(2):  # the second time it is the default from the start
        ends = running(env, plain_path, ends=("--in", "virtual-speaker", "--out", "B"))
        with ends, recordings.pulse_playing(env, SINK, correlation.noise(20)):
            pactl(env, "set-default-sink", SINK)
            hear(env, "B.monitor")
    pactl(env, "set-default-sink", "B")


@on_pipewire
def test_it_is_made_again_where_somebody_took_it_away(env, plain_path):
    with running(env, plain_path):
        number = lambda: [s.split()[0] for s in pactl(env, "list", "short", "sinks").splitlines() if SINK in s]
        before = number()
        output_of(env, "pw-cli", "destroy", SINK)
        wait_for(lambda: number() not in ([], before))
        with recordings.pulse_playing(env, SINK, correlation.noise(30)):
            hear(env, "B.monitor")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (("--in", "virtual-speaker", "--out", SINK), "no output matches"),
        (("--in", "mic", "--out", "virtual-speaker"), "use it as --in"),
        (("--in", "virtual-mic", "--out", "speakers"), "use it as --out"),
    ],
)
def test_ends_that_make_no_sense_are_refused_in_a_line(env, plain_path, ends, said):
    assert said in refused(env, plain_path, ends=ends).stderr


def test_without_a_server_one_line_says_so(env, plain_path, tmp_path):
    env = env | {"PULSE_SERVER": f"unix:{tmp_path}/nothing"}
    assert "a virtual speaker needs PulseAudio or PipeWire" in refused(env, plain_path).stderr
