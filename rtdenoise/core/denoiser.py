"""The streaming denoiser: samples in, as many samples out, a fixed latency later.

    samples ─▶ STFT ─▶ model ─▶ blend with the input ─▶ inverse STFT ─▶ samples
               └ faulty samples become zero     └ attenuation limit, bypass, band above the model, low cut

Live audio, files and arrays all run through `Denoiser`, so they give the same numbers. This module owns the order of
the steps and the checks of what comes in; the compiled steps are in `rtdenoise.core.frames` and `rtdenoise.core.stft`,
the network comes from `rtdenoise.model.registry`.
"""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtdenoise.core.adjustments import Adjustable
from rtdenoise.core.frames import begin, finish
from rtdenoise.core.stft import FILL, StreamingISTFT, StreamingSTFT
from rtdenoise.errors import ModelError, UsageError
from rtdenoise.geometry import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, Geometry, Latency
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import DEFAULT_MODEL, FILE_MODEL, load_model
from rtdenoise.native.arguments import prepared
from rtdenoise.native.fft import aligned

if TYPE_CHECKING:
    from rtdenoise.model.compiled_steps import CompiledStream

# Frames in a call of the model, as many as lie ready: five, of a chunk of 20 ms, cost little more than one.
BATCHES: tuple[int, ...] = (64, *range(16, 0, -1))
LONG = 2_500  # From this frame on, long chunks go on by programs of our own, which take a moment to be made.


