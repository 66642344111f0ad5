"""A sound file at one live end: played in real time to its end, recorded until told to stop, never half written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from conftest import SHIPPED, modulated_noise
from rtdenoise import denoise
from rtdenoise_bench.measure import correlation, recordings

ROOT = Path(__file__).resolve().parents[2]
RATE = 48_000
DEADLINE_S = 90  # a first run compiles
HOLE = RATE // 200  # zeros in a row of a recording which are no filtered sound
PCM_24 = 2.0**-22  # rounding of the recording, and of one frame a model call against many


def start(env, *argv: object) -> subprocess.Popen:
    line = [sys.executable, "-m", "rtdenoise", *map(str, argv)]
    return subprocess.Popen(line, env=env | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen, number: int | None = None) -> str:
    """Wait for the end, after a signal if one is given; returns what was said."""
    if number is not None:
        process.send_signal(number)
    return process.communicate(timeout=DEADLINE_S)[1]


def wait_for_part(folder: Path) -> Path:
    """The file beside, once it has grown: the recording runs."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        for part in folder.glob(".*.rec"):
            if part.stat().st_size > 100_000:
                return part
        time.sleep(0.02)
    raise AssertionError("no recording began")


def best_correlation(signal: np.ndarray, piece: np.ndarray) -> float:
    """Of ``piece`` with the place in ``signal`` that it is most like."""
    at = int(np.argmax(fftconvolve(signal, piece[::-1], "valid")))
    return float(np.corrcoef(signal[at : at + len(piece)], piece)[0, 1])


