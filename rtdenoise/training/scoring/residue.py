"""Two numbers that watch each other: how much of the noise an output leaves, and how much of the voice it keeps.

Levels of sums over bins of 32 ms Hann frames every 8 ms (512 / 128), at 16 kHz, in dB:

- *noise left*: the output against the noise, in bins where the noise lies `DOMINANT_DB` above the voice; *in pauses*
  (frames `PAUSE_DB` below the voice's loudest) and *under speech* (all other frames);
- *speech kept*: the output against the voice, in bins of these other frames where the voice lies `DOMINANT_DB` above
  the noise.

Each by band; one number for all above 150 Hz is the mean of its bands' levels.

A voice ends softly and has breath between its harmonics, also where noise dominates, so a perfect output would be said
to leave some noise: as much as the clean side has there (`of_voice_db`). An output with less leaves out some voice.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.training.metrics import RATE, frames_of

BANDS_HZ = ((0, 150), (150, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000))
PAUSE_DB, DOMINANT_DB = 30.0, 6.0
LEAST_DB = -100.0  # An output without a single bit in a band has this level.
SIZE, STEP = 512, 128
PAUSES, SPEECH, KEPT = "noise_left_pauses", "noise_left_speech", "speech_kept"
OF_VOICE = "_voice"  # Behind the name of a number, it means the clean side's own.


def band_key(what: str, band: int) -> str:
    """The name of a number in one of `BANDS_HZ`; without a band behind it, a name means all above 150 Hz."""
    low, high = BANDS_HZ[band]
    return f"{what}_{low}_{high}hz" if low else f"{what}_below_{high}hz"


def residue_db(clean: np.ndarray, noisy: np.ndarray, out: np.ndarray) -> dict[str, float]:
    """Noise left and speech kept of one pair. A band without a bin of the kind is not there, so that silence, clean
    speech and noise alone say nothing about what they do not hold."""
    window = np.hanning(SIZE + 1)[:-1]
    voice, noise, left = (
        np.abs(np.fft.rfft(frames_of(x.astype(float), SIZE, STEP) * window)) ** 2 for x in (clean, noisy - clean, out)
    )
    energy, ratio = voice.sum(1), 10 ** (DOMINANT_DB / 10)
    pause = (energy < energy.max() * 10 ** (-PAUSE_DB / 10))[:, None]
    noisy_bins, voiced_bins = noise > voice * ratio, voice > noise * ratio
    kinds = {
        PAUSES: (pause & noisy_bins, noise),
        SPEECH: (~pause & noisy_bins, noise),
        KEPT: (~pause & voiced_bins, voice),
    }
    hz = np.arange(SIZE // 2 + 1) * RATE / SIZE
    values = {}
    for what, (bins, before) in kinds.items():
        for band, (low, high) in enumerate(BANDS_HZ):
            chosen = bins & (hz >= low) & ((hz < high) | (high == RATE / 2))
            if chosen.any():
                ratio_left = left[chosen].sum() / before[chosen].sum()
                values[band_key(what, band)] = max(LEAST_DB, float(10 * np.log10(ratio_left + 1e-30)))
        above = [values[key] for band in range(1, len(BANDS_HZ)) if (key := band_key(what, band)) in values]
        if above:
            values[what] = float(np.mean(above))
    return values


def of_voice_db(clean: np.ndarray, noisy: np.ndarray) -> dict[str, float]:
    """What the clean side itself would be said to leave: the least that an output with the whole voice can."""
    return {key + OF_VOICE: value for key, value in residue_db(clean, noisy, clean).items()}