class Denoiser(Adjustable):
    """Streaming noise filter for one signal of one or several channels.

    It keeps the state of one stream. Threads may use several objects at once, and take turns with one, by chunks.

    Parameters
    ----------
    model : str, Path or Model, optional
        Name of a shipped model (see `list_models`), path of an ONNX file, or a model loaded before.
    rate : int, optional
        Sample rate in Hz, 8 000 to 192 000. No resampling happens at any rate.
    channels : int, optional
        1 to 8, each filtered on its own, unless the model links them (`ModelInfo.linked`).
    strength_db : float, optional
        Attenuation limit in dB: 0 leaves the input untouched (but delayed), None sets no limit.
    latency : {"normal", "low"}, optional
        Synthesis window of four hops or two: 16 or 8 ms, with the same model, where its hop is 4 ms.
    low_cut_hz : float, optional
        60 to 120: attenuate what lies below this frequency, such as rumble, whatever the model and the limit do; the
        frequency itself by 10 dB. None cuts nothing. It adds no latency.

    Attributes
    ----------
    model : Model
        The model; ``model.info`` is its `ModelInfo`.
    rate, channels, latency
        As given.
    geometry : Geometry
        Hop, window and bins in samples at this rate.

    Raises
    ------
    UsageError
        If a value is out of range, or no such model exists.
    ModelError
        If the model cannot be trusted.

    Notes
    -----
    The low-latency mode analyses as the normal one does and synthesises with a window on the newest two hops only,
    whose product with the analysis window overlap-adds to one [1]_ [2]_.

    References
    ----------
    .. [1] Z.-Q. Wang, G. Wichern, S. Watanabe and J. Le Roux, "STFT-domain neural speech enhancement with very low
       algorithmic latency", 2022, arXiv:2204.09911.
    .. [2] S. Wang, G. Naithani, A. Politis and T. Virtanen, "Deep neural network based low-latency speech separation
       with asymmetric analysis-synthesis window pair", 2021, arXiv:2106.11794.

    Examples
    --------
    >>> import numpy as np
    >>> d = Denoiser(rate=16_000)
    >>> d.latency_samples, d.process(np.zeros(1000, np.float32)).shape, d.flush().shape
    (256, (1000,), (256,))
    """

    _sizes: tuple[int, ...] = (8, 1)  # frames in a step of a program

    def __init__(
        self,
        model: str | Path | Model = DEFAULT_MODEL,
        rate: int = 48_000,
        channels: int = 1,
        strength_db: float | None = None,
        latency: Latency = "normal",
        low_cut_hz: float | None = None,
    ):
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ or rate != int(rate):
            raise UsageError(f"rate {rate} Hz is outside {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz; resample the audio first")
        if not 1 <= channels <= MAX_CHANNELS:
            raise UsageError(f"{channels} channels; 1 to {MAX_CHANNELS} are supported, split the audio first")
        if latency not in ("normal", "low"):
            raise UsageError(f"latency {latency!r}; choose 'normal' or 'low'")
        self.model = model if isinstance(model, Model) else load_model(model)
        self.rate, self.channels, self.latency = int(rate), channels, latency
        self.geometry = Geometry(self.rate, self.model.info.framing)
        self._stft = StreamingSTFT(self.geometry, channels)
        self._istft = StreamingISTFT(self.geometry, channels, latency, max_frames=BATCHES[0])
        self._stream = self._plain = self.model.stream(channels)
        self._batches, self._frames = BATCHES, 0
        self._full = aligned(channels, BATCHES[0], self.geometry.bins, 2)
        self._top_gain = np.ones(channels, np.float32)
        self._rank, self._turn = 1, threading.RLock()
        super().__init__(strength_db, low_cut_hz)
        self._prepared_full = prepared(self._full)
        self._prepared_blend = prepared(self._mix), prepared(self._cut), prepared(self._top_gain)
        nothing = np.zeros((0, channels), np.float32)
        self._run(nothing, nothing, 0, 0)  # compiles, or loads what is compiled, before audio flows

    @property
    def latency_samples(self) -> int:
        """Samples between an input sample and the same sample at the output: the algorithmic latency."""
        return self.geometry.latency_samples(self.latency)

    @property
    def latency_ms(self) -> float:
        """The algorithmic latency in ms."""
        return self.geometry.latency_ms(self.latency)

    @property
    def nonfinite_samples(self) -> int:
        """Input samples so far that were NaN, infinite or beyond +120 dBFS, and were taken as zero."""
        return self._stft.faults

    def process(self, x: np.ndarray) -> np.ndarray:
        """Filter a chunk of any length; how a signal is cut into chunks makes no difference.

        Parameters
        ----------
        x : numpy.ndarray
            Floating-point samples between -1 and 1, shape ``[samples]`` or ``[samples, channels]``. Values that are
            NaN, infinite or beyond +120 dBFS are taken as zero (see `nonfinite_samples`).

        Returns
        -------
        numpy.ndarray
            float32 of the shape of ``x``, `latency_samples` late.

        Raises
        ------
        UsageError
            If shape or type are wrong.
        ModelError
            If the model fails or its output is not finite.
        """
        with self._turn:
            return self._process(x)

    def _process(self, x: np.ndarray) -> np.ndarray:
        block = self._block(x)
        out = np.empty_like(block)
        samples, hop, counters = len(block), self.geometry.hop, self._stft.counters
        at = faults = 0
        while at < samples:
            complete = (int(counters[FILL]) + samples - at) // hop
            if self._frames >= LONG and complete >= BATCHES[0]:
                self._go_on_compiled()
            frames = next((b for b in self._batches if b <= complete), 0)
            self._frames += frames
            at, bad = self._run(block, out, at, frames)
            faults += bad
        if faults:
            raise ModelError(f"model {self.model.name}: {faults} frames are not finite; try another model")
        return out.reshape(np.shape(x))

    def expect(self, samples: int) -> None:
        """Say how long the sound is that begins: if it is long, programs step the model from its first chunk on.

        Parameters
        ----------
        samples : int
            Per channel, as far as is known.
        """
        if samples >= 2 * LONG * self.geometry.hop:
            self._frames = LONG

    def _go_on_compiled(self) -> None:
        if self._stream is self._plain and (compiled := self._compiled):
            self._stream, self._batches = compiled.taking_over(), self._sizes

    @cached_property
    def _compiled(self) -> CompiledStream | None:
        from rtdenoise.model.compiled_steps import compiled_stream

        return compiled_stream(self.model, self._plain, self._sizes)

    def _run(self, block: np.ndarray, out: np.ndarray, at: int, frames: int) -> tuple[int, int]:
        """Filter ``frames`` hops of ``block`` from ``at`` on, or take all of it in if no hop becomes complete.

        Returns the next index and the count of faulty model frames.
        """
        noisy, enhanced = self._stream.buffers(frames or 1)
        stop = begin(block, at, frames or 1, self._prepared_full, noisy, self._stft.prepared)
        if frames:
            self._stream.step(frames)
        blending = self._prepared_full, enhanced, frames, *self._prepared_blend
        return stop, finish(*blending, out, at, stop, self._istft.prepared)

    def _block(self, x: np.ndarray) -> np.ndarray:
        """Return ``x`` as contiguous float32 ``[samples, channels]``."""
        x = np.asarray(x)
        if x.dtype != np.float32:
            if x.dtype.kind != "f":
                raise UsageError(f"samples are {x.dtype}; give float32 between -1 and 1 (int16: divide by 32768)")
            x = x.astype(np.float32)
        if x.ndim == 1 and self.channels == 1:
            self._rank = 1
            return np.ascontiguousarray(x).reshape(-1, 1)
        if x.ndim != 2 or x.shape[1] != self.channels:
            turned = "; channels come last, give x.T" if x.ndim == 2 and x.shape[0] == self.channels else ""
            raise UsageError(f"samples have shape {x.shape}; give [samples, {self.channels}]{turned}")
        self._rank = 2
        return np.ascontiguousarray(x)

    def flush(self) -> np.ndarray:
        """Return what is still inside at the end of a signal. Call `reset` before the next signal.

        Returns
        -------
        numpy.ndarray
            float32, the last `latency_samples` samples, of the rank that was fed.

        Raises
        ------
        ModelError
            If the model fails or its output is not finite.
        """
        shape = (self.latency_samples, self.channels)
        with self._turn:
            return self._process(np.zeros(shape[: self._rank], np.float32))

    def reset(self) -> None:
        """Forget all audio, so that what follows is filtered as by a new object. Settings stay."""
        with self._turn:
            self._stream, self._batches, self._frames = self._plain, BATCHES, 0
            for part in (self._stft, self._istft, self._stream):
                part.reset()
            self._top_gain[:] = 1
            self._settle()


