"""A low cut takes away what lies below a voice, leaves the voice, adds no latency, and is the same in files."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from command import call, write
from conftest import modulated_noise
from rtdenoise import denoise_file
from rtdenoise.core.denoiser import Denoiser, denoise
from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.core.low_cut import CORNER_DB
from rtdenoise.errors import UsageError
from test_chunks import chunked

RATE = 16_000


def gain_db(model, rate: int, low_cut_hz: float, latency: str, hz: float) -> float:
    """Of a tone, once it has settled."""
    t = np.arange(2 * rate) / rate
    x = (0.1 * np.sin(2 * np.pi * hz * t)).astype(np.float32)
    y = denoise(x, rate, model, latency=latency, low_cut_hz=low_cut_hz)
    at = slice(rate // 2, rate // 2 + rate)  # a whole number of periods
    turned = np.exp(-2j * np.pi * hz * t[at])
    return float(20 * np.log10(abs(y[at] @ turned) / abs(x[at] @ turned)))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("low_cut_hz", [60, 80, 100, 120])
@pytest.mark.parametrize(("latency", "least_db"), [("normal", 16), ("low", 13)])
def test_below_is_attenuated_and_above_is_not(identity, rate, low_cut_hz, latency, least_db):
    gain = lambda hz: gain_db(identity, rate, low_cut_hz, latency, hz)
    assert gain(low_cut_hz) == pytest.approx(-CORNER_DB, abs=0.3)
    assert gain(low_cut_hz // 2) < -least_db
    assert gain(10) < gain(low_cut_hz // 2) + 1
    assert all(-1.5 < gain(hz) < 1.5 for hz in (2 * low_cut_hz, 3 * low_cut_hz))
    assert all(abs(gain(hz)) < 0.1 for hz in (500, 1_000, 3_000))


@pytest.mark.parametrize("latency", ["normal", "low"])
def test_no_latency_is_added(shipped, rng, latency):
    x = np.concatenate([np.zeros(RATE // 8), 0.1 * rng.standard_normal(RATE // 4), np.zeros(RATE // 8)]).astype("f4")
    d, without = (Denoiser(shipped, RATE, 1, 6, latency, low_cut_hz) for low_cut_hz in (90, None))
    y, n = d.process(x), 2 * len(x)
    lags = np.fft.irfft(np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n)))
    assert int(np.argmax(lags)) == d.latency_samples == without.latency_samples


@pytest.mark.parametrize("sizes", [[1, 63, 1_000], [64], [4_999]])
def test_chunks_make_no_difference_to_a_bit(delay, sizes):
    x = modulated_noise(np.random.default_rng(7), 12_000, 2, RATE)
    d = Denoiser(delay, RATE, 2, low_cut_hz=80)
    whole = np.concatenate([d.process(x), d.flush()])
    d.reset()
    assert np.array_equal(chunked(d, x, sizes), whole)


def test_files_and_arrays_are_cut_alike(shipped, tmp_path, rng, capfd):
    x = modulated_noise(rng, RATE, 1)
    source = write(tmp_path / "noisy.wav", x, RATE, subtype="FLOAT")
    wanted = denoise(x, RATE, shipped, low_cut_hz=80)
    by_call, by_command = tmp_path / "call.wav", tmp_path / "command.wav"
    denoise_file(source, by_call, model=shipped.info.name, low_cut_hz=80)
    code, _, err = call(capfd, "--in", source, "--out", by_command, "--low-cut", "80", model=shipped.info.name)
    assert code == 0, err
    for path in (by_call, by_command):
        assert np.abs(soundfile.read(path, dtype="float32", always_2d=True)[0] - wanted).max() <= 1e-6
    assert np.abs(wanted - denoise(x, RATE, shipped)).max() > 1e-4


def test_it_holds_whatever_the_limit_and_bypass_passes_all(identity, rng):
    x = rng.uniform(-1, 1, RATE).astype(np.float32)
    cut = denoise(x, RATE, identity, low_cut_hz=100)
    assert np.abs(denoise(x, RATE, identity, strength_db=0, low_cut_hz=100) - cut).max() <= 1e-6
    d = Denoiser(identity, RATE, low_cut_hz=100)
    d.bypass = True
    d.reset()
    y = np.concatenate([d.process(x), d.flush()])[d.latency_samples :]
    assert np.abs(y - x).max() <= 1e-6


def test_it_may_change_under_way_without_a_jump(identity):
    t = np.arange(2 * RATE) / RATE
    x = (0.5 * np.sin(2 * np.pi * 40 * t)).astype(np.float32)
    d = HopDenoiser(identity, RATE)
    before = d.process(x[:RATE])
    d.low_cut_hz = 80
    assert not d.settled
    after = d.process(x[RATE:])
    assert d.settled
    steepest = np.abs(np.diff(x)).max()
    assert np.abs(np.diff(np.concatenate([before, after]))).max() < 1.5 * steepest
    assert np.abs(after[RATE // 2 :]).max() < 0.1


@pytest.mark.parametrize("bad", [0, 59, 121, float("nan"), True])
def test_others_are_refused(identity, bad, tmp_path):
    with pytest.raises(UsageError, match=r"low_cut_hz .* from 60 to 120 Hz"):
        Denoiser(identity, RATE, low_cut_hz=bad)
    with pytest.raises(UsageError, match="low_cut_hz"):
        denoise_file(tmp_path / "a.wav", tmp_path / "b.wav", low_cut_hz=bad)
