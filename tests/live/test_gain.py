"""From end to end: noise and speech in, cleaner speech out of the virtual microphone, as another program records it."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import SHIPPED
from rtdenoise import denoise
from rtdenoise_bench.measure import correlation, probes, recordings

LEAST_GAIN_DB = 2.0  # a file gains 4 to 5; a stalled host tears holes into what is recorded
pytestmark = pytest.mark.skipif(not SHIPPED, reason="no trained model in this tree")


@pytest.mark.parametrize("server", ["pulse_env", "pipewire_env"])
def test_other_programs_hear_cleaner_speech(request, server):
    env, (noisy, clean) = request.getfixturevalue(server), recordings.example_clips()
    heard = probes.through_virtual_mic(env, noisy, "--model", SHIPPED[0])
    rounds = np.tile(clean, 3)
    before, as_file = (correlation.si_sdr_db(rounds, x) for x in (noisy, denoise(noisy, correlation.RATE, SHIPPED[0])))
    after = correlation.si_sdr_db(rounds, heard)
    assert after > before + LEAST_GAIN_DB
    assert after < as_file + 1.0  # more would mean that the measure is wrong
