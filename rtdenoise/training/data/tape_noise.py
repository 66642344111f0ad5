"""Noise of compact cassettes, made from what causes it. Arrays in, arrays out; float32 ``[2, samples]``: two tracks.

Hiss is the noise of magnetic particles as a replay chain hears it. Its spectrum is a product of four known curves:

- the flux of the particles under AC bias: white at long wavelengths, 3 dB an octave less once the wavelength is short
  against the coating (power ``(1 - exp(-2 k d)) / k`` for wave number k and coating depth d), the bias adding up to
  3 dB where wavelengths are long (Mallinson, The Foundations of Magnetic Recording, on particulate noise and erasure);
- what replay loses between tape and head: spacing ``exp(-k a)`` (Wallace 1951) and gap ``sinc(g / wavelength)``;
- the replay equaliser: the standard flux of IEC 60094-1 turned round, 3180 us and 120 us (type I) or 70 us (II, IV);
- the deck's own tone and its amplifier's flicker noise at the low end.

Tape runs at 47.6 mm/s (1 7/8 inches a second). On top lie slow fluctuation of each track, mains hum, crackle, and for
whoever asks drop-outs, which take the music away together with the hiss. Left out: modulation noise, wow and flutter.
The standard's formula: mrltapes.com/pages/standard-tape-flux-vs-frequency.html; gaps and spacings of real cassette
heads: richardhess.com/notes/2006/05/17/cassette-equalization-the-4-db-ambiguity-at-16-khz.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from rtdenoise.training.data.augment import Random, rms

TAPE_M_S = 0.0476
BASS_US, TREBLE_US = 3180.0, (120.0, 70.0)
TRACKS = 2


def tape_noise(random: Random, count: int, rate: int) -> np.ndarray:
    """Hiss of two tracks with fluctuation, and on some tapes hum and crackle; RMS one over both."""
    noise = hiss(random, count, rate) * fluctuation(random, count, rate)
    noise /= rms(noise)
    if random.random() < 0.5:
        noise += hum(random, count, rate) * 10 ** (random.uniform(-30, -8) / 20)
    if random.random() < 0.4:
        noise += crackle(random, count, rate)
    return (noise / rms(noise)).astype(np.float32)


def hiss_spectrum(random: Random, hz: np.ndarray) -> np.ndarray:
    """Amplitude of one tape's hiss at ``hz`` (not zero), on a deck and a tape drawn at random."""
    wave_number = 2 * np.pi * hz / TAPE_M_S
    coating_m, spacing_m, gap_m = (random.uniform(*r) * 1e-6 for r in ((3, 6), (0.1, 0.6), (0.7, 1.8)))
    flux = np.sqrt((1 - np.exp(-2 * wave_number * coating_m)) / (wave_number * coating_m))
    bias = np.sqrt(1 + random.uniform(0, 1) / (1 + (wave_number * coating_m) ** 2))
    replay = np.exp(-wave_number * spacing_m) * np.abs(np.sinc(gap_m * hz / TAPE_M_S))
    slope = random.uniform(-1.5, 1.5) * np.log2(hz / 1000) / 20
    flicker = np.sqrt(1 + random.uniform(0, 200) / hz)
    return flux * bias * replay * equaliser(hz, float(random.choice(TREBLE_US))) * flicker * 10**slope


def equaliser(hz: np.ndarray, treble_us: float) -> np.ndarray:
    """Replay amplitude that makes the standard flux of IEC 60094-1 flat, one at medium frequencies."""
    turns = 2e-6 * np.pi * hz
    return np.sqrt((1 + (turns * treble_us) ** 2) / (1 + (turns * BASS_US) ** -2))


def hiss(random: Random, count: int, rate: int) -> np.ndarray:
    """Two tracks of one tape: equal spectra, independent noise."""
    size = fft.next_fast_len(count, real=True)
    hz = np.maximum(np.arange(size // 2 + 1) * rate / size, 10.0)
    white = fft.rfft(random.standard_normal((TRACKS, size), dtype=np.float32))
    return fft.irfft(white * hiss_spectrum(random, hz).astype(np.float32), size)[:, :count]


def fluctuation(random: Random, count: int, rate: int) -> np.ndarray:
    """Slow gain of each track, about 1 dB: coating and contact with the head are never even."""
    knots = max(4, int(count / rate * random.uniform(0.3, 6)) + 3)
    depth_db, at = random.uniform(0.2, 1.2), np.linspace(0, knots - 1, count)
    shared = random.standard_normal(knots)
    tracks = [shared + random.standard_normal(knots) for _ in range(TRACKS)]
    gain_db = np.stack([np.interp(at, np.arange(knots), t * depth_db / np.sqrt(2)) for t in tracks])
    return (10 ** (gain_db / 20)).astype(np.float32)


def hum(random: Random, count: int, rate: int) -> np.ndarray:
    """Mains at 50 or 60 Hz with harmonics, nearly alike on both tracks, RMS one."""
    base_hz, time_s = float(random.choice([50, 60])), np.arange(count) / rate
    out = np.zeros((TRACKS, count))
    for k in range(1, random.integers(3, 9)):
        partial = np.sin(2 * np.pi * k * base_hz * time_s + random.uniform(0, 6.3)) * k ** -random.uniform(0.5, 1.5)
        out += random.uniform(0.7, 1, (TRACKS, 1)) * partial
    return out / rms(out)


def crackle(random: Random, count: int, rate: int) -> np.ndarray:
    """Ticks of 0.1 to 1.5 ms, up to four a second, 2 to 12 times as high as the hiss (RMS one)."""
    out = np.zeros((TRACKS, count))
    for _ in range(random.poisson(random.uniform(0.2, 4) * count / rate)):
        length = max(2, int(rate * random.uniform(1e-4, 1.5e-3)))
        tick = random.standard_normal(length) * np.exp(-np.linspace(0, 5, length)) * random.uniform(2, 12)
        at = int(random.integers(0, max(1, count - length)))
        sides = random.choice([1.0, 0.3, 0.0], (TRACKS, 1), p=[0.7, 0.2, 0.1])
        out[:, at : at + length] += sides * tick[: count - at]
    return out


def drop_outs(random: Random, count: int, rate: int) -> np.ndarray:
    """Gain of both tracks: dips of 20 to 150 ms and 1 to 8 dB, less than one a second, deeper on one track."""
    dip_db = np.zeros((TRACKS, count))
    for _ in range(random.poisson(random.uniform(0, 0.6) * count / rate)):
        length = min(count, int(rate * random.uniform(0.02, 0.15)))
        at = int(random.integers(0, count - length + 1))
        shape = 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, length))
        dip_db[:, at : at + length] += random.uniform(1, 8) * random.permutation([[1.0], [random.random()]]) * shape
    return (10 ** (-dip_db / 20)).astype(np.float32)


def on_tape(random: Random, clean: np.ndarray, rate: int, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    """``clean`` ``[2, samples]`` from a tape with ``snr_db`` between its energy and the noise's, and what is wanted.

    Drop-outs are in both: a filter is asked to remove the noise, not to repair the tape.
    """
    noise = tape_noise(random, clean.shape[1], rate) * np.float32(rms(clean) * 10 ** (-snr_db / 20))
    gain = drop_outs(random, clean.shape[1], rate)
    return (clean + noise) * gain, clean * gain
