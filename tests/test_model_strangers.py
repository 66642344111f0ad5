"""A model from a stranger is used or refused in one line, by files and live audio alike, and reads no other file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

import graphs
from rtdenoise.core.denoiser import Denoiser
from rtdenoise.errors import ModelError, RtdenoiseError
from rtdenoise.model.contract import Model
from rtdenoise.model.external import has_sidecar
from rtdenoise.model.native_session import NativeSteps, step
from rtdenoise.model.registry import load_model
from rtdenoise.model.weights import single_file
from rtdenoise.native.fft import jit

RECIPE = 'network = "unet"\n[schedule]\nsteps = 10\n'
many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path)
    assert str(caught.value).isprintable()  # one line, and nothing in it that a terminal obeys


@contextmanager
def one_line_if_any() -> Iterator[None]:
    """An error of ours, in one line, or none."""
    said = ""
    try:
        yield
    except RtdenoiseError as problem:
        said = str(problem)
    assert said.isprintable()


def halved(path: Path, location: str | None = "weights.bin", where: str = "initializer") -> Path:
    """enhanced = noisy / 2; the half lies in another file, in a place of the graph that can hold it."""
    half = onnx.numpy_helper.from_array(np.full((129, 2), 0.5, np.float32), "half")
    if location is not None:
        content = half.raw_data
        (path.parent / "weights.bin").write_bytes(content)
        half.ClearField("raw_data")
        half.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
            entry = half.external_data.add()
            entry.key, entry.value = key, value
    nodes = [helper.make_node("Mul", ["noisy", "half"], ["enhanced"])]
    spectrum = {"noisy": graphs.spectrum(129)}
    graphs.save(path, nodes, spectrum, {"enhanced": graphs.spectrum(129)}, graphs.contract(129))
    model = onnx.load(path, load_external_data=False)
    if where == "initializer":
        model.graph.initializer.append(half)
    elif where == "constant":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["half"], value=half))
    else:  # within a branch
        half.name = "within"
        out = helper.make_tensor_value_info("within", onnx.TensorProto.FLOAT, [129, 2])
        branch = helper.make_graph([], "branch", [], [out], [half])
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
        model.graph.node.insert(0, helper.make_node("If", ["yes"], ["half"], then_branch=branch, else_branch=branch))
    path.write_bytes(model.SerializeToString())
    return path


def gain(model: Model) -> float:
    x = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000).astype(np.float32)
    d = Denoiser(model, 16_000)
    y = np.concatenate([d.process(x), d.flush()])[d.latency_samples :]
    return float(np.dot(x, y) / np.dot(x, x))


def live_gain(model: Model) -> float:
    """The same by the way that live audio takes."""
    stream = model.stream(1)
    noisy, enhanced = stream.buffers(1)
    steps = NativeSteps(model, stream)
    noisy[:] = 0.5
    assert jit(lambda arguments: step(arguments, 1))(steps.arguments) == 0
    steps.close()
    return float(enhanced.mean() / 0.5)


@pytest.mark.parametrize("location", [None, "weights.bin", "./weights.bin", "sub/../weights.bin"])
def test_weights_beside_the_graph_work_in_files_and_live(tmp_path, location):
    (tmp_path / "sub").mkdir()
    model = load_model(halved(tmp_path / "m.onnx", location))
    assert gain(model) == pytest.approx(0.5, abs=1e-4)
    assert live_gain(model) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "sub/../../weights.bin", "linked.bin", "~/x"])
def test_weights_outside_the_folder_are_refused_wherever_they_are_named(tmp_path, where, location):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    path = halved(folder / "m.onnx", location, where)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "linked.bin").symlink_to(tmp_path / "weights.bin")
    refused(path, "missing" if location == "~/x" else "outside its folder")


@pytest.mark.parametrize("location", ["none.bin", "", ".", "*/_ORT_MEM_ADDR_/*", "\0", "a\nb", "x" * 5_000])
def test_weights_that_are_not_there_are_named(tmp_path, location):
    refused(halved(tmp_path / "m.onnx", location), "weights|not an ONNX model|not a model")


def test_a_model_and_its_weights_may_both_be_links_into_one_store(tmp_path):
    store, view = tmp_path / "store", tmp_path / "view"
    store.mkdir()
    view.mkdir()
    halved(store / "m.onnx")
    for name in ("m.onnx", "weights.bin"):
        (view / name).symlink_to(store / name)
    assert single_file(view / "m.onnx") is None


@given(data=st.data())
@many
def test_a_damaged_file_is_refused_or_works(tmp_path, data):
    content = bytearray(halved(tmp_path / "whole.onnx", None).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "more"]))
        if how == "flip":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 30))]
        else:
            content[at:at] = data.draw(st.binary(min_size=1, max_size=30))
        content = content or bytearray(b"\0")
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with one_line_if_any():
        load_model(path)


@pytest.mark.slow
@given(
    key=st.sampled_from("bins parameters scores name version licence training_data linked hop_ms window_ms".split()),
    value=st.one_of(
        st.text(max_size=30),
        st.integers().map(str),
        st.sampled_from(["{", "[1]", '{"a": "b"}', '{"a": NaN}', '{"a": 1e999}', "nan", "[" * 20_000, "1" * 5_000]),
    ),
)
@many
def test_odd_metadata_is_refused_or_harmless(tmp_path, key, value):
    path = graphs.identity(tmp_path / "m.onnx", 129, claims={key: value})
    with one_line_if_any():
        info = load_model(path).info
        assert "/" not in info.name
        assert (info.name + info.version + info.licence + info.training_data).isprintable()
        assert all(isinstance(v, int | float) for v in info.scores.values())


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/b", "a\\b", ".hidden", "..", "", "a\nb", "\x1b[2J", "x" * 300])
def test_a_name_that_could_leave_its_folder_or_line_is_refused(tmp_path, name):
    refused(graphs.identity(tmp_path / "m.onnx", 129, claims={"name": name}), "name")
    path = graphs.foreign(tmp_path / "f.onnx")
    sidecar = path.with_suffix(".toml")
    quoted = "".join(f"\\U{ord(c):08x}" for c in name)
    sidecar.write_text(graphs.FOREIGN_SIDECAR.replace("published-16k", quoted))
    refused(path, "name")


def test_a_recipe_or_any_other_table_beside_a_contract_model_is_left_alone(tmp_path):
    path = graphs.identity(tmp_path / "mine.onnx", 129)
    for text in (RECIPE, graphs.FOREIGN_SIDECAR, "no TOML at all", ""):
        path.with_suffix(".toml").write_text(text)
        assert load_model(path).info.kind == "contract"


def test_a_recipe_beside_a_model_of_another_make_is_no_sidecar(tmp_path):
    path = graphs.foreign(tmp_path / "f.onnx")
    path.with_suffix(".toml").write_text(RECIPE)
    assert not has_sidecar(path, {})
    refused(path, "describe a third-party model in f.toml")


SIDECAR_VALUES = st.one_of(
    st.integers(-5, 2_000),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from(['"hann"', '"mix"', '"enh"', "[]", "[1, 2]", '["batch"]', "{}", "1979-05-27", '""', '"\\u0000"']),
).map(lambda v: str(v).lower() if isinstance(v, bool | float) else str(v))
FIELDS = [line.split(" = ")[0] for line in graphs.FOREIGN_SIDECAR.splitlines() if " = " in line]


@given(changes=st.dictionaries(st.sampled_from(FIELDS), st.none() | SIDECAR_VALUES, min_size=1, max_size=3))
@many
def test_an_odd_sidecar_is_refused_or_works(tmp_path, changes):
    path = graphs.foreign(tmp_path / "f.onnx")
    lines = []
    for line in graphs.FOREIGN_SIDECAR.splitlines():
        key = line.split(" = ")[0]
        value = changes.get(key, line.partition(" = ")[2])
        lines += [f"{key} = {value}"] if " = " in line and value is not None else [line] if " = " not in line else []
    path.with_suffix(".toml").write_text("\n".join(lines))
    with one_line_if_any():
        model = load_model(path)
        for rate in (8_000, 48_000):
            Denoiser(model, rate).process(np.zeros(100, np.float32))


@pytest.mark.parametrize("size", [0, -1, 2**40, 2**62])
def test_a_state_of_no_sensible_size_is_refused(tmp_path, size):
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in (("noisy", "enhanced"), ("state_a", "state_a_next"))]
    sides = [{"noisy": graphs.spectrum(129), "state_a": ["batch", size]}]
    sides += [{"enhanced": graphs.spectrum(129), "state_a_next": ["batch", size]}]
    refused(graphs.save(tmp_path / "m.onnx", nodes, *sides, graphs.contract(129)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX files")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(RtdenoiseError):
        load_model(tmp_path / "m.onnx")
    shutil.copy(graphs.identity(tmp_path / "i.onnx", 129), tmp_path / "nicht-größer.onnx")
    assert load_model(tmp_path / "nicht-größer.onnx").name == "test"
