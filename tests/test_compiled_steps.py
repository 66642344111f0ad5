"""Our own compiled steps give ONNX Runtime's numbers, whatever a model is made of and however hops are grouped.

What they do not know, or would compute otherwise, is left to ONNX Runtime.
"""

from __future__ import annotations

import gc
import weakref
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")

import graphs  # noqa: E402
from rtdenoise.core import denoiser  # noqa: E402
from rtdenoise.core.compiled_denoiser import CompiledDenoiser  # noqa: E402
from rtdenoise.core.denoiser import Denoiser  # noqa: E402
from rtdenoise.model import operators  # noqa: E402
from rtdenoise.model.compiled_steps import CompiledSteps, native_steps  # noqa: E402
from rtdenoise.model.native_session import NativeSteps, native_steps_available, step  # noqa: E402
from rtdenoise.model.registry import load_model  # noqa: E402
from rtdenoise.native.fft import jit  # noqa: E402
from rtdenoise_bench.testbed import busy_model  # noqa: E402

MOST = 4  # frames of a step
BINS = 129
EQUAL = 1e-5  # of the loudest bin so far, of input or output: float32 sums in another order
node = onnx.helper.make_node


@jit
def run(arguments: np.ndarray, frames: int) -> int:
    return step(arguments, frames)


@cache
def opened(path, channels):
    """A stream for our steps, one for ONNX Runtime, and the steps."""
    model = load_model(path)
    stream, judge = model.stream(channels), model.stream(channels)
    return stream, judge, native_steps(model, stream, MOST)


