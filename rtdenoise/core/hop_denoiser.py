"""A Denoiser that compiled code drives hop by hop, as live audio does, instead of `Denoiser.process`.

The caller runs `rtdenoise.core.frames.begin`, a step of the model and `rtdenoise.core.frames.finish` on the arrays that
`HopDenoiser.hop_arguments` names, always on whole hops. Nothing here is thread-safe: who changes something while a
thread works on the arrays stops that thread first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtdenoise.core.denoiser import BATCHES, Denoiser
from rtdenoise.core.frames import MIX, MIX_TARGET
from rtdenoise.core.stft import WAITING, StreamingISTFT
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Latency
from rtdenoise.model.contract import Model, ModelStream

LIVE_BATCH = 4  # Most frames of a live call: sound servers deliver bursts of two or three hops.


class HopDenoiser(Denoiser):
    """A `Denoiser` for whole hops, whose output comes one hop earlier than `process` of a `Denoiser` gives it.

    A `Denoiser` lets one hop wait so that chunks may have any length; who feeds whole hops saves that hop's latency.

    Parameters
    ----------
    model, rate, channels, strength_db, latency, low_cut_hz
        As for `Denoiser`.
    """

    def __init__(
        self,
        model: str | Path | Model,
        rate: int,
        channels: int = 1,
        strength_db: float | None = None,
        latency: Latency = "normal",
        low_cut_hz: float | None = None,
    ):
        super().__init__(model, rate, channels, strength_db, latency, low_cut_hz)
        self._skip_waiting_hop()

    @property
    def stream(self) -> ModelStream:
        """The running model, whose states belong to this signal."""
        return self._stream

    @property
    def hop_arguments(self) -> tuple[Any, ...]:
        """``(full, noisy, enhanced, mix, cut, top_gain, stft, istft)`` for `begin`, a step of `stream`, and `finish`.

        ``noisy[k - 1]`` and ``enhanced[k - 1]`` serve steps of k frames.
        """
        noisy, enhanced = zip(*map(self._stream.buffers, range(1, LIVE_BATCH + 1)), strict=True)
        blending = self._mix, self._cut, self._top_gain
        return self._full, noisy, enhanced, *blending, self._stft.arguments, self._istft.arguments

    @property
    def settled(self) -> bool:
        """Whether the last change of `strength_db`, `bypass` or `low_cut_hz` has been cross-faded to its end."""
        return all(np.array_equal(held[MIX], held[MIX_TARGET]) for held in (self._mix, self._cut))

    def exchange(self, model: Model, stream: ModelStream) -> None:
        """Go on with another model; the audio under way stays.

        Parameters
        ----------
        model : Model
            The new one.
        stream : ModelStream
            Its fresh stream, of as many channels.

        Raises
        ------
        UsageError
            If the model has another STFT or look-ahead.
        """
        if model.info.framing != self.model.info.framing:
            raise UsageError(
                f"model {model.name} has another STFT or look-ahead than {self.model.name}; start anew with this model"
            )
        self.model, self._stream, self._plain = model, stream, stream
        self.__dict__.pop("_compiled", None)
        self._top_gain[:] = 1

    def shorten(self) -> None:
        """Go on in low-latency mode."""
        self.latency = "low"
        self._istft = StreamingISTFT(self.geometry, self.channels, "low", max_frames=BATCHES[0])
        self._skip_waiting_hop()
        self._aim()  # The gains of a low cut depend on the synthesis window.

    def reset(self) -> None:
        """Forget all audio, so that what follows is filtered as by a new object. Settings stay."""
        super().reset()
        self._skip_waiting_hop()

    def _skip_waiting_hop(self) -> None:
        self._istft.counters[WAITING] = 0
