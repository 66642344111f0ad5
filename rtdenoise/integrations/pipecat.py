"""A Pipecat audio filter: what a transport takes in is filtered before voice activity detection and all else.

    TransportParams(audio_in_enabled=True, audio_in_filter=DenoiseFilter())

`FilterEnableFrame` turns it on and off without a jump, `FilterUpdateSettingsFrame` changes ``strength_db``,
``low_cut_hz`` and ``bypass``. The event loop never waits for the model.
"""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from pipecat.audio.filters.base_audio_filter import BaseAudioFilter
from pipecat.frames.frames import FilterControlFrame, FilterEnableFrame, FilterUpdateSettingsFrame

from rtdenoise.core.async_denoiser import AsyncDenoiser
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Latency
from rtdenoise.io.pcm import decode, encode
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import DEFAULT_MODEL

ENCODING = "PCM_16"
SAMPLE_BYTES = 2
SETTINGS = ("strength_db", "low_cut_hz", "bypass")


class DenoiseFilter(BaseAudioFilter):
    """Takes noise out of the 16-bit sound of a transport, as many bytes out as in, 16 ms (or 8 ms) late.

    Parameters
    ----------
    model, strength_db, latency, low_cut_hz, executor
        As for `rtdenoise.AsyncDenoiser`.
    channels : int, optional
        As ``audio_in_channels`` of the transport.
    """

    def __init__(
        self,
        model: str | Path | Model = DEFAULT_MODEL,
        strength_db: float | None = None,
        latency: Latency = "normal",
        low_cut_hz: float | None = None,
        *,
        channels: int = 1,
        executor: Executor | None = None,
    ):
        self._model, self._strength_db, self._latency, self._low_cut_hz = model, strength_db, latency, low_cut_hz
        self._channels, self._executor = channels, executor
        self._stream: AsyncDenoiser | None = None
        self._bypass = False
        self._rest = b""  # the beginning of a sample whose end comes with the next bytes

    async def start(self, sample_rate: int) -> None:
        """Load the model for this rate; the transport calls it.

        Parameters
        ----------
        sample_rate : int
            In Hz.
        """
        settings = self._strength_db, self._latency, self._low_cut_hz
        stream = AsyncDenoiser(self._model, sample_rate, self._channels, *settings, executor=self._executor)
        self._stream, self._rest = await stream.__aenter__(), b""
        stream.bypass = self._bypass

    async def stop(self) -> None:
        """Let go of the model; the transport calls it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def process_frame(self, frame: FilterControlFrame) -> None:
        """Take in what a control frame changes.

        Parameters
        ----------
        frame : FilterControlFrame
            `FilterEnableFrame` or `FilterUpdateSettingsFrame`.
        """
        if isinstance(frame, FilterEnableFrame):
            changes = {"bypass": not frame.enable}
        elif isinstance(frame, FilterUpdateSettingsFrame):
            changes = dict(frame.settings)
        else:
            return
        if unknown := [name for name in changes if name not in SETTINGS]:
            raise UsageError(f"{unknown[0]!r} is no setting of this filter; {', '.join(SETTINGS)} are")
        for name, value in changes.items():
            if self._stream is not None:
                setattr(self._stream, name, value)
            setattr(self, f"_{name}", value)

    async def filter(self, audio: bytes) -> bytes:
        """Filter 16-bit samples.

        Parameters
        ----------
        audio : bytes
            Little-endian, channels interleaved.

        Returns
        -------
        bytes
            As many; before `start`, the same.
        """
        stream = self._stream
        if stream is None:
            return audio
        audio = self._rest + audio
        whole = len(audio) - len(audio) % (SAMPLE_BYTES * self._channels)
        self._rest = audio[whole:]
        samples = decode(audio[:whole], ENCODING).reshape(-1, self._channels)
        return encode((await stream.process(samples)).reshape(-1), ENCODING)
