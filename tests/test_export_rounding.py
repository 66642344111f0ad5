"""Export rounds matrices so that model files pack, by no more than half a unit of the bits that are kept."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from rtdenoise.training.onnx_export.export import round_weights  # noqa: E402

KEPT_BITS = 11  # significant ones, as in half precision


@pytest.fixture
def pair():
    """A layer as it was, and the same one rounded."""
    torch.manual_seed(0)
    before, after = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
    with torch.no_grad():
        before.weight *= 10.0 ** torch.randint(-20, 20, before.weight.shape)
    after.load_state_dict(before.state_dict())
    round_weights(after)
    return before, after


def test_a_matrix_moves_by_half_a_unit_of_the_kept_bits_at_most(pair):
    before, after = (layer.weight.detach().double().numpy() for layer in pair)
    assert (before != after).any()
    assert (np.abs(after - before) <= 2.0**-KEPT_BITS * np.abs(before)).all()


def test_its_other_bits_are_zero_so_that_it_packs(pair):
    bits = pair[1].weight.detach().numpy().view(np.uint32)
    assert not (bits & (2 ** (24 - KEPT_BITS) - 1)).any()


def test_vectors_stay_and_rounding_twice_changes_nothing(pair):
    before, after = pair
    assert torch.equal(before.bias, after.bias)
    once = after.weight.clone()
    round_weights(after)
    assert torch.equal(once, after.weight)
