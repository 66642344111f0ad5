"""NaN, silence, denormals, extreme levels and wrong arguments each have one decided behaviour."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conftest import modulated_noise
from rtdenoise.core.denoiser import Denoiser, denoise
from rtdenoise.errors import UsageError

RATE = 16_000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_faulty_samples_become_zero_and_are_counted(shipped, bad):
    x = modulated_noise(np.random.default_rng(0), RATE)[:, 0]
    faulty, zeroed = x.copy(), x.copy()
    faulty[5_000:5_100], zeroed[5_000:5_100] = bad, 0
    d = Denoiser(shipped, RATE)
    y = d.process(faulty)
    assert d.nonfinite_samples == 100
    assert np.array_equal(y, Denoiser(shipped, RATE).process(zeroed))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(x=hnp.arrays(np.float32, st.integers(0, 3_000), elements=st.floats(width=32)))
def test_output_is_always_finite(shipped, x):
    assert np.isfinite(Denoiser(shipped, RATE).process(x)).all()


def test_digital_silence_stays_silent(shipped):
    assert np.abs(denoise(np.zeros(2 * RATE, np.float32), RATE, shipped)).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 1e-38, 1e-42])
def test_silence_and_denormals_cost_no_more_than_sound(shipped, level):
    """A muted microphone must not burn the processor (easyeffects#4248). Of hops that take turns, the quick ones, which
    no other program interrupted."""
    sound = modulated_noise(np.random.default_rng(0), RATE)[:, 0]
    quiet = np.full(RATE, level, np.float32)

    def seconds(d: Denoiser, hop: np.ndarray) -> float:
        start = time.perf_counter()
        d.process(hop)
        return time.perf_counter() - start

    loud, muted = Denoiser(shipped, RATE), Denoiser(shipped, RATE)
    muted.process(sound)
    size = loud.geometry.hop
    hops = [x[: RATE // size * size].reshape(-1, size) for x in (sound, quiet)]
    times = [(seconds(loud, a), seconds(muted, b)) for _ in range(4) for a, b in zip(*hops, strict=True)]
    loud_s, muted_s = np.percentile(times, 10, axis=0)
    assert muted_s < 1.5 * loud_s


def test_sixty_four_bit_samples_are_taken_and_integers_refused(identity):
    x = np.linspace(-1, 1, 1_000)
    assert denoise(x, RATE, identity).dtype == np.float32
    with pytest.raises(UsageError, match="int16"):
        denoise((x * 32_767).astype(np.int16), RATE, identity)


@pytest.mark.parametrize("rate", [7_999, 192_001, 0, -1, 44_100.5])
def test_rates_outside_the_range_are_refused(identity, rate):
    with pytest.raises(UsageError, match="rate"):
        Denoiser(identity, rate)


@pytest.mark.parametrize("channels", [0, 9])
def test_channel_counts_outside_the_range_are_refused(identity, channels):
    with pytest.raises(UsageError, match="channels"):
        Denoiser(identity, RATE, channels)


def test_wrong_shapes_and_latencies_are_refused(identity):
    with pytest.raises(UsageError, match="shape"):
        Denoiser(identity, RATE, 2).process(np.zeros(100, np.float32))
    with pytest.raises(UsageError, match="latency"):
        Denoiser(identity, RATE, latency="lowest")


def test_strided_input_gives_the_same_as_contiguous(shipped):
    x = modulated_noise(np.random.default_rng(0), 8_000, 2)
    assert np.array_equal(Denoiser(shipped, RATE).process(x[:, 1]), Denoiser(shipped, RATE).process(x[:, 1].copy()))
