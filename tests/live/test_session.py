"""`LiveDenoiser` in a program of one's own: what each method does before, during and after the run; several at once;
whatever ends it, nothing stays behind and the program itself is left as it was."""

from __future__ import annotations

import atexit
import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import graphs
from command import DEADLINE_S
from rtdenoise import DeviceError, LiveDenoiser, UsageError
from rtdenoise.live import portaudio, program_end, realtime
from rtdenoise.live.pulse_streams import PulseStreams
from rtdenoise.model.registry import load_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sound servers on null devices")
ROOT = Path(__file__).resolve().parents[2]
OWN_MEMORY_KB = 2048  # what a session may lock: its rings


@pytest.fixture(scope="module", autouse=True)
def _server(pulse_env) -> Iterator[None]:
    """This process is a client of the test's server."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in pulse_env.items():
            if name.startswith(("PULSE_", "XDG_RUNTIME")):
                patch.setenv(name, value)
        portaudio.rescan()
        program_end._register()
        yield


def ours() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("rtdenoise"))


def locked_kb() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmLck:")[2].split()[0])


def process() -> dict:
    """What belongs to the whole program."""
    return {
        "frozen": gc.get_freeze_count(),
        "switching": sys.getswitchinterval(),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "error": os.readlink("/proc/self/fd/2"),
        "affinity": os.sched_getaffinity(0),
        "policy": os.sched_getscheduler(0),
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
    }


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """No thread, lock, or note for the program's end is left by any of these tests."""
    before = process(), atexit._ncallbacks(), locked_kb()
    yield
    assert ours() == []
    assert (process(), atexit._ncallbacks(), locked_kb()) == before


def session(model, **settings) -> LiveDenoiser:
    return LiveDenoiser("A.monitor", "B", model, **settings)


@pytest.mark.parametrize(
    "setting",
    [
        *({"fixed_latency_ms": v} for v in (math.nan, math.inf, -1, 0, 1e9, True, "40", np.float32("nan"))),
        *({"latency": v} for v in (math.nan, math.inf, -1, 0, 1e9, True, "40", "lo", None)),
        *({"blocksize": v} for v in (-5, 0, 1 << 40, 1.5, math.nan, True, "64")),
        *({"rate": v} for v in (-1, 0, 999, 1 << 40, 48_000.5, math.nan, True, "48000")),
        *({"channels": v} for v in (-1, 0, 9, math.nan)),
        *({"strength_db": v} for v in (-1, math.nan)),
        *({"worker": v} for v in ("", "x", 5)),
    ],
    ids=str,
)
def test_a_setting_without_sense_is_refused_as_on_the_command_line(plain, setting):
    with pytest.raises(UsageError):
        session(plain, **setting)


@pytest.mark.parametrize(("heard", "played"), [("", "B"), ("A.monitor", "")])
def test_an_empty_name_is_no_default_device(plain, heard, played):
    with pytest.raises(UsageError, match="is empty"):
        LiveDenoiser(heard, played, plain)


def test_numbers_of_any_kind_are_numbers(plain):
    settings = {"blocksize": np.int32(256), "fixed_latency_ms": np.float32(40)}
    assert LiveDenoiser("A.monitor", "B", plain, rate=np.int64(48_000), **settings).state == "made"


def test_made_it_can_be_read_and_set_and_runs_nothing(plain, delay):
    live = session(plain)
    live.bypass, live.strength_db = True, 12.0
    live.exchange_model(delay)
    assert (live.state, live.stats().state, live.seconds, live.finished) == ("made", "made", 0.0, False)
    assert (live.bypass, live.strength_db, live.model, live.latency_ms) == (True, 12.0, delay.name, 0.0)
    assert (live.problems, live.warnings, live.recorded_s) == ([], [], 0.0)
    assert ours() == []
    assert locked_kb() == 0


def test_running_it_can_be_read_and_changed(plain, delay):
    live = session(plain)
    live.exchange_model(delay)
    with live:
        assert (live.state, live.model) == ("running", delay.name)
        assert ours() == ["rtdenoise-watch", "rtdenoise-worker"]
        live.exchange_model(plain)
        assert ours() == ["rtdenoise-watch", "rtdenoise-worker"]
        live.bypass = True
        assert (live.model, live.stats().bypass) == (plain.name, True)
        assert live.stats().failure is None
        with pytest.raises(UsageError, match="runs once"):
            live.start()
        assert live.state == "running"


def test_stopped_it_can_be_read_and_refuses_what_needs_a_run(plain, delay):
    live = session(plain)
    with live:
        pass
    seconds = live.seconds
    live.stop()
    assert (live.state, live.stats().state, live.model) == ("stopped", "stopped", plain.name)
    assert live.seconds == seconds == live.stats().seconds
    with pytest.raises(UsageError, match="has ended"):
        live.exchange_model(delay)
    with pytest.raises(UsageError, match="runs once"):
        live.start()
    assert live.model == plain.name
    assert ours() == []


