"""Sounds that no recording provides, and ways to vary those it does. Arrays in, arrays out; float32 ``[samples]``.

Owns the synthetic noises (coloured, hum, fan, rumble, clicks), the random filters, the change of speed, clipping and
codecs. Every function takes its random generator, so equal seeds give equal audio. Everything linear is a frequency
response, multiplied into one spectrum by the mixer: a room, an equaliser and a band limit cost one transform together.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import soundfile as sf
from scipy import fft

Random = np.random.Generator
CODECS = ("ULAW", "ALAW", "GSM610", "IMA_ADPCM")  # of telephones and old recorders, which delay nothing
BAND_LIMITS_HZ = (3.6e3, 4e3, 5.5e3, 7e3, 8e3, 10e3, 11e3, 12e3, 16e3)  # telephones, old recordings, codecs


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)) + 1e-12))


def at_speed(x: np.ndarray, count: int) -> np.ndarray:
    """All of ``x`` played in ``count`` samples, pitch and all; exact, in the frequency domain."""
    spectrum = fft.rfft(x)
    kept = np.zeros(count // 2 + 1, np.complex64)
    k = min(len(kept), len(spectrum))
    kept[:k] = spectrum[:k]
    return fft.irfft(kept, count) * np.float32(count / len(x))


def coloured(random: Random, count: int, rate: int) -> np.ndarray:
    """Noise with a random slope (white to brown) and two random broad bumps."""
    hz = np.linspace(0, rate / 2, count // 2 + 1, dtype=np.float32) + 40
    shape = hz ** random.uniform(-1.2, 0.25)
    for _ in range(random.integers(0, 3)):
        centre, width = 60 * (rate / 120) ** random.random(), random.uniform(0.15, 0.8)
        shape *= 1 + random.uniform(-0.9, 6) * np.exp(-((np.log(hz / centre) / width) ** 2))
    white = fft.rfft(random.standard_normal(count, dtype=np.float32))
    return fft.irfft(white * shape, count)


def fluctuation(random: Random, count: int, rate: int) -> np.ndarray:
    """A slow random gain, up to +-15 dB, moving 0.5 to 12 times a second."""
    knots = max(4, int(count / rate * random.uniform(0.5, 12)) + 3)
    depth_db = random.uniform(2, 10)
    gain_db = np.interp(np.linspace(0, knots - 1, count), np.arange(knots), random.standard_normal(knots) * depth_db)
    return (10 ** (np.clip(gain_db, -25, 15) / 20)).astype(np.float32)


def tones(random: Random, count: int, rate: int) -> np.ndarray:
    """Mains hum or a fan: a fundamental that wanders a little, its harmonics, and some air noise."""
    mains = random.random() < 0.5
    base_hz = float(random.choice([50, 60])) if mains else random.uniform(40, 600)
    partials = int(random.integers(2, 30 if mains else 10))
    wander = 0.0 if mains else random.uniform(0, 0.02)
    time_s = np.arange(count, dtype=np.float32) / rate
    sway = wander * np.sin(2 * np.pi * random.uniform(0.1, 1.0) * time_s + random.uniform(0, 6)) / 2
    phase = 2 * np.pi * base_hz * (time_s + sway)
    out = np.zeros(count, np.float32)
    tilt = random.uniform(0.4, 1.8)
    for k in range(1, partials + 1):
        if k * base_hz > 0.45 * rate:
            break
        out += np.sin(k * phase + random.uniform(0, 6.3)).astype(np.float32) * (k**-tilt * random.uniform(0.1, 1))
    return out / rms(out) + coloured(random, count, rate) * random.uniform(0.0, 30)


def rumble(random: Random, count: int, rate: int) -> np.ndarray:
    """What a building, a stand and a microphone's own electronics leave below 150 Hz in most recordings, RMS one:
    steady noise that falls by 12 to 48 dB an octave above 15 to 100 Hz."""
    hz = np.linspace(0, rate / 2, count // 2 + 1, dtype=np.float32)
    edge_hz, order = 15 * (100 / 15) ** random.random(), random.uniform(2, 8)
    shape = hz / (hz + 8) / (1 + (hz / edge_hz) ** order)
    noise = fft.irfft(fft.rfft(random.standard_normal(count, dtype=np.float32)) * shape, count)
    return noise / rms(noise)


def clicks(random: Random, count: int, rate: int) -> np.ndarray:
    """Key strokes, mouse clicks, knocks: short decaying bursts of shaped noise at random times."""
    out = np.zeros(count, np.float32)
    for _ in range(random.integers(2, 14)):
        length = int(rate * random.uniform(0.004, 0.08))
        decay = np.exp(-np.arange(length, dtype=np.float32) / length * random.uniform(3, 9))
        burst = coloured(random, length + length % 2, rate)[:length] * decay
        at = int(random.integers(0, max(1, count - length)))
        out[at : at + length] += burst[: count - at] / (rms(burst) + 1e-6) * random.uniform(0.2, 1.5)
    return out


def equaliser(random: Random, hz: np.ndarray) -> np.ndarray:
    """A random microphone: slopes and bumps of at most about 9 dB, sometimes a low cut. Gain for each ``hz``."""
    octave = np.log2(np.maximum(hz, 20) / 1000)
    gain_db = random.uniform(-1.5, 1.5) * octave
    for _ in range(random.integers(0, 4)):
        centre, width = random.uniform(-4, 4), random.uniform(0.3, 1.5)
        gain_db = gain_db + random.uniform(-7, 7) * np.exp(-(((octave - centre) / width) ** 2))
    gain = 10 ** (gain_db / 20)
    if random.random() < 0.2:
        gain = gain / np.sqrt(1 + (random.uniform(40, 150) / np.maximum(hz, 1)) ** 4)
    return gain.astype(np.float32)


def band_limit(random: Random, hz: np.ndarray) -> np.ndarray:
    """Low-pass gain at a usual codec limit, with a steep or soft edge."""
    top = float(hz[-1])
    usable = [f for f in BAND_LIMITS_HZ if f < 0.97 * top] or [0.9 * top]
    edge = random.choice(usable) * random.uniform(0.92, 1.0)
    return (0.5 - 0.5 * np.tanh((hz - edge) / random.uniform(40, 500))).astype(np.float32)


def clip_peaks(random: Random, x: np.ndarray) -> np.ndarray:
    """Overdriven input: the loudest part of the signal is flattened."""
    limit = np.quantile(np.abs(x[::7]), random.uniform(0.97, 0.999)) + 1e-6
    return np.clip(x, -limit, limit)


def coded(random: Random, x: np.ndarray, rate: int) -> np.ndarray:
    """What a telephone's or an old recorder's codec leaves of ``x``."""
    peak, file = max(1.0, float(np.abs(x).max())), BytesIO()
    sf.write(file, x / peak, rate, format="WAV", subtype=str(random.choice(CODECS)))
    file.seek(0)
    return sf.read(file, dtype="float32")[0][: len(x)] * np.float32(peak)


def with_pauses(random: Random, x: np.ndarray, rate: int) -> np.ndarray:
    """Silence some stretches (0.3 to 1 s) with short fades: speakers stop, noise goes on."""
    out, fade = x.copy(), int(0.01 * rate)
    for _ in range(random.integers(1, 3)):
        length = min(int(random.uniform(0.3, 1.0) * rate), len(x) // 2)
        at = int(random.integers(0, len(x) - length))
        gain = np.zeros(length, np.float32)
        gain[:fade] = np.linspace(1, 0, fade)
        gain[-fade:] = np.linspace(0, 1, fade)
        out[at : at + length] *= gain
    return out
