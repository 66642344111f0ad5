"""Samples survive their way through bytes: exact where bits allow, held at full scale where they do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rtdenoise.io import pcm

FLOATS = arrays(np.float32, st.integers(0, 50), elements=st.floats(-2, 2, width=32))


@pytest.mark.parametrize("encoding", pcm.STREAM_ENCODINGS)
@given(samples=FLOATS)
def test_encoded_and_decoded_samples_differ_by_half_a_step_at_most(encoding, samples):
    held, _ = pcm.clip(samples)
    step = 2.0 ** (1 - min(24, pcm.INTEGER_BITS.get(encoding, 24)))
    back = pcm.decode(pcm.encode(held, encoding), encoding)
    quiet = held <= 1 - step  # positive full scale is one step lower than negative
    assert np.all(np.abs(back - held)[quiet] <= step / 2)
    assert np.all(np.abs(back - held) <= step)


@pytest.mark.parametrize(("encoding", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
@given(data=st.data())
def test_integers_come_back_bit_for_bit(encoding, bits, data):
    top = 2 ** (bits - 1)
    words = data.draw(arrays(np.int32, st.integers(1, 50), elements=st.integers(-top, top - 1)))
    sent = pcm.encode((words / top).astype(np.float32), encoding)
    assert pcm.encode(pcm.decode(sent, encoding), encoding) == sent
    np.testing.assert_array_equal(pcm.quantise(pcm.decode(sent, encoding), bits), words)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@given(samples=FLOATS)
def test_loud_samples_keep_their_sign_and_are_counted(bits, samples):
    held, count = pcm.clip(samples)
    words = pcm.quantise(held, bits)
    assert count == np.count_nonzero(np.abs(samples) > 1)
    assert np.all(words[samples > 1] == 2 ** (bits - 1) - 1)
    assert np.all(words[samples < -1] == -(2 ** (bits - 1)))
