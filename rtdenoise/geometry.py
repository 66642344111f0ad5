"""Time geometry: window, hop, bins and latency for a sample rate.

Owns the one rule of the project: *time is fixed, samples follow the rate*. A window lasts 16 ms and a hop 4 ms at any
rate (or what else a model asks for), so bin k always means k * 62.5 Hz and no resampler sits in the path. Knows nothing
about audio, models or devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Latency = Literal["normal", "low"]

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = 8
LOW_RISE_HOPS = 0.25  # A faster rise costs ESTOI, a slower one SI-SDR (experiment 95).

WINDOW_SHAPES: dict[str, Callable[[int], np.ndarray]] = {  # All are periodic: shifted copies add up exactly.
    "hamming": lambda n: 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(n) / n),
    "hann": lambda n: 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n),
    "sqrt-hann": lambda n: np.sin(np.pi * np.arange(n) / n),
}


@dataclass(frozen=True)
class Framing:
    """How a model cuts time, independent of the sample rate.

    Attributes
    ----------
    hop_ms : float
        Time between two frames.
    overlap : int
        Hops that make one window.
    window : str
        One of `WINDOW_SHAPES`, for analysis.
    scaling : "sum" or int
        ``"sum"``: spectra are divided by the sum of the window, so a model sees the same numbers at every rate. A rate
        in Hz: spectra are as large as an unscaled FFT has at that rate, the habit of models published for one rate.
    look_ahead : int
        Frames that the model hears beyond the one it gives: with frame t it answers for frame t - ``look_ahead``.
    """

    hop_ms: float = 4.0
    overlap: int = 4
    window: str = "hamming"
    scaling: str | int = "sum"
    look_ahead: int = 0

    @property
    def window_ms(self) -> float:
        """Length of a window in ms."""
        return self.hop_ms * self.overlap

    @property
    def latency_ms(self) -> float:
        """Latency of the normal mode; `Geometry.latency_ms` differs where a hop is no whole number of samples."""
        return self.window_ms + self.look_ahead * self.hop_ms


CONTRACT_FRAMING = Framing()


@dataclass(frozen=True)
class Geometry:
    """Window, hop, bins and latency, in samples, of one framing at one rate.

    Nothing is stored but these two; all else follows from them.

    Attributes
    ----------
    rate : int
        Sample rate in Hz.
    framing : Framing
        How time is cut.

    Examples
    --------
    >>> Geometry(48_000).hop, Geometry(48_000).window, Geometry(48_000).bins
    (192, 768, 385)
    >>> Geometry(16_000).latency_samples("normal"), Geometry(16_000).latency_samples("low")
    (256, 128)
    """

    rate: int
    framing: Framing = CONTRACT_FRAMING

    @property
    def hop(self) -> int:
        """Samples between two frames."""
        return round(self.rate * self.framing.hop_ms / 1000)

    @property
    def window(self) -> int:
        """Samples of one frame."""
        return self.hop * self.framing.overlap

    @property
    def bins(self) -> int:
        """Frequencies of one frame, 0 Hz to rate / 2."""
        return self.window // 2 + 1

    @property
    def bin_hz(self) -> float:
        """Distance of two bins."""
        return self.rate / self.window

    def latency_samples(self, latency: Latency = "normal") -> int:
        """Samples from an input sample to the same sample at the output.

        The synthesis window spans ``k`` hops (all of the window, or the newest two in low-latency mode): the oldest of
        them is complete after ``k - 1`` further hops, and one hop is spent on collecting samples. Each frame of
        look-ahead takes a hop more.

        Parameters
        ----------
        latency : {"normal", "low"}, optional
            Which synthesis window.

        Returns
        -------
        int
        """
        return (self.synthesis_hops(latency) + self.framing.look_ahead) * self.hop

    def latency_ms(self, latency: Latency = "normal") -> float:
        """Latency in ms.

        Parameters
        ----------
        latency : {"normal", "low"}, optional
            As for `latency_samples`.

        Returns
        -------
        float
        """
        return 1000 * self.latency_samples(latency) / self.rate

    def synthesis_hops(self, latency: Latency) -> int:
        """How many hops the synthesis window spans.

        Parameters
        ----------
        latency : {"normal", "low"}
            As for `latency_samples`.

        Returns
        -------
        int
        """
        return 2 if latency == "low" else self.framing.overlap

    def analysis_window(self) -> np.ndarray:
        """The window that a frame is taken with.

        Returns
        -------
        ndarray
            Periodic, so that shifted copies add up exactly.

        Shape
        -----
        float64 ``[window]``.
        """
        return WINDOW_SHAPES[self.framing.window](self.window)

    def synthesis_window(self, latency: Latency = "normal") -> np.ndarray:
        """The window whose overlap-added products with the analysis window are exactly one.

        Parameters
        ----------
        latency : {"normal", "low"}, optional
            Normal: the product rises over the oldest hop and one more for each frame of look-ahead, half the window at
            most, and falls over the rest, so a sample comes above all from the frames that heard most of what follows
            it. Low: zero but on the newest two hops; the product rises over a quarter of the older one. Where an
            analysis window reaches zero nothing can be divided by it, and normal is its canonical dual.

        Returns
        -------
        ndarray

        Shape
        -----
        float64 ``[window]``.

        References
        ----------
        Asymmetric windows of low latency: arXiv 2106.11794, arXiv 2204.09911.
        """
        w, hops = self.analysis_window(), self.synthesis_hops(latency)
        whole = hops == self.framing.overlap
        if whole and not w.all():
            product = w**2
        else:
            rise = min(1 + self.framing.look_ahead, hops / 2) if whole else LOW_RISE_HOPS
            age = np.arange(hops * self.hop) / self.hop
            rising, falling = age / rise, (age - rise) / (hops - rise)
            product = np.where(age < rise, np.sin(np.pi / 2 * rising), np.cos(np.pi / 2 * falling)) ** 2
        by_hop = product.reshape(hops, self.hop)
        out, newest = np.zeros_like(w), slice(-product.size, None)
        np.divide((by_hop / by_hop.sum(0)).ravel(), w[newest], out=out[newest], where=w[newest] > 0)
        return out

    def spectrum_scale(self) -> float:
        """Factor from an unscaled FFT of a windowed frame to what the model sees.

        Returns
        -------
        float
        """
        if self.framing.scaling == "sum":
            return 1.0 / float(self.analysis_window().sum())
        return int(self.framing.scaling) / self.rate
