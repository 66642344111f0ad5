"""The streaming denoiser: samples in, as many samples out, a fixed delay later.

    samples ─▶ STFT ─▶ model ─▶ blend with the input ─▶ inverse STFT ─▶ samples
               └ faulty samples become zero     └ attenuation limit, bypass, band above the model

Live audio, files and arrays all run through `Denoiser`, so they give the same numbers. It owns the blend and the
guards; transforms live in `rtdenoise.core.stft`, the network in `rtdenoise.model.registry`.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np

from rtdenoise.core.stft import FILL, WAITING, StreamingISTFT, StreamingSTFT, analyse, synthesise
from rtdenoise.errors import ModelError, UsageError
from rtdenoise.geometry import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, Geometry, Latency
from rtdenoise.model.contract import Model, ModelStream
from rtdenoise.model.registry import DEFAULT_MODEL, load_model
from rtdenoise.native.fft import aligned, jit

BATCHES = (64, 8, 1)  # frames a model call may take where samples lie ready
LIVE_BATCH = 4  # most frames of a live call: sound servers deliver bursts of two or three hops
FADE_STEP = np.float32(0.25)  # largest change of the blend a hop: bypass and strength cross-fade over 16 ms
TOP_SMOOTHING = np.float32(0.8)  # a hop, about 18 ms: gain carried to the band above the model's reach
MIX, MIX_TARGET = range(2)  # slots of the blend: share of the input now, and where it is going


@jit
def begin(x, start, frames, full, noisy, stft):
    """Analyse up to ``frames`` frames of ``x[start:]`` into ``full`` and, cut or padded to the model's bins, ``noisy``.

    Returns the next unused index of x.
    """
    at = analyse(x, start, frames, stft, full)
    shared = min(full.shape[2], noisy.shape[2])
    for c in range(full.shape[0]):
        for f in range(frames):
            for k in range(shared):
                noisy[c, f, k, 0] = full[c, f, k, 0]
                noisy[c, f, k, 1] = full[c, f, k, 1]
    return at


@jit
def blend(full, enhanced, frames, mix, top_gain):
    """Replace ``full`` (the input's spectra) by the output's; return how many frames of the model were not finite.

    A faulty frame passes the input. Bins above the model's last take the smoothed gain of its top quarter, at most one.
    """
    channels, _, bins, _ = full.shape
    shared = min(bins, enhanced.shape[2])
    top = enhanced.shape[2] - enhanced.shape[2] // 4
    faults = 0
    for f in range(frames):
        step = mix[MIX_TARGET] - mix[MIX]
        mix[MIX] += min(max(step, -FADE_STEP), FADE_STEP)
        dry, wet = mix[MIX], np.float32(1) - mix[MIX]
        for c in range(channels):
            finite = True
            for k in range(shared):
                finite &= math.isfinite(enhanced[c, f, k, 0]) and math.isfinite(enhanced[c, f, k, 1])
            if not finite:
                faults += 1
                continue
            if bins > shared:
                before = after = np.float32(1e-20)
                for k in range(top, shared):
                    before += full[c, f, k, 0] ** 2 + full[c, f, k, 1] ** 2
                    after += enhanced[c, f, k, 0] ** 2 + enhanced[c, f, k, 1] ** 2
                now = min(np.float32(1), np.sqrt(after / before))
                top_gain[c] = max(np.float32(1e-6), now + TOP_SMOOTHING * (top_gain[c] - now))
                above = dry + wet * min(top_gain[c], now)
                for k in range(shared, bins):
                    full[c, f, k, 0] *= above
                    full[c, f, k, 1] *= above
            for k in range(shared):
                full[c, f, k, 0] = dry * full[c, f, k, 0] + wet * enhanced[c, f, k, 0]
                full[c, f, k, 1] = dry * full[c, f, k, 1] + wet * enhanced[c, f, k, 1]
    return faults


@jit
def finish(full, enhanced, frames, mix, top_gain, out, start, stop, istft):
    """Blend, then synthesise ``out[start:stop]``; returns the count of faulty model frames."""
    faults = blend(full, enhanced, frames, mix, top_gain)
    synthesise(full, frames, out, start, stop, istft)
    return faults


class Denoiser:
    """Streaming noise filter for one signal of one or several channels.

    Parameters
    ----------
    model
        Name of a shipped model, path of an ONNX file, or a loaded `Model`.
    rate
        Samples a second, 8 000 to 192 000. No resampling happens at any rate.
    channels
        1 to 8; each is filtered on its own, unless the model links them (``model.info.linked``).
    strength_db
        Most attenuation the filter may apply: 0 leaves the input untouched (but delayed), None is the model's full
        effect. Settable while running; changes cross-fade over 16 ms.
    latency
        ``"normal"`` (16 ms) or ``"low"`` (8 ms, shorter synthesis window, same model).

    Raises `UsageError` for values out of range and `ModelError` for a model that cannot be trusted.

    Shape
    -----
    ``process(x)``: float32 ``[samples]`` or ``[samples, channels]``, any number of samples; returns the same shape,
    delayed by `latency_samples`, whatever the chunk sizes.

    Threads
    -------
    Objects are independent of each other. Several threads that call one object take turns, chunk by chunk.

    >>> d = Denoiser(rate=16_000)
    >>> d.latency_samples, d.process(np.zeros(1000, np.float32)).shape, d.flush().shape
    (256, (1000,), (256,))
    """

    def __init__(
        self,
        model: str | Path | Model = DEFAULT_MODEL,
        rate: int = 48_000,
        channels: int = 1,
        strength_db: float | None = None,
        latency: Latency = "normal",
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
        self.stream = self.model.stream(channels)
        self._full = aligned(channels, BATCHES[0], self.geometry.bins, 2)
        self._top_gain = np.ones(channels, np.float32)
        self._mix = np.zeros(2, np.float32)
        self._bypass = False
        self._rank = 1
        self._turn = threading.RLock()
        self.strength_db = strength_db
        self._mix[MIX] = self._mix[MIX_TARGET]
        nothing = np.zeros((0, channels), np.float32)
        self._run(nothing, nothing, 0, 0)  # compiles, or loads what is compiled, before audio flows

    @property
    def latency_samples(self) -> int:
        """Samples between an input sample and the same sample at the output."""
        return self.geometry.latency_samples(self.latency)

    @property
    def latency_ms(self) -> float:
        return self.geometry.latency_ms(self.latency)

    @property
    def hop_arguments(self) -> tuple:
        """``(full, noisy, enhanced, mix, top_gain, stft, istft)`` for a compiled loop that runs `begin`, a step of
        `stream` and `finish` itself; ``noisy[k - 1]`` and ``enhanced[k - 1]`` serve steps of k frames."""
        noisy, enhanced = zip(*map(self.stream.buffers, range(1, LIVE_BATCH + 1)), strict=True)
        return self._full, noisy, enhanced, self._mix, self._top_gain, self._stft.arguments, self._istft.arguments

    def exchange(self, model: Model, stream: ModelStream) -> None:
        """Go on with another model and its fresh ``stream``; audio under way stays. `UsageError` if STFTs differ."""
        if model.info.framing != self.model.info.framing:
            raise UsageError(f"model {model.name} has another STFT than {self.model.name}; start anew with this model")
        self.model, self.stream = model, stream
        self._top_gain[:] = 1

    def shorten(self) -> None:
        """Go on in low-latency mode, for live use: whole hops, none waiting."""
        self.latency = "low"
        self._istft = StreamingISTFT(self.geometry, self.channels, "low", max_frames=BATCHES[0])
        self.skip_first_hop()

    def skip_first_hop(self) -> None:
        """Drop the hop that waits so that chunks may have any length: who feeds whole hops saves its delay."""
        self._istft.counters[WAITING] = 0

    @property
    def nonfinite_samples(self) -> int:
        """Input samples so far that were NaN, infinite or beyond +120 dBFS, and were taken as zero."""
        return self._stft.faults

    @property
    def strength_db(self) -> float | None:
        """Most attenuation in dB; None: no limit."""
        return self._strength_db

    @strength_db.setter
    def strength_db(self, value: float | None) -> None:
        if value is not None and not value >= 0:
            raise UsageError(f"strength {value} dB; give 0 (untouched) or more, or none for the full effect")
        self._strength_db = value
        self._aim()

    @property
    def bypass(self) -> bool:
        """Pass the input, with the same delay. The model keeps running, so switching back is seamless."""
        return self._bypass

    @bypass.setter
    def bypass(self, on: bool) -> None:
        self._bypass = bool(on)
        self._aim()

    def _aim(self) -> None:
        limit = 0.0 if self._strength_db is None else 10 ** (-self._strength_db / 20)
        self._mix[MIX_TARGET] = 1.0 if self._bypass else limit

    def process(self, x: np.ndarray) -> np.ndarray:
        """Filter a chunk. Raises `UsageError` on a wrong shape or type, `ModelError` if the model fails."""
        with self._turn:
            return self._process(x)

    def _process(self, x: np.ndarray) -> np.ndarray:
        block = self._block(x)
        out = np.empty_like(block)
        samples, hop, counters = len(block), self.geometry.hop, self._stft.counters
        at = faults = 0
        while at < samples:
            complete = (int(counters[FILL]) + samples - at) // hop
            frames = next((b for b in BATCHES if b <= complete), 0)
            at, bad = self._run(block, out, at, frames)
            faults += bad
        if faults:
            raise ModelError(f"model {self.model.name}: {faults} frames are not finite; try another model")
        return out.reshape(np.shape(x))

    def _run(self, block: np.ndarray, out: np.ndarray, at: int, frames: int) -> tuple[int, int]:
        """``frames`` hops of ``block`` from ``at`` on, or all of it if no hop gets complete.

        Returns the next index and the count of faulty model frames.
        """
        noisy, enhanced = self.stream.buffers(frames or 1)
        stop = begin(block, at, frames or 1, self._full, noisy, self._stft.arguments)
        if frames:
            self.stream.step(frames)
        blending = self._full, enhanced, frames, self._mix, self._top_gain
        return stop, finish(*blending, out, at, stop, self._istft.arguments)

    def _block(self, x: np.ndarray) -> np.ndarray:
        """``x`` as contiguous float32 ``[samples, channels]``."""
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
        """The last `latency_samples` of what was fed, in the rank it was fed. Call `reset` before the next signal."""
        shape = (self.latency_samples, self.channels)
        with self._turn:
            return self._process(np.zeros(shape[: self._rank], np.float32))

    def reset(self) -> None:
        """Forget all audio: what follows is filtered as by a new object."""
        with self._turn:
            for part in (self._stft, self._istft, self.stream):
                part.reset()
            self._top_gain[:] = 1
            self._mix[MIX] = self._mix[MIX_TARGET]


def denoise(
    x: np.ndarray,
    rate: int,
    model: str | Path | Model = DEFAULT_MODEL,
    strength_db: float | None = None,
    latency: Latency = "normal",
) -> np.ndarray:
    """Filter a whole signal; the result has its length and is aligned with it (the delay is removed).

    x: float ``[samples]`` or ``[samples, channels]``. Raises as `Denoiser` does.
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] < x.shape[1] and x.shape[1] > MAX_CHANNELS):
        turned = "; channels come last, give x.T" if x.ndim == 2 else ""
        raise UsageError(f"the signal has shape {x.shape}; give [samples] or [samples, channels]{turned}")
    d = Denoiser(model, rate, 1 if x.ndim == 1 else x.shape[1], strength_db, latency)
    return np.concatenate([d.process(x), d.flush()])[d.latency_samples :]