def denoise(
    x: np.ndarray,
    rate: int,
    model: str | Path | Model = FILE_MODEL,
    strength_db: float | None = None,
    latency: Latency = "normal",
    low_cut_hz: float | None = None,
) -> np.ndarray:
    """Filter a whole signal; the result is sample-aligned with it, so its latency is removed.

    Parameters
    ----------
    x : numpy.ndarray
        Floating-point samples between -1 and 1, shape ``[samples]`` or ``[samples, channels]``.
    rate : int
        Sample rate in Hz, 8 000 to 192 000.
    model : str, Path or Model, optional
        Name of a shipped model (see `list_models`), path of an ONNX file, or a model loaded before. The default
        is that of files, which answers later than that of `Denoiser` and sounds better.
    strength_db : float, optional
        Attenuation limit in dB: 0 leaves the signal untouched, None sets no limit.
    latency : {"normal", "low"}, optional
        Synthesis window: ``"low"`` gives the sound that a low-latency stream has.
    low_cut_hz : float, optional
        As for `Denoiser`.

    Returns
    -------
    numpy.ndarray
        float32 of the shape of ``x``.

    Raises
    ------
    UsageError
        If shape, type or a setting are wrong.
    ModelError
        If the model cannot be trusted, or fails.

    See Also
    --------
    Denoiser : Signals that arrive in chunks.
    denoise_file : Sound files, in constant memory.

    Examples
    --------
    >>> import numpy as np
    >>> noisy = 0.1 * np.random.default_rng(0).standard_normal((48_000, 2))
    >>> denoise(noisy, 48_000, strength_db=18).shape
    (48000, 2)
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] < x.shape[1] and x.shape[1] > MAX_CHANNELS):
        turned = "; channels come last, give x.T" if x.ndim == 2 else ""
        raise UsageError(f"the signal has shape {x.shape}; give [samples] or [samples, channels]{turned}")
    d = Denoiser(model, rate, 1 if x.ndim == 1 else x.shape[1], strength_db, latency, low_cut_hz)
    return np.concatenate([d.process(x), d.flush()])[d.latency_samples :]
