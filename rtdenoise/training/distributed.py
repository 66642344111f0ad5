"""Several processes train one network: each takes batches of its own, and gradients are averaged at every step.

On a CPU, processes of one thread each are faster than one of several threads: small layers do not fill more.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


class Ranks:
    """The rank of this process among those of a training. Alone (``count`` 1), nothing is exchanged."""

    def __init__(self, rank: int = 0, count: int = 1):
        self.rank, self.count = rank, count

    def average_gradients(self, net: nn.Module) -> None:
        """Every process ends with the mean of all gradients; waits for the slowest."""
        if self.count == 1:
            return
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        together = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(together)
        together /= self.count
        for gradient, mean in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process does what is inside alone, then the others: they find its files ready."""
        if self.rank:
            dist.barrier()
        yield
        if self.count > 1 and not self.rank:
            dist.barrier()


def run_together(count: int, train: Callable[..., Any], *arguments: Any) -> None:
    """Call ``train(ranks, *arguments)`` in ``count`` processes, this one being the first; they meet through a file."""
    if count == 1:
        train(Ranks(), *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        others = [
            multiprocessing.get_context("spawn").Process(
                target=_join, args=(meeting, rank, count, train, arguments), daemon=True
            )
            for rank in range(1, count)
        ]
        for other in others:
            other.start()
        _join(meeting, 0, count, train, arguments)
        for other in others:
            other.join()


def _join(meeting: Path, rank: int, count: int, train: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=count)
    try:
        train(Ranks(rank, count), *arguments)
    finally:
        dist.destroy_process_group()
