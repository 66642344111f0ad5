"""A long recording in pieces: what one pass gives, whatever the number of workers, and resumed where it stopped.

That the shipped models have forgotten after the true warm-up is measured by ``stress/warm_up.py``, in minutes.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile

from command import identity_model, voice, write
from rtdenoise import denoise_folder
from rtdenoise.io import jobs, pieces
from rtdenoise.io.batch import filter_jobs, find_jobs
from rtdenoise.io.executors import Here
from rtdenoise.io.pipeline import Settings, filter_sound

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Minutes stand for hours."""
    monkeypatch.setattr(pieces, "PIECE_S", 10.0)
    monkeypatch.setattr(pieces, "LONGEST_WHOLE_S", 20.0)
    monkeypatch.setattr(pieces, "WARM_UP_S", 2.0)
    monkeypatch.setattr(pieces, "_SEARCH_S", 1.0)
    monkeypatch.setattr(pieces, "_LEAST_BYTES", 0)


@pytest.fixture(params=[(16_000, 1, "wav"), (44_100, 2, "flac")], ids=str)
def recording(request, tmp_path):
    rate, channels, extension = request.param
    samples = voice(round(47.3 * rate), channels)
    samples[10 * rate] = np.nan if extension == "wav" else 0
    return write(tmp_path / f"in/long.{extension}", samples, rate, "FLOAT" if extension == "wav" else None)


def cut(path, target="out/x.wav"):
    return pieces.cut(str(path), str(target), path.stat().st_size, Settings(identity_model()))


def test_cuts_depend_on_the_recording_alone_and_cover_it(recording):
    found = cut(recording)
    info = soundfile.info(recording)
    assert len(found) == 5
    assert [piece.start for piece in found[1:]] == [piece.stop for piece in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, info.frames)
    assert found == cut(recording)


def test_cuts_lie_in_pauses(tmp_path):
    samples = voice(16_000 * 30)
    quiet = slice(round(9.4 * 16_000), round(9.8 * 16_000))
    samples[quiet] *= 0.01
    (first, *_) = cut(write(tmp_path / "a.wav", samples, 16_000))
    assert quiet.start < first.stop < quiet.stop


def test_pieces_joined_are_one_pass(recording, tmp_path):
    """With a model that forgets at once they are equal, the count of faulty samples too."""
    (job,) = find_jobs(str(recording.parent), str(tmp_path / "out"))
    settings = Settings(identity_model())
    (outcome,) = filter_jobs([job], settings, 1)
    report = filter_sound(job.source, str(tmp_path / f"one{recording.suffix}"), settings)
    whole, joined = (soundfile.read(path, dtype="float32")[0] for path in (report.target, job.target))
    assert outcome.error is None
    np.testing.assert_allclose(joined, whole, atol=1e-6)
    assert (outcome.report.seconds, outcome.report.nonfinite) == (report.seconds, report.nonfinite)
    assert os.listdir(tmp_path / "out") == [recording.name]


@pytest.mark.parametrize("processes", [1, 3])
def test_any_number_of_workers_gives_the_same_bytes(recording, tmp_path, processes, monkeypatch):
    settings = Settings(identity_model())
    filter_jobs(find_jobs(str(recording.parent), str(tmp_path / "here")), settings, Here())
    filter_jobs(find_jobs(str(recording.parent), str(tmp_path / "there")), settings, processes)
    assert (tmp_path / "here" / recording.name).read_bytes() == (tmp_path / "there" / recording.name).read_bytes()


def test_finished_pieces_are_used_again(recording, tmp_path, monkeypatch):
    settings, folder = Settings(identity_model()), str(tmp_path / "out")

    class Enough(Exception):
        pass

    done, filter_piece = [], pieces.filter_piece

    def three(piece, settings):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(piece)
        filter_piece(piece, settings)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "filter_piece", three)
        with pytest.raises(KeyboardInterrupt):
            filter_jobs(find_jobs(str(recording.parent), folder), settings, 1)
    made, _filter = [], pieces._filter
    monkeypatch.setattr(pieces, "_filter", lambda piece, settings: (made.append(piece), _filter(piece, settings)))
    assert [o.error for o in filter_jobs(find_jobs(str(recording.parent), folder), settings, 1)] == [None]
    assert len(made) == 2
    assert os.listdir(folder) == [recording.name]


def test_a_recording_that_is_damaged_is_filtered_in_one_pass(tmp_path):
    """Which knows how to go on behind the damage."""
    source = write(tmp_path / "in/long.flac", voice(16_000 * 47), 16_000)
    data = bytearray(source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5_000] = bytes(5_000)
    source.write_bytes(data)
    (outcome,) = denoise_folder(tmp_path / "in", tmp_path / "out", model=identity_model())
    assert outcome.report.damaged
    assert soundfile.info(tmp_path / "out/long.flac").frames == 16_000 * 47
    assert os.listdir(tmp_path / "out") == ["long.flac"]


def test_short_recordings_and_lossy_ones_are_not_cut(tmp_path):
    assert cut(write(tmp_path / "a.wav", voice(16_000 * 20), 16_000)) == []
    assert cut(write(tmp_path / "b.ogg", voice(16_000 * 60), 16_000)) == []
