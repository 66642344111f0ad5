"""What is odd about a film is decided: sound stays in place, one line says what was done, no output is half written."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from fractions import Fraction

import numpy as np
import pytest
import soundfile

import rtdenoise
from command import call, interrupt, start, wait_for
from rtdenoise.errors import AudioFileError, UsageError

av = pytest.importorskip("av", minversion="18", reason="pip install 'rtdenoise[media]'")

from films import copied, decoded, lag, make, offset  # noqa: E402


def moved(source, target) -> float:
    """By how many samples the sound lies later than before, beside the picture."""
    (_, old, rate), (_, new, _) = decoded(source), decoded(target)
    return float((offset(target) - offset(source)) * rate + lag(old, new))


@pytest.mark.parametrize(("name", "form"), [("a.mp4", "mp4"), ("a.mov", "mov"), ("a.mkv", "matroska")])
def test_sound_that_begins_late_begins_late(tmp_path, capfd, name, form):
    source = make(tmp_path / name, form, "aac", "mpeg4", late_s=0.5)
    assert call(capfd, source, tmp_path / f"b-{name}")[0] == 0
    assert float(offset(tmp_path / f"b-{name}")) > 0.4, "silence of the encoders' delay may precede it"
    assert abs(moved(source, tmp_path / f"b-{name}")) <= (1 if form != "matroska" else 49)
    assert copied(tmp_path / f"b-{name}") == copied(source)


def test_a_sound_file_of_late_sound_begins_with_the_picture(tmp_path, capfd):
    source = make(tmp_path / "a.mp4", "mp4", "alac", "mpeg4", late_s=0.5)
    code, _, said = call(capfd, source, tmp_path / "b.wav")
    assert code == 0
    assert said.count("begins 0.50 s after the picture; silence precedes it\n") == 1
    sound, rate = soundfile.read(tmp_path / "b.wav", always_2d=True, dtype="float32")
    assert not sound[: rate // 2 - 64].any()
    assert abs(lag(decoded(source)[1], sound[rate // 2 :])) <= 1


@pytest.mark.parametrize(("name", "form", "audio"), [("a.mp4", "mp4", "aac"), ("a.mkv", "matroska", "libopus")])
def test_a_gap_becomes_silence_of_its_length(tmp_path, capfd, name, form, audio):
    source = make(tmp_path / name, form, audio, "mpeg4", gap=(0.6, 1.2), seconds=3)
    code, _, said = call(capfd, source, tmp_path / "b.mkv")
    assert code == 0
    assert said.count("has gaps in its sound") == 1
    (_, old, rate), (_, new, _) = decoded(source), decoded(tmp_path / "b.mkv")
    assert abs(len(new) - len(old)) < 2_048
    assert abs(lag(old, new)) <= rate / 1_000
    assert np.abs(new[round(0.75 * rate) : round(1.1 * rate)]).max() < 1e-3


def test_variable_frame_rate_is_kept(tmp_path, capfd):
    times = [0.0, 0.033, 0.2, 0.21, 0.5, 0.9, 0.95, 1.6, 1.9]
    source = make(tmp_path / "a.mp4", "mp4", "aac", "mpeg4", picture_times=times)
    assert call(capfd, source, tmp_path / "b.mp4")[0] == 0
    rows = [row for row in copied(tmp_path / "b.mp4") if row[0] == "video"]
    assert [time for _, time in rows[0][4]] == [round(1_000 * time) for time in times]
    assert copied(tmp_path / "b.mp4") == copied(source)
    assert abs(moved(source, tmp_path / "b.mp4")) <= 1


def test_sound_without_time_stamps_goes_on(tmp_path, capfd):
    source = make(tmp_path / "a.avi", "avi", "pcm_s16le", "mpeg4", 16_000)
    assert call(capfd, source, tmp_path / "b.mkv")[0] == 0
    (_, old, _), (_, new, _) = decoded(source), decoded(tmp_path / "b.mkv")
    assert abs(lag(old, new)) <= 1
    assert len(new) == len(old)


@pytest.mark.parametrize(("name", "form"), [("a.mkv", "matroska"), ("a.ts", "mpegts"), ("a.webm", "webm")])
def test_a_truncated_file_is_filtered_as_far_as_it_goes(tmp_path, capfd, name, form):
    video, audio = ("libvpx", "libopus") if form == "webm" else ("libx264", "aac")
    source = make(tmp_path / name, form, audio, video, seconds=6)
    source.write_bytes(source.read_bytes()[: os.path.getsize(source) // 2])
    code, _, said = call(capfd, source, tmp_path / f"b-{name}")
    assert code == 0, said
    assert said.count("is truncated") == (1 if form != "mpegts" else 0), "a stream does not know how long it was to be"
    assert copied(tmp_path / f"b-{name}") == copied(source)
    assert len(decoded(tmp_path / f"b-{name}")[1]) >= len(decoded(source)[1]) - 4_096


def test_an_mp4_without_its_index_is_refused_in_one_line(tmp_path, capfd):
    source = make(tmp_path / "a.mp4", "mp4", "aac", "mpeg4")
    source.write_bytes(source.read_bytes()[: os.path.getsize(source) // 2])
    code, _, said = call(capfd, source, tmp_path / "b.mp4")
    assert (code, said.count("\n")) == (1, 1)
    assert "is damaged, or no media file" in said
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_packets_that_cannot_be_decoded_become_silence_and_are_named(tmp_path, capfd):
    source = make(tmp_path / "a.mka", "matroska", "libopus", None, seconds=3)
    data = bytearray(source.read_bytes())
    at = len(data) // 2
    data[at : at + 1_500] = bytes(b ^ 0xFF for b in data[at : at + 1_500])
    source.write_bytes(data)
    code, _, said = call(capfd, source, tmp_path / "b.mka")
    assert code in (0, 1)
    assert "Traceback" not in said
    assert (tmp_path / "b.mka").exists()
    assert said, "nothing was said of the damage"


@pytest.mark.parametrize("seed", range(12))
def test_a_film_with_changed_bytes_ends_in_an_output_or_a_line(tmp_path, capfd, seed):
    form, name = [("mp4", "a.mp4"), ("matroska", "a.mkv"), ("mpegts", "a.ts"), ("adts", "a.aac")][seed % 4]
    source = make(tmp_path / name, form, "aac", None if form == "adts" else "mpeg4", seconds=1)
    rng = np.random.default_rng(seed)
    data = bytearray(source.read_bytes())
    for at in rng.integers(0, len(data), 40):
        data[at] = int(rng.integers(0, 256))
    source.write_bytes(data)
    code, _, said = call(capfd, source, tmp_path / f"b-{name}")
    assert "Traceback" not in said
    assert code in (0, 1), said
    assert {path.name for path in tmp_path.iterdir()} <= {name, f"b-{name}"}
    assert (tmp_path / f"b-{name}").exists() == (not said.startswith("rtdenoise: error")), said


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--track", "3"], 2, "has 2 audio tracks, there is no track 3"),
        (["--track", "0"], 2, "give a whole number from 1 to 1,000"),
        (["--audio-codec", "nonsense"], 2, "is no encoder that is installed"),
        (["--audio-codec", "libx264"], 2, "cannot hold libx264"),
        (["--audio-codec", "wavpack"], 2, "cannot hold wavpack"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(tmp_path, capfd, options, code, says):
    source = make(tmp_path / "a.mp4", "mp4", "aac", "mpeg4", tracks=2, seconds=1)
    got, _, said = call(capfd, source, tmp_path / "b.mp4", *options)
    assert (got, said.count("\n")) == (code, 1)
    assert says in said
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_options_of_films_are_refused_elsewhere(tmp_path, capfd):
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000, np.float32), 8_000)
    for options in (["--track", "2"], ["--audio-codec", "aac"]):
        code, _, said = call(capfd, tmp_path / "a.wav", tmp_path / "b.wav", *options)
        assert (code, said.count("\n")) == (2, 1)
        assert options[0] in said
    source = make(tmp_path / "a.mkv", "matroska", "aac", tracks=2, seconds=1)
    code, _, said = call(capfd, source, tmp_path / "b.wav", "--track", "all")
    assert (code, "give --track a number" in said) == (2, True)
    code, _, said = call(capfd, source, tmp_path / "b.ape")
    assert (code, "can be read but not written" in said) == (2, True)


def test_a_film_without_sound_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        film.mux(stream.encode(None))
    with pytest.raises(AudioFileError, match="no audio track"):
        rtdenoise.denoise_file(tmp_path / "a.mp4", tmp_path / "b.mp4")


def test_a_film_is_known_by_its_beginning_where_its_name_says_otherwise(tmp_path, capfd):
    make(tmp_path / "a.mp4", "mp4", "aac").rename(tmp_path / "a.wav")
    assert call(capfd, tmp_path / "a.wav", tmp_path / "b.wav")[0] == 0
    assert soundfile.info(tmp_path / "b.wav").duration == pytest.approx(2, abs=0.05)


def test_without_the_extra_one_line_names_it(tmp_path, capfd, monkeypatch):
    source = make(tmp_path / "a.mp4", "mp4", "aac", seconds=1)
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("rtdenoise.io.media.is_available", lambda: False)
    soundfile.write(tmp_path / "c.wav", np.zeros(8_000, np.float32), 8_000)
    for ends in ((source, tmp_path / "b.mp4"), (source, tmp_path / "b.wav"), (tmp_path / "c.wav", tmp_path / "b.m4a")):
        code, _, said = call(capfd, *ends)
        assert (code, said.count("\n")) == (1, 1)
        assert "pip install 'rtdenoise[media]'" in said
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "c.wav"]
    code, _, said = call(capfd, "--in", tmp_path, "--out", tmp_path / "out")
    assert code == 1
    assert "pip install 'rtdenoise[media]'" in said
    assert (tmp_path / "out/c.wav").exists()


def test_an_old_pyav_is_refused_before_it_crashes(tmp_path, capfd, monkeypatch):
    source = make(tmp_path / "a.mp4", "mp4", "aac", seconds=1)
    monkeypatch.setattr(av, "__version__", "16.1.0")
    code, _, said = call(capfd, source, tmp_path / "b.mp4")
    assert (code, said.count("\n")) == (1, 1)
    assert "needs PyAV 18 or later" in said


def test_pyav_is_loaded_only_for_films():
    import subprocess

    lines = "import sys, rtdenoise.io.pipeline, rtdenoise.io.batch, rtdenoise.cli.main; assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", lines], check=True)


def test_an_existing_output_needs_overwrite(tmp_path, capfd):
    source = make(tmp_path / "a.mp4", "mp4", "aac", seconds=1)
    (tmp_path / "b.mp4").write_text("mine")
    assert call(capfd, source, tmp_path / "b.mp4")[0] == 2
    with pytest.raises(UsageError, match="exists"):
        rtdenoise.denoise_file(source, tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_text() == "mine"
    assert call(capfd, source, tmp_path / "b.mp4", "--overwrite")[0] == 0
    assert call(capfd, source, source, "--overwrite")[0] == 2, "the input itself"


def test_a_full_disk_leaves_nothing(tmp_path, capfd, monkeypatch):
    source = make(tmp_path / "a.mp4", "mp4", "pcm_s16le", "mpeg4")
    whole = rtdenoise.io.atomic.AtomicFile

    class Full(whole):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.file = Limited(self.file)

    class Limited(io.BufferedIOBase):
        def __init__(self, file):
            self.inner = file

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def seek(self, *where):
            return self.inner.seek(*where)

        def tell(self):
            return self.inner.tell()

        def truncate(self, size=None):
            return self.inner.truncate(size)

        def readable(self):
            return True

        def writable(self):
            return True

        def seekable(self):
            return True

        def close(self):
            self.inner.close()

    monkeypatch.setattr("rtdenoise.io.media_sink.AtomicFile", Full)
    code, _, said = call(capfd, source, tmp_path / "b.mp4")
    assert (code, said.count("\n")) == (1, 1), said
    assert "No space left on device; free some space" in said
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_film(tmp_path, number):
    source = make(tmp_path / "a.mka", "matroska", "pcm_s16le", None, 96_000, 2, seconds=120)
    process = start("--in", source, "--out", tmp_path / "b.mka", "--model", "unet")
    wait_for(lambda: len(os.listdir(tmp_path)) > 1 or process.poll() is not None)
    assert process.poll() is None
    code = interrupt(process, number)
    assert code == (130 if number == signal.SIGINT else -number)
    assert not (tmp_path / "b.mka").exists()
    if number == signal.SIGINT:
        assert os.listdir(tmp_path) == ["a.mka"]


def test_the_time_line_is_that_of_the_source(tmp_path, capfd):
    """Of several films in turn: the tenth generation lies where the first one did."""
    first = make(tmp_path / "0.mp4", "mp4", "aac", "mpeg4")
    for k in range(4):
        assert call(capfd, tmp_path / f"{k}.mp4", tmp_path / f"{k + 1}.mp4")[0] == 0
    assert abs(moved(first, tmp_path / "4.mp4")) <= 1
    assert abs(offset(tmp_path / "4.mp4") - offset(first)) < Fraction(1, 1_000)
