"""Folder to folder: the tree is kept, finished work too, and one bad file stops nothing."""

import json
import os
import sys

import pytest
import soundfile

from command import call, endless_wav, interrupt, parts, start, voice, wait_for, write
from rtdenoise.io import jobs

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path):
    """Three sounds in three folders, and things that are none."""
    write(tmp_path / "in/a.wav", voice(8_000))
    write(tmp_path / "in/deep/b.flac", voice(9_000, 2), 44_100)
    write(tmp_path / "in/deep/er/c.ogg", voice(10_000), 48_000)
    (tmp_path / "in/notes.txt").write_text("not a sound")
    (tmp_path / "in/.hidden.wav").write_text("not a sound")
    return tmp_path


def files_below(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_tree_is_kept_and_other_files_are_left_alone(tree, capfd):
    code, out, said = call(capfd, "--in", tree / "in", "--out", tree / "out")
    assert (code, out) == (0, "")
    assert files_below(tree / "out") == ["a.wav", "deep/b.flac", "deep/er/c.ogg"]
    assert soundfile.info(tree / "out/deep/b.flac").frames == 9_000
    assert "3 filtered" in said


def test_a_second_run_keeps_what_is_done_and_redoes_what_changed(tree, capfd):
    call(capfd, "--in", tree / "in", "--out", tree / "out")
    changed = tree / "in/a.wav"
    after = (tree / "out/a.wav").stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(after, after))
    (tree / "out/deep/b.flac").unlink()
    assert "2 filtered, 1 already done (0.7 s of audio)" in call(capfd, "--in", tree / "in", "--out", tree / "out")[2]
    assert "3 filtered" in call(capfd, "--in", tree / "in", "--out", tree / "out", "--overwrite")[2]


