"""Bad input ends in one line that says what to do, the promised exit code, and no output."""

import os
import resource
import sys

import numpy as np
import pytest
import soundfile

import graphs
import rtdenoise
from command import DEADLINE_S, call, identity_model, pipe, start, voice, write
from rtdenoise.errors import UsageError

USAGE, FAILURE = 2, 1


@pytest.fixture
def good(tmp_path):
    """A sound file with nothing wrong."""
    return write(tmp_path / "good.wav", voice(16_000))


def refuse(capfd, tmp_path, code: int, *says: str, model: str | None = None, **ends: object) -> str:
    """Run ``--in .. --out ..``; assert one line with all of ``says``, the code, and that the folder has nothing new."""
    before = sorted(os.listdir(tmp_path))
    argv = [a for name, end in ({"out": tmp_path / "clean.wav"} | ends).items() for a in (f"--{name}", end)]
    got, out, said = call(capfd, *argv, model=model)
    assert (got, out) == (code, ""), said
    assert said.startswith("rtdenoise: error: ")
    assert said.count("\n") == 1, said
    for text in says:
        assert text in said
    assert sorted(os.listdir(tmp_path)) == before
    return said


def test_missing_file(tmp_path, capfd):
    refuse(capfd, tmp_path, USAGE, "no.wav does not exist", "check the name", **{"in": tmp_path / "no.wav"})


def test_missing_file_while_the_output_exists(tmp_path, capfd, good):
    refuse(capfd, tmp_path, USAGE, "does not exist", **{"in": tmp_path / "no.wav", "out": good})


def test_empty_file(tmp_path, capfd):
    (tmp_path / "a.wav").touch()
    refuse(capfd, tmp_path, FAILURE, "is empty (0 bytes)", **{"in": tmp_path / "a.wav"})


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.aiff"])
def test_sound_file_without_audio(tmp_path, capfd, name):
    source = write(tmp_path / name, np.zeros((0, 1), np.float32))
    refuse(capfd, tmp_path, FAILURE, name, **{"in": source})


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.txt", "a.raw", "a.mp3"])
def test_file_that_is_no_sound(tmp_path, capfd, name):
    (tmp_path / name).write_text("These are words, not waves. " * 100)
    refuse(capfd, tmp_path, FAILURE, "is not a sound file", "convert it", **{"in": tmp_path / name})


@pytest.mark.parametrize("name", ["a.m4a", "it is.mp4", "a.aac", "a.wma", "a.webm"])
def test_format_that_needs_the_extra_names_it_and_the_way_without(tmp_path, capfd, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(2_000))
    source = tmp_path / name
    quoted = f"'{source}'" if " " in name else str(source)
    says = "pip install 'rtdenoise[media]'", f"e.g. ffmpeg -i {quoted} ", ".wav"
    refuse(capfd, tmp_path, FAILURE, *says, **{"in": source})


def test_array_with_channels_first_says_the_shape_expected():
    for shape in ((2, 48_000), (3, 4, 5), ()):
        with pytest.raises(UsageError, match=r"give \[samples\] or \[samples, channels\]"):
            rtdenoise.denoise(np.zeros(shape, np.float32), 48_000, identity_model())
    with pytest.raises(UsageError, match=r"give x\.T"):
        rtdenoise.Denoiser(identity_model(), 48_000, 2).process(np.zeros((2, 480), np.float32))


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_truncated_file_is_filtered_as_far_as_it_goes_with_a_warning(tmp_path, capfd, name):
    source = write(tmp_path / name, voice(16_000))
    source.write_bytes(source.read_bytes()[:20_000])
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "clean.wav")
    assert code == 0
    assert "is truncated" in said
    assert soundfile.info(tmp_path / "clean.wav").frames == pytest.approx(9_978, abs=30)


def test_truncated_flac_is_filtered_as_far_as_it_goes_with_a_warning(tmp_path, capfd):
    source = write(tmp_path / "a.flac", voice(80_000))
    source.write_bytes(source.read_bytes()[:-70_000])
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "clean.flac")
    assert code == 0
    assert "samples cannot be read" in said
    assert soundfile.info(tmp_path / "clean.flac").frames >= 16_000


@pytest.mark.parametrize("rate", [4_000, 7_999, 192_001, 384_000])
def test_rate_out_of_range(tmp_path, capfd, rate):
    source = write(tmp_path / "a.wav", voice(2_000), rate)
    refuse(capfd, tmp_path, USAGE, f"{rate} Hz", "resample", **{"in": source})


