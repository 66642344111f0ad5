"""Stereo pairs for the tape filter: music and speech as they were recorded, and as a cassette gives them back.

Chosen wherever the noise is ``tape`` instead of folders (`mixer_for`). Like `mixer.Mixer`, a pair depends on the seed
and its number alone.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from rtdenoise.training.data import augment, synthetic_noise
from rtdenoise.training.data.mixer import Banks, MixConfig, Mixer
from rtdenoise.training.data.sampling import Part, clip_weights, noise_probabilities
from rtdenoise.training.data.tape_noise import TRACKS, on_tape

MACHINE_NOISES = ("rumble", "handling")  # of turntable, deck and microphone; music's own bass is none of them


def mixer_for(
    banks: Banks, seconds: float, seed: int, config: MixConfig, part: Part = "train", reuse: int = 1
) -> Mixer | TapeMixer:
    """The mixer that the banks ask for: without a bank of noises, tape noise is made (for every pair anew)."""
    if banks.noise is None:
        return TapeMixer(banks, seconds, seed, config, part)
    return Mixer(banks, seconds, seed, config, part, reuse)


class TapeMixer:
    """Random stereo pairs of ``seconds`` each: float32 ``[2, count]``; see `mixer.Mixer` for ``part``."""

    def __init__(self, banks: Banks, seconds: float, seed: int, config: MixConfig, part: Part = "train"):
        self.bank, self.rate, self.seed, self.config = banks.speech, banks.speech.rate, seed, config
        self.count = round(seconds * self.rate)
        self._hz = np.linspace(0, self.rate / 2, self.count // 2 + 1, dtype=np.float32)
        self._weights = clip_weights(banks.speech, noise_probabilities(banks.speech), part)

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Noisy and target, and the SNR in dB (nan without music or without noise)."""
        random, config = np.random.default_rng([self.seed, number]), self.config
        draw, clean = random.random(), np.zeros((TRACKS, self.count), np.float32)
        while augment.rms(clean) < 1e-3:  # no SNR can be set by a pause
            clean = self._piece(random)
        snr_db = float(random.uniform(*config.snr_db))
        noisy, target = on_tape(random, clean, self.rate, snr_db)
        if config.low_noise and random.random() < config.low_noise:
            noisy = noisy + self._machine_noise(random, clean)
        plain = config.noise_only <= draw <= 1 - config.clean_only
        if draw < config.noise_only:
            noisy, target = noisy - target, np.zeros_like(target)
        elif not plain:
            noisy = target
        gain = np.float32(10 ** (random.uniform(*config.level_dbfs) / 20) / augment.rms(noisy))
        gain = min(gain, np.float32(1.5) / np.abs(noisy).max())
        return noisy * gain, target * gain, snr_db if plain else float("nan")

    def _machine_noise(self, random: augment.Random, music: np.ndarray) -> np.ndarray:
        """A low noise, nearly alike on both tracks, at a level set against the music's."""
        noise = getattr(synthetic_noise, random.choice(MACHINE_NOISES))(random, self.count, self.rate)
        sides = noise * random.uniform(0.7, 1, (TRACKS, 1)).astype(np.float32)
        level_db = random.uniform(*self.config.low_noise_db)
        return sides * np.float32(augment.rms(music) * 10 ** (level_db / 20) / augment.rms(sides))

    def batch(self, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``number`` of ``size`` pairs: two arrays float32 ``[2 * size, count]``, a pair's tracks together."""
        pairs = [self.pair(number * size + k) for k in range(size)]
        return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])

    def _piece(self, random: augment.Random) -> np.ndarray:
        """A random stretch of a random clip: its speed, sides and tone changed."""
        i = int(np.searchsorted(self._weights, random.random() * self._weights[-1], side="right"))
        speed = random.uniform(0.85, 1.18) if random.random() < self.config.speed else 1.0
        wanted = self.count if speed == 1.0 else fft.next_fast_len(int(self.count * speed), real=True)
        offset = int(random.integers(0, max(1, self.bank.length(i) - wanted)))
        tracks = [augment.at_speed(t, self.count) for t in self.bank.read(i, offset, wanted).T]
        sides = random.permutation(np.stack(tracks))
        blend = random.uniform(0, 0.5) if random.random() < 0.3 else 0.0  # towards mono
        sides = (1 - blend) * sides + blend * sides[::-1]
        if random.random() < 0.3:
            sides *= 10 ** (random.uniform(-12, 0, (TRACKS, 1)) / 20)
        if random.random() < self.config.equalise:
            sides = fft.irfft(fft.rfft(sides) * augment.equaliser(random, self._hz), self.count)
        return sides.astype(np.float32)
