"""However a signal is cut into chunks, the output is the same; reset forgets everything."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import modulated_noise
from rtdenoise.core.denoiser import Denoiser
from rtdenoise.model.contract import Model

SAMPLES = 12_000
chunk_sizes = st.lists(st.integers(1, 5_000), min_size=1, max_size=12)
relaxed = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def chunked(d: Denoiser, x: np.ndarray, sizes: list[int]) -> np.ndarray:
    parts, at = [], 0
    while at < len(x):
        size = sizes[len(parts) % len(sizes)]
        parts.append(d.process(x[at : at + size]))
        assert parts[-1].shape == x[at : at + size].shape
        at += size
    return np.concatenate([*parts, d.flush()])


def difference(model: Model, rate: int, channels: int, sizes: list[int]) -> float:
    x = modulated_noise(np.random.default_rng(7), SAMPLES, channels, rate)
    d = Denoiser(model, rate, channels)
    whole = np.concatenate([d.process(x), d.flush()])
    d.reset()
    return float(np.abs(chunked(d, x, sizes) - whole).max())


@relaxed
@given(sizes=chunk_sizes, rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]), channels=st.integers(1, 2))
def test_chunked_equals_one_shot_for_every_shipped_model(shipped, sizes, rate, channels):
    assert difference(shipped, rate, channels, sizes) <= 1e-6


@relaxed
@given(sizes=chunk_sizes, channels=st.integers(1, 2))
def test_chunked_equals_one_shot_bit_for_bit_without_a_network(delay, sizes, channels):
    assert difference(delay, 16_000, channels, sizes) == 0


@pytest.mark.parametrize("frames", [2, 3, 17, 64, 200])
def test_one_call_of_many_frames_equals_frame_by_frame(shipped, rng, frames):
    bins = shipped.info.bins
    spectra = (0.01 * rng.standard_normal((2, frames, bins, 2))).astype(np.float32)
    many, single = shipped.stream(2), shipped.stream(2)
    noisy, enhanced = many.buffers(frames)
    noisy[:] = spectra
    many.step(frames)
    one_noisy, one_enhanced = single.buffers(1)
    for k in range(frames):
        one_noisy[:, 0] = spectra[:, k]
        single.step(1)
        assert np.abs(one_enhanced[:, 0] - enhanced[:, k]).max() <= 1e-5


def test_reset_forgets_sound_strength_fades_and_faults(shipped):
    x = modulated_noise(np.random.default_rng(3), 5_000)[:, 0]
    d = Denoiser(shipped, 16_000)
    first = d.process(x)
    d.process(np.full(777, np.nan, np.float32))
    d.reset()
    assert d.nonfinite_samples == 0
    assert np.array_equal(d.process(x), first)


def test_empty_chunks_are_welcome(delay):
    d = Denoiser(delay, 16_000)
    assert d.process(np.zeros(0, np.float32)).shape == (0,)
