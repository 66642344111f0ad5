"""What training does by hand for speed equals what torch does by itself: values and gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rtdenoise.training.networks.deep_filter import filtered  # noqa: E402
from rtdenoise.training.networks.gru_kernel import Recurrence  # noqa: E402
from rtdenoise.training.networks.memory import DilatedGRU  # noqa: E402
from rtdenoise.training.networks.unet import patches  # noqa: E402
from rtdenoise.training.spectra import power  # noqa: E402

pytestmark = pytest.mark.slow

CLOSE = 2e-6  # float32 sums in another order, of values around one


def _gru_by_torch(gru: DilatedGRU, x: torch.Tensor) -> torch.Tensor:
    twin = torch.nn.GRU(x.shape[2], x.shape[2]).to(x.dtype)
    layers = {"weight_ih_l0": gru.input.weight, "bias_ih_l0": gru.input.bias}
    layers |= {"weight_hh_l0": gru.hidden.weight, "bias_hh_l0": gru.hidden.bias}
    return torch.func.functional_call(twin, layers, (x,))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernel", "torch"])
def test_the_recurrence_is_a_gru(dtype):
    torch.manual_seed(0)
    gru, x = DilatedGRU(12).to(dtype), torch.randn(9, 7, 12, dtype=dtype, requires_grad=True)
    parameters = (gru.input.weight, gru.input.bias, gru.hidden.weight, gru.hidden.bias)
    judge, found = torch.randn(9, 7, 12, dtype=dtype), []
    for y in (Recurrence.apply(x, *parameters), _gru_by_torch(gru, x)):
        found.append((y, *torch.autograd.grad((y * judge).sum(), (x, *parameters))))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=CLOSE * max(1.0, theirs.abs().max().item()))


def test_half_precision_keeps_a_long_memory():
    """Products are rounded, the state is not: a gate that keeps 99.9 % still forgets the rest."""
    gru = DilatedGRU(4)
    with torch.no_grad():
        for layer in (gru.input, gru.hidden):
            layer.weight.zero_()
            layer.bias.zero_()
        gru.input.bias[4:8] = 6.9  # keep 0.999
        gru.input.bias[8:] = 3.0  # of a new state of nearly one
    with torch.autocast("cpu", torch.bfloat16):
        y = gru(torch.zeros(400, 1, 4), 4)
    keep, new = torch.sigmoid(torch.tensor(6.9)), torch.tanh(torch.tensor(3.0))
    expected = new * (1 - keep ** torch.arange(1, 401))
    assert torch.allclose(y[:, 0, 0], expected, rtol=0.02)


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 1), (8, 4), (2, 2)])
def test_patches_have_the_gradients_of_a_convolution(kernel, stride):
    x = torch.randn(3, 8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: patches(v, kernel, stride), x)
    weight = torch.randn(5, kernel, 2, dtype=torch.float64)
    by_hand = patches(x, kernel, stride) @ weight.flatten(1).T
    edge = (kernel - stride) // 2
    by_torch = torch.nn.functional.conv1d(x.transpose(1, 2), weight.transpose(1, 2), stride=stride, padding=edge)
    assert torch.allclose(by_hand, by_torch.transpose(1, 2))


@pytest.mark.parametrize(("start", "step", "wide", "ahead"), [(0, 1, 4, 0), (3, 4, 4, 0), (0, 2, 8, 1), (1, 2, 8, 2)])
def test_the_filter_kernel_equals_the_formula(start, step, wide, ahead):
    torch.manual_seed(1)
    bins, chosen = 32 * wide + 1, len(range(start, 23, step))
    low, raw = torch.randn(2, 23, bins, 2), torch.randn(chosen, 2, 32, 11 * wide, requires_grad=True)
    judge = torch.randn(2, chosen, bins, dtype=torch.complex64)
    found = []
    for kind in (torch.float32, torch.float64):  # the kernel is for float32 alone
        out = filtered(low.to(kind), raw.to(kind), start, step, ahead=ahead)
        found.append((out, *torch.autograd.grad((out * judge).real.sum(), raw)))
    for kernel, formula in zip(*found, strict=True):
        assert torch.allclose(kernel, formula.to(kernel.dtype), atol=1e-5)


def test_power_has_the_gradient_of_its_formula():
    x = torch.randn(3, 5, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(power, x)
