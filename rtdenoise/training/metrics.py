"""Scores of enhanced speech against clean speech. Float arrays ``[samples]`` at 16 kHz (or the stated rate) in,
one number out.

Definitions are those usual in the field; where they leave a choice, the docstring says which was taken. `hf_lsd_db`
alone works at 48 kHz.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.training.linear_prediction import autocorrelations, prediction_filters

RATE = 16000
EPS = 1e-12
VOICE_HZ = 80.0  # The pitch of nearly all speakers lies above.
SSNR_RANGE_DB = (-10.0, 35.0)
SILENT_DB = -100.0  # Clean frames this far below the loudest tell nothing about spectral shape.


def si_sdr_db(clean: np.ndarray, out: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio, both means removed (arXiv 1811.02508)."""
    clean, out = clean - clean.mean(), out - out.mean()
    part = clean * (np.dot(clean, out) / (np.dot(clean, clean) + EPS))
    return float(10 * np.log10((np.dot(part, part) + EPS) / (np.sum((out - part) ** 2) + EPS)))


def high_passed(x: np.ndarray, edge_hz: float = VOICE_HZ, rate: int = RATE) -> np.ndarray:
    """Without what lies below a voice: a Butterworth high-pass of 4th order, forwards and backwards, so without phase.
    Scores of voices are taken behind it, so that a rumble kept or taken away does not hide all else."""
    from scipy import signal

    sections = signal.butter(4, edge_hz, "highpass", fs=rate, output="sos")
    return signal.sosfiltfilt(sections, x)


def estoi(clean: np.ndarray, out: np.ndarray) -> float:
    """Extended short-time objective intelligibility (Jensen and Taal 2016)."""
    from pystoi import stoi

    return float(stoi(clean, out, RATE, extended=True))


def stoi(clean: np.ndarray, out: np.ndarray) -> float:
    """Short-time objective intelligibility (Taal et al. 2011)."""
    from pystoi import stoi as score

    return float(score(clean, out, RATE))


def pesq_wide(clean: np.ndarray, out: np.ndarray, mode: str = "wb") -> float:
    """PESQ wide band, ITU-T P.862.2 (``mode`` "nb": P.862); 1.0 where it finds no utterance."""
    from pesq import PesqError, pesq

    score = pesq(RATE, clean, out, mode, on_error=PesqError.RETURN_VALUES)
    return float(score) if score > 0 else 1.0


def frames_of(x: np.ndarray, size: int, step: int) -> np.ndarray:
    """``[frames, size]``, whole frames only."""
    return np.lib.stride_tricks.sliding_window_view(x, size)[::step]


def segmental_snr_db(clean: np.ndarray, out: np.ndarray, rate: int = RATE) -> float:
    """30 ms Hann frames every 7.5 ms, each clamped to -10..35 dB, mean of all: digital silence counts -10."""
    step = round(0.0075 * rate)
    window = np.hanning(4 * step + 2)[1:-1]
    c, e = (frames_of(x, 4 * step, step) * window for x in (clean, clean - out))
    ratio = 10 * np.log10(np.sum(c**2, 1) / (np.sum(e**2, 1) + np.finfo(float).eps) + np.finfo(float).eps)
    return float(np.mean(np.clip(ratio, *SSNR_RANGE_DB)))


def log_spectral_distance_db(clean: np.ndarray, out: np.ndarray, rate: int = RATE) -> float:
    """32 ms Hann frames every 16 ms (512 / 256); root mean square over bins, mean over frames. Ruled by what is left in
    digital silence."""
    step = round(0.016 * rate)
    window = np.hanning(2 * step + 1)[:-1]
    a, b = (10 * np.log10(np.abs(np.fft.rfft(frames_of(x, 2 * step, step) * window)) ** 2 + 1e-8) for x in (clean, out))
    return float(np.mean(np.sqrt(np.mean((a - b) ** 2, 1))))


def overlap(clean: np.ndarray, out: np.ndarray) -> float:
    """Intersection over union of two binary pictures: spectra in dB (Hann 512 / 256), scaled by their own minimum and
    maximum (at most 80 dB below it) to 0..1, and cut at one half."""
    window = np.hanning(513)[:-1]
    a, b = (20 * np.log10(np.abs(np.fft.rfft(frames_of(x, 512, 256) * window)) + EPS) for x in (clean, out))
    lit = []
    for picture in (a, b):
        low = max(picture.min(), picture.max() - 80)
        lit.append(picture > (low + picture.max()) / 2)
    return float((lit[0] & lit[1]).sum() / max(1, (lit[0] | lit[1]).sum()))


def hf_lsd_db(clean: np.ndarray, out: np.ndarray) -> float:
    """Log-spectral distance of 8-20 kHz at 48 kHz: frames 2048 / 512, floored 80 dB below the clean file's maximum."""
    window = np.hanning(2049)[:-1]
    a, b = (np.abs(np.fft.rfft(frames_of(x, 2048, 512) * window)) ** 2 for x in (clean, out))
    hz = np.fft.rfftfreq(2048, 1 / 48000)
    band, floor = (hz >= 8000) & (hz <= 20000), a.max() * 1e-8 + 1e-20
    a, b = (10 * np.log10(np.maximum(x[:, band], floor)) for x in (a, b))
    return float(np.mean(np.sqrt(np.mean((a - b) ** 2, 1))))


