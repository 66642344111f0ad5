"""A LiveKit frame processor, for `livekit.rtc` and LiveKit's agents alike.

    rtc.AudioStream(track, noise_cancellation=DenoiseProcessor())
    room_io.AudioInputOptions(noise_cancellation=DenoiseProcessor())

LiveKit calls it in its event loop and waits: one or two ms for a frame of 20 ms. A processor belongs to one stream.
"""

from __future__ import annotations

from pathlib import Path

from livekit import rtc

from rtdenoise.core.denoiser import Denoiser
from rtdenoise.geometry import Latency
from rtdenoise.io.pcm import decode, encode
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import DEFAULT_MODEL, load_model

ENCODING = "PCM_16"
USUAL_HZ = 48_000  # what `livekit.rtc.AudioStream` delivers, unless asked for another rate


class DenoiseProcessor(rtc.FrameProcessor[rtc.AudioFrame]):
    """Takes noise out of audio frames of any rate and number of channels; each frame keeps its length.

    Parameters
    ----------
    model, strength_db, latency, low_cut_hz
        As for `rtdenoise.Denoiser`. The model is loaded here, so that no frame waits for it.
    """

    def __init__(
        self,
        model: str | Path | Model = DEFAULT_MODEL,
        strength_db: float | None = None,
        latency: Latency = "normal",
        low_cut_hz: float | None = None,
    ):
        self._model = model if isinstance(model, Model) else load_model(model)
        self._settings = strength_db, latency, low_cut_hz
        self._denoiser = Denoiser(self._model, USUAL_HZ, 1, *self._settings)
        self._enabled = True

    @property
    def denoiser(self) -> Denoiser:
        """The filter of the frames that come now: its ``bypass`` and ``strength_db`` change without a jump."""
        return self._denoiser

    @property
    def enabled(self) -> bool:
        """Whether LiveKit sends frames here. Off, they pass without latency; ``denoiser.bypass`` keeps the latency."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value and not self._enabled:
            self._denoiser.reset()  # what was heard before is long past
        self._enabled = bool(value)

    def _process(self, frame: rtc.AudioFrame) -> rtc.AudioFrame:
        rate, channels = frame.sample_rate, frame.num_channels
        if (rate, channels) != (self._denoiser.rate, self._denoiser.channels):
            before = self._denoiser
            settings = before.strength_db, before.latency, before.low_cut_hz
            self._denoiser = Denoiser(self._model, rate, channels, *settings)
            self._denoiser.bypass = before.bypass
        samples = decode(frame.data.tobytes(), ENCODING)[: channels * frame.samples_per_channel].reshape(-1, channels)
        data = encode(self._denoiser.process(samples).reshape(-1), ENCODING)
        return rtc.AudioFrame(data, rate, channels, frame.samples_per_channel, userdata=frame.userdata)

    def _close(self) -> None:
        self._denoiser.reset()
