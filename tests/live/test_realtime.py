"""The command locks its memory, a session in somebody else's program only its own; what sessions share, the last one
gives back; and a limit on locked memory never costs the program its memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from command import DEADLINE_S
from rtdenoise.live import realtime
from rtdenoise.live.ring import Rings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
ROOT = Path(__file__).resolve().parents[2]
MB = 1 << 20


def locked_kb(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmLck:")[2].split()[0])


def in_a_process(code: str) -> str:
    line = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(line, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def may_lock_everything() -> bool:
    return bool(realtime._lock_flags())


def test_memory_is_quiet_until_the_last_one_ends():
    if not may_lock_everything():
        pytest.skip("no right to lock memory")
    out = in_a_process("""
        import gc
        from rtdenoise.live import realtime
        def look():
            kb = int(open("/proc/self/status").read().partition("VmLck:")[2].split()[0])
            return kb > 0, gc.get_freeze_count() > 0
        with realtime.quiet_memory() as locked:
            looks = [locked, look()]
            with realtime.quiet_memory() as again:
                looks += [again, look()]
            looks.append(look())
        print([*looks, look()] == [True, (True, True), True, (True, True), (True, True), (False, False)], looks)
    """)
    assert out.startswith("True"), out


def test_what_the_program_froze_stays_frozen():
    """In a process of its own: objects that other tests left would end meanwhile, and be frozen no more."""
    out = in_a_process("""
        import gc
        from rtdenoise.live import realtime
        gc.collect(), gc.freeze()
        frozen = gc.get_freeze_count()
        with realtime.quiet_memory():
            within = gc.get_freeze_count()
        print(within == gc.get_freeze_count() == frozen)
    """)
    assert out.startswith("True"), out


@pytest.mark.parametrize("limit_mb", [0, 8, None])
def test_under_a_limit_the_program_still_has_its_memory(limit_mb):
    """``mlockall`` with MCL_FUTURE makes every allocation beyond the limit fail. None: a limit that nothing reaches."""
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    limit = hard if limit_mb is None else limit_mb * MB
    if hard != resource.RLIM_INFINITY and limit > hard:
        pytest.skip("the limit here is lower")
    out = in_a_process(f"""
        import os, resource
        import numpy as np
        from rtdenoise.live import realtime
        resource.setrlimit(resource.RLIMIT_MEMLOCK, ({limit}, {hard}))
        if os.getuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        with realtime.quiet_memory():
            print(np.ones(200 << 20, np.uint8).nbytes)
    """)
    assert int(out) == 200 * MB


@pytest.mark.parametrize(
    ("limit", "capable", "flags"),
    [
        (resource.RLIM_INFINITY, False, 7),  # now and in future
        (8 * MB, True, 7),  # the limit is for others
        (1 << 46, False, 5),  # now
        (8 * MB, False, 0),
    ],
)
def test_no_more_is_locked_than_the_limit_allows(monkeypatch, limit, capable, flags):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    status = f"VmSize:\t  900000 kB\nCapEff:\t{1 << realtime.CAP_IPC_LOCK if capable else 0:016x}\n"
    monkeypatch.setattr(Path, "read_text", lambda self: status)
    assert realtime._lock_flags() == flags


def test_rings_lock_their_own_pages_and_each_on_its_own():
    before = locked_kb()
    one, other = Rings(192, 2, 48_000, record=True), Rings(192, 2, 48_000)
    with one.locked() as granted:
        if not granted:
            pytest.skip("no right to lock memory")
        locked = locked_kb()
        with other.locked():
            assert locked_kb() > locked
        assert locked_kb() == locked
    assert locked_kb() == before
    assert locked - before >= (one.captured.nbytes + one.played.nbytes + one.recorded.nbytes) / 1024
    one.captured[:] = 1
    assert not other.captured.any()
    assert not one.played.any()


def test_the_command_locks_all_of_its_memory(pulse_env, plain_path):
    if not may_lock_everything():
        pytest.skip("no right to lock memory")
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "B", "--model", str(plain_path), "--json"]
    env = pulse_env | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert '"memory_locked": true' in process.stdout.readline()
        assert locked_kb(process.pid) > 4096  # more than a session's rings
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
