"""From end to end: noise and speech in, cleaner speech out of the virtual microphone, as another program records it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from conftest import SHIPPED
from rtdenoise import denoise
from rtdenoise_bench.measure import correlation, probes, recordings

CLIP_S = 4
BEGINNINGS = 15  # of a round: each puts windows of a quarter of a second elsewhere
LEAST_GAIN_DB = 2.0  # a file gains 4 to 5; a stalled host tears holes into what is recorded
pytestmark = [pytest.mark.steady, pytest.mark.skipif(not SHIPPED, reason="no trained model in this tree")]


class Sounds(NamedTuple):
    """What is played, what it should be, and the SI-SDR in dB of the one as it is and as a filtered file: that of the
    best of several beginnings, since where windows begin moves it by 2 dB."""

    noisy: np.ndarray
    clean: np.ndarray
    before: float
    as_file: float


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    noisy, clean = (clip[: CLIP_S * correlation.RATE] for clip in recordings.example_clips())
    clean = np.tile(clean, 2)  # a recording begins anywhere in a round
    return Sounds(noisy, clean, best_db(clean, noisy), best_db(clean, denoise(noisy, correlation.RATE, SHIPPED[0])))


def best_db(clean: np.ndarray, heard: np.ndarray) -> float:
    starts = range(0, len(heard), len(heard) // BEGINNINGS)
    return max(correlation.si_sdr_db(clean, np.roll(heard, -start)) for start in starts)


@pytest.mark.parametrize("server", ["pulse_env", "pipewire_env"])
def test_other_programs_hear_cleaner_speech(request, server, sounds):
    heard = probes.through_virtual_mic(request.getfixturevalue(server), sounds.noisy, "--model", SHIPPED[0])
    after = correlation.si_sdr_db(sounds.clean, heard)
    assert after > sounds.before + LEAST_GAIN_DB
    assert after < sounds.as_file + 1.0  # more would mean that the measure is wrong
