"""Worker processes are ours alone: no other child is touched, a death costs one call, and none is left behind."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from command import DEADLINE_S, ENVIRONMENT, call, endless_wav, identity_model, parts, start, voice, wait_for, write
from rtdenoise.io import process_pool
from rtdenoise.io.batch import filter_jobs, find_jobs
from rtdenoise.io.pipeline import Settings
from rtdenoise.io.process_pool import WorkerDied, run_calls

pytestmark = pytest.mark.slow

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def children(pid: int | str = "self") -> list[int]:
    """Processes that a process started and that have not ended, zombies included."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


@LINUX
def test_calls_come_back_and_nothing_is_left(tmp_path):
    before, threads, descriptors = children(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    got = sorted(run_calls(os.path.basename, [(f"a/{k}",) for k in range(10)], 2))
    assert got == [((f"a/{k}",), str(k)) for k in range(10)]
    assert (children(), threading.active_count()) == (before, threads)
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("calls", [b"", pickle.dumps((abs, (-1,))), pickle.dumps((time.sleep, (1_000,)))])
def test_a_worker_ends_with_its_input_whether_it_waits_or_works(calls):
    code = process_pool._CHILD.format(path=sys.path)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.communicate(calls, timeout=DEADLINE_S)
    assert process.returncode == 128 + signal.SIGTERM


@LINUX
def test_leaving_in_the_middle_ends_the_workers_and_no_other_child():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    before = children()  # other tests of this process may have left some
    with closing(run_calls(time.sleep, [(0,), (1_000,), (1_000,)], 2)) as running:
        assert next(running) == ((0,), None)
        assert len(children()) > len(before)
    assert set(children()) <= set(before)
    assert other.poll() is None
    other.communicate(b"\n")


def test_a_death_is_the_result_of_its_call_alone():
    calls = [(9,), (0,)]
    got = dict(run_calls(os._exit, calls, 2))
    assert {call: str(death) for call, death in got.items()} == {
        (9,): "ended with exit code 9",
        (0,): "ended with exit code 0",
    }
    killed = dict(run_calls(signal.raise_signal, [(int(signal.SIGKILL),)], 1))
    assert isinstance(killed[(9,)], WorkerDied)
    assert str(killed[(9,)]) == "was killed by SIGKILL"


def test_where_no_process_starts_this_one_does_it_all_and_says_so_once(monkeypatch, caplog):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(process_pool.subprocess, "Popen", refuse)
    with caplog.at_level(logging.WARNING):
        assert sorted(run_calls(abs, [(-k,) for k in range(5)], 3)) == [((-k,), k) for k in range(4, -1, -1)]
    assert len(caplog.records) == 1
    assert "Cannot allocate memory" in caplog.text


def test_a_host_without_main_guard_may_use_processes_from_any_thread(tmp_path):
    """A pool of the standard library would run the host's script once more in each worker."""
    for name in "ab":
        write(tmp_path / f"in/{name}.wav", voice(4_000))
    script = tmp_path / "host.py"
    script.write_text(
        textwrap.dedent(f"""
        import threading
        from rtdenoise.io.batch import filter_jobs, find_jobs
        from rtdenoise.io.pipeline import Settings
        print("the host runs")
        jobs = find_jobs({str(tmp_path / "in")!r}, {str(tmp_path / "out")!r})
        work = lambda: print([o.error for o in filter_jobs(jobs, Settings({identity_model()!r}), 2)])
        thread = threading.Thread(target=work)
        thread.start(); thread.join()
        """)
    )
    done = subprocess.run([sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.stdout, done.stderr) == ("the host runs\n[None, None]\n", "")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.wav", "b.wav"]


@LINUX
def test_a_worker_killed_costs_its_file_alone_which_is_named(tmp_path):
    endless_wav(tmp_path / "in/a-long.wav", 5_000)  # a longer one would be cut, and taken by both workers
    for name in "bcde":
        write(tmp_path / f"in/{name}.wav", voice(4_000))
    process = start("--in", tmp_path / "in", "--out", tmp_path / "out", "--jobs", 2)
    wait_for(lambda: parts(tmp_path / "out") and len(list((tmp_path / "out").glob("*.wav"))) == 4)
    (part,) = parts(tmp_path / "out")
    (writer,) = [pid for pid in children(process.pid) if writes(pid, part)]
    os.kill(writer, signal.SIGKILL)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert b"a-long.wav: its worker process was killed by SIGKILL" in said
    assert b"4 filtered, 1 failed" in said
    assert sorted(os.listdir(tmp_path / "out")) == ["b.wav", "c.wav", "d.wav", "e.wav"]


def writes(pid: int, part: Path) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    return any(os.path.realpath(entry) == str(part) for entry in folder.iterdir())


@LINUX
def test_workers_end_when_their_parent_is_killed_and_leave_no_part(tmp_path):
    for name in "ab":
        endless_wav(tmp_path / f"in/{name}.wav")
    process = start("--in", tmp_path / "in", "--out", tmp_path / "out", "--jobs", 2)
    wait_for(lambda: len(parts(tmp_path / "out")) == 2)
    below = children(process.pid)
    assert len(below) == 2
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    wait_for(lambda: not parts(tmp_path / "out", 0))
    wait_for(lambda: not any(is_running(pid) for pid in below))
    assert os.listdir(tmp_path / "out") == []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_shared_memory_processes_work(tmp_path, monkeypatch):
    """Where /dev/shm cannot be written, semaphores of the standard library raise OSError."""
    import multiprocessing.synchronize

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    for name in "ab":
        write(tmp_path / f"in/{name}.wav", voice(4_000))
    outcomes = filter_jobs(find_jobs(str(tmp_path / "in"), str(tmp_path / "out")), Settings(identity_model()), 2)
    assert [o.error for o in outcomes] == [None, None]


def test_an_error_of_the_caller_reaches_the_caller(tmp_path):
    for name in "abc":
        write(tmp_path / f"in/{name}.wav", voice(4_000))

    def fail(_: object) -> None:
        raise ValueError("of the caller")

    jobs = find_jobs(str(tmp_path / "in"), str(tmp_path / "out"))
    with pytest.raises(ValueError, match="of the caller"):
        filter_jobs(jobs, Settings(identity_model()), 2, fail)
    assert not parts(tmp_path / "out", -1)


def test_json_and_exit_code_are_the_same_with_processes(tmp_path, capfd):
    write(tmp_path / "in/a.wav", voice(4_000))
    (tmp_path / "in/b.wav").write_text("no sound")
    code, out, _ = call(capfd, "--in", tmp_path / "in", "--out", tmp_path / "out", "--jobs", 2, "--json")
    assert (code, out.count("\n")) == (1, 2)