def has_high_band(clean: np.ndarray) -> bool:
    """Whether a 48 kHz clip holds sound above 8 kHz: a tenth of the 8-12 kHz bins of its active frames (40 dB below
    the loudest or more) within 80 dB of the maximum."""
    power = np.abs(np.fft.rfft(frames_of(clean, 2048, 512) * np.hanning(2049)[:-1])) ** 2
    energy = power.sum(1)
    hz = np.fft.rfftfreq(2048, 1 / 48000)
    active = power[energy > energy.max() * 1e-4][:, (hz >= 8000) & (hz <= 12000)]
    return bool((active > power.max() * 1e-8).mean() >= 0.1)


def composite(clean: np.ndarray, out: np.ndarray, pesq: float, ssnr: float) -> tuple[float, float, float]:
    """CSIG, CBAK, COVL (Hu and Loizou 2008) from PESQ-WB, LLR, WSS and segmental SNR.

    LLR and WSS are means of the best 95 % of the frames; frames whose clean energy lies 100 dB below the loudest are
    left out of both, since on digital silence LLR is log(0 / 0).
    """
    c, o = (frames_of(x, 480, 120) * np.hanning(482)[1:-1] for x in (clean, out))
    energy = np.sum(c**2, 1)
    keep = energy > energy.max() * 10 ** (SILENT_DB / 10)
    llr, wss = (_best_mean(x) for x in (_llr(c[keep], o[keep]), _wss(c[keep], o[keep])))
    values = (
        3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
        1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * ssnr,
        1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
    )
    sig, bak, overall = (float(np.clip(v, 1, 5)) for v in values)
    return sig, bak, overall


def _best_mean(x: np.ndarray) -> float:
    return float(np.mean(np.sort(x)[: round(0.95 * len(x))]))


def _llr(clean: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio of 16th-order linear prediction, for each frame."""
    order = 16
    autocorrelation = [autocorrelations(x, order) for x in (clean, out)]
    a, b = (prediction_filters(rows) for rows in autocorrelation)
    lags = np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))
    toeplitz = autocorrelation[0][:, lags]
    below, above = (np.einsum("fi,fij,fj->f", x, toeplitz, x) for x in (a, b))
    return np.log(np.maximum(above, EPS * 1e-8) / np.maximum(below, EPS * 1e-8))


# Centres and widths in Hz of the 25 critical bands of the weighted spectral slope measure (Klatt 1982).
BAND_CENTRES_HZ = np.array(
    """50 120 190 260 330 400 470 540 617.372 703.378 798.717 904.128 1020.38 1148.30 1288.72 1442.54 1610.70 1794.16
    1993.93 2211.08 2446.71 2701.97 2978.04 3276.17 3597.63""".split(),
    float,
)
BAND_WIDTHS_HZ = np.array(
    """70 70 70 70 70 70 70 77.3724 86.0056 95.3398 105.411 116.256 127.914 140.423 153.823 168.154 183.457 199.776
    217.153 235.631 255.255 276.072 298.126 321.465 346.136""".split(),
    float,
)


def _wss(clean: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Weighted spectral slope distance, for each frame."""
    size = 1024
    bins = size // 2
    position = BAND_CENTRES_HZ / (RATE / 2) * bins
    width = BAND_WIDTHS_HZ / (RATE / 2) * bins
    shape = np.exp(-11 * ((np.arange(bins) - np.floor(position)[:, None]) / width[:, None]) ** 2)
    shape *= np.exp(np.log(BAND_WIDTHS_HZ[0]) - np.log(BAND_WIDTHS_HZ))[:, None]
    shape[shape < np.exp(-30 / (2 * 2.303))] = 0
    bands = [
        10 * np.log10(np.maximum((np.abs(np.fft.rfft(x, size)) ** 2)[:, :bins] @ shape.T, 1e-10)) for x in (clean, out)
    ]
    slopes = [np.diff(b, axis=1) for b in bands]
    weights = [_slope_weight(b, s) for b, s in zip(bands, slopes, strict=True)]
    weight = (weights[0] + weights[1]) / 2
    return np.sum(weight * (slopes[0] - slopes[1]) ** 2, 1) / np.sum(weight, 1)


def _slope_weight(bands: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Klatt's weights: how near a band is to the loudest one of the frame, and to the nearest peak."""
    count = slopes.shape[1]
    peak = np.empty_like(slopes)
    for frame, (band, slope) in enumerate(zip(bands, slopes, strict=True)):
        for k in range(count):
            n = k
            if slope[k] > 0:
                while n < count and slope[n] > 0:
                    n += 1
                peak[frame, k] = band[n - 1]
            else:
                while n >= 0 and slope[n] <= 0:
                    n -= 1
                peak[frame, k] = band[n + 1]
    below = bands[:, :-1]
    return 20 / (20 + bands.max(1, keepdims=True) - below) * (1 / (1 + peak - below))
