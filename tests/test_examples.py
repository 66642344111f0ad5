"""The examples run as printed in their first lines, and the demo shows true figures and a picture."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from command import DEADLINE_S, ENVIRONMENT, ROOT, identity_model

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"


def run(name: str, *argv: object, folder=None) -> str:
    """Run an example with the identity model; returns what it prints."""
    line = [sys.executable, str(EXAMPLES / name), *map(str, argv), "--model", identity_model()]
    done = subprocess.run(line, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_clips_are_sample_aligned_at_five_decibel():
    clean, rate = soundfile.read(EXAMPLES / "clean.wav")
    noisy, noisy_rate = soundfile.read(EXAMPLES / "noisy.wav")
    noise = noisy - clean
    assert (rate, len(clean)) == (noisy_rate, len(noisy))
    assert 6 <= len(clean) / rate <= 9
    assert 10 * np.log10(np.var(clean) / np.var(noise)) == pytest.approx(5, abs=0.1)
    assert np.corrcoef(clean, noise)[0, 1] == pytest.approx(0, abs=0.02)
    assert np.abs(noisy).max() < 1


def test_array_example_keeps_shape_and_writes_what_it_was_asked_for(tmp_path):
    said = run("array_example.py", "--out", tmp_path / "clean.wav", "--strength", 12)
    noisy, clean = EXAMPLES / "noisy.wav", tmp_path / "clean.wav"
    assert "attenuation limit 12 dB" in said
    np.testing.assert_allclose(soundfile.read(clean)[0], soundfile.read(noisy)[0], atol=2e-4)


@pytest.mark.parametrize(("latency", "told"), [("normal", "256 samples = 16 ms"), ("low", "128 samples = 8 ms")])
def test_stream_example_tells_the_latency_and_loses_nothing(latency, told):
    said = run("stream_example.py", "--latency", latency)
    samples = soundfile.info(EXAMPLES / "noisy.wav").frames
    assert told in said
    assert f"{samples} samples out for {samples} in" in said


def test_serve_example_gets_back_what_it_sent(tmp_path):
    pytest.importorskip("aiohttp", reason="pip install 'rtdenoise[serve]'")
    pytest.importorskip("prometheus_client", reason="pip install 'rtdenoise[serve]'")
    said = run("serve_example.py", "--out", tmp_path / "clean.wav")
    noisy, clean = EXAMPLES / "noisy.wav", tmp_path / "clean.wav"
    assert f"{soundfile.info(noisy).frames} samples back" in said
    np.testing.assert_allclose(soundfile.read(clean)[0], soundfile.read(noisy)[0], atol=2e-4)


def test_folder_example_filters_all_and_goes_on_where_it_ended(tmp_path):
    sounds = sorted(p.name for p in EXAMPLES.iterdir() if p.suffix in (".wav", ".mp3"))
    argv = ("folder_example.py", "--in", EXAMPLES, "--out", tmp_path)
    assert f"{len(sounds)} filtered" in run(*argv)
    assert "was done before" in run(*argv)
    assert sorted(os.listdir(tmp_path)) == sounds


def test_demo_prints_levels_scores_and_latency_and_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    said = run("demo.py", folder=tmp_path)
    for text in ("level of speech", "level of pauses", "SI-SDR", "5.0 dB", "latency 16 ms, 256 samples", "real time"):
        assert text in said
    assert (tmp_path / "demo-out/demo.png").read_bytes().startswith(b"\x89PNG")
    assert soundfile.info(tmp_path / "demo-out/clean.wav").frames == soundfile.info(EXAMPLES / "noisy.wav").frames


def test_demo_takes_any_recording(tmp_path):
    soundfile.write(tmp_path / "mine.flac", np.zeros((48_000, 2)), 48_000)
    said = run("demo.py", "--in", tmp_path / "mine.flac", "--no-picture", folder=tmp_path)
    assert "SI-SDR" not in said
    assert "768 samples" in said


def test_an_example_ends_in_one_line_when_its_file_is_missing():
    line = [sys.executable, str(EXAMPLES / "array_example.py"), "--in", "no.wav", "--model", identity_model()]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