def sound_and_silence_s(recording: np.ndarray) -> tuple[float, float]:
    """From the first to the last loud sample: sound, and the zeros that a sound server played while given nothing."""
    loud = np.flatnonzero(np.abs(recording) > 0.01)
    zero = recording[loud[0] : loud[-1]] == 0
    edges = np.flatnonzero(np.diff(zero, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    silence = lengths[lengths > HOLE].sum()
    return (len(zero) - silence) / RATE, silence / RATE


def told(said: str) -> tuple[float, float, int]:
    """What the program's own count accounts for: dropout in s, the latency in s that is filled anew after one, and how
    many hops reused gains."""
    counts = re.search(r"latency ([\d.]+) ms, \d+ underruns \((\d+) ms of dropout\), (\d+) hops", said)
    if counts is None:
        return 0.0, 0.0, 0
    dropout_ms = int(counts[2])
    return dropout_ms / 1000, float(counts[1]) / 1000 if dropout_ms else 0.0, int(counts[3])


@pytest.mark.steady
@pytest.mark.skipif(not SHIPPED, reason="no trained model in this tree")
@pytest.mark.parametrize("stall_s", [0, 0.3])
def test_a_file_is_played_in_real_time_and_the_tee_is_the_filtered_file(pulse_env, tmp_path, rng, stall_s):
    noisy = modulated_noise(rng, 3 * RATE, 2, RATE)
    soundfile.write(tmp_path / "talk.wav", noisy, RATE, "FLOAT")
    heard, began = recordings.Recorder(pulse_env, "B.monitor"), time.monotonic()
    process = start(pulse_env, tmp_path / "talk.wav", "B", "--tee", tmp_path / "clean.wav", "--model", SHIPPED[0])
    if stall_s:
        wait_for_part(tmp_path)
        process.send_signal(signal.SIGSTOP)
        time.sleep(stall_s)
        process.send_signal(signal.SIGCONT)
    said = end(process)
    took, recording = time.monotonic() - began, heard.stop().samples
    clean, rate = soundfile.read(tmp_path / "clean.wav", dtype="float32")
    assert (rate, clean.shape) == (RATE, noisy.shape)
    expected = denoise(noisy, RATE, SHIPPED[0])
    dropout_s, refilled_s, reused = told(said)
    # What the model did not hear on a stalled machine its memory lacks for long, so that all after differs a little.
    same = np.abs(clean - expected).max(axis=1) < (0.02 if reused else 8 * PCM_24)
    assert np.mean(same) > 0.98, said
    assert took > 3
    assert "3.0 s recorded" in said
    sound_s, silence_s = sound_and_silence_s(recording)
    missing_s = sound_and_silence_s(expected.mean(axis=1))[0] - sound_s
    assert -0.1 < missing_s < dropout_s + 0.1, said  # What comes too late is left out.
    assert silence_s <= dropout_s + refilled_s + 0.1, said
    assert sorted(os.listdir(tmp_path)) == ["clean.wav", "talk.wav"]


def test_playing_ends_with_exit_code_0(pulse_env, tmp_path, plain_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4_410), 44_100)
    process = start(pulse_env, "--in", tmp_path / "a.wav", "--out", "B", "--model", plain_path)
    end(process)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_ended_by_a_signal_is_complete(pulse_env, tmp_path, plain_path, number):
    playing = recordings.pulse_playing(pulse_env, "A", correlation.noise(30))
    with playing:
        reference = recordings.Recorder(pulse_env, "A.monitor")
        process = start(pulse_env, "--in", "A.monitor", "--out", tmp_path / "clean.wav", "--model", plain_path)
        wait_for_part(tmp_path)
        time.sleep(1.5)
        end(process, number)
        sent = reference.stop().samples
    assert process.returncode == {signal.SIGINT: 0, signal.SIGTERM: 128 + signal.SIGTERM}[number]
    assert os.listdir(tmp_path) == ["clean.wav"]
    clean, rate = soundfile.read(tmp_path / "clean.wav", dtype="float32")
    assert rate == RATE
    assert len(clean) > RATE
    pieces = [clean[at : at + 4800] for at in range(len(clean) // 2, len(clean) - 9600, 4800)]
    # A piece without sound, in which a stalled machine heard nothing, is like no other.
    assert np.nanmedian([best_correlation(sent, piece) for piece in pieces]) > 0.99


def test_a_recording_ends_after_the_seconds_asked_for(pulse_env, tmp_path, plain_path):
    argv = ("--in", "A.monitor", "--out", tmp_path / "clean.flac", "--seconds", "1.5", "--model", plain_path)
    process = start(pulse_env, *argv)
    said = end(process)
    assert process.returncode == 0, said
    assert soundfile.info(tmp_path / "clean.flac").duration == pytest.approx(1.5, abs=1)


def test_a_tee_is_written_while_devices_play(pulse_env, tmp_path, plain_path):
    with recordings.pulse_playing(pulse_env, "A", correlation.noise(30)):
        argv = ("--in", "A.monitor", "--out", "B", "--tee", tmp_path / "tee.wav", "--seconds", "2")
        process = start(pulse_env, *argv, "--model", plain_path)
        said = end(process)
    assert process.returncode == 0, said
    assert correlation.level(soundfile.read(tmp_path / "tee.wav")[0]) == pytest.approx(correlation.LEVEL, rel=0.1)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--in", "A.monitor", "--out", "no/folder/a.wav"), "no/folder does not exist; create it first"),
        (("--in", "no.wav", "--out", "speakers"), "no.wav does not exist; check the name"),
        (("--in", "-", "--out", "speakers"), "a device and a pipe cannot be combined"),
        (("--in", "mic", "--out", "a.wav", "--tee", "b.wav"), "remove one of them"),
        (("--in", __file__, "--out", "speakers", "--tee", __file__), "is the input itself"),
        (("--in", "mic", "--out", "speakers", "--monitor"), "--monitor is only valid with --out virtual-mic"),
        (("--in", "A.monitor", "--out", "B", "--latency", "3"), "the filter alone takes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(pulse_env, tmp_path, argv, says):
    env = pulse_env | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "rtdenoise", *argv]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_S, cwd=tmp_path, check=False)
    assert done.returncode in (1, 2)
    (said,) = (text for text in done.stderr.splitlines() if "compiling" not in text)
    assert says in said
    assert os.listdir(tmp_path) == []
