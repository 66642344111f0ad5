"""Several processes train one network, on one machine or many: what one process would learn from all their batches.

    process 0: pairs 0-7   ─▶ gradients ─┐
                                         ├─▶ mean ─▶ the same step in every process
    process 1: pairs 8-15  ─▶ gradients ─┘

Means over a batch are means over all processes' batches: losses, gradients, and the statistics of batch norms. On a
CPU, processes of one thread each are faster than one of several threads: small layers do not fill more.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import nn

from rtdenoise.errors import RtdenoiseError, UsageError

dist: Any = torch.distributed  # whose types leave out half of it
PATIENCE = timedelta(hours=24)  # The others wait so long for the first one, which decodes audio and validates.


class Ranks:
    """The rank of this process among those of a training; ``local`` is that among those on its machine. Alone
    (``count`` 1), nothing is exchanged."""

    def __init__(self, rank: int = 0, count: int = 1, local: int = 0):
        self.rank, self.count, self.local = rank, count, local

    @classmethod
    def launched(cls) -> Ranks | None:
        """What torchrun, or another launcher that sets what it sets, has made this process; None without one."""
        if os.environ.get("RANK") is None or os.environ.get("WORLD_SIZE") is None:
            return None
        return cls(_given("RANK"), _given("WORLD_SIZE"), _given("LOCAL_RANK") if os.environ.get("LOCAL_RANK") else 0)

    def run(self, train: Callable[..., Any], *arguments: Any) -> None:
        """Call ``train(self, *arguments)`` as one of the processes that torchrun has started."""
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if gpus and self.local >= gpus:
            raise UsageError(f"there are {gpus} GPUs here; start no more processes (--nproc-per-node {gpus})")
        if gpus:
            torch.cuda.set_device(self.local)
        _join("env://", self, "nccl" if gpus else "gloo", train, arguments)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of all processes' values, as every process gets it. No gradient goes through it."""
        if self.count == 1:
            return values
        total = values.detach().clone()
        with _together():
            dist.all_reduce(total)
        return total / self.count

    def average_gradients(self, net: nn.Module) -> None:
        """Every process ends with the mean of all gradients; waits for the slowest."""
        if self.count == 1:
            return
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        together = self.mean(torch.cat([g.flatten() for g in gradients]))
        for gradient, mean in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def begin_alike(self, net: nn.Module) -> None:
        """Every process begins with the first one's weights, and batch norms see all processes' batches."""
        for value in net.state_dict().values() if self.count > 1 else ():
            with _together():
                dist.broadcast(value, 0)
        for norm in [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]:
            norm.__class__, norm.ranks = _SharedNorm, self  # type: ignore[assignment]

    def of_first(self, read: Callable[[], bytes]) -> bytes:
        """What the first process reads; the others need not have the file."""
        if self.count == 1:
            return read()
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        data = torch.frombuffer(bytearray(read()), dtype=torch.uint8) if self.rank == 0 else torch.zeros(0)
        size = torch.tensor([len(data)], device=device)
        with _together():
            dist.broadcast(size, 0)
            data = data.to(device) if self.rank == 0 else torch.empty(int(size), dtype=torch.uint8, device=device)
            dist.broadcast(data, 0)
        return data.cpu().numpy().tobytes()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process does what is inside alone, then the first of every machine, then all others: they find its
        files ready."""
        turn = 0 if self.rank == 0 else 1 if self.local == 0 else 2
        for _ in range(turn):
            self._wait()
        yield
        for _ in range(2 - turn):
            self._wait()

    def _wait(self) -> None:
        if self.count > 1:
            with _together():
                dist.barrier()


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as problem:
        raise RtdenoiseError(
            "another process of this training has ended or cannot be reached; see what it said, then add --resume"
        ) from problem


class _SharedNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm over the batches of all processes, which are equal in size.

    torch's own for several processes needs GPUs. That for one process rounds its gradients so much on a CPU (3e-5 of
    them) that other numbers would be learnt: so this one serves a process alone too.
    """

    ranks: Ranks
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any
    momentum: Any

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        whole, over, shape = x.detach().float(), _others(x), _along_channels(x)
        mean = self.ranks.mean(whole.mean(over))
        variance = self.ranks.mean((whole - mean.view(shape)).square_().mean(over))
        count = whole.numel() // len(mean) * self.ranks.count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        return _Normed.apply(x, mean, variance, self.weight, self.bias, self.eps, self.ranks)


class _Normed(torch.autograd.Function):
    """``x`` less its mean, over its deviation, times the weight, plus the bias; both are of all processes' batches."""

    @staticmethod
    def forward(ctx, x, mean, variance, weight, bias, eps, ranks):
        ctx.save_for_backward(x, mean, (variance + eps).rsqrt(), weight)
        ctx.ranks = ranks
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx, grad):
        x, mean, scale, weight = ctx.saved_tensors
        over, shape = _others(x), _along_channels(x)
        slope, normed = grad.float(), (x.float() - mean.view(shape)).mul_(scale.view(shape))
        sums = torch.stack([slope.sum(over), (slope * normed).sum(over)])
        along, across = ctx.ranks.mean(sums) / (x.numel() // len(mean))
        by_x = normed.mul_(-across.view(shape)).add_(slope).sub_(along.view(shape)).mul_((weight * scale).view(shape))
        return by_x.to(x.dtype), None, None, sums[1], sums[0], None, None


def _others(x: torch.Tensor) -> list[int]:
    """All axes but that of the channels."""
    return [axis for axis in range(x.ndim) if axis != 1]


def _along_channels(x: torch.Tensor) -> list[int]:
    return [1, -1, *[1] * (x.ndim - 2)]


def is_restarted() -> bool:
    """Whether torchrun starts the processes anew, after one of them has ended."""
    return _starts() != "0"


def _starts() -> str:
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def _given(name: str) -> int:
    value = os.environ.get(name, "")
    if not (value.isascii() and value.isdecimal()):
        raise UsageError(f"{name} is {value!r} and no number; start the training with torchrun, or unset it")
    return int(value)


def run_together(count: int, train: Callable[..., Any], *arguments: Any) -> None:
    """Call ``train(ranks, *arguments)`` in ``count`` processes, this one being the first; they meet through a file."""
    if count == 1:
        train(Ranks(), *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        others = [
            multiprocessing.get_context("spawn").Process(
                target=_share, args=(meeting, rank, count, train, arguments), daemon=True
            )
            for rank in range(1, count)
        ]
        for other in others:
            other.start()
        _share(meeting, 0, count, train, arguments)
        for other in others:
            other.join()


def _share(meeting: str, rank: int, count: int, train: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    _join(meeting, Ranks(rank, count, rank), "gloo", train, arguments)


def _join(meeting: str, ranks: Ranks, backend: str, train: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        store, *_ = next(dist.rendezvous(meeting, ranks.rank, ranks.count, timeout=PATIENCE))
        store = dist.PrefixStore(
            f"start {_starts()}", store
        )  # torchrun keeps what earlier processes said of themselves.
        dist.init_process_group(backend, store=store, timeout=PATIENCE, rank=ranks.rank, world_size=ranks.count)
    except (RuntimeError, ValueError) as problem:
        why = str(problem).partition("\n")[0]
        raise RtdenoiseError(f"the training's processes cannot meet ({why}); start them with torchrun") from problem
    try:
        train(ranks, *arguments)
    finally:
        dist.destroy_process_group()
