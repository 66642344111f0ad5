"""Chromium lists the virtual microphone, and a page that asks for it hears what the session plays."""

from __future__ import annotations

import numpy as np
import pytest

from rtdenoise_bench.measure import correlation, probes
from rtdenoise_bench.measure.chromium import BROWSER, in_a_page

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="not installed: chromium (make system)"),
]
WINDOW = 4800


def test_a_page_finds_it_and_hears_it_at_its_level(pipewire_env, plain_path):
    """Its gain is for `rtdenoise-bench stress gain`: a busy machine tears holes into what a page records."""
    heard = probes.through_virtual_mic(pipewire_env, correlation.noise(2), "--model", plain_path, record=in_a_page)
    levels = np.std(heard[: len(heard) // WINDOW * WINDOW].reshape(-1, WINDOW), axis=1)
    assert np.max(levels) == pytest.approx(correlation.LEVEL, rel=0.3)