def test_nine_channels(tmp_path, capfd):
    refuse(capfd, tmp_path, USAGE, "9 channels", "split", **{"in": write(tmp_path / "a.wav", voice(2_000, 9))})


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_output_that_is_the_input(tmp_path, capfd, good, link):
    same = tmp_path / "same.wav" if link else good
    if link:
        link(good, same)
    before = good.read_bytes()
    refuse(capfd, tmp_path, USAGE, "is the input itself", "another name", **{"in": good, "out": same})
    assert good.read_bytes() == before


def test_output_that_cannot_be_written(tmp_path, capfd, good):
    (tmp_path / "folder.wav").mkdir()
    refuse(capfd, tmp_path, USAGE, "is a folder", **{"in": good, "out": tmp_path / "folder.wav"})
    refuse(capfd, tmp_path, FAILURE, "does not exist; create it", **{"in": good, "out": tmp_path / "no/clean.wav"})
    refuse(capfd, tmp_path, FAILURE, "cannot write", **{"in": good, "out": good / "clean.wav"})
    refuse(capfd, tmp_path, FAILURE, "cannot write", **{"in": good, "out": "/proc/clean.wav"})


@pytest.mark.parametrize("name", ["clean", "clean.xyz"])
def test_output_name_that_names_no_format(tmp_path, capfd, good, name):
    refuse(capfd, tmp_path, USAGE, "names no sound format", ".flac", **{"in": good, "out": tmp_path / name})


def test_formats_that_cannot_hold_the_sound(tmp_path, capfd):
    source = write(tmp_path / "a.wav", voice(2_000, 3), 44_100)
    refuse(capfd, tmp_path, USAGE, "Opus supports", **{"in": source, "out": tmp_path / "a.opus"})
    refuse(capfd, tmp_path, USAGE, "MP3 supports at most", **{"in": source, "out": tmp_path / "a.mp3"})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clean.wav", "clean.flac", "clean.ogg", "clean.mp3"])
def test_full_disk(tmp_path, name):
    source = write(tmp_path / "a.wav", voice(480_000), 48_000)
    small = (40_000, 40_000)  # bytes a file may have: the write fails like one on a full disk
    process = start(
        "--in", source, "--out", tmp_path / name, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, small)
    )
    said = process.communicate(timeout=DEADLINE_S)[1].decode()
    assert process.returncode == FAILURE
    assert "free some space" in said
    assert said.count("\n") == 1, said
    assert os.listdir(tmp_path) == ["a.wav"]


def test_disk_that_is_full_only_when_the_file_is_closed(tmp_path, capfd, good, monkeypatch):
    shorter = soundfile.info(good)
    shorter.frames -= 1
    monkeypatch.setattr(soundfile, "info", lambda path: shorter)
    refuse(capfd, tmp_path, FAILURE, "No space left on device", **{"in": good})


def test_nan_samples_are_zeroed_counted_and_reported(tmp_path, capfd):
    sound = voice(16_000, 2)
    sound[100:110, 0], sound[5_000, 1] = np.nan, np.inf
    source = write(tmp_path / "a.wav", sound, subtype="FLOAT")
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "b.wav")
    assert code == 0
    assert "11 samples were NaN" in said
    clean, _ = soundfile.read(tmp_path / "b.wav")
    np.testing.assert_allclose(clean, np.nan_to_num(sound, nan=0, posinf=0), atol=1e-5)


def test_unknown_model_lists_near_names(tmp_path, capfd, good):
    refuse(capfd, tmp_path, USAGE, "unknown model 'unett'", **{"in": good}, model="unett")


def test_missing_model_file(tmp_path, capfd, good):
    refuse(capfd, tmp_path, USAGE, "no model file", **{"in": good}, model=str(tmp_path / "no.onnx"))


def test_corrupt_model(tmp_path, capfd, good):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    refuse(capfd, tmp_path, FAILURE, "not an ONNX model", **{"in": good}, model=str(broken))


@pytest.mark.parametrize("field", ["contract_version", "window_ms", "hop_ms", "window", "scaling", "bins"])
def test_model_of_another_contract_names_the_field(tmp_path, capfd, good, field):
    model = graphs.identity(tmp_path / "other.onnx", claims={field: "7"})
    refuse(capfd, tmp_path, FAILURE, f"metadata field {field} is", **{"in": good}, model=str(model))


