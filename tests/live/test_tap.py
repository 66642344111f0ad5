"""What a tap reads is the sound before and after the filter, in step, and reading it changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import modulated_noise
from live.test_worker import Harness
from rtdenoise.live import ring
from rtdenoise.live.ring import Rings
from rtdenoise.live.tap import Tap

RATE = 48_000


class Tapped(Harness):
    """With rings that record, and a tap on them."""

    def __init__(self, model, *argv, **settings):
        super().__init__(model, *argv, **settings)
        self.tap = Tap(self.rings, self.denoiser)


@pytest.fixture(autouse=True)
def _recording(monkeypatch):
    whole = Rings.__init__
    monkeypatch.setattr(Rings, "__init__", lambda self, *argv, **more: whole(self, *argv, **more | {"record": True}))


@pytest.mark.parametrize("block", [64, 192, 500])
@pytest.mark.parametrize("channels", [1, 2])
def test_before_and_after_a_filter_that_changes_nothing_are_equal(identity, rng, block, channels):
    x = modulated_noise(rng, RATE, channels, RATE)
    with Tapped(identity, RATE, block, channels=channels) as h:
        h.stop_clock()
        pieces = []
        for at in range(0, len(x) - 4000, 4000 // block * block):
            h.run(x[at : at + 4000 // block * block])
            pieces.append(h.tap.read())
    before, after = (np.concatenate(side) for side in zip(*pieces, strict=True))
    assert before.shape == after.shape
    assert len(before) > len(x) * 0.8
    assert h.tap.lost == 0
    assert np.abs(before).max() > 0.1
    assert np.allclose(before, after, atol=1e-4)
    late = h.denoiser.latency_samples - h.denoiser.geometry.hop
    assert np.array_equal(before[late:], x[: len(before) - late])


def test_who_reads_too_seldom_is_told_what_is_lost_and_gets_the_newest(identity, rng):
    x = modulated_noise(rng, 3 * RATE, 1, RATE)
    with Tapped(identity, RATE, 192) as h:
        h.stop_clock()
        h.run(x)
        before, after = h.tap.read()
        assert len(before) + h.tap.lost == h.control[ring.RECORDED_HEAD]
        assert 0.5 * RATE < len(before) < RATE
        assert np.allclose(before, after, atol=1e-4)
        assert len(h.tap.read()[0]) == 0


def test_in_step_again_after_input_was_skipped(identity, rng):
    x = modulated_noise(rng, 3 * RATE, 1, RATE)
    with Tapped(identity, RATE, 192) as h:
        h.stop_clock()
        h.run(x[:RATE])
        h.worker._end()  # a stall of 0.7 s, after which the worker skips
        for at in range(RATE, RATE + 175 * 192, 192):
            h.feed(x[at : at + 192])
        h.worker._begin()
        h.rings.post()
        h.settle()
        assert h.control[ring.SKIPPED_FRAMES] > 0
        h.run(x[2 * RATE : 2 * RATE + 40 * 192])
        h.tap.read()
        h.run(x[2 * RATE + 40 * 192 : 2 * RATE + 80 * 192])
        before, after = h.tap.read()
    assert len(before) == 40 * 192
    assert np.allclose(before, after, atol=1e-4)


def test_faulty_input_is_shown_as_silence(identity):
    x = np.full(192 * 20, np.nan, np.float32)
    with Tapped(identity, RATE, 192) as h:
        h.run(x)
        before, _ = h.tap.read()
    assert not before.any()
