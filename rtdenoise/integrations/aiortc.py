"""An aiortc track that filters another one: what a peer says, or what is about to be sent to it.

    @peer.on("track")
    def on_track(track):
        if track.kind == "audio":
            agent.listen(DenoisedTrack(track))

The event loop never waits for the model.
"""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler

from rtdenoise.core.async_denoiser import AsyncDenoiser
from rtdenoise.geometry import Latency
from rtdenoise.io.pcm import decode, encode
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import DEFAULT_MODEL

ENCODING, FORMAT = "PCM_16", "s16"


class DenoisedTrack(MediaStreamTrack):
    """The frames of another track without their noise: same times, same length, 16-bit, sound 16 ms (or 8 ms) late.

    Parameters
    ----------
    track : MediaStreamTrack
        Where frames come from: audio of any rate, format and number of channels up to 8. `stop` stops it too.
    model, strength_db, latency, low_cut_hz, executor
        As for `rtdenoise.AsyncDenoiser`.
    """

    kind = "audio"

    def __init__(
        self,
        track: MediaStreamTrack,
        model: str | Path | Model = DEFAULT_MODEL,
        strength_db: float | None = None,
        latency: Latency = "normal",
        low_cut_hz: float | None = None,
        *,
        executor: Executor | None = None,
    ):
        super().__init__()
        self._track, self._model, self._executor = track, model, executor
        self._settings = strength_db, latency, low_cut_hz
        self._kind: tuple[int, str] | None = None
        self._stream: AsyncDenoiser | None = None
        self._packing: AudioResampler | None = None

    @property
    def stream(self) -> AsyncDenoiser | None:
        """The filter of the frames that come now, None before the first: ``bypass`` and ``strength_db`` may be set."""
        return self._stream

    async def recv(self) -> AudioFrame:
        """Wait for the next frame.

        Returns
        -------
        AudioFrame
            Filtered.

        Raises
        ------
        MediaStreamError
            If either track has ended.
        """
        if self.readyState != "live":
            raise MediaStreamError
        try:
            frame = await self._track.recv()
        except MediaStreamError:
            self.stop()
            raise
        channels = len(frame.layout.channels)
        stream = await self._filter_of(frame.sample_rate, frame.layout.name, channels)
        packed = frame if frame.format.name == FORMAT else self._pack(frame)
        samples = decode(packed.to_ndarray().astype("<i2").tobytes(), ENCODING).reshape(-1, channels)
        words = np.frombuffer(encode((await stream.process(samples)).reshape(-1), ENCODING), np.int16)
        clean = AudioFrame.from_ndarray(words.reshape(1, -1), FORMAT, frame.layout.name)
        clean.sample_rate, clean.pts, clean.time_base = frame.sample_rate, frame.pts, frame.time_base
        return clean

    def stop(self) -> None:
        """End this track and the one it filters."""
        super().stop()
        self._track.stop()
        self._stream = None  # a thread of its own ends with it

    async def _filter_of(self, rate: int, layout: str, channels: int) -> AsyncDenoiser:
        """The filter for frames of this kind; another one if they have changed."""
        if self._stream is None or self._kind != (rate, layout):
            stream = AsyncDenoiser(self._model, rate, channels, *self._settings, executor=self._executor)
            before, self._stream = self._stream, await stream.__aenter__()
            self._kind = rate, layout
            self._packing = AudioResampler(FORMAT, layout, rate)
            if before is not None:
                stream.bypass, stream.strength_db = before.bypass, before.strength_db
                stream.low_cut_hz = before.low_cut_hz
                await before.close()
        return self._stream

    def _pack(self, frame: AudioFrame) -> AudioFrame:
        """The same samples as 16-bit integers."""
        assert self._packing is not None
        (packed,) = self._packing.resample(frame)
        return packed