def odd_graph(path, inputs: dict, outputs: dict) -> str:
    """A graph whose outputs are copies of the first input, whatever the contract says."""
    nodes = [graphs.helper.make_node("Identity", [next(iter(inputs))], [name]) for name in outputs]
    return str(graphs.save(path, nodes, inputs, outputs, graphs.contract(129)))


SPECTRUM = graphs.spectrum(129)


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ({"audio": SPECTRUM}, {"enhanced": SPECTRUM}, "input 'noisy' is missing"),
        ({"noisy": SPECTRUM}, {"clean": SPECTRUM}, "output 'enhanced' is missing"),
        ({"noisy": graphs.spectrum(257)}, {"enhanced": graphs.spectrum(257)}, "has shape"),
        ({"noisy": SPECTRUM, "state_a": ["batch", 4]}, {"enhanced": SPECTRUM}, "outputs are"),
        ({"noisy": SPECTRUM, "memory": ["batch", 4]}, {"enhanced": SPECTRUM, "memory_next": SPECTRUM}, "'memory'"),
        (
            {"noisy": SPECTRUM, "state_a": [1, 129, 2]},
            {"enhanced": SPECTRUM, "state_a_next": SPECTRUM},
            "state 'state_a' has shape",
        ),
    ],
)
def test_model_with_missing_or_odd_tensors_names_the_tensor(tmp_path, capfd, good, inputs, outputs, says):
    model = odd_graph(tmp_path / "odd.onnx", inputs, outputs)
    refuse(capfd, tmp_path, FAILURE, says, **{"in": good}, model=model)


def test_model_that_puts_out_nan_at_once(tmp_path, capfd, good):
    model = graphs.gain(tmp_path / "nan.onnx", float("nan"))
    refuse(capfd, tmp_path, FAILURE, "not finite", **{"in": good}, model=str(model))


def test_model_that_puts_out_nan_on_loud_sound_only_leaves_no_output(tmp_path, capfd):
    model = graphs.gain(tmp_path / "hot.onnx", 3e38)
    source = write(tmp_path / "loud.wav", 1000 * voice(16_000), subtype="FLOAT")
    refuse(capfd, tmp_path, FAILURE, "not finite", **{"in": source}, model=str(model))


def test_raw_pipe_without_rate(tmp_path):
    done = pipe(bytes(1000), "--in", "-", "--out", tmp_path / "a.wav", "--raw", "s16le")
    assert done.returncode == USAGE
    assert "add --rate and --channels" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", FAILURE, "empty"),
        (b"fLaC" + bytes(100), FAILURE, "not WAV"),
        (b"RIFF" + bytes(4) + b"WAVE", FAILURE, "ends before any audio"),
        (b"RIFF" + bytes(4) + b"WAVEdata" + bytes(4), FAILURE, "no format chunk"),
        (b"RIFF" + bytes(4) + b"WAVEfmt \4\0\0\0" + bytes(4), FAILURE, "too short"),
        (b"RIFF" + bytes(4) + b"WAVEfmt \x10\0\0\0" + bytes(16), FAILURE, "not supported"),
    ],
)
def test_piped_bytes_that_are_no_wav(tmp_path, data, code, says):
    done = pipe(data, "--in", "-", "--out", "-")
    assert (done.returncode, done.stdout) == (code, b"")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_piped_wav_without_audio_leaves_no_output(tmp_path, capfd):
    empty = write(tmp_path / "a.wav", np.zeros((0, 1), np.float32)).read_bytes()
    done = pipe(empty, "--in", "-", "--out", "-")
    assert (done.returncode, done.stdout) == (FAILURE, b"")
    assert "contains no audio" in done.stderr
    assert pipe(empty, "--in", "-", "--out", tmp_path / "b.wav").returncode == FAILURE
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--strength", "-3"], "strength"),
        (["--strength", "nan"], "strength"),
        (["--strength", "loud"], "loud"),
        (["--latency", "none"], "none"),
        (["--jobs", "0"], "--jobs: '0'"),
        (["--jobs", "2"], "for folders"),
        (["--raw", "s16le"], "only valid with a pipe"),
        (["--rate", "16000"], "--raw"),
        (["--stregth", "3"], "did you mean --strength?"),
    ],
)
def test_option_that_makes_no_sense(tmp_path, capfd, good, argv, says):
    code, out, said = call(capfd, "--in", good, "--out", tmp_path / "b.wav", *argv)
    assert (code, out, said.count("\n")) == (USAGE, "", 1)
    assert says in said
    assert os.listdir(tmp_path) == ["good.wav"]
