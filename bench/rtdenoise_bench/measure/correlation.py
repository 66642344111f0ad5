"""Delay between two recordings and their similarity, by cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RATE = 48_000
LEVEL = 0.15  # RMS of the noise that is played
CLEAN = 0.97  # A window with this correlation contains the whole signal and nothing else.
SPEECH_SHARE = 0.03  # A window with this share of the loudest one's energy contains speech.
LOCATED = 0.6  # A window of speech is located by itself from this correlation on.
PLACED = 0.5  # From this correlation on the delay of a window is meaningful.
# The delays that can be found; negative ones show how well two clocks were aligned.
LOOK_BACK_S, LOOK_AHEAD_S = 1.2, 0.02


@dataclass(frozen=True)
class Delay:
    """Delay over time: ``at_s`` (monotonic clock), ``ms`` and ``correlation`` of each window, float64 ``[windows]``."""

    at_s: np.ndarray
    ms: np.ndarray
    correlation: np.ndarray

    @property
    def placed(self) -> np.ndarray:
        return self.ms[self.correlation > PLACED]

    @property
    def median_ms(self) -> float:
        return float(np.median(self.placed)) if len(self.placed) else float("nan")

    @property
    def clean_share(self) -> float:
        return float(np.mean(self.correlation > CLEAN)) if len(self.correlation) else 0.0

    def after(self, at_s: float) -> Delay:
        keep = self.at_s >= at_s
        return Delay(self.at_s[keep], self.ms[keep], self.correlation[keep])

    def summary(self) -> str:
        low, high = (self.placed.min(), self.placed.max()) if len(self.placed) else (float("nan"),) * 2
        return f"{self.median_ms:.2f} ms ({low:.2f} to {high:.2f}), {100 * self.clean_share:.0f} % of windows clean"


def correlate(
    reference: np.ndarray,
    heard: np.ndarray,
    starts: np.ndarray,
    window: int,
    rate: int = RATE,
    sought: np.ndarray | None = None,
) -> tuple:
    """For windows of ``heard`` at ``starts``: how many ms later they are than in ``reference``, and the correlation.

    ``sought``: places in ``reference`` that mean no delay; None: the same as ``starts``.
    """
    back, ahead = int(LOOK_BACK_S * rate), int(LOOK_AHEAD_S * rate)
    delays, correlations = [], []
    for start, place in zip(starts, starts if sought is None else sought, strict=True):
        first = max(0, place - back)
        segment, past = heard[start : start + window], reference[first : max(0, place + window + ahead)]
        energy = np.linalg.norm(segment)
        if len(segment) < window or len(past) < window or energy < 1e-3 * window**0.5:
            delays.append(np.nan)
            correlations.append(0.0)
            continue
        n = 1 << (len(past) + window - 1).bit_length()
        c = np.fft.irfft(np.fft.rfft(past, n) * np.conj(np.fft.rfft(segment, n)), n)[: len(past) - window + 1]
        k = int(np.argmax(c))
        delays.append(1000 * (place - first - k) / rate)
        correlations.append(float(c[k] / energy / (np.linalg.norm(past[k : k + window]) + 1e-9)))
    return np.array(delays), np.array(correlations)


def noise(seconds: float, seed: int = 1) -> np.ndarray:
    """float32 ``[samples]``, up to 3 kHz, so that a delay of half a sample costs no correlation."""
    x = np.random.default_rng(seed).standard_normal(int(RATE * seconds))
    spectrum = np.fft.rfft(x)
    spectrum /= np.sqrt(1 + (np.fft.rfftfreq(len(x), 1 / RATE) / 3000) ** 16)
    x = np.fft.irfft(spectrum, len(x))
    return (LEVEL * np.clip(x / x.std(), -4, 4)).astype(np.float32)


def level(heard: np.ndarray) -> float:
    """RMS of a recording of ``noise``: the median of its pieces of 10 ms, as a stalled machine's holes leave it."""
    piece = RATE // 100
    return float(np.median(np.std(heard[: len(heard) // piece * piece].reshape(-1, piece), axis=1)))


def si_sdr_db(clean: np.ndarray, heard: np.ndarray, window: int = RATE // 4, creep: int = 48) -> float:
    """How like ``heard`` is to ``clean``, wherever in it it begins: scale-invariant signal-to-distortion ratio in dB,
    median of the windows with speech.

    Two clocks and a host that stalls lie between, so windows are placed one by one, the surest first, then each within
    ``creep`` samples of its neighbour's place or, if it is not there, anew. Below 2 kHz, where half a sample of shift
    does no harm.
    """
    from scipy.signal import butter, fftconvolve, sosfiltfilt

    low = butter(6, 2000, fs=RATE, output="sos")
    clean, heard = sosfiltfilt(low, clean), sosfiltfilt(low, heard)
    windows = heard[: len(heard) // window * window].reshape(-1, window)
    sums = np.concatenate([[0.0], np.cumsum(clean**2)])
    energy = sums[window:] - sums[:-window] + 1e-9

    def place(piece: np.ndarray, first: int, last: int) -> tuple[int, float]:
        """Where between two places the clean signal is most like a piece, and how much."""
        first = max(0, first)
        where = clean[first : last + window]
        if len(where) < window:
            return first, 0.0
        c = fftconvolve(where, piece[::-1], "valid")
        c /= np.sqrt(energy[first:][: len(c)]) * np.linalg.norm(piece) + 1e-9
        return first + int(np.argmax(c)), float(np.max(c))

    def anywhere(k: int) -> tuple[int, float]:
        """Where window ``k`` is, so that the others find room before and after it."""
        return place(windows[k], k * window, len(clean) - (len(windows) - k) * window)

    loudest = np.argsort(np.sum(windows**2, 1))[-8:]
    surest = max(loudest, key=lambda k: anywhere(k)[1])
    places = {surest: anywhere(surest)[0]}
    onwards, back = range(surest + 1, len(windows)), range(surest - 1, -1, -1)
    for k, neighbour in [*((k, k - 1) for k in onwards), *((k, k + 1) for k in back)]:
        expected = places[neighbour] + (k - neighbour) * window
        for reach in (creep, RATE // 4):
            at, similarity = place(windows[k], expected - reach, expected + reach)
            if similarity > LOCATED:
                break
        places[k] = at if similarity > LOCATED else expected
    ratios = []
    for k, at in places.items():
        target = clean[at : at + window]
        if len(target) == window and energy[at] > SPEECH_SHARE * energy.max():
            target = target * (target @ windows[k]) / (target @ target)
            ratios.append(10 * np.log10((target @ target) / np.sum((windows[k] - target) ** 2)))
    return float(np.median(ratios))
