"""`denoise_file` and `denoise_folder`: the command line's results from Python, safe inside any program."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import graphs
import rtdenoise
from command import identity_model, voice, write

RATE = 16_000


@pytest.fixture
def noisy(tmp_path) -> Path:
    return write(tmp_path / "noisy.wav", voice(RATE), subtype="FLOAT")


def test_a_file_is_filtered_as_the_same_samples_in_an_array_are(tmp_path, noisy):
    report = rtdenoise.denoise_file(noisy, tmp_path / "clean.wav", strength_db=12, latency="low")
    samples = soundfile.read(noisy, dtype="float32")[0]
    expected = rtdenoise.denoise(samples, RATE, strength_db=12, latency="low")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "clean.wav", dtype="float32")[0], expected)
    assert isinstance(report, rtdenoise.FileReport)
    assert (report.rate, report.channels, report.seconds, report.latency_ms) == (RATE, 1, 1.0, 24.0)
    assert report.speed > 0
    assert report.source == str(noisy)


@pytest.mark.parametrize("kind", [str, Path])
def test_names_may_be_text_or_paths(tmp_path, noisy, kind):
    rtdenoise.denoise_file(kind(noisy), kind(tmp_path / "clean.flac"), model=kind(identity_model()))
    np.testing.assert_allclose(soundfile.read(tmp_path / "clean.flac")[0], soundfile.read(noisy)[0], atol=1e-5)


def test_an_existing_output_is_kept_unless_overwriting_is_asked_for(tmp_path, noisy):
    target = tmp_path / "clean.wav"
    target.write_bytes(b"precious")
    with pytest.raises(rtdenoise.UsageError, match=r"clean\.wav exists; .*overwrite"):
        rtdenoise.denoise_file(noisy, target, model=identity_model())
    assert target.read_bytes() == b"precious"
    rtdenoise.denoise_file(noisy, target, model=identity_model(), overwrite=True)
    assert soundfile.info(target).frames == RATE


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input_itself_is_never_the_output(noisy, overwrite):
    before = noisy.read_bytes()
    with pytest.raises(rtdenoise.UsageError, match="the input itself"):
        rtdenoise.denoise_file(noisy, noisy.parent / "." / noisy.name, model=identity_model(), overwrite=overwrite)
    assert noisy.read_bytes() == before


def test_progress_counts_up_to_the_duration_and_may_end_the_work(tmp_path):
    source, heard = write(tmp_path / "long.wav", voice(3 * RATE)), []
    rtdenoise.denoise_file(
        source, tmp_path / "a.wav", model=identity_model(), progress=lambda *seconds: heard.append(seconds)
    )
    assert heard == [(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)]

    def cancel(done_s: float, total_s: float | None) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        rtdenoise.denoise_file(source, tmp_path / "b.wav", model=identity_model(), progress=cancel)
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "long.wav"]


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"model": "no-such-model"}, rtdenoise.UsageError, "no-such-model"),
        ({"strength_db": -1}, rtdenoise.UsageError, "-1"),
        ({"strength_db": float("nan")}, rtdenoise.UsageError, "nan"),
        ({"latency": "lowest"}, rtdenoise.UsageError, "lowest"),
    ],
)
def test_a_setting_out_of_range_is_named_before_anything_is_written(tmp_path, noisy, options, error, named):
    with pytest.raises(error, match=named):
        rtdenoise.denoise_file(noisy, tmp_path / "clean.wav", **options)
    with pytest.raises(error, match=named):
        rtdenoise.denoise_folder(tmp_path, tmp_path / "out", **options)
    assert os.listdir(tmp_path) == ["noisy.wav"]


@pytest.mark.parametrize("name", ["missing.wav", "-"])
def test_a_missing_file_is_an_error_whatever_its_name(tmp_path, monkeypatch, name):
    """A program's own standard input is nobody's to read."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rtdenoise.UsageError, match="does not exist"):
        rtdenoise.denoise_file(name, "clean.wav", model=identity_model())


def test_a_model_file_that_has_changed_is_loaded_anew(tmp_path, noisy):
    path = shutil.copy(identity_model(), tmp_path / "mine.onnx")
    rtdenoise.denoise_file(noisy, tmp_path / "same.wav", model=path)
    graphs.delay(Path(path))  # three frames late
    os.utime(path, ns=(time.time_ns(), time.time_ns()))
    rtdenoise.denoise_file(noisy, tmp_path / "late.wav", model=path)
    same, late = (soundfile.read(tmp_path / name)[0] for name in ("same.wav", "late.wav"))
    np.testing.assert_allclose(late[192:], same[:-192], atol=1e-5)


class TestFolder:
    @pytest.fixture
    def recordings(self, tmp_path) -> Path:
        for k, name in enumerate(("a.wav", "below/b.flac")):
            write(tmp_path / "in" / name, voice(RATE, seed=k))
        (tmp_path / "in" / "broken.wav").write_bytes(b"no sound")
        return tmp_path / "in"

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_each_file_has_its_outcome_and_a_bad_one_stops_none(self, tmp_path, recordings, jobs):
        heard: list[rtdenoise.FileOutcome] = []
        outcomes = rtdenoise.denoise_folder(
            recordings, tmp_path / "out", model=identity_model(), jobs=jobs, progress=heard.append
        )
        assert heard == outcomes
        by_name = {Path(outcome.source).name: outcome for outcome in outcomes}
        assert sorted(by_name) == ["a.wav", "b.flac", "broken.wav"]
        assert "broken.wav" in str(by_name["broken.wav"].error)
        for name in ("a.wav", "b.flac"):
            assert by_name[name].report is not None
            assert soundfile.info(by_name[name].target).frames == RATE

    def test_a_second_run_skips_what_is_done_and_overwrites_when_asked_to(self, tmp_path, recordings):
        run = lambda **options: rtdenoise.denoise_folder(
            recordings, tmp_path / "out", model=identity_model(), **options
        )
        assert [o.skipped for o in run()].count(True) == 0
        assert [o.skipped for o in run()].count(True) == 2
        assert [o.skipped for o in run(overwrite=True)].count(True) == 0

    def test_a_file_in_the_place_of_a_folder_is_refused(self, tmp_path, recordings):
        with pytest.raises(rtdenoise.UsageError, match="is no folder"):
            rtdenoise.denoise_folder(recordings / "a.wav", tmp_path / "out")
        with pytest.raises(rtdenoise.UsageError, match="give 1 or more"):
            rtdenoise.denoise_folder(recordings, tmp_path / "out", jobs=0)
        assert not (tmp_path / "out").exists()

    def test_folders_in_several_threads_leave_the_program_as_it_was(self, tmp_path, recordings):
        def state() -> tuple:
            streams = tuple(os.fstat(fd)[:2] for fd in (0, 1, 2))
            return streams, os.getcwd(), dict(os.environ), sys.stderr, threading.active_count()

        before, found = state(), []
        threads = [
            threading.Thread(
                target=lambda k=k: found.append(
                    rtdenoise.denoise_folder(recordings, tmp_path / str(k), model=identity_model(), jobs=1 + k)
                )
            )
            for k in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert state() == before
        assert [sum(o.report is not None for o in outcomes) for outcomes in found] == [2, 2]
