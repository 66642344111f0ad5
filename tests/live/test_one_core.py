"""Pinned to one processor, sound flows; only the audio callback and the worker run at real-time priority; and a session
that carried no sound says so."""

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

import numpy as np
import pytest

from command import DEADLINE_S
from hearing import hear
from live.conftest import Feeder
from rtdenoise.live import realtime, ring
from rtdenoise.live.ring import Rings
from rtdenoise_bench.measure import correlation, probes, recordings
from rtdenoise_bench.testbed import servers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are looked at through /proc")
ROOT = Path(__file__).resolve().parents[2]
# Of the one core. A thread that spins takes all of it; a session that starts beside other tests was seen at 37.
MOST_CPU_PERCENT = 60


@pytest.fixture
def one_core() -> Iterator[None]:
    """This process, and whatever it starts, has one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def priorities(pid: int) -> list[tuple[str, int]]:
    """Name and real-time priority of each thread that has one."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        if priority := os.sched_getparam(int(task.name)).sched_priority:
            found.append(((task / "comm").read_text().strip(), priority))
    return found


def granted() -> bool:
    """Whether this user may have real-time priority."""
    code = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize(("backend", "threads"), [("pulse", 1), ("portaudio", 2)])
def test_sound_flows_and_only_callbacks_and_worker_have_priority(one_core, plain_path, backend, threads):
    if reason := servers.missing("pulseaudio", "pactl", "pacat"):
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        env = stack.enter_context(servers.pulseaudio())
        stack.enter_context(recordings.pulse_playing(env, "A", correlation.noise(30), times=4))
        product = stack.enter_context(probes.product(env, "A.monitor", "B", plain_path, "--backend", backend))
        hear(env, "B.monitor")
        elevated = priorities(product.pid)
        stats = probes.finish(product)
    assert stats["block_in"] > 0
    assert stats["block_out"] > 0
    assert stats["cpu_percent"] <= MOST_CPU_PERCENT
    if granted():
        worker, callback = realtime.WORKER_PRIORITY, realtime.CALLBACK_PRIORITY
        assert sorted(priority for _, priority in elevated) == [worker] + [callback] * threads
        # The sound library's own thread calls back, or feeds those of PortAudio's that do.
        assert ("threaded-ml" in dict(elevated)) == (backend == "pulse")


def test_on_jack_the_worker_runs_below_the_thread_that_jack_made(jack_env, plain_path):
    """JACK gives its clients five less than its own, 70 here: raised to ours, one would run above the server."""
    if not granted():
        pytest.skip("no real-time priority here")
    with probes.product(jack_env, "system", "system", plain_path) as product:
        time.sleep(1)
        elevated = priorities(product.pid)
        probes.finish(product)
    assert sorted({priority for _, priority in elevated}) == [64, 65]


def test_a_callback_tells_its_thread_once():
    rings = Rings(192, 1, 48_000)
    feed = Feeder(rings, 64)
    feed(np.zeros((64, 1)))
    assert rings.control[ring.PLAY_THREAD] == int(os.readlink("/proc/thread-self").rpartition("/")[2])
    rings.control[ring.PLAY_THREAD] = 7
    feed(np.zeros((64, 1)))
    assert rings.control[ring.PLAY_THREAD] == 7


def test_a_thread_of_another_process_is_never_touched():
    """A number that was a thread of ours may be anybody's by the time it is used."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert realtime.elevate(other.pid, realtime.CALLBACK_PRIORITY) == "normal"
        assert os.sched_getscheduler(other.pid) == os.SCHED_OTHER
        assert realtime.priority(other.pid) == 0
    finally:
        other.communicate(b"\n")


@pytest.fixture
def dumb_source(pulse_env, tmp_path) -> Iterator[str]:
    """A microphone that is listed and never delivers a sample."""
    arguments = ("source_name=dumb", f"file={tmp_path}/fifo", "format=float32le", "rate=48000", "channels=1")
    line = ["pactl", "load-module", "module-pipe-source", *arguments]
    module = subprocess.run(line, env=pulse_env, capture_output=True, text=True, check=True).stdout.strip()
    yield "dumb"
    subprocess.run(["pactl", "unload-module", module], env=pulse_env, check=True)


def test_a_session_without_sound_says_so_and_fails(pulse_env, dumb_source, plain_path):
    line = [sys.executable, "-m", "rtdenoise", "--in", dumb_source, "--out", "B", "--model", str(plain_path)]
    options = {"env": pulse_env | {"PYTHONPATH": str(ROOT)}, "stderr": subprocess.PIPE, "text": True}
    ways = ([], ["--json"], ["--quiet"])  # at once: each waits some seconds for sound
    sessions = [subprocess.Popen([*line, "--seconds", "1", *way], stdout=subprocess.DEVNULL, **options) for way in ways]
    for way, session in zip(ways, sessions, strict=True):
        said = session.communicate(timeout=DEADLINE_S)[1]
        assert session.returncode == 1, way
        last = said.splitlines()[-1]
        assert last.startswith("rtdenoise: error: no sound came through: ")
        assert "delivered none; see `rtdenoise doctor`" in last
        assert "no dropouts" not in said


def test_a_short_session_with_sound_succeeds(pulse_env, plain_path):
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "B", "--model", str(plain_path), "--json"]
    env = pulse_env | {"PYTHONPATH": str(ROOT)}
    with recordings.pulse_playing(env, "A", correlation.noise(30)):
        process = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert json.loads(process.stdout.readline())["state"] == "running"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, said) == (0, "")
