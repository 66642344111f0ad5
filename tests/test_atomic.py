"""A file appears under its name whole or not at all, nobody can plant or read it before, and its rights are kept."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from command import DEADLINE_S, ENVIRONMENT, call, endless_wav, parts, start, voice, wait_for, write
from rtdenoise.io import atomic
from rtdenoise.io.atomic import AtomicFile, replacing, sweep, write_text
from rtdenoise.io.sound_sink import SoundFileSink


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def hold(target: Path, recording: bool = False) -> subprocess.Popen:
    """A process that writes an output and never ends; returns once its bytes are in the part file."""
    code = (
        "import sys, time; from rtdenoise.io.atomic import AtomicFile\n"
        f"f = AtomicFile(sys.argv[1], recording={recording}); f.file.write(b'half'); f.file.flush()\n"
        "print('there', flush=True); time.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, target], env=ENVIRONMENT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate(timeout=DEADLINE_S)


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_whatever_goes_wrong_the_old_content_stays_and_nothing_else(tmp_path, problem):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(problem), replacing(target) as file:  # noqa: PT012
        file.write(b"new")
        raise problem
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


def test_while_it_is_written_only_its_owner_can_read_it(tmp_path):
    with AtomicFile(tmp_path / "a") as whole:
        assert mode(whole.part) == 0o600
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kept", [0o600, 0o644, 0o664, 0o640, 0o755, 0o4711])
def test_an_output_that_exists_keeps_its_mode_but_no_set_user_id(tmp_path, kept):
    target = tmp_path / "a"
    target.touch()
    target.chmod(kept)
    write_text(target, "new")
    assert (target.read_text(), mode(target)) == ("new", kept & 0o777)


@pytest.mark.parametrize(
    ("umask", "like", "expected"),
    [
        (0o022, None, 0o644),
        (0o077, None, 0o600),
        (0o022, 0o600, 0o600),
        (0, 0o444, 0o644),
        (0o027, 0o666, 0o640),
        (0o022, 0o755, 0o644),
    ],
)
def test_a_new_output_gets_the_inputs_mode_less_the_umask(tmp_path, umask, like, expected):
    if like is not None:
        (tmp_path / "in").touch()
        (tmp_path / "in").chmod(like)
    before = os.umask(umask)
    try:
        with AtomicFile(tmp_path / "a", like=None if like is None else tmp_path / "in"):
            pass
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == expected


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_owner_and_group_are_kept_where_permitted(tmp_path):
    target = tmp_path / "a"
    target.touch()
    os.chown(target, 1234, 5678)
    target.chmod(0o660)
    write_text(target, "new")
    assert (target.stat().st_uid, target.stat().st_gid, mode(target)) == (1234, 5678, 0o660)


def test_a_group_that_may_not_be_given_gets_no_more_than_everybody(tmp_path, monkeypatch):
    target = tmp_path / "a"
    target.touch()
    target.chmod(0o664)
    before = os.stat_result((*target.stat()[:5], 5678, *target.stat()[6:]))
    monkeypatch.setattr(atomic, "_status", lambda path: before)
    monkeypatch.setattr(os, "fchown", lambda *_: (_ for _ in ()).throw(PermissionError()))
    write_text(target, "new")
    assert mode(target) == 0o644


def test_an_output_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    target = tmp_path / "a"
    target.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, how: False)  # root may write everything
    with pytest.raises(PermissionError) as problem:
        write_text(target, "new")
    assert problem.value.filename == str(target)
    assert target.read_text() == "old"


def test_a_planted_link_under_the_parts_name_is_never_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    tokens = iter(["00" * 8, "11" * 8])
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: next(tokens))
    planted = tmp_path / f".a.rtdenoise-{atomic._machine()}-{'00' * 8}.part"
    planted.symlink_to(victim)
    write_text(tmp_path / "a", "new")
    assert (victim.read_text(), (tmp_path / "a").read_text()) == ("precious", "new")
    assert planted.readlink() == victim


def test_a_link_stays_a_link_even_one_that_leads_nowhere_yet(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_circle_of_links_is_an_error_and_stays(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="a"):
        write_text(tmp_path / "a", "new")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_symlink()) == ["a", "b"]


def test_devices_and_pipes_are_written_as_they_are(tmp_path):
    write_text(os.devnull, "new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "new")
    reader.join(DEADLINE_S)
    assert heard == ["new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["ö" * 127, "a" * 255, "€" * 85, ".hidden", "line\nbreak", "a" * 79 + "ö"])
def test_any_name_the_system_takes_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "new")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only names in Unicode")
@given(name=st.binary(min_size=1, max_size=255).filter(lambda n: b"/" not in n and b"\0" not in n and n.strip(b".")))
def test_any_bytes_can_be_a_name(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("names")
    write_text(os.path.join(os.fsencode(folder), name).decode(errors="surrogateescape"), "new")
    assert os.listdir(os.fsencode(folder)) == [name]


def test_writers_of_one_name_do_not_mix(tmp_path):
    target, contents = tmp_path / "a", [bytes([k]) * 100_000 for k in range(8)]

    def put(content: bytes) -> None:
        for _ in range(20):
            with replacing(target) as file:
                for at in range(0, len(content), 10_000):
                    file.write(content[at : at + 10_000])

    threads = [threading.Thread(target=put, args=(c,)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in contents
    assert os.listdir(tmp_path) == ["a"]


def test_outputs_whose_long_names_begin_alike_are_both_whole(tmp_path):
    names = [tmp_path / f"{'interview_with_a_very_long_name_' * 3}{k}.wav" for k in range(2)]
    with (
        SoundFileSink(str(names[0]), 16_000, 1, "WAV", "FLOAT") as a,
        SoundFileSink(str(names[1]), 16_000, 1, "WAV", "FLOAT") as b,
    ):
        for _ in range(20):
            a.write(np.full((1_000, 1), 0.25, np.float32))
            b.write(np.full((1_000, 1), 0.5, np.float32))
    assert [set(soundfile.read(name)[0]) for name in names] == [{0.25}, {0.5}]


def test_what_a_killed_process_left_is_cleared_by_the_next_and_a_living_ones_part_is_not(tmp_path):
    dead, alive = hold(tmp_path / "dead"), hold(tmp_path / "alive")
    kill(dead)
    try:
        sweep(tmp_path, now=True)
        (left,) = os.listdir(tmp_path)
        assert left.startswith(".alive.")
    finally:
        kill(alive)
    write_text(tmp_path / "other", "new")  # looked through a moment ago: not again at once
    sweep(tmp_path, now=True)
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.slow
def test_the_command_clears_what_its_killed_forerunner_left(tmp_path):
    source = endless_wav(tmp_path / "a.wav")
    process = start("--in", source, "--out", tmp_path / "b.wav")
    wait_for(lambda: parts(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)
    assert len(list(tmp_path.glob(".*.part"))) == 1
    write(tmp_path / "a.wav", voice(1_000))
    again = start("--in", source, "--out", tmp_path / "b.wav")
    again.communicate(timeout=DEADLINE_S)
    assert again.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "b.wav"]


def test_parts_of_another_machine_are_cleared_when_nothing_wrote_them_for_a_day(tmp_path):
    fresh, old = (tmp_path / f".a.rtdenoise-{'0' * 8}-{k * 16}.part" for k in "01")
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 100_000,) * 2)
    sweep(tmp_path, now=True)
    assert list(tmp_path.iterdir()) == [fresh]


@pytest.mark.parametrize("name", [".a.part", ".a.rtdenoise-12.part", "a.rtdenoise-00000000-0000000000000000.part"])
def test_files_of_others_are_not_cleared(tmp_path, name):
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path, now=True)
    assert os.listdir(tmp_path) == [name]


def test_a_planted_link_is_not_cleared_nor_what_it_points_to(tmp_path):
    (tmp_path / "victim").write_text("precious")
    link = tmp_path / f".a.rtdenoise-{'0' * 8}-{'0' * 16}.part"
    link.symlink_to("victim")
    os.utime(tmp_path / "victim", (0, 0))
    sweep(tmp_path, now=True)
    assert link.is_symlink()
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_killed_recording_gets_a_name_one_can_see_and_its_place_is_said(tmp_path, capfd):
    kill(hold(tmp_path / "talk.wav", recording=True))
    source = write(tmp_path / "a.wav", voice(1_000))
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "b.wav")
    (rescued,) = tmp_path.glob("talk.interrupted-*.wav")
    assert rescued.read_bytes() == b"half"
    assert code == 0
    assert f"a recording that was interrupted lies in {rescued}" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b.wav", rescued.name]


def test_a_private_output_and_the_output_of_a_private_input_stay_private(tmp_path, capfd):
    source, target = write(tmp_path / "a.wav", voice(1_000)), tmp_path / "b.wav"
    source.chmod(0o600)
    assert call(capfd, "--in", source, "--out", target)[0] == 0
    assert mode(target) == 0o600
    source.chmod(0o644)
    assert call(capfd, "--in", source, "--out", target)[0] == 0
    assert mode(target) == 0o600
