"""Both FFT backends are the FFT, forwards and backwards, and compiled code can call them."""

import numpy as np
import pytest

from rtdenoise.native.fft import RealFFT, fftw_library, inverse_transform, jit, transform

LENGTHS = [24, 128, 256, 352, 704, 706, 768, 1412]  # powers of two, 11s, 3s, and a prime of 353


@jit
def forward(plan, time, freq):
    transform(plan, time, freq)


@jit
def backward(plan, time, freq):
    inverse_transform(plan, time, freq)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("backend", ["auto", "numba"])
def test_transform_is_the_fft_and_its_inverse_returns(n, backend, rng):
    fft = RealFFT(n, backend)
    x = rng.standard_normal(n).astype(np.float32)
    fft.time[:] = x
    forward(fft.plan, fft.time, fft.freq)
    expected = np.fft.rfft(x.astype(np.float64))
    found = fft.freq[:, 0] + 1j * fft.freq[:, 1]
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()
    backward(fft.plan, fft.time, fft.freq)
    assert np.abs(fft.time / n - x).max() < 5e-6


def test_fftw_is_found_in_the_pyfftw_wheel():
    if fftw_library() is None:
        pytest.skip("this build of pyFFTW hides FFTW's C functions; the numba FFT is used and tested above")
    assert RealFFT(256).backend == "fftw"
