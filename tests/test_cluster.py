"""``--cluster``: the same bytes as on one machine, and nothing lost or half written whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command import ENVIRONMENT, call, identity_model, start, voice, wait_for, write

pytest.importorskip("distributed")

pytestmark = pytest.mark.slow
FILES = 24


@pytest.fixture
def tree(tmp_path):
    for k in range(FILES):
        write(tmp_path / f"in/{k % 3}/{k:02}.wav", voice(160_000, seed=1), 16_000)
    return tmp_path


@pytest.fixture
def processes():
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def spawn(processes, folder, *argv) -> subprocess.Popen:
    line = [sys.executable, "-m", "distributed.cli.dask_" + argv[0], *argv[1:]]
    environment = ENVIRONMENT | {"DASK_TEMPORARY_DIRECTORY": str(folder)}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    processes.append(process)
    return process


def a_cluster(processes, folder, workers: int = 2):
    """Address, scheduler and workers, each a process of its own."""
    told = folder / f"scheduler-{len(processes)}.json"
    listening = "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)
    scheduler = spawn(processes, folder, "scheduler", *listening)
    wait_for(lambda: told.exists() and told.stat().st_size)
    address = json.loads(told.read_text())["address"]
    return address.replace("tcp", "dask"), scheduler, [a_worker(processes, folder, address) for _ in range(workers)]


def a_worker(processes, folder, address: str) -> subprocess.Popen:
    options = "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "5", "--host", "127.0.0.1"
    return spawn(processes, folder, "worker", address, *options)


def line_for(tree, address: str, *options: object):
    return "--in", tree / "in", "--out", tree / "out", "--cluster", address, *options


def done(tree) -> list[Path]:
    return [path for path in (tree / "out").rglob("*") if path.is_file() and path.suffix == ".wav"]


def whole(tree, hidden: bool = True) -> bool:
    """Whether all is there, in full size, and nothing else."""
    sizes = {p.relative_to(tree / "in"): p.stat().st_size for p in (tree / "in").rglob("*.wav")}
    files = [path for path in (tree / "out").rglob("*") if path.is_file() and (hidden or path.name[0] != ".")]
    return {path.relative_to(tree / "out"): path.stat().st_size for path in files} == sizes


def test_a_cluster_gives_the_same_bytes_as_this_process(tree, capfd):
    (tree / "in/bad.wav").write_text("not a sound")
    code, _, said = call(capfd, *line_for(tree, "dask://local:2"))
    assert (code, f"{FILES} filtered, 1 failed" in said) == (1, True)
    call(capfd, "--in", tree / "in", "--out", tree / "one")
    for path in (tree / "one").rglob("*.wav"):
        assert (tree / "out" / path.relative_to(tree / "one")).read_bytes() == path.read_bytes()


def test_a_manifest_goes_to_a_cluster_too(tree, capfd):
    path = tree / "in/list.jsonl"
    path.write_text("".join(f'{{"audio_filepath": "{k % 3}/{k:02}.wav"}}\n' for k in range(FILES)))
    line = "--manifest", path, "--out", tree / "out", "--report", tree / "r.jsonl", "--cluster", "dask://local:2"
    assert call(capfd, *line)[0] == 0
    assert sorted(json.loads(text)["line"] for text in (tree / "r.jsonl").read_text().splitlines()) == [
        *range(1, FILES + 1)
    ]
    assert whole(tree)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_cluster_of_this_machine_listens_nowhere_else_and_leaves_nothing(tree):
    process = start(*line_for(tree, "dask://local:2"))
    wait_for(lambda: done(tree))
    owned = {os.readlink(f) for pid in family(process.pid) for f in Path(f"/proc/{pid}/fd").glob("*") if f.is_symlink()}
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in owned]
    assert listening
    assert all(place.startswith("0100007F:") for place in listening)  # 127.0.0.1
    below = family(process.pid)
    out, said = process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b"distributed" not in said  # Dask's own words are no business of ours.
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def family(pid: int) -> list[int]:
    below = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return [pid, *(each for child in below for each in family(child))]


def test_a_worker_is_killed_and_nothing_is_lost(tree, processes):
    address, _, workers = a_cluster(processes, tree)
    process = start(*line_for(tree, address))
    wait_for(lambda: done(tree))
    workers[0].kill()
    a_worker(processes, tree, address.replace("dask", "tcp"))
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert whole(tree)


def test_the_scheduler_is_killed_and_the_next_run_goes_on(tree, processes, capfd):
    address, scheduler, _ = a_cluster(processes, tree)
    process = start(*line_for(tree, address))
    wait_for(lambda: done(tree))
    scheduler.kill()
    _, said = process.communicate()
    assert process.returncode == 1
    assert b"goes on where it stopped" in said
    assert b"Traceback" not in said
    for worker in processes:
        worker.kill()
        worker.wait()
    before = len(done(tree))
    address, *_ = a_cluster(processes, tree)
    code, _, said = call(capfd, *line_for(tree, address))
    assert code == 0
    assert f"{before} already done" in said
    assert whole(tree, hidden=False)


def test_the_client_is_killed_and_the_next_run_goes_on(tree, processes, capfd):
    address, *_ = a_cluster(processes, tree)
    process = start(*line_for(tree, address))
    wait_for(lambda: done(tree))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert call(capfd, *line_for(tree, address))[0] == 0
    assert whole(tree)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (a, "neither")
        for a in ("local", "dask://", "dask://local:0", "ray://x:1", "dask://a:b", "dask://:1", "dask://h:70000")
    ],
)
def test_an_address_without_sense_is_refused(tree, capfd, address, said):
    code, _, error = call(capfd, *line_for(tree, address))
    assert code == 2
    assert said in error
    assert not (tree / "out").exists()


def test_a_scheduler_that_is_not_there_is_named(tree, capfd, monkeypatch):
    monkeypatch.setattr("rtdenoise.io.cluster.PATIENCE_S", 1)
    code, _, said = call(capfd, *line_for(tree, "dask://127.0.0.1:9"))
    assert code == 1
    assert "no Dask scheduler answers at 127.0.0.1:9" in said


def test_a_cluster_of_another_version_is_refused(tree, capfd, monkeypatch):
    monkeypatch.setattr("rtdenoise.io.cluster.__version__", "9.9")
    code, _, said = call(capfd, *line_for(tree, "dask://local:1"))
    assert code == 1
    assert "install 9.9" in said


@pytest.mark.parametrize("more", [["--jobs", "2"], ["--out", "-"]])
def test_what_does_not_go_with_a_cluster_is_refused(tree, capfd, more):
    assert call(capfd, *line_for(tree, "dask://local:1"), *more)[0] == 2


def test_one_file_needs_no_cluster(tree, capfd):
    line = "--in", tree / "in/0/00.wav", "--out", tree / "o.wav", "--cluster", "dask://local:1"
    assert call(capfd, *line, model=identity_model())[0] == 2
