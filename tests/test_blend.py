"""Strength limits attenuation, bypass keeps the delay, changes never click, the band above follows the model."""

import numpy as np
import pytest

import graphs
from rtdenoise.core.denoiser import Denoiser, denoise
from rtdenoise.core.frames import blend
from rtdenoise.errors import UsageError
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import load_model

RATE = 16_000


@pytest.fixture(scope="module")
def mute(graph_folder) -> Model:
    """A model that removes everything."""
    return load_model(graphs.gain(graph_folder / "mute.onnx", 0.0))


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


@pytest.mark.parametrize("strength_db", [0, 6, 12, 40])
def test_strength_is_the_most_attenuation_applied(mute, rng, strength_db):
    x = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    y = denoise(x, RATE, mute, strength_db=strength_db)
    assert 20 * np.log10(rms(y) / rms(x)) == pytest.approx(-strength_db, abs=0.01)


def test_no_strength_limit_is_the_full_effect(mute, rng):
    assert not denoise(rng.uniform(-1, 1, RATE).astype(np.float32), RATE, mute).any()


def test_bypass_passes_the_input_with_the_same_delay(mute, rng):
    x = rng.uniform(-1, 1, RATE).astype(np.float32)
    d = Denoiser(mute, RATE)
    d.bypass = True
    d.reset()
    y = np.concatenate([d.process(x), d.flush()])
    assert np.abs(y[d.latency_samples :] - x).max() <= 1e-6


@pytest.mark.parametrize("switch", [lambda d: setattr(d, "bypass", True), lambda d: setattr(d, "strength_db", 3.0)])
def test_switching_cross_fades_without_a_jump(mute, switch):
    t = np.arange(RATE) / RATE
    x = np.sin(2 * np.pi * 200 * t).astype(np.float32)
    d = Denoiser(mute, RATE)
    before = d.process(x)
    switch(d)
    after = d.process(x)
    joined = np.concatenate([before[-1000:], after[:2000]])
    steepest_of_the_sine = 2 * np.pi * 200 / RATE
    assert np.abs(np.diff(joined)).max() < 1.5 * steepest_of_the_sine
    assert rms(after[-4000:]) > 0.4
    assert rms(joined[:1000]) < 1e-6


def test_band_above_a_narrow_model_takes_the_gain_of_its_top(graph_folder, rng):
    half = load_model(graphs.gain(graph_folder / "half.onnx", 0.5))
    x = (0.1 * rng.standard_normal(48_000)).astype(np.float32)
    y = denoise(x, 48_000, half)
    spectrum_in, spectrum_out = np.abs(np.fft.rfft(x)), np.abs(np.fft.rfft(y))
    above = slice(10_000, 23_000)  # Hz, since the signal lasts a second
    assert rms(spectrum_out[above]) / rms(spectrum_in[above]) == pytest.approx(0.5, rel=0.03)


def test_band_above_is_never_louder_than_the_input(graph_folder, rng):
    loud = load_model(graphs.gain(graph_folder / "loud.onnx", 4.0))
    x = (0.01 * rng.standard_normal(48_000)).astype(np.float32)
    above = np.abs(np.fft.rfft(denoise(x, 48_000, loud)))[10_000:23_000]
    assert rms(above) <= 1.001 * rms(np.abs(np.fft.rfft(x))[10_000:23_000])


def gains_above(model_gains: list[float]) -> np.ndarray:
    """Gain of the band above a narrow model, frame by frame, after a frame of each of these gains of the model."""
    frames, narrow, wide = len(model_gains), 129, 385
    full = np.ones((1, frames, wide, 2), np.float32)
    enhanced = np.ones((1, frames, narrow, 2), np.float32) * np.float32(model_gains)[None, :, None, None]
    faults = blend(full, enhanced, frames, np.zeros(2, np.float32), np.ones((2, 0), np.float32), np.ones(1, np.float32))
    assert faults == 0
    assert (full[0, :, narrow:] == full[0, :, narrow : narrow + 1]).all()
    return full[0, :, narrow, 0]


def test_band_above_opens_slowly_as_the_model_does_and_without_a_flutter():
    """After silence it comes back over some 18 ms: half in three to four hops of 4 ms, not at once."""
    rise = gains_above([0.0] * 50 + [1.0] * 20)[50:]
    assert (np.diff(rise) > 0).all()
    assert rise[0] == pytest.approx(0.2, abs=0.01)
    assert rise[3] == pytest.approx(1 - 0.8**4, abs=0.01)
    assert rise[-1] > 0.98


def test_band_above_closes_at_once():
    """A noise that the model takes away must not hiss on above it."""
    fall = gains_above([1.0] * 5 + [0.1] * 5)
    np.testing.assert_allclose(fall[:5], 1, atol=1e-6)
    np.testing.assert_allclose(fall[5:], 0.1, rtol=1e-3)


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_odd_strength_is_refused(mute, bad):
    with pytest.raises(UsageError, match="strength"):
        Denoiser(mute, RATE, strength_db=bad)
