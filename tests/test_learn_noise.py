"""`--learn-noise S`: the filter knows the noise before the sound begins; nothing is lost, moved or heard twice."""

import numpy as np
import pytest
import soundfile

from command import call, voice, write
from rtdenoise import denoise
from rtdenoise.training.data import tape_noise

RATE = 44_100


@pytest.fixture
def hissing(tmp_path):
    """Two seconds of hiss alone, then a chord in it."""
    random, time_s = np.random.default_rng(5), np.arange(2 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in (220, 330, 880))[:, None] * np.float32(0.1)
    sound = 0.01 * tape_noise.hiss(random, 4 * RATE, RATE).T / 3
    sound[2 * RATE :] += chord
    return sound.astype(np.float32), write(tmp_path / "side_a.wav", sound.astype(np.float32), RATE, subtype="FLOAT")


def filtered(capfd, source, *more, model="tape"):
    target = source.with_name("clean.wav")
    code, _, err = call(capfd, "--in", source, "--out", target, *more, model=model)
    assert code == 0, err
    return soundfile.read(target, dtype="float32", always_2d=True)[0]


def test_hiss_at_the_very_beginning_is_taken_off_better(hissing, capfd):
    sound, source = hissing
    cold, learnt = (filtered(capfd, source, *more) for more in ((), ("--learn-noise", "1.5")))
    level_db = lambda x: 10 * np.log10(np.mean(np.square(x[: RATE // 10])))
    assert level_db(learnt) < level_db(cold) - 3
    assert level_db(cold) < level_db(sound)


def test_it_is_the_beginning_heard_once_more_before_all(hissing, capfd):
    sound, source = hissing
    learnt = filtered(capfd, source, "--learn-noise", "1.5")
    beginning = sound[: round(1.5 * RATE)]
    twice = denoise(np.concatenate([beginning, sound]), RATE, "tape")[len(beginning) :]
    np.testing.assert_allclose(learnt, twice, atol=1e-6)


@pytest.mark.parametrize("seconds", ["0.3", "2.5", "60"])
def test_with_an_identity_model_the_sound_stays_where_it_is(tmp_path, capfd, seconds):
    sound = voice(2 * 16_000, 2)
    source = write(tmp_path / "a.wav", sound, subtype="FLOAT")
    np.testing.assert_allclose(filtered(capfd, source, "--learn-noise", seconds, model=None), sound, atol=1e-5)


@pytest.mark.parametrize("seconds", ["0", "-1", "61"])
def test_senseless_lengths_are_refused(tmp_path, capfd, seconds):
    source = write(tmp_path / "a.wav", voice(1000))
    code, _, err = call(capfd, "--in", source, "--out", tmp_path / "b.wav", f"--learn-noise={seconds}")
    assert (code, "--learn-noise" in err) == (2, True)


def test_live_audio_has_no_beginning_to_hear_twice(capfd):
    code, _, err = call(capfd, "--in", "mic", "--out", "speakers", "--learn-noise", "1")
    assert (code, "--learn-noise" in err) == (2, True)