def test_one_bad_file_does_not_stop_the_rest(tree, capfd):
    (tree / "in/bad.wav").write_text("not a sound")
    write(tree / "in/slow.wav", voice(1_000), 4_000)
    code, _, said = call(capfd, "--in", tree / "in", "--out", tree / "out")
    assert code == 1
    assert files_below(tree / "out") == ["a.wav", "deep/b.flac", "deep/er/c.ogg"]
    errors = [line for line in said.splitlines() if "error:" in line]
    assert len(errors) == 2
    assert "in/bad.wav" in errors[0]
    assert "in/slow.wav" in errors[1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_file_gets_one_json_line(tree, capfd, jobs):
    (tree / "in/bad.wav").write_text("not a sound")
    _, out, _ = call(capfd, "--in", tree / "in", "--out", tree / "out", "--json", "--jobs", jobs)
    lines = {os.path.basename(line["in"]): line for line in map(json.loads, out.splitlines())}
    assert sorted(lines) == ["a.wav", "b.flac", "bad.wav", "c.ogg"]
    assert lines["a.wav"]["seconds"] == 0.5
    assert "not a sound file" in lines["bad.wav"]["error"]


def test_processes_give_the_same_files(tree, capfd):
    call(capfd, "--in", tree / "in", "--out", tree / "one")
    assert call(capfd, "--in", tree / "in", "--out", tree / "two", "--jobs", 2)[0] == 0
    for name in ("a.wav", "deep/b.flac"):
        assert (tree / "one" / name).read_bytes() == (tree / "two" / name).read_bytes()


def test_an_output_folder_inside_the_input_is_not_read_again(tree, capfd):
    for _ in range(2):
        assert call(capfd, "--in", tree / "in", "--out", tree / "in/clean")[0] == 0
    assert files_below(tree / "in/clean") == ["a.wav", "deep/b.flac", "deep/er/c.ogg"]


@pytest.mark.parametrize(("source", "target"), [("in", "in"), ("in/deep", "in"), ("in", "link")])
def test_an_output_never_replaces_an_input(tree, capfd, source, target):
    write(tree / "in/deep/deep/b.flac", voice(100))
    (tree / "link").symlink_to("in")
    before = {name: (tree / "in" / name).read_bytes() for name in files_below(tree / "in")}
    code, _, said = call(capfd, "--in", tree / source, "--out", tree / target)
    assert code == 2
    assert "would replace an input" in said
    assert {name: (tree / "in" / name).read_bytes() for name in files_below(tree / "in")} == before


def test_a_folder_without_sounds_and_a_file_as_output_are_usage_errors(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    code, _, said = call(capfd, "--in", tmp_path / "empty", "--out", tmp_path / "out")
    assert code == 2
    assert "holds no sound file" in said
    file = write(tmp_path / "a.wav", voice(100))
    code, _, said = call(capfd, "--in", tmp_path / "empty", "--out", file)
    assert code == 2
    assert "is a file" in said


def test_a_wrong_model_fails_once_and_not_once_a_file(tree, capfd):
    code, _, said = call(capfd, "--in", tree / "in", "--out", tree / "out", model="no-such-model")
    assert code == 2
    assert len(said.splitlines()) == 1
    assert not (tree / "out").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_no_half_file(tmp_path, jobs):
    for name in ("a.wav", "b.wav", "c.wav"):
        endless_wav(tmp_path / "in" / name)
    process = start("--in", tmp_path / "in", "--out", tmp_path / "out", "--jobs", jobs)
    wait_for(lambda: len(parts(tmp_path / "out")) == jobs)
    assert interrupt(process) == 130
    assert files_below(tmp_path / "out") == []


def test_what_cannot_be_filtered_is_named_and_counted_and_the_rest_is_done(tree, capfd):
    write(tree / "elsewhere/x.wav", voice(1_000))
    (tree / "in/linked").symlink_to(tree / "elsewhere")
    (tree / "in/within").symlink_to("deep")  # leads to what is filtered anyhow
    (tree / "in/dangling.wav").symlink_to("nowhere.wav")
    (tree / "in/talk.m4a").write_bytes(b"some")
    (tree / "in/program.ts").write_text("let a = 1")
    os.mkfifo(tree / "in/pipe.wav")
    code, out, said = call(capfd, "--in", tree / "in", "--out", tree / "out")
    assert (code, out) == (1, "")
    assert files_below(tree / "out") == ["a.wav", "deep/b.flac", "deep/er/c.ogg"]
    errors = [line for line in said.splitlines() if "error:" in line]
    for name in ("in/linked", "in/dangling.wav", "in/talk.m4a", "in/pipe.wav"):
        assert len([line for line in errors if name in line]) == 1
    assert len(errors) == 4
    assert "3 filtered, 4 failed" in said


def test_a_folder_that_cannot_be_read_is_named(tree, capfd, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("er"):
            raise PermissionError(13, "Permission denied", str(path))  # root may read everything
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, _, said = call(capfd, "--in", tree / "in", "--out", tree / "out")
    assert code == 1
    assert f"cannot read {tree / 'in/deep/er'}: Permission denied" in said
    assert "2 filtered, 1 failed" in said


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_output_folder_that_cannot_be_made_costs_its_files_alone(tree, capfd, jobs):
    (tree / "out").mkdir()
    (tree / "out/deep").write_text("a file stands where a folder should")
    code, _, said = call(capfd, "--in", tree / "in", "--out", tree / "out", "--jobs", jobs)
    assert code == 1
    assert "1 filtered, 2 failed" in said
    assert files_below(tree / "out") == ["a.wav", "deep"]


def test_an_output_folder_below_a_file_is_refused_at_once(tree, capfd):
    (tree / "file").touch()
    code, _, said = call(capfd, "--in", tree / "in", "--out", tree / "file/out")
    assert code == 2
    assert "cannot create" in said


@pytest.mark.parametrize(
    "problem", [ValueError("odd"), MemoryError(), UnicodeError("odd"), OSError(5, "Input/output error")]
)
def test_any_exception_is_its_files_error(tree, capfd, monkeypatch, problem):
    filter_sound = jobs.filter_sound

    def fail(source: str, *rest):
        if source.endswith("b.flac"):
            raise problem
        return filter_sound(source, *rest)

    monkeypatch.setattr(jobs, "filter_sound", fail)
    code, _, said = call(capfd, "--in", tree / "in", "--out", tree / "out")
    assert code == 1
    assert "deep/b.flac" in said
    assert "2 filtered, 1 failed" in said


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only names in Unicode")
@pytest.mark.parametrize("jobs", [1, 2])
def test_names_that_are_not_unicode_are_names(tmp_path, capfd, jobs):
    odd = os.fsdecode(b"\xff\xe9 caf\xe9.wav")
    (tmp_path / "in" / odd).write_bytes(write(tmp_path / "in/b.wav", voice(1_000)).read_bytes())
    code, out, said = call(capfd, "--in", tmp_path / "in", "--out", tmp_path / "out", "--jobs", jobs, "--json")
    assert (code, said) == (0, "")
    assert sorted(os.listdir(tmp_path / "out")) == sorted([odd, "b.wav"])
    assert sorted(json.loads(line)["in"] for line in out.splitlines()) == sorted(
        str(tmp_path / "in" / n) for n in (odd, "b.wav")
    )
    assert call(capfd, "--in", tmp_path / "in" / odd, "--out", tmp_path / odd)[0] == 0
    assert (tmp_path / odd).exists()
    (tmp_path / "in" / odd).write_text("no sound")
    assert call(capfd, "--in", tmp_path / "in", "--out", tmp_path / "out", "--overwrite")[0] == 1
