"""Where calls are done: in this process, in processes of our own, or by any executor, a cluster's for instance.

    calls ──(as many as keep all workers busy)──▶ executor ──▶ results, as they come
      ▲                                                             │
      └──────────── more calls, once results are known ◀────────────┘

One small interface for all of them, `Executor.run`. Owns back-pressure and retries; knows nothing of sound.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from rtdenoise import signals
from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.process_pool import WorkerDied, run_calls

Call = tuple[Any, ...]
RETRIES = 2  # of a call whose worker failed, beyond what the executor itself tries again
IN_FLIGHT = 64  # calls handed to an executor that does not say how many workers it has
LOOK_S = 1.0  # between two looks whether the executor is still there
_CHUNK_CALLS = 16  # Short calls travel together, since a cluster spends about a millisecond on each parcel.


class Executor(Protocol):
    """Does calls of a function somewhere.

    ``run`` gives each call with its result, as they come. It takes calls as it needs them, and asks an iterator that
    has none for now again after each result. What becomes of a call whose worker fails for good is a `WorkerDied`.
    ``cost`` is what a call costs, as a share of the largest parcel: calls that cost little travel together.
    """

    def run(
        self, function: Callable[..., Any], calls: Iterator[Call], cost: Callable[[Call], float]
    ) -> Generator[tuple[Call, Any]]: ...


class Joined(NamedTuple):
    """A cluster that this process has joined. ``ask`` does a function on every machine of it; ``is_lost`` tells whether
    it will never answer again."""

    executor: concurrent.futures.Executor
    workers: int
    ask: Callable[[Callable[[], Any]], Iterable[Any]]
    is_lost: Callable[[], bool]


class Here:
    """The calling thread."""

    def run(
        self, function: Callable[..., Any], calls: Iterator[Call], cost: Callable[[Call], float]
    ) -> Generator[tuple[Call, Any]]:
        while (call := next(calls, None)) is not None:
            yield call, function(*call)


class Processes:
    """Processes of our own on this machine."""

    def __init__(self, count: int):
        self._count = count

    def run(
        self, function: Callable[..., Any], calls: Iterator[Call], cost: Callable[[Call], float]
    ) -> Generator[tuple[Call, Any]]:
        return run_calls(function, calls, self._count)


class Futures:
    """Any executor that works as those of `concurrent.futures` do. It stays open: its owner closes it.

    ``in_flight`` is how many parcels are handed over at once; twice its workers by default, where it says how many.
    ``is_lost`` tells whether it will never answer again.
    """

    def __init__(
        self,
        executor: concurrent.futures.Executor,
        in_flight: int | None = None,
        is_lost: Callable[[], bool] = lambda: False,
    ):
        self._executor, self._is_lost = executor, is_lost
        self._in_flight = in_flight or 2 * int(getattr(executor, "_max_workers", IN_FLIGHT // 2))

    def run(
        self, function: Callable[..., Any], calls: Iterator[Call], cost: Callable[[Call], float]
    ) -> Generator[tuple[Call, Any]]:
        pending: dict[concurrent.futures.Future[list[Any]], tuple[list[Call], int]] = {}
        again: list[tuple[list[Call], int]] = []
        try:
            while True:
                while len(pending) < self._in_flight:
                    chunk, tries = again.pop() if again else (_chunk(calls, cost), 0)
                    if not chunk:
                        break
                    pending[self._submitted(function, chunk)] = chunk, tries
                if not pending:
                    return
                done, _ = concurrent.futures.wait(pending, LOOK_S, concurrent.futures.FIRST_COMPLETED)
                signals.raise_dropped()
                if self._is_lost():
                    raise _lost("it does not answer any more")
                for future in done:
                    chunk, tries = pending.pop(future)
                    try:
                        results = future.result()
                    except concurrent.futures.BrokenExecutor as broken:
                        raise _lost(f"{type(broken).__name__}: {broken}") from broken
                    except (Exception, concurrent.futures.CancelledError) as failure:
                        if tries < RETRIES:  # Each on its own: one of them may be what killed the worker.
                            again += [([call], tries + 1) for call in chunk]
                            continue
                        results = [WorkerDied(f"failed: {type(failure).__name__} {failure}")] * len(chunk)
                    yield from zip(chunk, results, strict=True)
        finally:
            for future in pending:
                future.cancel()

    def _submitted(self, function: Callable[..., Any], chunk: list[Call]) -> concurrent.futures.Future[list[Any]]:
        try:
            return self._executor.submit(_do, function, chunk)
        except Exception as problem:
            raise _lost(f"{type(problem).__name__}: {problem}") from problem


def _chunk(calls: Iterator[Call], cost: Callable[[Call], float]) -> list[Call]:
    chunk: list[Call] = []
    total = 0.0
    while total < 1 and len(chunk) < _CHUNK_CALLS and (call := next(calls, None)) is not None:
        chunk.append(call)
        total += cost(call)
    return chunk


def _do(function: Callable[..., Any], chunk: list[Call]) -> list[Any]:
    return [function(*call) for call in chunk]


def _lost(why: str) -> RtdenoiseError:
    return RtdenoiseError(f"the executor is lost ({why}); start it and this run again, which goes on where it stopped")
