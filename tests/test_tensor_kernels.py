"""Layers of a program give numpy's numbers, however arrays lie and whatever they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtdenoise.model.program import Program, Weights
from rtdenoise.native import elementwise
from rtdenoise.native.fft import aligned

ROUNDING = 2e-6  # relative: float32 sums in another order
GUARD = -777.0
sizes = st.sampled_from([1, 2, 3, 7, 8, 9, 11, 16, 17, 24, 33])
seeds = st.integers(0, 2**32 - 1)


def made(build, into: np.ndarray | None = None) -> np.ndarray:
    """What a program makes, copied out of it."""
    program = Program(Weights())
    found = build(program)
    out = aligned(*found.shape) if into is None else into
    program.copy(out, found)
    program.placed().run()
    return out


@st.composite
def lying_somehow(draw, shape):
    """An array of this shape, its axes in some order in memory and with gaps between its elements."""
    order, steps = draw(st.permutations(range(len(shape)))), draw(st.lists(st.integers(1, 2), min_size=4, max_size=4))
    whole = np.full([shape[axis] * step + 1 for axis, step in zip(order, steps, strict=False)], GUARD, np.float32)
    view = whole[tuple(slice(0, shape[axis] * step, step) for axis, step in zip(order, steps, strict=False))]
    return whole, view.transpose(np.argsort(order))


@settings(max_examples=150)
@given(st.data())
def test_a_copy_is_one_from_any_layout_to_any_other_and_touches_nothing_else(data):
    shape = data.draw(st.lists(sizes, min_size=1, max_size=4).filter(lambda s: np.prod(s) < 30_000))
    (_, a), (around, out) = data.draw(lying_somehow(shape)), data.draw(lying_somehow(shape))
    a[:] = np.random.default_rng(data.draw(seeds)).standard_normal(shape)
    made(lambda program: a, into=out)
    assert np.array_equal(out, a)
    out[:] = GUARD
    assert (around == GUARD).all()


@pytest.mark.parametrize(
    ("kind", "judge"),
    [
        (elementwise.ADD, np.add),
        (elementwise.SUBTRACT, np.subtract),
        (elementwise.MULTIPLY, np.multiply),
        (elementwise.DIVIDE, np.divide),
        (elementwise.MAXIMUM, np.maximum),
        (elementwise.MINIMUM, np.minimum),
    ],
)
@settings(max_examples=25)
@given(st.data())
def test_two_arrays_are_taken_as_numpy_broadcasts_them(kind, judge, data):
    shape = data.draw(st.lists(sizes, min_size=1, max_size=3).filter(lambda s: np.prod(s) < 10_000))
    given_ = []
    for _ in range(2):
        narrow = [data.draw(st.sampled_from([size, size, 1])) for size in shape]
        given_.append(data.draw(lying_somehow(narrow))[1])
        given_[-1][:] = np.random.default_rng(data.draw(seeds)).standard_normal(narrow)
    out = made(lambda program: program.binary(kind, *given_))
    np.testing.assert_allclose(out, judge(*given_), rtol=ROUNDING)


@pytest.mark.parametrize(("kind", "judge"), [(elementwise.SUM, np.sum), (elementwise.MEAN, np.mean)])
@settings(max_examples=25)
@given(st.data())
def test_sums_over_any_neighbouring_axes(kind, judge, data):
    shape = data.draw(st.lists(sizes, min_size=1, max_size=4).filter(lambda s: np.prod(s) < 10_000))
    first = data.draw(st.integers(0, len(shape) - 1))
    axes = tuple(range(first, data.draw(st.integers(first, len(shape) - 1)) + 1))
    a = np.random.default_rng(data.draw(seeds)).uniform(1, 2, shape).astype(np.float32)
    out = made(lambda program: program.reduced(kind, a, axes, keep=True))
    np.testing.assert_allclose(out, judge(a.astype(np.float64), axes, keepdims=True), rtol=ROUNDING)


@settings(max_examples=60)
@given(st.data())
def test_joined_parts_and_windows_over_them_are_what_numpy_makes(data):
    """Whether anything is copied or not: a state before new frames, slices of both, and slices side by side again."""
    axis, random = data.draw(st.integers(0, 2)), np.random.default_rng(data.draw(seeds))
    shape = data.draw(st.lists(st.integers(1, 5), min_size=3, max_size=3))
    given_ = []
    for _ in range(data.draw(st.integers(1, 3))):
        shape[axis] = data.draw(st.integers(1, 5))
        given_.append(random.standard_normal(shape).astype(np.float32))
    whole = np.concatenate(given_, axis)
    width = data.draw(st.integers(1, whole.shape[axis]))
    starts = data.draw(st.lists(st.integers(0, whole.shape[axis] - width), min_size=1, max_size=5))
    where = [tuple(slice(s, s + width) if k == axis else slice(None) for k in range(3)) for s in sorted(starts)]
    across = data.draw(st.integers(0, 2))

    def build(program):
        made_here = [program.unary(elementwise.NEGATIVE, a) for a in given_]
        joined = program.concatenated(made_here, axis)
        return program.concatenated([program.sliced(joined, w) for w in where], across)

    assert np.array_equal(made(build), -np.concatenate([whole[w] for w in where], across))


def unary(kind, x, *numbers) -> np.ndarray:
    return made(lambda program: program.unary(kind, np.asarray(x, np.float32), *numbers))


# Every power of two that float32 holds as a normal number, and something between.
POSITIVE = (2.0 ** np.arange(-126, 128)[:, None] * np.linspace(1, 1.999, 57)).astype(np.float32).reshape(-1)


def test_logarithms_are_right_to_some_units_of_float32():
    found, wanted = unary(elementwise.LOGARITHM, POSITIVE), np.log(POSITIVE.astype(np.float64))
    assert np.abs(found - wanted).max() <= 1e-5  # of up to 88
    near = (POSITIVE > 0.5) & (POSITIVE < 2)
    np.testing.assert_allclose(found[near], wanted[near], rtol=ROUNDING)


@pytest.mark.parametrize("exponent", [-1.0, -0.35, 0.15, 0.5, 0.9, 1.0, 2.0, -3.0])
def test_powers_are_right_to_some_units_of_float32(exponent):
    x = POSITIVE[np.abs(exponent * np.log2(POSITIVE)) < 126]
    wanted = x.astype(np.float64) ** np.float32(exponent)
    np.testing.assert_allclose(unary(elementwise.POWER, x, exponent), wanted, rtol=1e-5)


@pytest.mark.parametrize("exponent", [-1.0, -0.35, 0.15])
@pytest.mark.parametrize("odd", [0.0, 1e-40, np.inf, np.nan, -1.0])
def test_powers_and_logarithms_of_what_is_no_positive_number_are_those_of_numpy(odd, exponent):
    x = np.array([0.5, odd, 3.0], np.float32)
    with np.errstate(all="ignore"):
        wanted = [np.log(x), x ** np.float32(exponent)]
    found = [unary(elementwise.LOGARITHM, x), unary(elementwise.POWER, x, exponent)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@settings(max_examples=25)
@given(rows=st.integers(1, 40), inner=sizes, columns=sizes, half=st.booleans(), relu=st.booleans(), seed=seeds)
def test_products_of_any_size_and_their_relu(rows, inner, columns, half, relu, seed):
    random = np.random.default_rng(seed)
    a, weight, bias = (random.standard_normal(s).astype(np.float32) for s in ((rows, inner), (inner, columns), columns))
    if half:
        weight = weight.astype(np.float16).astype(np.float32)
    a[-1] = np.nan  # which a ReLU keeps, so that it is noticed

    def build(program):
        found = program.product(a, weight, bias)
        assert not relu or program.relu_of_last(found)
        return found

    wanted = a.astype(np.float64) @ weight + bias
    found = made(build)
    np.testing.assert_allclose(found, np.maximum(wanted, 0) if relu else wanted, atol=2e-5)


@settings(max_examples=25)
@given(steps=st.integers(1, 4), rows=st.integers(1, 5), channels=sizes, scale=st.sampled_from([1, 100]), seed=seeds)
def test_a_gru_is_onnx_s(steps, rows, channels, scale, seed):
    random = np.random.default_rng(seed)
    x = (scale * random.standard_normal((steps, rows, 5))).astype(np.float32)
    weights = [random.standard_normal((n, 3 * channels)).astype(np.float32) for n in (5, channels)]
    biases, h = random.standard_normal(6 * channels).astype(np.float32), np.zeros((rows, channels), np.float32)
    x[:, -1] = np.nan  # One row says nothing of the others.
    found = made(lambda program: program.recurrent(x, weights, biases, h))
    sigmoid, state = lambda v: 0.5 + 0.5 * np.tanh(0.5 * v), h.astype(np.float64)
    for t in range(steps):
        g = (x[t] @ weights[0].astype(np.float64) + biases[: 3 * channels]).reshape(rows, 3, channels)
        s = (state @ weights[1].astype(np.float64) + biases[3 * channels :]).reshape(rows, 3, channels)
        keep, reset = sigmoid(g[:, 0] + s[:, 0]), sigmoid(g[:, 1] + s[:, 1])
        new = np.tanh(g[:, 2] + reset * s[:, 2])
        state = new + keep * (state - new)
        np.testing.assert_allclose(found[t], state, atol=2e-4)
