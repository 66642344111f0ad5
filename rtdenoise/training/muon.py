"""Muon: matrices learn along orthogonalised momentum, all else by AdamW (Jordan et al. 2024, arXiv 2502.16982).

torch has one too, but it orthogonalises in bfloat16 always, which CPUs without that format do fifty times slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # The coefficients of the Newton-Schulz iteration, from its authors.
ROUNDS = 5
RMS = 0.2  # The RMS of an update relative to the learning rate is AdamW's (arXiv 2502.16982), so both share one rate.
GATES = 3  # A recurrence stacks this many matrices, and each is orthogonalised alone.


def orthogonalised(x: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Matrices ``[..., rows, columns]`` with the same singular vectors and all singular values near one; products in
    ``dtype``."""
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    y = x.mT if tall else x
    y = (y / (y.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(ROUNDS):
        square = y @ y.mT
        y = a * y + (b * square + c * (square @ square)) @ y
    return y.mT if tall else y


class Muon(torch.optim.Optimizer):
    """For ``[out, in]`` matrices, of which ``out = 3 in`` are a recurrence's three gates; for ``[many, in, out]``
    matrices side by side; and for convolutions, ``[out, in, height, width]``, as matrices with ``out`` rows."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(mean, group["momentum"])  # Nesterov
                flat = ahead.flatten(1) if p.ndim > 3 else ahead
                parts = flat.chunk(GATES) if flat.shape[0] == GATES * flat.shape[1] else (flat,)
                update = torch.cat([orthogonalised(part, self.dtype) for part in parts])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p), alpha=-group["lr"] * RMS * max(flat.shape[-2:]) ** 0.5)


class MuonAdamW:
    """Muon for the matrices between a network's input and output, AdamW for the rest; one interface for both."""

    def __init__(self, net: nn.Module, lr: float, weight_decay: float, dtype: torch.dtype = torch.float32):
        outputs = set(getattr(net, "output_layers", ()))
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, p in net.named_parameters():
            if p.requires_grad:
                hidden = p.ndim > 1 and name.split(".")[0] not in outputs
                (matrices if hidden else rest).append(p)
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            self.parts.append(Muon(matrices, lr, weight_decay=weight_decay, dtype=dtype))
        if rest:
            self.parts.append(torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=weight_decay))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(k): part.state_dict() for k, part in enumerate(self.parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for k, part in enumerate(self.parts):
            part.load_state_dict(state[str(k)])
