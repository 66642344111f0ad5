"""A model with look-ahead costs exactly the latency it states; input, output and strength stay aligned all the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphs
from rtdenoise.core.denoiser import Denoiser, denoise
from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.errors import ModelError, UsageError
from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.model.contract import MOST_LOOK_AHEAD, Model
from rtdenoise.model.registry import load_model

RATE = 16_000
TOLERANCE = 2e-6  # float32 forward and inverse FFT of a signal in -1..1, with windows of up to 64 ms


@pytest.fixture(scope="module")
def late(graph_folder) -> Model:
    """Changes nothing; one frame of look-ahead at the usual hop."""
    return load_model(graphs.late_identity(graph_folder / "late.onnx"))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("latency", ["normal", "low"])
@pytest.mark.parametrize(("hop_ms", "look_ahead"), [(4, 1), (8, 1), (8, 3), (16, MOST_LOOK_AHEAD)])
def test_the_input_comes_back_exactly_the_printed_latency_later(graph_folder, rng, rate, latency, hop_ms, look_ahead):
    model = load_model(graphs.late_identity(graph_folder / f"late{hop_ms}{look_ahead}.onnx", hop_ms, look_ahead))
    x = rng.uniform(-1, 1, (rate // 3, 2)).astype(np.float32)
    d = Denoiser(model, rate, 2, latency=latency)
    hop = d.geometry.hop
    assert d.latency_samples == ({"normal": 4, "low": 2}[latency] + look_ahead) * hop
    assert d.latency_ms == pytest.approx(1000 * d.latency_samples / rate)
    y = np.concatenate([d.process(x), d.flush()])
    assert np.abs(y[d.latency_samples :] - x).max() <= TOLERANCE
    assert np.abs(y[: d.latency_samples]).max() <= TOLERANCE
    d.reset()
    assert np.array_equal(np.concatenate([d.process(x), d.flush()]), y)  # a reset leaves no frame behind


@pytest.mark.parametrize("settings", [{"strength_db": 6.0}, {"strength_db": 0.0}, {}])
def test_input_that_is_blended_in_is_of_the_same_moment(late, rng, settings):
    """A model that changes nothing and its input add up to the input, at any strength; a frame apart they would not."""
    x = rng.uniform(-1, 1, RATE).astype(np.float32)
    assert np.abs(denoise(x, RATE, late, **settings) - x).max() <= TOLERANCE


def test_bypass_keeps_the_latency(late, rng):
    x = rng.uniform(-1, 1, RATE).astype(np.float32)
    d = Denoiser(late, RATE)
    y = [d.process(x[:5000])]
    d.bypass = True
    y += [d.process(x[5000:]), d.flush()]
    assert np.abs(np.concatenate(y)[d.latency_samples :] - x).max() <= TOLERANCE


def test_the_band_above_the_model_is_of_the_same_moment(graph_folder, rng):
    narrow = load_model(graphs.late_identity(graph_folder / "narrow.onnx", 8, 1, top=0))
    x = rng.uniform(-1, 1, 24_000).astype(np.float32)
    assert np.abs(denoise(x, 48_000, narrow) - x).max() <= TOLERANCE


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_chunks_make_no_difference(late, sizes):
    x = np.random.default_rng(sum(sizes)).uniform(-1, 1, sum(sizes)).astype(np.float32)
    cut, whole = Denoiser(late, RATE, strength_db=9), Denoiser(late, RATE, strength_db=9)
    parts = np.split(x, np.cumsum(sizes)[:-1])
    assert np.array_equal(np.concatenate([cut.process(part) for part in parts]), whole.process(x))


@pytest.mark.parametrize("claim", ["-1", "1.0", "one", "", f"{MOST_LOOK_AHEAD + 1}"])
def test_a_look_ahead_that_is_none_is_refused_by_its_field(graph_folder, claim):
    path = graphs.identity(graph_folder / "claims.onnx", claims={"look_ahead_frames": claim})
    with pytest.raises(ModelError, match=r"metadata field look_ahead_frames is .* this version needs '0' or '1' or"):
        load_model(path)


def test_a_stream_goes_on_only_with_a_model_of_its_own_look_ahead(late, identity):
    d = HopDenoiser(late, RATE)
    with pytest.raises(UsageError, match="another STFT or look-ahead than test"):
        d.exchange(identity, identity.stream(1))


def test_a_framing_states_the_latency_of_its_normal_mode():
    assert CONTRACT_FRAMING.latency_ms == 16
    assert Framing(8.0, look_ahead=1).latency_ms == 40
