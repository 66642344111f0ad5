"""Ways to vary a recording. Arrays in, arrays out; float32 ``[samples]``.

Owns the random filters, the change of speed, fluctuation, clipping, codecs and pauses. Every function takes its random
generator, so equal seeds give equal audio. Everything linear is a frequency response, multiplied into one spectrum by
the mixer: a room, an equaliser and a band limit cost one transform together.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import soundfile as sf
from scipy import fft

Random = np.random.Generator
CODECS = ("ULAW", "ALAW", "GSM610", "IMA_ADPCM")  # Telephones and old recorders use these; none of them adds a delay.
# The limits of telephones, old recordings and codecs.
BAND_LIMITS_HZ = (3.6e3, 4e3, 5.5e3, 7e3, 8e3, 10e3, 11e3, 12e3, 16e3)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)) + 1e-12))


def direct_first(response: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """Of the response of a room, what follows its direct sound for so long; energy one, so that a voice keeps its time
    and about its level."""
    begin = max(0, int(np.argmax(np.abs(response))) - rate // 4000)
    response = response[begin:][: int(seconds * rate)]
    return response / np.sqrt(np.sum(response**2) + 1e-9)


def at_speed(x: np.ndarray, count: int) -> np.ndarray:
    """All of ``x`` played in ``count`` samples, pitch and all; exact, in the frequency domain."""
    spectrum = fft.rfft(x)
    kept = np.zeros(count // 2 + 1, np.complex64)
    k = min(len(kept), len(spectrum))
    kept[:k] = spectrum[:k]
    return fft.irfft(kept, count) * np.float32(count / len(x))


def fluctuation(random: Random, count: int, rate: int) -> np.ndarray:
    """A slow random gain, up to +-15 dB, moving 0.5 to 12 times a second."""
    knots = max(4, int(count / rate * random.uniform(0.5, 12)) + 3)
    depth_db = random.uniform(2, 10)
    gain_db = np.interp(np.linspace(0, knots - 1, count), np.arange(knots), random.standard_normal(knots) * depth_db)
    return (10 ** (np.clip(gain_db, -25, 15) / 20)).astype(np.float32)


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
