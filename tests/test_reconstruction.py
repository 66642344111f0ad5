"""With a model that changes nothing, the output is the input, exactly the printed delay later."""

import numpy as np
import pytest

from conftest import RATES_HZ
from rtdenoise.core.denoiser import Denoiser, denoise

TOLERANCE = 1e-6  # float32 forward and inverse FFT of a signal in -1..1
ROUGH_RATES_HZ = (8_037, 11_025, 88_200, 192_000)  # hops with large prime factors round a little more


@pytest.mark.parametrize("rate", [*RATES_HZ, *ROUGH_RATES_HZ])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("latency", ["normal", "low"])
def test_identity_model_reconstructs_perfectly(identity, rng, rate, channels, latency):
    x = rng.uniform(-1, 1, (rate // 4, channels)).astype(np.float32)
    d = Denoiser(identity, rate, channels, latency=latency)
    y = np.concatenate([d.process(x), d.flush()])
    tolerance = 2 * TOLERANCE if rate in ROUGH_RATES_HZ else TOLERANCE
    assert np.abs(y[d.latency_samples :] - x).max() <= tolerance
    assert np.abs(y[: d.latency_samples]).max() <= tolerance


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_narrow_identity_model_passes_the_band_above_it(identity_129, rng, rate):
    x = rng.uniform(-1, 1, rate // 4).astype(np.float32)
    assert np.abs(denoise(x, rate, identity_129) - x).max() <= TOLERANCE


@pytest.mark.parametrize("rate", RATES_HZ)
@pytest.mark.parametrize("latency", ["normal", "low"])
def test_printed_delay_is_the_delay_found_by_cross_correlation(shipped, rng, rate, latency):
    x = np.concatenate([np.zeros(rate // 8), 0.1 * rng.standard_normal(rate // 4), np.zeros(rate // 8)]).astype(
        np.float32
    )
    d = Denoiser(shipped, rate, latency=latency, strength_db=6)
    y = d.process(x)
    n = 2 * len(x)
    lags = np.fft.irfft(np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n)))
    assert int(np.argmax(lags)) == d.latency_samples


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_channels_do_not_mix(shipped, channels):
    from conftest import modulated_noise

    x = modulated_noise(np.random.default_rng(1), 8_000, channels)
    if shipped.info.linked:
        pytest.skip("this model gives all channels one filter; tests/test_tape.py says what that promises")
    together = denoise(x, 16_000, shipped)
    alone = np.stack([denoise(x[:, c], 16_000, shipped) for c in range(channels)], axis=1)
    assert np.abs(together - alone).max() <= 1e-6
