"""Executors: any that works as those of concurrent.futures do, never more in hand than needed, failures tried again."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import threading

import pytest

from command import identity_model, voice, write
from rtdenoise import RtdenoiseError, UsageError, denoise_folder
from rtdenoise.io.executors import RETRIES, Futures, Here, Processes
from rtdenoise.io.process_pool import WorkerDied

CHEAP, DEAR = (lambda call: 0.0), (lambda call: 1.0)


def double(number: int) -> int:
    return 2 * number


class Later:
    """Calls of which each result brings another one, to a depth."""

    def __init__(self, calls: int):
        self.soon = list(range(calls))

    def __iter__(self):
        return self

    def __next__(self) -> tuple[int]:
        if not self.soon:
            raise StopIteration
        return (self.soon.pop(),)


@pytest.mark.parametrize(
    "make", [Here, lambda: Processes(2), lambda: Futures(pool, 3)], ids=["here", "processes", "pool"]
)
@pytest.mark.parametrize("cost", [CHEAP, DEAR], ids=["cheap", "dear"])
def test_calls_that_results_bring_are_done_too(make, cost):
    calls, found = Later(20), []
    for (number,), result in make().run(double, calls, cost):
        assert result == 2 * number
        found.append(number)
        if len(found) < 50:
            calls.soon.append(number + 100)
    assert len(found) == 50 + 19


pool = concurrent.futures.ThreadPoolExecutor(2)


@pytest.mark.parametrize("cost", [CHEAP, DEAR])
def test_no_more_is_taken_than_keeps_the_workers_busy(cost):
    """Of calls without end too."""
    taken = itertools.count()
    running = Futures(pool, 4).run(double, ((next(taken),) for _ in itertools.repeat(0)), cost)
    for _ in range(100):
        next(running)
    running.close()
    assert next(taken) <= 100 + 5 * 16 + 1


class Flaky(concurrent.futures.Executor):
    """Fails the first calls of each number, as workers do that are killed."""

    def __init__(self, failures: int):
        self.failures, self.tried, self.lock = failures, {}, threading.Lock()

    def submit(self, function, do, chunk):
        future = concurrent.futures.Future()
        key = tuple(chunk)
        self.tried[key] = self.tried.get(key, 0) + 1
        if self.tried[key] <= self.failures:
            future.set_exception(OSError("worker killed"))
        else:
            future.set_result(function(do, chunk))
        return future


@pytest.mark.parametrize("failures", [1, RETRIES])
def test_a_call_whose_worker_fails_is_tried_again(failures):
    found = dict(Futures(Flaky(failures), 2).run(double, iter([(k,) for k in range(5)]), DEAR))
    assert found == {(k,): 2 * k for k in range(5)}


def test_a_call_that_fails_for_good_is_its_own_result():
    executor = Flaky(0)
    executor.tried[((3,),)] = -100
    submit = executor.submit

    def refuse(function, do, chunk):
        if (3,) in chunk:
            future = concurrent.futures.Future()
            future.set_exception(MemoryError("3"))
            return future
        return submit(function, do, chunk)

    executor.submit = refuse
    found = dict(Futures(executor, 2).run(double, iter([(k,) for k in range(40)]), CHEAP))
    assert isinstance(found.pop((3,)), WorkerDied)
    assert found == {(k,): 2 * k for k in range(40) if k != 3}


@pytest.mark.parametrize("state", ["shut down", "silent"])
def test_an_executor_that_is_lost_is_an_error_that_says_what_to_do(state):
    class Silent(concurrent.futures.Executor):
        def submit(self, *_):
            return concurrent.futures.Future()

    executor = concurrent.futures.ThreadPoolExecutor(1) if state == "shut down" else Silent()
    executor.shutdown()
    with pytest.raises(RtdenoiseError, match="goes on where it stopped"):
        list(Futures(executor, 2, lambda: state == "silent").run(double, iter([(1,)]), DEAR))


@pytest.fixture
def tree(tmp_path):
    for k in range(5):
        write(tmp_path / f"in/{k % 2}/{k}.wav", voice(3_000 * (k + 1), seed=k))
    (tmp_path / "in/bad.wav").write_text("not a sound")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("kind", [concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor])
def test_a_folder_takes_any_executor_and_leaves_it_open(tree, kind, monkeypatch):
    import multiprocessing

    options = {"mp_context": multiprocessing.get_context("spawn")} if kind.__name__.startswith("Process") else {}
    expected = denoise_folder(tree / "in", tree / "one", model=identity_model())
    monkeypatch.chdir(tree)
    with kind(2, **options) as executor:
        outcomes = denoise_folder("in", "two", model=identity_model(), executor=executor)
        assert executor.submit(double, 2).result() == 4
    assert len(outcomes) == len(expected) == 6
    assert sum(outcome.error is not None for outcome in outcomes) == 1
    for path in (tree / "one").rglob("*.wav"):
        assert (tree / "two" / path.relative_to(tree / "one")).read_bytes() == path.read_bytes()


def test_jobs_and_an_executor_exclude_each_other(tree):
    with pytest.raises(UsageError, match="one of them"):
        denoise_folder(tree / "in", tree / "out", jobs=2, executor=pool)
    assert not os.path.exists(tree / "out")


def test_short_files_travel_together_and_yet_all_workers_have_work(tmp_path):
    """Eight seconds of sound are a parcel: with larger ones, one worker of two would wait at the end for the other."""
    parcels = []

    class Noting(concurrent.futures.Executor):
        def submit(self, function, do, chunk):
            parcels.append(len(chunk))
            future = concurrent.futures.Future()
            future.set_result(function(do, chunk))
            return future

    for k in range(12):
        write(tmp_path / f"in/{k}.wav", voice(64_000), 16_000)
    denoise_folder(tmp_path / "in", tmp_path / "out", model=identity_model(), executor=Noting())
    assert parcels == [2] * 6
