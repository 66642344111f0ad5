"""A Denoiser for asyncio programs: threads filter, the event loop only waits for them.

    tasks ─▶ process(chunk) ─▶ turn (first come, first served) ─▶ thread: `Denoiser.process` ─▶ the task that asked

One object is one stream. Many streams may share the threads of one executor: long chunks are cut into pieces, between
which the others have their turn. Knows nothing of networks; `rtdenoise.serving` and integrations build on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from rtdenoise.core.compiled_denoiser import CompiledDenoiser
from rtdenoise.core.denoiser import Denoiser
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Latency
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import DEFAULT_MODEL

Result = TypeVar("Result")
PIECE_HOPS = 16  # of a long chunk at a time: 2 ms of work, the most that other streams wait for


class AsyncDenoiser:
    """Streaming noise filter for asyncio programs: what `Denoiser` is, but nothing blocks the event loop.

    Use it as ``async with``, which loads the model on a thread. Chunks are filtered in the order in which `process` was
    called, by any number of tasks of one event loop.

    Parameters
    ----------
    model, rate, channels, strength_db, latency, low_cut_hz
        As for `Denoiser`.
    executor : concurrent.futures.Executor, optional
        Threads that filter, shared with other streams and closed by who made them; by default one thread of its own.
        A thread for each core that may be used is best for many streams.

    Raises
    ------
    UsageError, ModelError
        As `Denoiser`, on entering.

    Notes
    -----
    A task may be cancelled while it waits. A chunk whose turn has not come is then not filtered at all; one that a
    thread is busy with is filtered up to the end of the current piece (16 hops), and what came out of it is lost. Other
    chunks and their order are not affected.

    Examples
    --------
    >>> import asyncio
    >>> import numpy as np
    >>> async def main():
    ...     async with AsyncDenoiser(rate=16_000) as stream:
    ...         return (await stream.process(np.zeros(320, np.float32))).shape, stream.latency_samples
    >>> asyncio.run(main())
    ((320,), 256)
    """

    def __init__(
        self,
        model: str | Path | Model = DEFAULT_MODEL,
        rate: int = 48_000,
        channels: int = 1,
        strength_db: float | None = None,
        latency: Latency = "normal",
        low_cut_hz: float | None = None,
        *,
        executor: Executor | None = None,
    ):
        self._settings = model, rate, channels, strength_db, latency, low_cut_hz
        self._own = None if executor else ThreadPoolExecutor(1, "rtdenoise-async")
        self._executor = executor or self._own
        self._turn = asyncio.Lock()
        self._filter: Denoiser | None = None
        self._closed = False

    async def __aenter__(self) -> AsyncDenoiser:
        async with self._turn:
            if self._filter is None and not self._closed:
                try:
                    # Who loaded the model mostly has several streams of it.
                    kind = CompiledDenoiser if isinstance(self._settings[0], Model) else Denoiser
                    self._filter = await self._on_thread(lambda: kind(*self._settings))
                except BaseException:
                    self._end()
                    raise
        self._running()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End it, once all chunks that wait have been filtered. Closing twice does nothing."""
        async with self._turn:
            self._end()

    def _end(self) -> None:
        self._closed = True
        if self._own is not None:
            self._own.shutdown(wait=False)  # nothing runs on it now, so its thread ends at once

    def _running(self) -> Denoiser:
        if self._closed:
            raise UsageError("this AsyncDenoiser is closed; make a new one")
        if self._filter is None:
            raise UsageError("this AsyncDenoiser has not begun; use it as `async with AsyncDenoiser(...) as stream:`")
        return self._filter

    @property
    def latency_samples(self) -> int:
        """Samples between an input sample and the same sample at the output: the algorithmic latency."""
        return self._running().latency_samples

    @property
    def latency_ms(self) -> float:
        """The algorithmic latency in ms."""
        return self._running().latency_ms

    @property
    def nonfinite_samples(self) -> int:
        """Input samples so far that were NaN, infinite or beyond +120 dBFS, and were taken as zero."""
        return self._running().nonfinite_samples

    @property
    def strength_db(self) -> float | None:
        """Attenuation limit in dB, None for no limit. It may be set at any time; changes cross-fade over four hops."""
        return self._running().strength_db

    @strength_db.setter
    def strength_db(self, value: float | None) -> None:
        self._running().strength_db = value

    @property
    def low_cut_hz(self) -> float | None:
        """Frequency in Hz below which everything is attenuated, None for no low cut. It may be set at any time."""
        return self._running().low_cut_hz

    @low_cut_hz.setter
    def low_cut_hz(self, value: float | None) -> None:
        self._running().low_cut_hz = value

    @property
    def bypass(self) -> bool:
        """Whether the input is passed unfiltered, with the same latency. It may be set at any time, without a jump."""
        return self._running().bypass

    @bypass.setter
    def bypass(self, on: bool) -> None:
        self._running().bypass = on

    async def process(self, x: np.ndarray) -> np.ndarray:
        """Filter a chunk of any length; how a signal is cut into chunks makes no difference.

        Parameters
        ----------
        x : numpy.ndarray
            As for `Denoiser.process`. It is copied, so it may be changed at once.

        Returns
        -------
        numpy.ndarray
            float32 of the shape of ``x``, `latency_samples` late.

        Raises
        ------
        UsageError, ModelError
            As `Denoiser.process`; also if it has not begun, or is closed.
        """
        stream, x = self._running(), np.array(x)
        size = PIECE_HOPS * stream.geometry.hop
        pieces = [x[at : at + size] for at in range(0, len(x), size)] if x.ndim and len(x) > size else [x]
        async with self._turn:
            stream = self._running()
            done = [await self._on_thread(partial(stream.process, piece)) for piece in pieces]
        return np.concatenate(done) if len(done) > 1 else done[0]

    async def flush(self) -> np.ndarray:
        """Return what is still inside at the end of a signal. Call `reset` before the next signal.

        Returns
        -------
        numpy.ndarray
            float32, the last `latency_samples` samples, of the rank that was fed.
        """
        async with self._turn:
            return await self._on_thread(self._running().flush)

    async def reset(self) -> None:
        """Forget all audio, so that what follows is filtered as by a new object. Settings stay."""
        async with self._turn:
            await self._on_thread(self._running().reset)

    async def stream(self, chunks: AsyncIterable[np.ndarray]) -> AsyncIterator[np.ndarray]:
        """Filter a whole signal as it arrives.

        Parameters
        ----------
        chunks : async iterable of numpy.ndarray
            Its chunks, as for `process`.

        Returns
        -------
        async iterator of numpy.ndarray
            For each chunk as many samples, and at the end the last `latency_samples`.
        """
        async for chunk in chunks:
            yield await self.process(chunk)
        yield await self.flush()

    async def _on_thread(self, work: Callable[[], Result]) -> Result:
        """Do it on a thread. Who is cancelled meanwhile waits until the thread is done, so that nobody overtakes."""
        job = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            while not job.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([job])
            job.cancelled() or job.exception()  # looked at, or asyncio would report an error that nobody has seen
            raise
