"""A GRU over time, forward and back, written out for speed: what a training on a CPU spends most of its time in.

Owns the recurrence and its gradients. Products run in the precision of autocast where they cover all steps at once; the
steps themselves, and the state, stay float32, or long memories would be rounded away. Between two products one numba
kernel does all that is element by element. Other devices than a CPU take the same formulas through torch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rtdenoise.native.compilation import compiled
from rtdenoise.native.functions import ONE, sigmoids, tanh


@compiled(fastmath=True, nogil=True, error_model="numpy")
def _step(given, hidden, old, new, reset, keep, fresh, recalled):
    """One step of all rows: ``given`` and ``hidden`` ``[rows, 3 channels]`` (reset, keep, new) to the next state."""
    rows, channels = old.shape
    for i in range(rows):
        for c in range(channels):
            r, z = sigmoids(given[i, c] + hidden[i, c], given[i, channels + c] + hidden[i, channels + c])
            m = hidden[i, 2 * channels + c]
            n = tanh(given[i, 2 * channels + c] + r * m)
            reset[i, c], keep[i, c], fresh[i, c], recalled[i, c] = r, z, n, m
            new[i, c] = n + z * (old[i, c] - n)


@compiled(fastmath=True, nogil=True, error_model="numpy")
def _step_back(grad, d_state, old, reset, keep, fresh, recalled, d_gates, d_old):
    """``d_gates`` ``[rows, 4 channels]``: new as given, reset, keep, new as recalled. The first three are the gradient
    of what the input gave, the last three that of what the state gave."""
    rows, channels = old.shape
    for i in range(rows):
        for c in range(channels):
            r, z, n = reset[i, c], keep[i, c], fresh[i, c]
            d = d_state[i, c] + grad[i, c]
            d_fresh = d * (ONE - z) * (ONE - n * n)
            d_reset = d_fresh * recalled[i, c] * r * (ONE - r)
            d_keep = d * (old[i, c] - n) * z * (ONE - z)
            d_old[i, c] = d * z
            d_gates[i, c], d_gates[i, 3 * channels + c] = d_fresh, d_fresh * r
            d_gates[i, channels + c], d_gates[i, 2 * channels + c] = d_reset, d_keep


def _step_torch(given, hidden, old, new, reset, keep, fresh, recalled):
    channels = old.shape[1]
    both, (m, g) = given[:, : 2 * channels] + hidden[:, : 2 * channels], (x[:, 2 * channels :] for x in (hidden, given))
    torch.sigmoid(both[:, :channels], out=reset)
    torch.sigmoid(both[:, channels:], out=keep)
    recalled.copy_(m)
    torch.tanh(torch.addcmul(g, reset, m), out=fresh)
    torch.lerp(fresh, old, keep, out=new)


def _step_back_torch(grad, d_state, old, reset, keep, fresh, recalled, d_gates, d_old):
    d = d_state + grad
    d_fresh = d * (1 - keep) * (1 - fresh * fresh)
    d_old.copy_(d * keep)
    d_reset, d_keep = d_fresh * recalled * reset * (1 - reset), d * (old - fresh) * keep * (1 - keep)
    torch.cat([d_fresh, d_reset, d_keep, d_fresh * reset], 1, out=d_gates)


class Recurrence(torch.autograd.Function):
    """``[steps, rows, channels]`` and torch's GRU weights (reset, keep, new) -> all states, from zeros on."""

    @staticmethod
    def forward(ctx, x, input_weight, input_bias, hidden_weight, hidden_bias):
        kind = x.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        x, input_weight = x.to(half).contiguous(), input_weight.to(half)
        steps, _, channels = x.shape
        with torch.autocast(kind, enabled=False):
            given = F.linear(x, input_weight, input_bias.to(half)).to(hidden_weight.dtype)
            states = torch.zeros_like(given[:1, :, :channels]).repeat(steps + 1, 1, 1)
            hidden, turned = torch.empty_like(given[0]), hidden_weight.t()
            reset, keep, fresh, recalled = (torch.empty_like(states[1:]) for _ in range(4))
            step, seen = _kernel(_step, _step_torch, states)
            parts = [seen(v) for v in (given, hidden, states, reset, keep, fresh, recalled)]
            for t in range(steps):
                torch.addmm(hidden_bias, states[t], turned, out=hidden)
                now = (v[t] for v in parts[3:])
                step(parts[0][t], parts[1], parts[2][t], parts[2][t + 1], *now)
        ctx.save_for_backward(x, input_weight, hidden_weight, states, reset, keep, fresh, recalled)
        return states[1:]

    @staticmethod
    def backward(ctx, grad):
        x, input_weight, hidden_weight, *saved = ctx.saved_tensors
        states, (steps, rows, channels) = saved[0], x.shape
        d_gates = states.new_empty(steps, rows, 4 * channels)
        d_state, d_old = (torch.zeros_like(states[0]) for _ in range(2))
        step, seen = _kernel(_step_back, _step_back_torch, states)
        parts = [seen(v) for v in (grad.contiguous(), *saved, d_gates)]
        ends = [seen(v) for v in (d_state, d_old)]
        for t in range(steps - 1, -1, -1):
            step(parts[0][t], ends[0], *(v[t] for v in parts[1:]), ends[1])
            torch.addmm(d_old, d_gates[t, :, channels:], hidden_weight, out=d_state)
        d_gates, before = (v.flatten(0, 1).to(x.dtype) for v in (d_gates, states[:-1]))
        d_given, d_hidden = d_gates[:, : 3 * channels], d_gates[:, channels:]
        ones = x.new_ones(1, len(before))  # sums as products, which are many times faster than sums here
        inputs = (d_given.t() @ x.flatten(0, 1)).roll(-channels, 0), (ones @ d_given)[0].roll(-channels)
        d_x = (d_given @ input_weight.roll(channels, 0)).view(x.shape)
        found = d_x, *inputs, d_hidden.t() @ before, (ones @ d_hidden)[0]
        return tuple(v.to(states.dtype) for v in found)


def _kernel(quick, plain, like: torch.Tensor):
    """The step to take, and how it wants to see its tensors."""
    if like.device.type == "cpu" and like.dtype == torch.float32:
        return quick, torch.Tensor.numpy
    return plain, lambda tensor: tensor
