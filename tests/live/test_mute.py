"""Mute is silence within a few hops, without a click, whatever the rate; afterwards the sound is where it would be."""

from __future__ import annotations

import numpy as np
import pytest

from live.test_worker import KINDS, Harness
from rtdenoise.live import ring
from rtdenoise.live.ring import MUTE_HOPS

FADE_HOPS = MUTE_HOPS + 1  # The fade, and the hop that was under way.


def muted(harness: Harness, on: bool) -> None:
    harness.control[ring.MUTED] = on


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_it_is_silent_after_a_fade_and_comes_back_in_step(plain, kind, rate):
    t = np.arange(rate) / rate
    x = (0.5 * np.sin(2 * np.pi * 100 * t)).astype(np.float32)
    outputs = []
    for mutes in (False, True):
        with Harness(plain, rate, rate // 250, kind) as harness:
            harness.stop_clock()
            hop, third = harness.denoiser.geometry.hop, len(x) // 3 // harness.block * harness.block
            first = harness.run(x[:third])
            muted(harness, mutes)
            second = harness.run(x[third : 2 * third])
            muted(harness, False)
            outputs.append(np.concatenate([first, second, harness.run(x[2 * third :])])[:, 0])
    plain_sound, quiet = outputs
    late = harness.control[ring.PREFILL]  # what lay in the buffer when the mute came
    start = third + late
    assert np.array_equal(quiet[: start - hop], plain_sound[: start - hop])
    assert not quiet[start + FADE_HOPS * hop : 2 * third].any()
    assert np.array_equal(quiet[start + third + FADE_HOPS * hop :], plain_sound[start + third + FADE_HOPS * hop :])


def test_the_fade_does_not_click(plain):
    """A step in the sound, or in its slope, is heard as a click: energy far above the tone itself."""
    rate = 48_000
    x = (0.5 * np.sin(2 * np.pi * 200 * np.arange(rate) / rate)).astype(np.float32)
    with Harness(plain, rate, 192) as harness:
        harness.stop_clock()
        sounds = []
        for on in (False, True, False):
            muted(harness, on)
            sounds.append(harness.run(x[:15_360]))  # whole periods, so that the tone goes on
    y = np.concatenate(sounds)[:, 0]
    frames = np.lib.stride_tricks.sliding_window_view(y, 1024)[2000::128] * np.hanning(1024)
    above = np.abs(np.fft.rfft(frames))[:, 1024 * 4000 // rate :]
    tone = 0.5 * np.hanning(1024).sum() / 2
    assert 20 * np.log10(above.max() / tone) < -80
    hard = frames.copy()
    hard[:, 512:] = 0  # What a click would be: the measure sees it.
    assert 20 * np.log10(np.abs(np.fft.rfft(hard))[:, 1024 * 4000 // rate :].max() / tone) > -60


@pytest.mark.parametrize("switches", [1, 2, 3, 5])
def test_turns_in_the_midst_of_a_fade_end_where_they_should(plain, switches):
    x = np.full(192 * 40, 0.25, np.float32)
    with Harness(plain, 48_000, 192) as harness:
        harness.stop_clock()
        harness.run(x)
        for k in range(switches):
            muted(harness, k % 2 == 0)
            harness.run(x[:192])
        y = harness.run(x)[192 * 20 :]
    assert (not y.any()) if switches % 2 else np.allclose(y, 0.25, atol=1e-3)
