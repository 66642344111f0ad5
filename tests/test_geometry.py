"""Time is fixed and samples follow the rate; windows add up to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import ShortTimeFFT

from rtdenoise.geometry import CONTRACT_FRAMING, WINDOW_SHAPES, Framing, Geometry

rates = st.integers(8_000, 192_000)
FRAMINGS = [
    CONTRACT_FRAMING,
    Framing(8.0, look_ahead=1),
    Framing(look_ahead=5),
    *(
        Framing(8.0, overlap, window, look_ahead=ahead)
        for overlap in (2, 4)
        for window in WINDOW_SHAPES
        for ahead in (0, 1)
    ),
]


@pytest.mark.parametrize(
    ("rate", "window", "hop"),
    [
        (8_000, 128, 32),
        (16_000, 256, 64),
        (22_050, 352, 88),
        (44_100, 704, 176),
        (48_000, 768, 192),
        (192_000, 3072, 768),
    ],
)
def test_window_and_hop_follow_the_rate(rate, window, hop):
    g = Geometry(rate)
    assert (g.window, g.hop, g.bins) == (window, hop, window // 2 + 1)


@given(rates)
def test_bins_mean_the_same_frequency_at_every_rate(rate):
    assert Geometry(rate).bin_hz == pytest.approx(62.5, rel=0.02)


@given(rates)
def test_latency_is_sixteen_or_eight_ms(rate):
    g = Geometry(rate)
    assert g.latency_ms("normal") == pytest.approx(16, rel=0.02)
    assert g.latency_ms("low") == pytest.approx(8, rel=0.02)


@given(rates, st.sampled_from(["normal", "low"]), st.sampled_from(FRAMINGS))
def test_window_products_overlap_add_to_one(rate, latency, framing):
    g = Geometry(rate, framing)
    product = g.analysis_window() * g.synthesis_window(latency)
    assert np.allclose(product.reshape(-1, g.hop).sum(0), 1, atol=1e-12)
    assert np.abs(g.synthesis_window(latency)).max() < 8


@given(rates)
def test_low_latency_window_lives_on_the_newest_two_hops(rate):
    g = Geometry(rate)
    assert not g.synthesis_window("low")[: -2 * g.hop].any()


def test_a_window_that_reaches_zero_has_the_canonical_dual_of_scipy():
    g = Geometry(16_000, Framing(4.0, 4, "hann"))
    oracle = ShortTimeFFT(g.analysis_window(), g.hop, g.rate)
    assert np.allclose(g.synthesis_window(), oracle.dual_win, atol=1e-12)


@given(rates, st.integers(0, 4))
def test_a_sample_comes_most_from_the_frames_that_heard_most_after_it(rate, look_ahead):
    g = Geometry(rate, Framing(look_ahead=look_ahead))
    shares = (g.analysis_window() * g.synthesis_window()).reshape(4, g.hop)  # the oldest hop first
    older, newer = shares[:2].sum(), shares[2:].sum()
    assert older > 1.5 * newer if look_ahead == 0 else older == pytest.approx(newer, rel=0.05)


@given(rates)
def test_a_full_scale_sine_has_the_same_height_at_every_rate(rate):
    g = Geometry(rate)
    frame = np.cos(2 * np.pi * 8 * np.arange(g.window) / g.window) * g.analysis_window()
    assert abs(np.fft.rfft(frame)[8]) * g.spectrum_scale() == pytest.approx(0.5, rel=1e-3)
