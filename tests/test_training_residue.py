"""Noise left and speech kept are the levels they say, each blind to the other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from rtdenoise.training import metrics
from rtdenoise.training.scoring.residue import (
    BANDS_HZ,
    KEPT,
    OF_VOICE,
    PAUSES,
    SPEECH,
    band_key,
    of_voice_db,
    residue_db,
)

pytestmark = pytest.mark.slow

RATE = 16000
SECONDS = 4


@pytest.fixture(scope="module")
def scene():
    """A voice of four tones, 1 s on and 1 s off, and a noise 30 dB below it in the bins of the tones."""
    time_s = np.arange(SECONDS * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * hz * time_s) for hz in (250, 750, 1500, 3000, 6000)) * (time_s % 2 < 1)
    noise = 0.03 * np.random.default_rng(0).standard_normal(len(time_s))
    return voice, noise


def split(voice, noise, noise_db, voice_db):
    """What a filter leaves that attenuates noise and voice by so much."""
    return residue_db(voice, voice + noise, voice * 10 ** (voice_db / 20) + noise * 10 ** (noise_db / 20))


def test_noise_left_is_how_far_the_noise_went_down_and_speech_kept_how_far_the_voice_did(scene):
    got = split(*scene, noise_db=-20, voice_db=-3)
    for band in range(len(BANDS_HZ)):
        assert got[band_key(PAUSES, band)] == pytest.approx(-20, abs=0.2)
    assert got[PAUSES] == pytest.approx(-20, abs=0.1)
    assert got[KEPT] == pytest.approx(-3, abs=0.1)
    assert got[SPEECH] < -15, "under speech, what leaks from the tones' bins counts as left"


def test_what_is_not_filtered_is_left_and_kept_whole(scene):
    got = split(*scene, noise_db=0, voice_db=0)
    assert all(value == pytest.approx(0, abs=0.3) for value in got.values())


def test_bands_are_told_apart(scene):
    voice, noise = scene
    spectrum, hz = np.fft.rfft(noise), np.fft.rfftfreq(len(noise), 1 / RATE)
    spectrum[(hz > 900) & (hz < 2100)] /= 10
    got = residue_db(voice, voice + noise, voice + np.fft.irfft(spectrum))
    assert got[band_key(PAUSES, BANDS_HZ.index((1000, 2000)))] == pytest.approx(-20, abs=0.5)
    for band in (0, 1, 5):
        assert got[band_key(PAUSES, band)] == pytest.approx(0, abs=0.3)


def test_a_number_above_150_hz_is_the_mean_of_its_bands(scene):
    got = split(*scene, noise_db=-10, voice_db=-1)
    for what in (PAUSES, SPEECH, KEPT):
        assert got[what] == pytest.approx(np.mean([got[band_key(what, b)] for b in range(1, len(BANDS_HZ))]))


def test_a_voice_that_ends_softly_would_itself_be_said_to_leave_noise(scene):
    voice, noise = scene
    ending = noise / 4
    own = of_voice_db(voice + ending, voice + ending + noise)
    assert own[PAUSES + OF_VOICE] == pytest.approx(-12, abs=0.1)
    assert own[KEPT + OF_VOICE] == 0
    cut_off = residue_db(voice + ending, voice + ending + noise, voice)
    assert cut_off[PAUSES] < own[PAUSES + OF_VOICE] - 20, "less is left only where the ending is gone"


def test_what_is_not_there_has_no_number(scene):
    voice, noise = scene
    assert KEPT not in residue_db(np.zeros_like(voice), noise, noise)
    assert not any(PAUSES in key or SPEECH in key for key in residue_db(voice, voice, voice))
    silent = residue_db(voice, voice + noise, np.zeros_like(voice))
    assert np.isfinite([*silent.values()]).all()
    assert max(silent.values()) == -100


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_a_score_behind_the_high_pass_does_not_see_rumble(rate):
    time_s = np.arange(2 * rate) / rate
    voice, rumble = np.sin(2 * np.pi * 500 * time_s), 3 * np.sin(2 * np.pi * 20 * time_s)
    assert metrics.si_sdr_db(voice, voice + rumble) < -9
    inner = slice(rate // 4, -rate // 4)  # the filter starts and ends with a transient
    above = [metrics.high_passed(x, rate=rate)[inner] for x in (voice, voice + rumble)]
    assert metrics.si_sdr_db(*above) > 60
    assert np.abs(above[0] - voice[inner]).max() < 1e-3, "no phase: the voice stays in its place"
    edge = metrics.high_passed(np.sin(2 * np.pi * 80 * time_s), rate=rate)[inner]
    assert np.abs(edge).max() == pytest.approx(0.5, abs=0.01), "3 dB at the edge, twice"
