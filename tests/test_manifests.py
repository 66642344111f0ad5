"""``--manifest in.jsonl --report out.jsonl``: one record a line, whole at any moment, and resumed where it stopped."""

from __future__ import annotations

import json
import os
import signal
import tracemalloc

import pytest

from command import call, identity_model, start, voice, wait_for, write
from rtdenoise import UsageError
from rtdenoise.io.executors import Here
from rtdenoise.io.manifest import run_manifest
from rtdenoise.io.pipeline import Settings
from rtdenoise.io.report import Report
from rtdenoise.io.shard import Shard

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path):
    for name in ("a", "deep/b", "deep/er/c"):
        write(tmp_path / f"data/{name}.wav", voice(4_000, seed=len(name)))
    return tmp_path


def manifest(home, *entries) -> os.PathLike:
    path = home / "data/in.jsonl"
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def of(*names: str, **more) -> list[dict]:
    return [{"audio_filepath": f"{name}.wav", "duration": 0.25, "text": "ü", **more} for name in names]


def run(home, capfd, *options):
    line = "--manifest", home / "data/in.jsonl", "--out", home / "out", "--report", home / "out.jsonl", *options
    return call(capfd, *line)


def records(home) -> list[dict]:
    return [json.loads(line) for line in (home / "out.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_line_becomes_a_record_that_keeps_its_keys(home, capfd):
    entries = [{**entry, "speaker": {"id": 7}} for entry in of("a", "deep/b", "deep/er/c")]
    manifest(home, *entries)
    assert run(home, capfd)[0] == 0
    found = sorted(records(home), key=lambda record: record["line"])
    assert [{key: record[key] for key in entries[0]} for record in found] == entries
    assert [record["line"] for record in found] == [1, 2, 3]
    assert all(os.path.isfile(record["out"]) and record["seconds"] == 0.25 for record in found)
    assert (home / "out/deep/er/c.wav").is_file()


def test_paths_are_against_the_manifest_or_absolute(home, capfd, monkeypatch):
    write(home / "elsewhere/x.wav", voice(2_000))
    manifest(home, *of("a", str(home / "data/deep/b"), str(home / "elsewhere/x"), "../elsewhere/x"))
    monkeypatch.chdir(home / "elsewhere")
    assert run(home, capfd)[0] == 0
    outside = home / "out" / str(home / "elsewhere/x.wav").lstrip("/")
    assert [record["out"] for record in sorted(records(home), key=lambda r: r["line"])] == [
        str(home / "out/a.wav"),
        str(home / "out/deep/b.wav"),
        str(outside),
        str(outside),
    ]
    assert outside.is_file()


def test_errors_are_records_and_stop_nothing(home, capfd):
    (home / "data/bad.wav").write_text("not a sound")
    bad = [
        "{",
        "[1]",
        '"a.wav"',
        "{}",
        '{"audio_filepath": 3}',
        '{"audio_filepath": "a\\u0000.wav"}',
        '{"audio_filepath": ""}',
    ]
    manifest(
        home, *of("a", "bad", "missing", "deep"), {"audio_filepath": "in.jsonl"}, {"audio_filepath": "x.ape"}, *bad
    )
    code, _, said = run(home, capfd)
    found = {record["line"]: record for record in records(home)}
    assert code == 1
    assert sorted(found) == list(range(1, 7 + len(bad)))
    assert [line for line, record in found.items() if "error" not in record] == [1]
    assert all("out" not in record for line, record in found.items() if line != 1)
    assert "1 filtered, 12 failed" in said
    assert "first file" in said  # the table of what failed and why


@pytest.mark.parametrize("jobs", [1, 2])
def test_several_entries_of_one_recording_filter_it_once(home, capfd, jobs):
    """Segments: offset and duration hold for the output too, which is sample-aligned."""
    manifest(home, *[{"audio_filepath": "a.wav", "offset": k / 100, "duration": 0.01} for k in range(20)])
    assert run(home, capfd, "--jobs", jobs)[0] == 0
    found = records(home)
    assert [record["offset"] for record in sorted(found, key=lambda r: r["line"])] == [k / 100 for k in range(20)]
    assert len({record["work_seconds"] for record in found}) == 1


def test_a_second_run_does_what_is_missing_and_tries_failures_again(home, capfd):
    manifest(home, *of("a", "deep/b", "late"))
    assert run(home, capfd)[0] == 1
    before = {record["line"]: record for record in records(home)}
    write(home / "data/late.wav", voice(3_000))
    (home / "out/deep/b.wav").unlink()
    code, _, said = run(home, capfd)
    assert (code, "2 filtered" in said) == (0, True)
    after = {record["line"]: record for record in records(home)}
    assert len(records(home)) == 3
    assert after[1] == before[1]
    assert all(os.path.isfile(record["out"]) for record in after.values())


def test_half_a_line_is_cut_off_and_done_again(home, capfd):
    manifest(home, *of("a", "deep/b", "deep/er/c"))
    run(home, capfd)
    report = home / "out.jsonl"
    whole = report.read_bytes()
    for cut in (1, 20, whole.index(b"\n") + 5):
        report.write_bytes(whole[:-cut])
        assert run(home, capfd)[0] == 0
        assert sorted(record["line"] for record in records(home)) == [1, 2, 3]


def test_lines_may_be_added_to_a_manifest_but_not_changed(home, capfd):
    manifest(home, *of("a"))
    run(home, capfd)
    manifest(home, *of("a", "deep/b"))
    assert run(home, capfd)[0] == 0
    assert len(records(home)) == 2
    manifest(home, *of("deep/b", "a"))
    code, _, said = run(home, capfd)
    assert code == 2
    assert "another manifest" in said
    assert run(home, capfd, "--overwrite")[0] == 0
    assert [record["audio_filepath"] for record in sorted(records(home), key=lambda r: r["line"])] == [
        "deep/b.wav",
        "a.wav",
    ]


def test_two_runs_do_not_write_one_report(home, capfd):
    manifest(home, *of("a"))
    with Report(str(home / "out.jsonl")):
        code, _, said = run(home, capfd)
    assert code == 2
    assert "another run" in said


def test_a_report_is_a_manifest_too(home, capfd):
    manifest(home, *of("a", "missing"))
    run(home, capfd)
    again = home / "data/again.jsonl"
    again.write_bytes((home / "out.jsonl").read_bytes())
    line = "--manifest", again, "--out", home / "out2", "--report", home / "second.jsonl"
    call(capfd, *line)
    second = [json.loads(text) for text in (home / "second.jsonl").read_text().splitlines()]
    assert sorted(("error" in record, "out" in record) for record in second) == [(False, True), (True, False)]


def test_shares_of_a_manifest_make_up_the_whole(home, capfd):
    names = [f"{k}" for k in range(12)]
    for name in names:
        write(home / f"data/{name}.wav", voice(400))
    manifest(home, *of(*names), "no json", "")
    lines = []
    for number in (1, 2, 3):
        call(
            capfd, "--manifest", home / "data/in.jsonl", "--out", home / "out", "--report", home / f"{number}.jsonl",
            "--shard", f"{number}/3",
        )  # fmt: skip
        lines += [json.loads(line)["line"] for line in (home / f"{number}.jsonl").read_text().splitlines()]
    assert sorted(lines) == list(range(1, 14))


def test_killed_at_any_moment_nothing_is_lost_or_half_written(home):
    """SIGKILL, again and again, until the run gets through."""
    names = [f"{k:03}" for k in range(24)]
    for name in names:
        write(home / f"data/{name}.wav", voice(64_000, seed=1), 16_000)
    manifest(home, *of(*names))
    line = "--manifest", home / "data/in.jsonl", "--out", home / "out", "--report", home / "out.jsonl", "--jobs", 2
    report = home / "out.jsonl"
    for goal in (1, 10):
        process = start(*line)
        wait_for(lambda: (report.exists() and report.read_bytes().count(b"\n") >= goal) or process.poll() is not None)  # noqa: B023
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for path in (home / "out").glob("*.wav"):
            assert path.stat().st_size == (home / "data" / path.name).stat().st_size
    process = start(*line)
    assert process.communicate()[0] == b""
    assert process.returncode == 0
    assert sorted(record["line"] for record in records(home)) == list(range(1, 25))
    assert sorted(path.name for path in (home / "out").iterdir()) == [f"{name}.wav" for name in names]


def test_memory_does_not_grow_with_the_manifest(tmp_path):
    """Four times the lines, about the same memory: what is kept of each is 4 bytes."""

    def peak(lines: int) -> int:
        path = tmp_path / f"{lines}.jsonl"
        with path.open("w") as file:
            for k in range(lines):
                file.write(json.dumps({"audio_filepath": f"missing/{k}.wav", "text": "x" * 100}) + "\n")
        with Report(str(tmp_path / f"{lines}.report")) as report:
            tracemalloc.start()
            count = sum(
                1
                for _ in run_manifest(
                    str(path), str(tmp_path / "out"), report, Settings(identity_model()), Here(), shard=Shard(1, 1)
                )
            )
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert count == lines
        return most

    assert peak(8_000) < 1.5 * peak(2_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--manifest", "{m}"], "--out, --report"),
        (["--manifest", "{m}", "--out", "{o}"], "--report"),
        (["--manifest", "{m}", "--out", "{o}", "--report", "{r}", "--in", "{o}"], "give one of them"),
        (["--in", "{m}", "--out", "{o}", "--report", "{r}"], "--manifest"),
        (["--manifest", "{m}.no", "--out", "{o}", "--report", "{r}"], "cannot read"),
        (["--manifest", "{m}", "--out", "{d}", "--report", "{r}"], "own folder"),
        (["--manifest", "{m}", "--out", "-", "--report", "{r}"], "pipe"),
        (["--manifest", "{m}", "--out", "{o}", "--report", "{m}"], "no report"),
        (["--manifest", "{m}", "--out", "{o}", "--report", "{d}/a.wav"], "no report"),
        (["--manifest", "{m}", "--out", "{o}", "--report", "{m}", "--overwrite"], "no report"),
        (["--out", "{o}"], "--in"),
    ],
)
def test_a_request_without_sense_is_refused(home, capfd, options, said):
    path = manifest(home, *of("a"))
    names = {"m": path, "o": home / "out", "r": home / "out.jsonl", "d": home / "data"}
    before = path.read_bytes()
    code, _, error = call(capfd, *(option.format(**names) for option in options))
    assert code == 2
    assert said in error
    assert path.read_bytes() == before


def test_a_report_on_a_place_that_cannot_be_written_says_so(home, capfd):
    manifest(home, *of("a"))
    line = "--manifest", home / "data/in.jsonl", "--out", home / "out", "--report", home / "no/out.jsonl"
    code, _, said = call(capfd, *line)
    assert code == 1
    assert "cannot write" in said
    with pytest.raises(UsageError):
        list(run_manifest(str(home), str(home / "o"), None, Settings(), Here()))
