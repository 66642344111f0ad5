"""``--cluster``: the same bytes as on one machine, and nothing lost or half written whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from archives import FILES, a_cluster, a_worker, archive, begun, done, ended, family, line_for, listening, whole
from command import call, identity_model, wait_for

pytest.importorskip("distributed")

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path):
    return archive(tmp_path)


@pytest.fixture
def processes():
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


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
    process = begun(tree, "dask://local:2")
    below = family(process.pid)
    assert set(listening(below)) == {"127.0.0.1"}
    out, said = process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b"distributed" not in said  # Dask's own words are no business of ours.
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_a_worker_is_killed_and_nothing_is_lost(tree, processes):
    address, _, workers = a_cluster(processes, tree)
    process = begun(tree, address)
    workers[0].kill()
    a_worker(processes, tree, address.replace("dask", "tcp"))
    ended(process)
    assert whole(tree)


def test_the_scheduler_is_killed_and_the_next_run_goes_on(tree, processes, capfd):
    address, scheduler, _ = a_cluster(processes, tree)
    process = begun(tree, address)
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
    process = begun(tree, address)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert call(capfd, *line_for(tree, address))[0] == 0
    assert whole(tree)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (a, "neither")
        for a in (
            "local",
            "dask://",
            "dask://local:0",
            "spark://x:1",
            "ray://local:0",
            "dask://a:b",
            "dask://:1",
            "dask://h:70000",
        )
    ],
)
def test_an_address_without_sense_is_refused(tree, capfd, address, said):
    code, _, error = call(capfd, *line_for(tree, address))
    assert code == 2
    assert said in error
    assert not (tree / "out").exists()


def test_a_scheduler_that_is_not_there_is_named(tree, capfd, monkeypatch):
    monkeypatch.setattr("rtdenoise.io.dask_cluster.PATIENCE_S", 1)
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
