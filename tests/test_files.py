"""A filtered file is the file that went in: same rate, channels, encoding, length and place in time."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile

import graphs
from command import (
    DEADLINE_S,
    ENVIRONMENT,
    call,
    endless_wav,
    identity_model,
    interrupt,
    parts,
    start,
    voice,
    wait_for,
    write,
)
from rtdenoise.io import sound_sink
from rtdenoise.io.sound_sink import choose_format

FORMATS = [
    ("a.wav", "PCM_U8", 8_000, 1),
    ("a.wav", "PCM_16", 44_100, 2),
    ("a.wav", "PCM_24", 48_000, 8),
    ("a.wav", "PCM_32", 96_000, 1),
    ("a.wav", "FLOAT", 22_050, 3),
    ("a.wav", "DOUBLE", 16_000, 1),
    ("a.wav", "ULAW", 8_000, 1),
    ("a.wav", "IMA_ADPCM", 16_000, 1),
    ("a.flac", "PCM_16", 192_000, 1),
    ("a.flac", "PCM_24", 48_000, 2),
    ("a.aiff", "PCM_16", 44_100, 2),
    ("a.aiff", "PCM_S8", 16_000, 1),
    ("a.caf", "PCM_24", 48_000, 1),
    ("a.w64", "FLOAT", 48_000, 1),
    ("a.ogg", "VORBIS", 44_100, 2),
    ("a.mp3", "MPEG_LAYER_III", 44_100, 2),
    ("a.mp3", "MPEG_LAYER_III", 16_000, 1),
]


@pytest.mark.parametrize(("name", "subtype", "rate", "channels"), FORMATS)
def test_output_keeps_format_rate_channels_and_length(tmp_path, capfd, name, subtype, rate, channels):
    source = write(tmp_path / name, voice(rate + 123, channels), rate, subtype)
    target = tmp_path / f"out-{name}"
    assert call(capfd, "--in", source, "--out", target)[0] == 0
    before, after = soundfile.info(source), soundfile.info(target)
    kept = ("samplerate", "channels", "frames", "format", "subtype")
    assert [getattr(after, k) for k in kept] == [getattr(before, k) for k in kept]


@pytest.mark.parametrize("rate", sound_sink.OPUS_RATES_HZ)
def test_opus_keeps_rate_and_length(tmp_path, capfd, rate):
    source = write(tmp_path / "a.opus", voice(rate + 77), rate, "OPUS", format="OGG")
    assert call(capfd, "--in", source, "--out", tmp_path / "b.opus")[0] == 0
    before, after = soundfile.info(source), soundfile.info(tmp_path / "b.opus")
    assert (after.subtype, after.samplerate, after.frames) == ("OPUS", rate, before.frames)


@pytest.mark.parametrize("latency", ["normal", "low"])
@pytest.mark.parametrize("samples", [1, 63, 64, 65, 255, 256, 257, 1_000, 40_000])
def test_any_length_comes_out_equal_and_in_place(tmp_path, capfd, samples, latency):
    sound = voice(samples, 2)
    source = write(tmp_path / "a.wav", sound, subtype="FLOAT")
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--latency", latency)[0] == 0
    clean, _ = soundfile.read(tmp_path / "b.wav", dtype="float32", always_2d=True)
    np.testing.assert_allclose(clean, sound, atol=1e-5)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16"])
def test_bypass_gives_integer_files_back_bit_for_bit(tmp_path, capfd, subtype):
    source = write(tmp_path / "a.wav", voice(50_000, level=0.3), subtype=subtype)
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--bypass")[0] == 0
    before, after = (soundfile.read(tmp_path / name, dtype="int16")[0] for name in ("a.wav", "b.wav"))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("name", "container", "subtype", "expected"),
    [
        ("a.wav", "FLAC", "PCM_24", ("WAV", "PCM_24")),
        ("a.wav", "WAVEX", "PCM_24", ("WAVEX", "PCM_24")),
        ("a.wav", "OGG", "VORBIS", ("WAV", "PCM_16")),
        ("a.wav", "MP3", "MPEG_LAYER_III", ("WAV", "PCM_16")),
        ("a.flac", "WAV", "PCM_16", ("FLAC", "PCM_16")),
        ("a.flac", "WAV", "FLOAT", ("FLAC", "PCM_24")),
        ("a.flac", "WAV", "ULAW", ("FLAC", "PCM_16")),
        ("a.ogg", "WAV", "PCM_24", ("OGG", "VORBIS")),
        ("a.ogg", "OGG", "OPUS", ("OGG", "OPUS")),
        ("a.opus", "OGG", "VORBIS", ("OGG", "OPUS")),
        ("a.mp3", "WAV", "FLOAT", ("MP3", "MPEG_LAYER_III")),
        ("A.AIFF", "WAV", "PCM_16", ("AIFF", "PCM_16")),
    ],
)
def test_another_extension_gets_the_nearest_encoding(name, container, subtype, expected):
    assert choose_format(name, container, subtype) == expected
    assert soundfile.check_format(*expected)


def test_loud_samples_are_held_at_full_scale_and_counted(tmp_path, capfd):
    loud = str(graphs.gain(tmp_path / "gain.onnx", 4.0, bins=385))
    sound = voice(20_000, level=0.3)
    source = write(tmp_path / "a.wav", sound, subtype="FLOAT")
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "a.flac", model=loud)
    clean, _ = soundfile.read(tmp_path / "a.flac", dtype="float32", always_2d=True)
    outside = int(np.count_nonzero(np.abs(4 * sound) > 1))
    np.testing.assert_allclose(clean, np.clip(4 * sound, -1, 1), atol=1e-4)
    assert code == 0
    assert f"{outside} samples exceeded full scale" in said


def test_float_output_keeps_what_is_louder_than_full_scale(tmp_path, capfd):
    sound = voice(20_000, level=1.0)
    source = write(tmp_path / "a.wav", sound, subtype="FLOAT")
    assert "exceeded" not in call(capfd, "--in", source, "--out", tmp_path / "b.wav")[2]
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav", always_2d=True)[0], sound, atol=1e-4)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_title_and_artist_are_copied(tmp_path, capfd, name):
    with soundfile.SoundFile(tmp_path / name, "w", 16_000, 1) as file:
        file.title, file.artist = "Ein Gespräch", "Nobody"
        file.write(voice(8_000))
    assert call(capfd, "--in", tmp_path / name, "--out", tmp_path / f"b-{name}")[0] == 0
    with soundfile.SoundFile(tmp_path / f"b-{name}") as file:
        assert (file.title, file.artist) == ("Ein Gespräch", "Nobody")


def test_an_existing_output_is_replaced_and_a_link_stays_a_link(tmp_path, capfd):
    source = write(tmp_path / "a.wav", voice(8_000))
    (tmp_path / "old.wav").write_bytes(b"old")
    (tmp_path / "link.wav").symlink_to("old.wav")
    assert call(capfd, "--in", source, "--out", tmp_path / "link.wav")[0] == 0
    assert (tmp_path / "link.wav").is_symlink()
    assert soundfile.info(tmp_path / "old.wav").frames == 8_000


def test_what_outgrows_wav_becomes_rf64(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sound_sink, "_LARGEST_WAV_BYTES", 10_000)
    source = write(tmp_path / "a.wav", voice(8_000))
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav")[0] == 0
    info = soundfile.info(tmp_path / "b.wav")
    assert (info.format, info.frames) == ("RF64", 8_000)


def test_a_pipe_that_outgrows_wav_is_an_error_and_no_broken_header(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sound_sink, "_LARGEST_WAV_BYTES", 20_000)
    os.mkfifo(tmp_path / "pipe")
    sound = write(tmp_path / "a.wav", voice(12_000)).read_bytes()
    sender = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(sound,))
    sender.start()
    code, _, said = call(capfd, "--in", tmp_path / "pipe", "--out", tmp_path / "b.wav")
    sender.join(DEADLINE_S)
    assert code == 1
    assert "at most 4 GiB" in said
    assert not (tmp_path / "b.wav").exists()


def test_an_output_name_may_be_as_long_as_the_system_allows(tmp_path, capfd):
    source = write(tmp_path / "a.wav", voice(1_000))
    assert call(capfd, "--in", source, "--out", tmp_path / f"{'ö' * 125}.wav")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_no_half_file_and_the_old_output_whole(tmp_path, number, code):
    source, target = endless_wav(tmp_path / "a.wav"), tmp_path / "b.wav"
    target.write_bytes(b"old")
    if number == signal.SIGHUP:
        signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored, and a child would inherit that
    process = start("--in", source, "--out", target)
    wait_for(lambda: parts(tmp_path))
    assert interrupt(process, number) == code
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "b.wav"]
    assert target.read_bytes() == b"old"


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path):
    measure = "import resource, sys; from rtdenoise.cli.main import main; main(sys.argv[1:]);"
    measure += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

    def peak_kib(seconds: int) -> int:
        source = endless_wav(tmp_path / f"{seconds}.wav", seconds)
        argv = ["--in", source, "--out", tmp_path / "b.flac", "--model", identity_model()]
        line = [sys.executable, "-c", measure, *map(str, argv)]
        out = subprocess.run(line, env=ENVIRONMENT, timeout=DEADLINE_S, capture_output=True, check=True).stdout
        return int(out.split()[-1])

    peak_kib(1)  # fills caches of compiled code, which take memory once
    assert peak_kib(1_000) - peak_kib(10) < 10_000  # the samples of the long file alone are 64 000 KiB