def test_stopped_before_it_was_started_it_never_runs(plain):
    live = session(plain)
    live.stop()
    with pytest.raises(UsageError, match="runs once"):
        live.start()
    assert (live.state, live.seconds) == ("stopped", 0.0)


def test_an_exception_inside_the_block_comes_out_and_all_has_ended(plain):
    def run() -> None:
        with live:
            assert ours()
            raise ZeroDivisionError

    live = session(plain)
    with pytest.raises(ZeroDivisionError):
        run()
    assert live.state == "stopped"
    assert live._carrier.streams.ended() == []


def test_a_start_that_fails_leaves_nothing_and_is_the_end(plain, monkeypatch, tmp_path):
    def refuse(self):
        raise DeviceError("busy")

    monkeypatch.setattr(PulseStreams, "start", refuse)
    live = session(plain, tee=tmp_path / "tee.wav")
    with pytest.raises(DeviceError, match="busy"):
        live.start()
    assert live.state == "stopped"
    assert os.listdir(tmp_path) == []
    with pytest.raises(UsageError, match="runs once"):
        live.start()


def test_many_threads_stop_one_that_starts(plain):
    live = session(plain)
    threads = [threading.Thread(target=live.stop) for _ in range(4)]
    starting = threading.Thread(target=live.start)
    starting.start()
    while "rtdenoise-worker" not in ours() and starting.is_alive():
        time.sleep(0.001)
    for t in threads:
        t.start()
    for t in (starting, *threads):
        t.join(20)
        assert not t.is_alive()
    assert live.state == "stopped"


@pytest.mark.parametrize("kind", ["native", "python"])
def test_two_at_once_do_not_disturb_each_other_or_the_program(plain, kind):
    before = process()
    with session(plain, worker=kind) as first:
        locked, while_one = locked_kb(), process()
        with session(plain, worker=kind) as second:
            assert [first.state, second.state] == ["running", "running"]
            assert process() == while_one
        assert locked_kb() == locked  # the end of the second has not unlocked the first
        assert process() == while_one
        assert first.state == "running"
        assert first.stats().failure is None
    if kind == "native":
        assert while_one == before
    assert process() == before  # also what the worker in Python needs of the whole program
    assert locked <= OWN_MEMORY_KB
    assert first.stats().memory_locked == (locked > 0)


def test_the_programs_own_choice_of_switching_stays():
    """Whoever sets it while audio runs keeps it."""
    before = sys.getswitchinterval()
    try:
        with realtime.eager_switching():
            with realtime.eager_switching():
                assert sys.getswitchinterval() == pytest.approx(realtime.SWITCH_INTERVAL_S)
            assert sys.getswitchinterval() == pytest.approx(realtime.SWITCH_INTERVAL_S)
            sys.setswitchinterval(0.02)
        assert sys.getswitchinterval() == pytest.approx(0.02)
    finally:
        sys.setswitchinterval(before)


def test_one_that_is_made_with_a_file_and_dropped_closes_it(plain, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4800), 48_000)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        LiveDenoiser(tmp_path / "a.wav", "B", plain)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    live = LiveDenoiser(tmp_path / "a.wav", "B", plain)
    live.stop()  # made, and never started
    assert live.state == "stopped"


def test_a_model_of_another_framing_is_refused_in_any_state(plain, tmp_path):
    foreign = load_model(graphs.foreign(tmp_path / "foreign.onnx"))
    live = session(plain)
    with pytest.raises(UsageError, match="another STFT"):
        live.exchange_model(foreign)
    with live:
        with pytest.raises(UsageError, match="another STFT"):
            live.exchange_model(foreign)
        assert (live.state, live.model) == ("running", plain.name)
        assert ours() == ["rtdenoise-watch", "rtdenoise-worker"]


def test_the_programs_own_streams_outlive_a_search_for_devices():
    """A new list of PortAudio's would close them; what waits for a device waits on."""
    sd = portaudio.portaudio()
    with sd.OutputStream(device="pulse", samplerate=48_000, channels=1) as own:
        with pytest.raises(DeviceError, match="another stream of this program"):
            portaudio.rescan()
        assert own.active
    portaudio.rescan()
    with sd.OutputStream(device="pulse", samplerate=48_000, channels=1) as own:
        assert own.active


def test_a_program_that_ends_while_one_runs_ends_in_order(pulse_env, plain_path):
    code = "import sys, rtdenoise; rtdenoise.LiveDenoiser('A.monitor', 'B', sys.argv[1]).start()"
    line = [sys.executable, "-c", code, str(plain_path)]
    env = pulse_env | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, "")