def differences(path, counts, channels=1, level=0.03, seed=0) -> float:
    """The largest difference between steps of ``counts`` frames and ONNX Runtime's of one, as `EQUAL` is meant."""
    stream, judge, steps = opened(path, channels)
    assert isinstance(steps, CompiledSteps)
    stream.reset()
    judge.reset()
    random = np.random.default_rng(seed)
    worst = loudest = 0.0
    for frames in counts:
        noisy, enhanced = stream.buffers(frames)
        noisy[:] = random.standard_normal(noisy.shape) * level * 10 ** random.uniform(-3, 0)
        loudest = max(loudest, float(np.abs(noisy).max()))
        assert run(steps.arguments, frames) == 0
        for f in range(frames):
            one, wanted = judge.buffers(1)
            one[:] = noisy[:, f : f + 1]
            judge.step(1)
            loudest = max(loudest, float(np.abs(wanted).max()))
            worst = max(worst, float(np.abs(enhanced[:, f] - wanted[:, 0]).max()) / loudest)
    return worst


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["unet", "tape"])
@settings(max_examples=6)
@given(counts=st.lists(st.integers(1, MOST), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_shipped_models_give_the_same_numbers_however_frames_are_grouped(name, channels, counts, seed):
    assert differences(name, counts, channels, seed=seed) <= EQUAL


SHAPE = [BINS, 2]
WEIGHTS = np.random.default_rng(1).standard_normal
CASES = {  # nodes from "noisy" to "made", which has its shape, and their constants
    "of an element": (
        [
            node("Mul", ["noisy", "noisy"], ["a"]),
            node("Add", ["a", "small"], ["b"]),
            node("Sqrt", ["b"], ["c"]),
            node("Log", ["c"], ["d"]),
            node("Tanh", ["d"], ["e"]),
            node("Neg", ["e"], ["f"]),
            node("Pow", ["b", "power"], ["g"]),
            node("Sub", ["g", "f"], ["h"]),
            node("HardSigmoid", ["h"], ["i"], alpha=0.3, beta=0.4),
            node("Sigmoid", ["noisy"], ["j"]),
            node("Relu", ["noisy"], ["k"]),
            node("Max", ["j", "k"], ["l"]),
            node("Min", ["l", "i"], ["m"]),
            node("Div", ["m", "b"], ["n"]),
            node("Mul", ["n", "small"], ["made"]),
        ],
        {"small": np.float32(1e-3), "power": np.float32(-0.35)},
    ),
    "sums and norms": (
        [
            node("ReduceSum", ["noisy", "last"], ["a"], keepdims=1),
            node("ReduceMean", ["noisy"], ["b"], axes=[2], keepdims=1),
            node("Add", ["a", "b"], ["c"]),
            node("Transpose", ["c"], ["e"], perm=[0, 1, 3, 2]),
            node("LayerNormalization", ["e", "scale", "scale"], ["f"], epsilon=1e-2),
            node("Transpose", ["f"], ["g"], perm=[0, 1, 3, 2]),
            node("Add", ["g", "noisy"], ["made"]),
        ],
        {
            "last": np.array([-1]),
            "scale": np.linspace(-1, 1, BINS, dtype=np.float32),
        },
    ),
    "products": (
        [
            node("Shape", ["noisy"], ["whole"]),
            node("Reshape", ["noisy", "rows"], ["a"]),
            node("Gemm", ["a", "across", "bias"], ["b"], transB=1),
            node("Relu", ["b"], ["c"]),
            node("MatMul", ["c", "back"], ["d"]),
            node("Reshape", ["d", "whole"], ["e"]),
            node("MatMul", ["left", "e"], ["f"]),
            node("Add", ["f", "noisy"], ["made"]),
        ],
        {
            "rows": np.array([-1, 2 * BINS]),
            "across": 0.1 * WEIGHTS((77, 2 * BINS)).astype(np.float32),
            "bias": WEIGHTS(77).astype(np.float32),
            "back": 0.1 * WEIGHTS((77, 2 * BINS)).astype(np.float16).astype(np.float32),
            "left": 0.1 * WEIGHTS((BINS, BINS)).astype(np.float32),
        },
    ),
    "convolutions": (
        [
            node("Transpose", ["noisy"], ["a"], perm=[0, 3, 1, 2]),
            node("Conv", ["a", "over", "bias"], ["b"], pads=[0, 1, 0, 1]),
            node("Relu", ["b"], ["c"]),
            node("Conv", ["c", "again"], ["d"], pads=[0, 2, 0, 2], strides=[1, 2]),
            node("Slice", ["d", "zero", "count", "axis"], ["e"]),
            node("Pad", ["e", "pads"], ["f"], mode="edge"),
            node("Pad", ["f", "more", "value"], ["g"]),
            node("Transpose", ["g"], ["h"], perm=[0, 2, 3, 1]),
            node("Add", ["h", "noisy"], ["made"]),
        ],
        {
            "over": WEIGHTS((5, 2, 1, 3)).astype(np.float32),
            "bias": WEIGHTS(5).astype(np.float32),
            "again": WEIGHTS((2, 5, 1, 5)).astype(np.float32),
            "zero": np.array([0]),
            "count": np.array([60]),
            "axis": np.array([3]),
            "pads": np.array([0, 0, 0, 30, 0, 0, 0, 30]),
            "more": np.array([0, 0, 0, 4, 0, 0, 0, 5]),
            "value": np.float32(0.25),
        },
    ),
    "moves": (
        [
            node("Split", ["noisy", "parts"], ["a", "b"], axis=2),
            node("Concat", ["b", "a"], ["c"], axis=2),
            node("Unsqueeze", ["c", "axis"], ["d"]),
            node("Transpose", ["d"], ["e"], perm=[0, 1, 4, 2, 3]),
            node("Squeeze", ["e", "third"], ["f"]),
            node("Transpose", ["f"], ["g"], perm=[0, 1, 3, 2]),
            node("Shape", ["g"], ["shape"]),
            node("Slice", ["noisy", "from", "to", "axes", "by"], ["h"]),
            node("Slice", ["h", "one", "two", "third"], ["i"]),
            node("Expand", ["i", "shape"], ["j"]),
            node("Add", ["j", "g"], ["k"]),
            node("Identity", ["k"], ["made"]),
        ],
        {
            "parts": np.array([100, BINS - 100]),
            "axis": np.array([2]),
            "third": np.array([3]),
            "from": np.array([-3]),
            "to": np.array([2**40]),
            "axes": np.array([2]),
            "by": np.array([4]),
            "one": np.array([1]),
            "two": np.array([2]),
        },
    ),
}


def written(path, nodes, constants):
    """A contract model of ``nodes``, with a state: what they made of the frame before is added."""
    behind = [
        node("Shape", ["noisy"], ["frames"], start=1, end=2),
        node("Concat", ["state_made", "made"], ["both"], axis=1),
        node("Slice", ["both", "begin", "frames", "second"], ["before"]),
        node("Add", ["before", "made"], ["enhanced"]),
        node("Slice", ["both", "frames", "end", "second"], ["state_made_next"]),
    ]
    constants = constants | {"begin": np.array([0]), "end": np.array([2**40]), "second": np.array([1])}
    inputs = {"noisy": graphs.spectrum(BINS), "state_made": ["batch", 1, *SHAPE]}
    outputs = {"enhanced": graphs.spectrum(BINS), "state_made_next": ["batch", 1, *SHAPE]}
    return graphs.save(path, [*nodes, *behind], inputs, outputs, graphs.contract(BINS), constants.items())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operator_means_what_onnx_says(tmp_path, case, channels):
    path = written(tmp_path / "m.onnx", *CASES[case])
    assert differences(path, [1, 4, 2, 3, 1], channels, level=1.0) <= EQUAL


def stepped(path, monkeypatch=None) -> tuple[object, np.ndarray]:
    model = load_model(path)
    stream = model.stream(1)
    steps = native_steps(model, stream, MOST)
    noisy, enhanced = stream.buffers(2)
    noisy[:] = np.linspace(-1, 1, noisy.size).reshape(noisy.shape)
    assert run(steps.arguments, 2) == 0
    return steps, enhanced.copy()


def test_an_operator_that_is_not_known_is_left_to_onnx_runtime(tmp_path):
    steps, enhanced = stepped(written(tmp_path / "m.onnx", [node("Erf", ["noisy"], ["made"])], {}))
    assert isinstance(steps, NativeSteps)
    assert np.abs(enhanced).max() == pytest.approx(0.8427, rel=0.01)
    steps.close()


def test_a_graph_that_would_give_other_numbers_is_left_to_onnx_runtime(tmp_path, monkeypatch):
    path = written(tmp_path / "m.onnx", [node("Mul", ["noisy", "two"], ["made"])], {"two": np.float32(2)})
    right, wanted = stepped(path)
    assert isinstance(right, CompiledSteps)
    monkeypatch.setitem(operators.BINARY, "Mul", operators.BINARY["Add"])
    other, enhanced = stepped(path)
    assert isinstance(other, NativeSteps)
    np.testing.assert_allclose(enhanced, wanted, atol=1e-6)
    other.close()


@pytest.mark.parametrize("kind", ["Tanh", "Relu", "Sigmoid", "HardSigmoid"])
def test_what_is_not_a_number_stays_so_and_is_noticed(tmp_path, kind):
    model = load_model(written(tmp_path / "m.onnx", [node(kind, ["noisy"], ["made"])], {}))
    stream = model.stream(1)
    steps = native_steps(model, stream, 1)
    assert isinstance(steps, CompiledSteps)
    noisy, enhanced = stream.buffers(1)
    noisy[:] = np.nan
    assert run(steps.arguments, 1) == 0
    assert np.isnan(enhanced).all()


def test_long_sounds_go_on_by_programs_without_a_trace(monkeypatch):
    x = (0.1 * np.random.default_rng(3).standard_normal((30_000, 2))).astype(np.float32)
    d = Denoiser("unet", 16_000, 2)
    wanted = d.process(x)
    monkeypatch.setattr(denoiser, "LONG", 70)
    d.reset()
    first = np.concatenate([d.process(x[:9_000]), d.process(x[9_000:])])  # A step of ONNX Runtime went before.
    assert d._stream is d._compiled
    assert 0 < np.abs(first - wanted).max() <= 1e-5
    d.reset()
    assert np.array_equal(np.concatenate([d.process(x[:9_000]), d.process(x[9_000:])]), first)


@pytest.mark.parametrize("seconds", [1, 3600])
def test_a_sound_that_is_known_to_be_long_goes_on_by_programs_from_its_first_chunk_on(seconds):
    x = (0.1 * np.random.default_rng(6).standard_normal(30_000)).astype(np.float32)
    d = Denoiser("unet", 16_000)
    wanted = d.process(x)
    assert d._stream is d._plain
    d.reset()
    d.expect(seconds * 16_000)
    found = d.process(x)
    assert (d._stream is d._plain) == (seconds == 1)
    assert np.abs(found - wanted).max() <= 1e-5
    d.reset()
    assert np.array_equal(d.process(x), wanted)  # What was expected is forgotten.


def test_short_chunks_may_be_stepped_by_programs_from_the_first_on():
    x = (0.1 * np.random.default_rng(4).standard_normal(9_000)).astype(np.float32)
    model = load_model("unet")
    wanted, d = Denoiser(model, 16_000).process(x), CompiledDenoiser(model, 16_000)
    first = np.concatenate([d.process(chunk) for chunk in np.split(x, 25)])
    assert d._stream is d._compiled
    assert np.abs(first - wanted).max() <= 1e-5
    d.reset()
    assert np.array_equal(np.concatenate([d.process(chunk) for chunk in np.split(x, 25)]), first)


def test_short_chunks_of_a_long_sound_are_not_held_up(monkeypatch):
    monkeypatch.setattr(denoiser, "LONG", 0)
    d = Denoiser("unet", 16_000)
    for _ in range(20):
        d.process(np.zeros(63 * 64, np.float32))
    assert "_compiled" not in vars(d)


def test_streams_of_one_model_share_nothing_but_weights():
    model, random = load_model("unet"), np.random.default_rng(5)
    streams = [model.stream(1) for _ in range(2)]
    both = [native_steps(model, stream, 1) for stream in streams]
    alone, noisy = {}, (0.03 * random.standard_normal((2, 6, BINS, 2))).astype(np.float32)
    for turns in ([0] * 6, [1] * 6, [0, 1] * 6):
        for stream in streams:
            stream.reset()
        done = [0, 0]
        for k in turns:
            given, enhanced = streams[k].buffers(1)
            given[0, 0, :BINS] = noisy[k, done[k]]
            assert run(both[k].arguments, 1) == 0
            assert np.array_equal(alone.setdefault((k, done[k]), enhanced.copy()), enhanced)
            done[k] += 1


def test_a_stream_begins_in_silence_after_both_ways_were_compared():
    model = load_model("unet")
    stream = model.stream(1)
    assert native_steps_available(stream)
    native_steps(model, stream, MOST)
    assert not any(a.any() for states in stream.states for a in states.values())


@pytest.mark.parametrize("make", [graphs.identity, busy_model.write])
def test_programs_and_what_was_refused_keep_neither_model_nor_stream(tmp_path, make):
    model = load_model(make(tmp_path / "m.onnx"))
    stream = model.stream(1)
    native_steps(model, stream)
    gone = weakref.ref(model), weakref.ref(stream)
    del model, stream
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
