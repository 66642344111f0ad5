"""A model that does not keep the contract is refused by an error that names the field."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper

import graphs
from rtdenoise.core.denoiser import Denoiser
from rtdenoise.errors import ModelError, UsageError
from rtdenoise.model.contract import fixed_metadata
from rtdenoise.model.registry import find_model, list_models, load_model


@pytest.mark.parametrize("field", fixed_metadata())
@pytest.mark.parametrize("value", [None, "7"])
def test_wrong_or_missing_metadata_names_the_field(tmp_path, field, value):
    meta = graphs.contract(129)
    meta.pop(field) if value is None else meta.update({field: value})
    nodes = [helper.make_node("Identity", ["noisy"], ["enhanced"])]
    shape = graphs.spectrum(129)
    path = graphs.save(tmp_path / "m.onnx", nodes, {"noisy": shape}, {"enhanced": shape}, meta)
    with pytest.raises(ModelError, match=field):
        load_model(path)


@pytest.mark.parametrize("bins", ["130", "many"])
def test_odd_bins_are_refused(tmp_path, bins):
    with pytest.raises(ModelError, match="bins"):
        load_model(graphs.identity(tmp_path / "m.onnx", 129, claims={"bins": bins}))


def test_bins_that_differ_from_the_graph_are_refused(tmp_path):
    with pytest.raises(ModelError, match="noisy"):
        load_model(graphs.identity(tmp_path / "m.onnx", 129, claims={"bins": "385"}))


def broken_states(tmp_path, state_in, state_out, shape):
    copy = [helper.make_node("Identity", [a], [b]) for a, b in (("noisy", "enhanced"), (state_in, state_out))]
    spectrum = graphs.spectrum(129)
    inputs, outputs = {"noisy": spectrum, state_in: shape}, {"enhanced": spectrum, state_out: shape}
    return graphs.save(tmp_path / "m.onnx", copy, inputs, outputs, graphs.contract(129))


@pytest.mark.parametrize(
    ("state_in", "state_out", "shape", "named"),
    [
        ("memory", "memory_next", ["batch", 4], "memory"),
        ("state_a", "state_b_next", ["batch", 4], "state_a_next"),
        ("state_a", "state_a_next", [1, 4], "state_a"),
        ("state_a", "state_a_next", ["batch", "any"], "state_a"),
    ],
)
def test_missing_and_odd_states_are_named(tmp_path, state_in, state_out, shape, named):
    with pytest.raises(ModelError, match=named):
        load_model(broken_states(tmp_path, state_in, state_out, shape))


def test_non_finite_output_is_refused_at_load(tmp_path):
    with pytest.raises(ModelError, match="not finite"):
        load_model(graphs.gain(tmp_path / "m.onnx", float("nan")))


def test_output_that_turns_non_finite_later_is_an_error_and_not_sound(tmp_path):
    meta = graphs.contract(129)
    nodes = [
        helper.make_node("Add", ["state_a", "step"], ["state_a_next"]),
        helper.make_node("Sub", ["limit", "state_a"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),  # NaN once the state has passed the limit
        helper.make_node("Mul", ["noisy", "root"], ["enhanced"]),
    ]
    inputs = {"noisy": graphs.spectrum(129), "state_a": ["batch", 1, 1, 1]}
    outputs = {"enhanced": graphs.spectrum(129), "state_a_next": ["batch", 1, 1, 1]}
    constants = [("step", np.float32(1)), ("limit", np.float32(10))]
    path = graphs.save(tmp_path / "m.onnx", nodes, inputs, outputs, meta, constants)
    d = Denoiser(path, 16_000)
    hops = [np.full(64, 0.1, np.float32)] * 20
    assert np.isfinite(d.process(hops[0])).all()
    with pytest.raises(ModelError, match="not finite"):
        list(map(d.process, hops))


def test_corrupt_file_is_one_line(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_unknown_name_suggests_the_near_one():
    near = list_models()[0].name
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        find_model(near + "s")


def test_every_shipped_model_has_a_card_and_says_what_it_is():
    for info in list_models():
        assert info.path.with_suffix(".md").is_file()
        assert info.parameters > 0
        assert "not stated" not in (info.licence, info.training_data)
        assert info.scores
        meta = onnxruntime.InferenceSession(info.path).get_modelmeta().custom_metadata_map
        assert info.training_data == meta["training_data"], "whole"


def framed(tmp_path, bins, hop_ms=16, window_ms=64):
    claims = {"hop_ms": str(hop_ms), "window_ms": str(window_ms)}
    return graphs.identity(tmp_path / "m.onnx", bins, claims=claims)


@pytest.mark.parametrize(("hop_ms", "bins"), [(4, 385), (8, 257), (8, 769), (16, 513), (16, 1537)])
def test_a_model_says_how_long_its_window_is_and_is_streamed_so(tmp_path, hop_ms, bins):
    denoiser = Denoiser(load_model(framed(tmp_path, bins, hop_ms, 4 * hop_ms)), 16_000)
    assert denoiser.latency_ms == 4 * hop_ms
    x = np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)
    y = np.concatenate([denoiser.process(x), denoiser.flush()])[denoiser.latency_samples :]
    assert np.abs(y - x).max() < 1e-5


@pytest.mark.parametrize(
    ("bins", "claims", "named"),
    [(1537, {"window_ms": 16}, "window_ms"), (385, {}, "bins"), (1537, {"hop_ms": 5}, "hop_ms is '5', .* '16'")],
)
def test_windows_hops_and_bins_that_do_not_fit_are_named(tmp_path, bins, claims, named):
    with pytest.raises(ModelError, match=named):
        load_model(framed(tmp_path, bins, **claims))
