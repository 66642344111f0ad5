"""`AsyncDenoiser` gives what `Denoiser` gives, in order, and never holds up the event loop, whoever is cancelled."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import DEADLINE_S, identity_model
from conftest import modulated_noise
from rtdenoise import AsyncDenoiser, Denoiser, ModelError, UsageError
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import load_model

RATE = 16_000
SIGNAL = modulated_noise(np.random.default_rng(3), 2 * RATE)[:, 0]


def run(task):
    return asyncio.run(asyncio.wait_for(task, DEADLINE_S))


class Gate:
    """A model whose steps wait until they are let through: the loop must be free to do so."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        inner = load_model(identity_model())
        self.model = Model(inner.info, lambda channels: self._wrap(inner.stream(channels)))

    def _wrap(self, stream):
        step = stream.step

        def gated(frames: int) -> None:
            self.entered.set()
            assert self.open.wait(DEADLINE_S)
            step(frames)

        stream.step = gated
        return stream

    async def reached(self) -> None:
        while not self.entered.is_set():
            await asyncio.sleep(0.001)


@settings(max_examples=15)
@given(st.lists(st.integers(0, len(SIGNAL)), max_size=8), st.sampled_from([8000, 16_000, 48_000]))
def test_any_chunks_give_what_a_denoiser_gives(cuts, rate):
    parts = np.split(SIGNAL, sorted(cuts))

    async def filtered():
        async def source():
            for part in parts:
                yield part

        async with AsyncDenoiser(identity_model(), rate) as stream:
            return np.concatenate([part async for part in stream.stream(source())])

    whole = Denoiser(identity_model(), rate)
    np.testing.assert_allclose(run(filtered()), np.concatenate([whole.process(SIGNAL), whole.flush()]), atol=1e-6)


def test_chunks_of_many_tasks_are_filtered_in_the_order_of_their_calls():
    async def filtered():
        async with AsyncDenoiser(rate=RATE) as stream:
            parts = await asyncio.gather(*(stream.process(part) for part in np.array_split(SIGNAL, 100)))
            return np.concatenate([*parts, await stream.flush()])

    whole = Denoiser(rate=RATE)
    expected = np.concatenate([whole.process(SIGNAL), whole.flush()])
    np.testing.assert_allclose(run(filtered()), expected, atol=1e-5)


def test_the_loop_runs_on_while_a_thread_filters():
    """A step waits for what the loop does next; if the loop waited for the step, neither would end."""
    gate = Gate()

    async def filtered():
        async with AsyncDenoiser(gate.model, RATE) as stream:
            job = asyncio.create_task(stream.process(SIGNAL))
            await gate.reached()
            gate.open.set()
            return await job

    assert run(filtered()).shape == SIGNAL.shape


def test_many_streams_share_few_threads_and_keep_apart():
    signals = [np.roll(SIGNAL, 999 * k) for k in range(20)]
    before = threading.active_count()

    async def one(signal, executor):
        async with AsyncDenoiser(identity_model(), RATE, executor=executor) as stream:
            parts = [await stream.process(part) for part in np.array_split(signal, 30)]
            return np.concatenate([*parts, await stream.flush()])[stream.latency_samples :]

    async def filtered():
        with ThreadPoolExecutor(2) as executor:
            results = await asyncio.gather(*(one(signal, executor) for signal in signals))
            assert threading.active_count() <= before + 2
            return results

    for signal, result in zip(signals, run(filtered()), strict=True):
        np.testing.assert_allclose(result, signal, atol=1e-5)


def test_a_cancelled_chunk_takes_neither_order_nor_others_along():
    gate, (first, second, third) = Gate(), np.split(SIGNAL[: 3 * 640], 3)

    async def filtered():
        async with AsyncDenoiser(gate.model, RATE) as stream:
            busy, waiting, last = (asyncio.create_task(stream.process(x)) for x in (first, second, third))
            await gate.reached()
            busy.cancel()
            waiting.cancel()
            await asyncio.sleep(0)
            gate.open.set()
            gone = await asyncio.gather(busy, waiting, return_exceptions=True)
            assert all(isinstance(x, asyncio.CancelledError) for x in gone)
            return await last

    whole = Denoiser(identity_model(), RATE)  # The first was taken in, though nobody took it out; the second never was.
    whole.process(first)
    np.testing.assert_allclose(run(filtered()), whole.process(third), atol=1e-6)


def test_a_chunk_cancelled_over_and_over_still_ends():
    gate = Gate()

    async def cancelled():
        async with AsyncDenoiser(gate.model, RATE) as stream:
            job = asyncio.create_task(stream.process(SIGNAL[:640]))
            await gate.reached()
            for _ in range(3):
                job.cancel()
                await asyncio.sleep(0)
            gate.open.set()
            with pytest.raises(asyncio.CancelledError):
                await job
            return (await stream.process(SIGNAL[:640])).shape

    assert run(cancelled()) == (640,)


def test_closing_waits_for_what_was_asked_for_and_leaves_no_thread():
    before = set(threading.enumerate())

    async def closed():
        stream = AsyncDenoiser(identity_model(), RATE)
        await stream.__aenter__()
        jobs = [asyncio.create_task(stream.process(SIGNAL[:6400])) for _ in range(5)]
        await asyncio.sleep(0)
        await stream.close()
        assert all(job.done() and job.result().shape == (6400,) for job in jobs)
        await stream.close()
        with pytest.raises(UsageError, match="closed"):
            await stream.process(SIGNAL)
        with pytest.raises(UsageError, match="closed"):
            await stream.__aenter__()

    run(closed())
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE_S)
    assert not set(threading.enumerate()) - before


def test_errors_reach_the_task_that_asked_and_the_stream_goes_on():
    async def asked():
        with pytest.raises(UsageError, match="has not begun"):
            await AsyncDenoiser(rate=RATE).process(SIGNAL)
        for wrong, kind in (("nonexistent", UsageError), (__file__, (ModelError, UsageError))):
            with pytest.raises(kind):
                await AsyncDenoiser(wrong, RATE).__aenter__()
        async with AsyncDenoiser(identity_model(), RATE) as stream:
            for bad in (np.zeros(10, np.int16), np.zeros((3, 2), np.float32), np.float32(1)):
                with pytest.raises(UsageError):
                    await stream.process(bad)
            with pytest.raises(UsageError):
                stream.strength_db = -1
            stream.strength_db, stream.bypass, stream.low_cut_hz = 12, True, 80
            assert (stream.strength_db, stream.bypass, stream.low_cut_hz) == (12, True, 80)
            assert stream.latency_ms == 16
            await stream.process(np.full(100, np.nan, np.float32))
            assert stream.nonfinite_samples == 100
            await stream.reset()
            return await stream.process(SIGNAL)

    assert run(asked()).shape == SIGNAL.shape
