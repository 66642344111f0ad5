"""A pipe answers before its input ends, gives as many samples as it gets, and ends quietly when nobody listens."""

import contextlib
import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from command import COMMAND, DEADLINE_S, ENVIRONMENT, call, pipe, start, voice, wait_for, write
from rtdenoise import denoise
from rtdenoise.errors import AudioFileError
from rtdenoise.io import pcm
from rtdenoise.io.pipes import PipeSource

pytestmark = pytest.mark.slow

RAW = ("--raw", "s16le", "--rate", 16_000, "--channels", 1)
HEADER_BYTES = len(pcm.wav_stream_header(16_000, 1, "PCM_16"))


def wav_bytes(samples: np.ndarray, subtype: str, rate: int = 16_000, container: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=container)
    return file.getvalue()


def with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """The same WAV (header of 44 bytes) with other size fields."""
    return wav[:4] + struct.pack("<I", riff) + wav[8:40] + struct.pack("<I", data) + wav[44:]


def read_through(tmp_path, data: bytes, raw=None) -> tuple[np.ndarray, PipeSource]:
    """What PipeSource makes of bytes (the file stands in for a pipe; neither is ever seeked)."""
    path = tmp_path / "bytes"
    path.write_bytes(data)
    with PipeSource(str(path), raw) as source:
        return np.concatenate([np.empty((0, source.channels)), *source.blocks()]), source


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_wav_in_a_pipe_comes_out_equal_in_encoding_length_and_place(subtype):
    sound = voice(20_001, 2)
    done = pipe(wav_bytes(sound, subtype, 44_100), "--in", "-", "--out", "-")
    assert (done.returncode, done.stderr) == (0, "")
    clean, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32", always_2d=True)
    assert rate == 44_100
    assert soundfile.info(io.BytesIO(done.stdout)).subtype == subtype
    np.testing.assert_allclose(clean, sound, atol=1e-4)


def test_raw_answers_while_its_input_is_still_open():
    sound = (1000 * voice(16_000)).astype("<i2")
    process = start("--in", "-", "--out", "-", *RAW)
    process.stdin.write(sound[:4_000].tobytes())
    process.stdin.flush()
    ready = 4_000 // 64 * 64 - 256 + 64  # whole hops, less the delay of 256 samples, plus the hop that completes them
    answer = os.read(process.stdout.fileno(), 1)  # returns although the input goes on
    while len(answer) < 2 * (ready - 64):
        answer += os.read(process.stdout.fileno(), 1 << 16)
    rest, _ = process.communicate(sound[4_000:].tobytes(), timeout=DEADLINE_S)
    clean = np.frombuffer(answer + rest, "<i2")
    assert process.returncode == 0
    np.testing.assert_allclose(clean, sound[:, 0], atol=1)


def test_wav_answers_while_its_input_is_still_open():
    data = wav_bytes(voice(16_000), "PCM_16")
    process = start("--in", "-", "--out", "-")
    process.stdin.write(data[:8_000])
    process.stdin.flush()
    first = os.read(process.stdout.fileno(), HEADER_BYTES + 2)
    assert first == pcm.wav_stream_header(16_000, 1, "PCM_16") + data[44:46]
    rest, _ = process.communicate(data[8_000:], timeout=DEADLINE_S)
    assert len(first + rest) == HEADER_BYTES + 32_000


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
def test_raw_pipes_keep_their_length(encoding):
    sound = voice(12_345, 2)
    data = pcm.encode(sound, "PCM_16" if encoding == "s16le" else "FLOAT")
    done = pipe(
        data, "--in", "-", "--out", "-", "--raw", encoding, "--rate", 48_000, "--channels", 2, "--latency", "low"
    )
    assert len(done.stdout) == len(data)
    np.testing.assert_allclose(
        pcm.decode(done.stdout, "PCM_16" if encoding == "s16le" else "FLOAT"), sound.ravel(), atol=1e-4
    )


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000], ids=["zero", "ffmpeg", "sox"])
def test_a_header_of_unknown_length_is_read_to_the_end(tmp_path, size):
    data = with_sizes(wav_bytes(voice(5_000), "PCM_16"), size, size)
    samples, source = read_through(tmp_path, data)
    assert len(samples) == 5_000
    assert source.warnings == []


