"""A published streaming layout runs through its sidecar, at any rate, and a wrong sidecar says what is wrong."""

import numpy as np
import pytest

import graphs
from rtdenoise.core.denoiser import Denoiser
from rtdenoise.errors import ModelError
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import load_model
from rtdenoise_bench.measure.exactness import PassThrough


@pytest.fixture
def foreign(tmp_path):
    return graphs.foreign(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_foreign_stft_and_caches_carry_the_signal(foreign, rng, rate, channels):
    """The graph returns the frame before, out of its cache: perfect reconstruction, one hop late."""
    x = rng.uniform(-1, 1, (rate, channels)).astype(np.float32)
    d = Denoiser(foreign, rate, channels)
    assert d.latency_ms == 32
    y = np.concatenate([d.process(x[:777]), d.process(x[777:]), d.flush()])
    late = d.latency_samples + d.geometry.hop
    assert np.abs(y[late:] - x[: len(y) - late]).max() <= 1e-6


@pytest.mark.parametrize("strength_db", [None, 6])
def test_a_sidecar_that_states_look_ahead_brings_input_and_output_together(foreign, rng, strength_db):
    """The graph that returns the frame before is one with look-ahead: said so, its hop is in the printed latency."""
    sidecar = foreign.with_suffix(".toml")
    sidecar.write_text(f"look_ahead_frames = 1\n{sidecar.read_text()}")
    x = rng.uniform(-1, 1, 16_000).astype(np.float32)
    d = Denoiser(foreign, 16_000, strength_db=strength_db)
    assert d.latency_ms == 48
    y = np.concatenate([d.process(x[:777]), d.process(x[777:]), d.flush()])
    assert np.abs(y[d.latency_samples :] - x).max() <= 1e-6


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_spectra_have_the_size_the_model_was_made_for(foreign, rate):
    """At any rate a tone fills the same bin with the same number as an unscaled 512-point FFT at 16 kHz."""
    info = load_model(foreign).info
    recorder = PassThrough(1, info.bins)
    d = Denoiser(Model(info, lambda channels: recorder), rate)
    tone = np.cos(2 * np.pi * 1_000 * np.arange(rate) / rate).astype(np.float32)
    for hop in tone[: 4 * d.geometry.window].reshape(-1, d.geometry.hop):
        d.process(hop)
    window = np.sin(np.pi * np.arange(512) / 512)
    assert np.hypot(*recorder.buffers(1)[0][0, 0, 32]) == pytest.approx(window.sum() / 2, rel=1e-3)


def test_reset_clears_the_caches(foreign, rng):
    x = rng.uniform(-1, 1, 5_000).astype(np.float32)
    d = Denoiser(foreign, 16_000)
    first = d.process(x)
    d.reset()
    assert np.array_equal(d.process(x), first)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("rate = 16000", "", "rate"),
        ("rate = 16000", "rate = 16000\nlook_ahead_frames = -1", "look_ahead_frames"),
        ("rate = 16000", "rate = 16000\nlook_ahead_frames = true", "look_ahead_frames"),
        ("hop_samples = 256", "hop_samples = 200", "window_samples"),
        ('"sqrt-hann"', '"kaiser"', "window"),
        ('"batch", "bins"', '"batch", "bands"', "layout"),
        ('"mix"', '"mixture"', "mix"),
        ('tra_cache = "tra_cache_out"', "", "tra_cache"),
        ("rate = 16000", "rate = = 16000", "readable"),
    ],
)
def test_wrong_sidecar_names_the_field(foreign, old, new, named):
    sidecar = foreign.with_suffix(".toml")
    sidecar.write_text(graphs.FOREIGN_SIDECAR.replace(old, new), encoding="utf-8")
    with pytest.raises(ModelError, match=named):
        load_model(foreign)
