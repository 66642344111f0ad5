"""What the loudspeakers play does not come back by the microphone, and the canceller goes with its command."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import COMMAND, DEADLINE_S, ROOT, wait_for
from programs import pactl, playing, program
from rtdenoise.live import echo_canceller
from rtdenoise_bench.measure import echo, recordings
from rtdenoise_bench.measure.correlation import RATE
from running import record, running

SINK, SOURCE, MICROPHONE = "rtdenoise-echo-sink", "rtdenoise-echo-source", "rtdenoise_microphone"
ENDS = ("--in", "B.monitor", "--out", "virtual-mic", "--echo-cancel", "--json")
EARS = ("--in", "virtual-speaker", "--out", "B", "--json")
LEAST_DB = 10  # 30 to 90 where nothing disturbs the canceller; `rtdenoise-bench stress echo` judges how good it is.
ALONE_S, LISTENS_S = 5, 4


@pytest.fixture(params=["pulse_env", "pipewire_env"])
def env(request) -> dict[str, str]:
    """A server whose loudspeakers are A; B's monitor is the microphone."""
    env = request.getfixturevalue(request.param) | {"PYTHONPATH": str(ROOT)}
    pactl(env, "set-default-sink", "A")
    return env


def modules(env) -> list[str]:
    return pactl(env, "list", "short", "modules").splitlines()


@pytest.mark.steady
@pytest.mark.parametrize("env", ["pipewire_env"], indirect=True)
def test_what_the_loudspeakers_play_does_not_come_back(env):
    far = echo.voices()[1]
    with echo.room(env), running(env, [*COMMAND, *ENDS]) as process:
        record(process, lambda stats: stats["state"] == "running")
        with recordings.pulse_playing(env, "A", far):
            wait_for(lambda: playing(env).get("pacat") == SINK)
            time.sleep(ALONE_S)
            both = [recordings.Recorder(env, source) for source in ("B.monitor", MICROPHONE)]
            time.sleep(LISTENS_S)
            before_db, after_db = (echo.level_db(recorder.stop().samples[RATE:]) for recorder in both)
    assert before_db > -40
    assert before_db - after_db >= LEAST_DB


@given(st.integers(0, 200), st.integers(0, 999))
def test_what_it_adds_is_found_in_sound_that_comes_by_both(delay_ms, seed):
    """Each piece comes some time late, as pieces do; one in a while is not."""
    rng = np.random.default_rng(seed)
    sound, late = rng.standard_normal(60_000).astype(np.float32), delay_ms * 48

    def pieces(begin: int) -> echo_canceller.Pieces:
        waits = rng.uniform(0, 0.02, 100) * (np.arange(100) % 7 > 0)
        return [(k / 100 + waits[k], sound[begin + 480 * k :][:480]) for k in range(100)]

    assert echo_canceller.lag_ms(pieces(late), pieces(0)) == pytest.approx(delay_ms, abs=0.1)
    stranger = [(at, rng.standard_normal(480).astype(np.float32)) for at, _ in pieces(0)]
    silent = [(at, np.zeros(480, np.float32)) for at, _ in pieces(0)]
    for other in (stranger, silent, []):
        assert echo_canceller.lag_ms(pieces(0), other) is None


def test_programs_go_through_the_reference_and_back_and_a_killed_one_is_cleared_away(env, plain_path):
    before, line = modules(env), [*COMMAND, *ENDS, "--model", str(plain_path)]
    with program(env, "Player", "--device=A"), program(env, "Other", "--device=B"):
        with running(env, line) as process:
            assert record(process, lambda stats: stats["state"] == "running")["echo_cancel"]
            wait_for(lambda: playing(env) == {"Player": SINK, "Other": "B"})
        assert playing(env) == {"Player": "A", "Other": "B"}
        assert modules(env) == before
        with running(env, line) as process:
            wait_for(lambda: playing(env) == {"Player": SINK, "Other": "B"})
            process.kill()
        if "PipeWire" in pactl(env, "info"):
            wait_for(lambda: SINK not in pactl(env, "list", "short", "sinks"))  # without a next start
        with running(env, [*COMMAND, *EARS, "--model", str(plain_path)]) as process:
            record(process, lambda stats: stats["state"] == "running")
            assert playing(env) == {"Player": "A", "Other": "B"}
            assert not [m for m in modules(env) if SINK in m]
    wait_for(lambda: modules(env) == before)


def refused(env, line: list[str]) -> str:
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("env", ["pulse_env"], indirect=True)
def test_where_it_cannot_be_one_line_says_why(env, plain_path, tmp_path):
    def said(*argv: str, env=env) -> str:
        return refused(env, [*COMMAND, *argv, "--model", str(plain_path)])

    before = modules(env)
    assert "only valid between a microphone and" in said("--in", "B.monitor", "--out", "A", "--echo-cancel")
    assert "is no microphone" in said("--in", "A.monitor", "--out", "virtual-mic", "--echo-cancel")
    assert "an echo canceller needs" in said(*ENDS, env=env | {"PULSE_SERVER": f"unix:{tmp_path}/nothing"})
    assert modules(env) == before


def test_a_name_that_something_else_has_is_refused(env, plain_path):
    before = modules(env)
    taken = pactl(env, "load-module", "module-null-sink", f"sink_name={SINK}").strip()
    try:
        said = refused(env, [*COMMAND, *ENDS, "--model", str(plain_path)])
        assert f"something else is called {SINK}" in said
    finally:
        pactl(env, "unload-module", taken)
    assert modules(env) == before


WITHOUT_MODULE = """
import sys
from rtdenoise.cli.main import main
from rtdenoise.live import echo_canceller, graph_canceller
echo_canceller.MODULE = graph_canceller.MODULE = "module-not-there"
sys.exit(main())
"""


def test_a_server_without_the_module_is_told_so(env, plain_path):
    before = modules(env)
    said = refused(env, [sys.executable, "-c", WITHOUT_MODULE, *ENDS, "--model", str(plain_path)])
    assert "an echo canceller" in said
    assert "installed" in said
    assert modules(env) == before