def test_tags_before_and_behind_the_audio_are_not_taken_for_sound(tmp_path):
    wav = wav_bytes(voice(5_000), "PCM_16")
    tag = b"LIST" + struct.pack("<I", 5) + b"INFO!\0"
    samples, source = read_through(tmp_path, wav[:12] + tag + wav[12:] + tag)
    np.testing.assert_array_equal(samples[:, 0], soundfile.read(io.BytesIO(wav))[0])
    assert source.warnings == []


@pytest.mark.parametrize("container", ["WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_extensible_and_64_bit_headers_are_understood(tmp_path, container, subtype):
    data = wav_bytes(voice(1_000, 4), subtype, container=container)
    samples, source = read_through(tmp_path, data)
    assert (source.channels, source.subtype) == (4, subtype)
    np.testing.assert_allclose(samples, soundfile.read(io.BytesIO(data))[0], atol=1e-7)


@pytest.mark.parametrize("declared", [1, 2_000, 2_001, 8_000])
def test_a_header_older_than_its_sound_does_not_end_the_sound(tmp_path, declared):
    """As a recorder leaves it that died before it could bring its header up to date."""
    wav = wav_bytes(voice(5_000), "PCM_16")
    samples, source = read_through(tmp_path, with_sizes(wav, declared + 36, declared))
    np.testing.assert_array_equal(samples[:, 0], soundfile.read(io.BytesIO(wav))[0])
    assert ["older than its sound" in warning for warning in source.warnings] == [True]


def test_zeros_that_pad_the_last_sector_are_no_sound(tmp_path):
    samples, source = read_through(tmp_path, wav_bytes(voice(5_000), "PCM_16") + bytes(2_000))
    assert (len(samples), source.warnings) == (5_000, [])


def test_a_truncated_pipe_is_filtered_as_far_as_it_goes_and_warned_of(tmp_path):
    data = wav_bytes(voice(5_000, 2), "PCM_16")[:-403]
    samples, source = read_through(tmp_path, data)
    assert len(samples) == 4_899
    assert any("truncated: 403 bytes are missing" in warning for warning in source.warnings)
    assert any("ended within a sample" in warning for warning in source.warnings)


@pytest.mark.parametrize("cut", [1, 11, 12, 19, 30, 43])
def test_a_header_cut_anywhere_is_an_error_and_no_traceback(cut):
    data = io.BytesIO(wav_bytes(voice(10), "PCM_16")[:cut])
    with pytest.raises(AudioFileError):
        pcm.read_wav_header(data.read)


def test_a_reader_that_leaves_ends_the_pipe_quietly():
    process = start("--in", "-", "--out", "-", *RAW)
    process.stdin.write(bytes(8_000))
    process.stdin.flush()
    process.stdout.read(10)
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):  # the command ends, and with it the pipe we write to
        for _ in range(10_000):
            process.stdin.write(bytes(8_000))
            process.stdin.flush()
    assert process.wait(DEADLINE_S) == 141
    assert process.stderr.read() == b""


def test_a_file_goes_into_a_pipe_and_a_pipe_into_a_file(tmp_path):
    sound = voice(9_999, 2)
    source = write(tmp_path / "a.flac", sound, 48_000)
    sent = pipe(b"", "--in", source, "--out", "-", "--raw", "f32le").stdout
    np.testing.assert_allclose(pcm.decode(sent, "FLOAT"), sound.ravel(), atol=1e-4)
    raw = ("--raw", "f32le", "--rate", 48_000, "--channels", 2)
    assert pipe(sent, "--in", "-", "--out", tmp_path / "b.wav", *raw).returncode == 0
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav")[0], sound, atol=1e-4)


@pytest.mark.parametrize(("target", "model"), [("clean.wav", "studio"), ("-", "unet")])
def test_files_take_the_model_that_sounds_better_and_pipes_the_one_that_answers_sooner(tmp_path, target, model):
    sound = voice(8_000)
    line = [*COMMAND, "--in", str(write(tmp_path / "noisy.wav", sound, subtype="FLOAT")), "--out", target]
    done = subprocess.run(line, env=ENVIRONMENT, cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    clean, _ = soundfile.read(io.BytesIO(done.stdout) if target == "-" else tmp_path / target, always_2d=True)
    np.testing.assert_allclose(clean, denoise(sound, 16_000, model), atol=1e-6)


def test_named_pipes_work_as_input_and_output(tmp_path, capfd):
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    data = wav_bytes(voice(3_000), "PCM_16")
    process = start("--in", tmp_path / "in", "--out", tmp_path / "out")
    (tmp_path / "in").write_bytes(data)
    assert (tmp_path / "out").read_bytes()[HEADER_BYTES:] == data[44:]
    assert process.wait(DEADLINE_S) == 0


def test_a_signal_in_the_middle_of_a_pipe_leaves_no_half_file(tmp_path):
    process = start("--in", "-", "--out", tmp_path / "a.wav")
    process.stdin.write(wav_bytes(voice(16_000), "PCM_16")[:20_000])
    process.stdin.flush()
    wait_for(lambda: list(tmp_path.glob(".*.part")))
    process.terminate()
    assert process.wait(DEADLINE_S) == 143
    assert os.listdir(tmp_path) == []


def test_json_goes_to_standard_error_when_audio_is_on_standard_output():
    done = pipe(wav_bytes(voice(16_000), "PCM_16"), "--in", "-", "--out", "-", "--json")
    assert done.stdout[:4] == b"RIFF"
    assert '"seconds": 1.0' in done.stderr


@pytest.mark.parametrize(
    "player",
    [["ffmpeg", "-v", "error", "-i", "-", "-f", "s16le", "-"], ["sox", "-V1", "-t", "wav", "-", "-t", "raw", "-"]],
)
def test_other_tools_read_what_a_pipe_writes(tmp_path, capfd, player):
    if not shutil.which(player[0]):
        pytest.skip(f"{player[0]} is not installed")
    data = wav_bytes(voice(5_000), "PCM_16")
    sent = pipe(data, "--in", "-", "--out", "-").stdout
    heard = subprocess.run(player, input=sent, capture_output=True, check=True).stdout
    assert heard == data[44:]


def test_a_full_device_is_an_error_in_one_line(tmp_path, capfd):
    source = write(tmp_path / "a.wav", voice(16_000))
    code, _, said = call(capfd, "--in", source, "--out", "/dev/full")
    assert (code, said.count("\n")) == (1, 1)
    assert "No space left on device" in said


def test_a_chunk_of_60_mb_before_the_sound_is_passed_over_quickly(tmp_path):
    source = write(tmp_path / "a.wav", voice(16_000)).read_bytes()
    size = 60_000_000
    long = source[:36] + b"JUNK" + size.to_bytes(4, "little") + bytes(size) + source[36:]
    began = time.process_time()
    header = pcm.read_wav_header(io.BytesIO(long).read)
    assert time.process_time() - began < 1  # a quadratic buffer took 24 s
    assert (header.rate, header.data_bytes) == (16_000, 32_000)
    done = pipe(long, "--in", "-", "--out", tmp_path / "b.wav")
    assert done.returncode == 0
    assert soundfile.info(tmp_path / "b.wav").frames == 16_000


@pytest.mark.parametrize("name", [b"JUNK", b"fmt ", b"LIST"])
@pytest.mark.parametrize("size", [2**30 + 1, 0x7FFFF000, 0xFFFFFFFF])
def test_a_header_with_an_absurd_size_is_refused_at_once(name, size):
    endless = io.BytesIO(b"RIFF\xff\xff\xff\xffWAVE" + name + size.to_bytes(4, "little") + bytes(1_000_000))
    with pytest.raises(AudioFileError, match="damaged"):
        pcm.read_wav_header(endless.read)
    assert endless.tell() < 1_000


def test_a_pipe_that_is_no_wav_is_closed_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    sender = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"These are words, not waves.",))
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else None
    sender.start()
    with pytest.raises(AudioFileError, match="not WAV"):
        PipeSource(str(tmp_path / "pipe"))
    sender.join()
    assert before is None or len(os.listdir("/proc/self/fd")) == before
