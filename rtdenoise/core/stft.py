"""Streaming STFT and its inverse, one hop at a time, without allocation.

Samples of any number go in (`StreamingSTFT`), spectra ``[channels, frames, bins, 2]`` come out, and `StreamingISTFT`
turns spectra back into exactly as many samples, `Geometry.latency_samples` later. The loops are numba functions that
hold no GIL and that live audio, files and the bench share. Owns windows, frames and overlap-add; knows no model.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.geometry import Geometry, Latency
from rtdenoise.native.arguments import prepared
from rtdenoise.native.elementwise import copy_line
from rtdenoise.native.fft import Bundle, RealFFT, aligned, inline, inverse_transform, transform

LOUDEST = np.float32(1e6)  # +120 dBFS: a sample beyond it is a fault, as NaN and Inf are, and becomes zero
QUIETEST = np.float32(1e-15)  # -300 dBFS: below it lie denormals, which slow every multiplication down
HOP, FILL, FAULTS = range(3)  # slots of the analysis counters: hop; samples of the hop begun; faulty samples so far
WAITING = 1  # slot of the synthesis counters beside HOP: samples ready but not yet taken


@inline
def analyse(x: np.ndarray, start: int, frames: int, stft: Bundle, spectra: np.ndarray) -> int:
    """Consume ``x[start:]`` until ``frames`` frames are written or x ends.

    Parameters
    ----------
    x : ndarray
        Samples.
    start : int
        The first sample that is new.
    frames : int
        Most frames to write.
    stft : tuple
        `StreamingSTFT.arguments`.
    spectra : ndarray
        Written from its first frame on.

    Returns
    -------
    int
        The first index of ``x`` that was not used.

    Shape
    -----
    ``x`` float32 ``[samples, channels]``; ``spectra`` float32 ``[channels, >= frames, bins, 2]``.
    """
    counters, history, window, plan, time, freq, _ = stft
    channels, length = history.shape
    hop, fill, frame, at = counters[HOP], counters[FILL], 0, start
    while at < x.shape[0] and frame < frames:
        take = min(hop - fill, x.shape[0] - at)
        for c in range(channels):
            given, kept, faults = x[at : at + take, c], history[c, length - hop + fill :], 0
            for i in range(take):
                v = given[i]
                faults += not abs(v) <= LOUDEST
                kept[i] = v if QUIETEST <= abs(v) <= LOUDEST else np.float32(0)
            counters[FAULTS] += faults
        at += take
        fill += take
        if fill == hop:
            for c in range(channels):
                for i in range(length):
                    time[i] = history[c, i] * window[i]
                transform(plan, time, freq)
                copy_line(spectra[c, frame].ctypes.data, freq.ctypes.data, freq.size)
                copy_line(history[c].ctypes.data, history[c, hop:].ctypes.data, length - hop)
            frame += 1
            fill = 0
    counters[FILL] = fill
    return at


@inline
def synthesise(spectra: np.ndarray, frames: int, out: np.ndarray, start: int, stop: int, istft: Bundle) -> None:
    """Overlap-add ``frames`` frames behind the waiting samples, then write ``out[start:stop]`` from the oldest.

    One hop waits at the start of a stream and never more between calls, since as many samples leave as came in.

    Parameters
    ----------
    spectra : ndarray
        Frames, the oldest first.
    frames : int
        How many of them.
    out : ndarray
        Written from ``start`` to ``stop``.
    start, stop : int
        Which samples of ``out``.
    istft : tuple
        `StreamingISTFT.arguments`.

    Shape
    -----
    ``spectra`` float32 ``[channels, >= frames, bins, 2]``; ``out`` float32 ``[samples, channels]``.
    """
    counters, overlap, ready, window, plan, time, freq = istft
    channels, span = overlap.shape
    hop, waiting = counters[HOP], counters[WAITING]
    first, count = time.size - span, stop - start
    rest = waiting + frames * hop - count
    for c in range(channels):
        for frame in range(frames):
            copy_line(freq.ctypes.data, spectra[c, frame].ctypes.data, freq.size)
            inverse_transform(plan, time, freq)
            sums, added, weights = overlap[c], time[first:], window[first:]
            copy_line(sums.ctypes.data, sums[hop:].ctypes.data, span - hop)
            sums[span - hop :] = 0
            for i in range(span):
                sums[i] += added[i] * weights[i]
            copy_line(ready[c, waiting + frame * hop :].ctypes.data, sums.ctypes.data, hop)
        to, at = out[start:stop, c], ready[c]
        for i in range(count):
            to[i] = at[i]
        copy_line(at.ctypes.data, at[count:].ctypes.data, rest)
    counters[WAITING] = rest


class StreamingSTFT:
    """Samples to spectra.

    ``analyse(x, start, frames, stft.arguments, spectra)`` is the whole interface, from Python or any compiled loop.
    Spectra are scaled as the framing says (`Geometry.spectrum_scale`). ``held`` is where spectra wait for a model with
    look-ahead (`rtdenoise.core.frames.hold_back`).

    Parameters
    ----------
    geometry : Geometry
        Window and hop at the rate of the samples.
    channels : int, optional
        How many.
    """

    def __init__(self, geometry: Geometry, channels: int = 1):
        fft = RealFFT(geometry.window)
        window = aligned(geometry.window)
        window[:] = geometry.analysis_window() * geometry.spectrum_scale()
        self.counters = np.array([geometry.hop, 0, 0], np.int64)
        self.history = aligned(channels, geometry.window)
        self.held = aligned(channels, geometry.framing.look_ahead, geometry.bins, 2)
        self.arguments = (self.counters, self.history, window, fft.plan, fft.time, fft.freq, self.held)
        self.prepared = prepared(self.arguments)  # for calls from Python
        self._fft = fft  # owns the FFTW plans behind the addresses in `arguments`

    @property
    def faults(self) -> int:
        """Samples so far that were NaN, infinite or absurdly loud, and were taken as zero."""
        return int(self.counters[FAULTS])

    def reset(self) -> None:
        """Forget all samples."""
        self.counters[FILL] = self.counters[FAULTS] = 0
        self.history[:] = self.held[:] = 0


class StreamingISTFT:
    """Spectra to samples: ``synthesise(spectra, frames, out, start, stop, istft.arguments)``.

    With spectra untouched the output equals the input, `Geometry.latency_samples` later (window pair: see
    `Geometry.synthesis_window`).

    Parameters
    ----------
    geometry, channels
        As for `StreamingSTFT`.
    latency : {"normal", "low"}, optional
        Which synthesis window.
    max_frames : int, optional
        Most frames of one call.
    """

    def __init__(self, geometry: Geometry, channels: int = 1, latency: Latency = "normal", max_frames: int = 1):
        fft = RealFFT(geometry.window)
        window = aligned(geometry.window)
        window[:] = geometry.synthesis_window(latency) / (geometry.spectrum_scale() * geometry.window)
        self.counters = np.array([geometry.hop, geometry.hop], np.int64)
        self.overlap = aligned(channels, geometry.synthesis_hops(latency) * geometry.hop)
        self.ready = aligned(channels, (1 + max_frames) * geometry.hop)
        self.arguments = (self.counters, self.overlap, self.ready, window, fft.plan, fft.time, fft.freq)
        self.prepared = prepared(self.arguments)
        self._fft = fft

    def reset(self) -> None:
        """Forget all spectra; one hop of silence waits."""
        self.counters[WAITING] = self.counters[HOP]
        self.overlap[:] = self.ready[:] = 0
