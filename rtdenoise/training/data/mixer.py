"""Noisy and clean pairs, mixed on the fly: what training draws from and what ``rtdenoise mix`` writes.

Owns the recipe of a mixture (who speaks, in which room, under which noise, how loud, how wide). A pair depends on the
seed and its number alone, so a resumed training sees what an uninterrupted one would, in any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import fft

from rtdenoise.errors import UsageError
from rtdenoise.training.data import augment, synthetic_noise
from rtdenoise.training.data.clips import Bank, open_bank
from rtdenoise.training.data.material import Place, says_kinds
from rtdenoise.training.data.sampling import Part, clip_weights, noise_probabilities, voice_probabilities
from rtdenoise.training.data.whisper import whispered

ROOM_S = 0.6
TAIL_S = 0.25  # Zeros behind a clip, so that little of a room's tail wraps round to its start.
BLOCK = 256  # This many voices, and noises, are kept to be used again.
TAPE = Path("tape")  # Given as the only noise "folder", it stands for synthetic tape noise.
QUIET = 10 ** (-60 / 20)  # Below it, relative to full scale, there is no speech to set a level by.
VOICE_FROM_HZ = 60.0  # A target begins here: what lies below comes from rooms, stands and breath.
# The weight of each kind.
LOW_NOISES = {"rumble": 3, "cabin": 3, "ventilation": 2, "wind": 2, "handling": 2, "hum": 2, "pops": 2}
ALONE_DB = (-30.0, -12.0)  # The level of the other noises where a low noise is nearly alone.


@dataclass(frozen=True)
class MixConfig:
    """How often each thing happens to a pair (probabilities), and the ranges of its levels."""

    snr_db: tuple[float, float] = (-8.0, 35.0)
    snr_mean_db: float = 6.0  # most pairs lie around it
    snr_spread_db: float = 9.0  # 0: evenly over the range
    level_dbfs: tuple[float, float] = (-45.0, -12.0)
    clean_only: float = 0.04
    noise_only: float = 0.05
    room: float = 0.3
    speed: float = 0.5
    equalise: float = 0.5
    pauses: float = 0.2
    whispered: float = 0.05
    low_noise: float = 0.4  # a noise that lies mostly below 150 Hz, beside the others: see `LOW_NOISES`
    low_noise_db: tuple[float, float] = (-10.0, 15.0)  # its level against the voice's
    low_noise_alone: float = 0.3  # of the pairs with one: it is nearly all the noise there is
    band_limited: float = 0.2
    clipped: float = 0.03
    coded: float = 0.03
    fluctuating: float = 0.25
    second_layer: float = 0.45
    synthetic: dict[str, float] = field(
        default_factory=lambda: {
            "coloured": 0.09,
            "babble": 0.09,
            "tones": 0.06,
            "clicks": 0.04,
            "keys": 0.04,
            "wind": 0.04,
            "rain": 0.03,
            "motor": 0.06,
            "alarm": 0.03,
            "cries": 0.03,
            "texture": 0.08,
            "cabin": 0.03,
            "ventilation": 0.03,
        }
    )


@dataclass(frozen=True)
class Banks:
    """The banks a mixer draws from. Without ``room`` there are no rooms; without ``noise`` it is synthetic tape noise,
    and the speech (or music) is stereo."""

    speech: Bank
    noise: Bank | None
    room: Bank | None

    @classmethod
    def open(
        cls,
        clean: Sequence[Place],
        noise: Sequence[Place],
        rooms: Sequence[Place],
        rate: int,
        cache: Path,
        wide_hz: int = 0,
    ) -> Banks:
        if list(noise) == [TAPE]:
            return cls(open_bank(list(clean), "speech", rate, cache, wide_hz, channels=2), None, None)
        plain = [
            {p if isinstance(p, str) else p.resolve() for p in side if not says_kinds(p)} for side in (clean, noise)
        ]
        if plain[0] & plain[1]:
            raise UsageError("the clean and the noise folder are the same; give speech to --clean and noise to --noise")
        return cls(
            open_bank(list(clean), "speech", rate, cache, wide_hz),
            open_bank(list(noise), "noise", rate, cache),
            open_bank(list(rooms), "rir", rate, cache) if rooms else None,
        )


class Mixer:
    """Random pairs of ``seconds`` each at the rate of the banks.

    ``part`` says which clips it draws from: those kept out of training ("dev"), the others ("train"), or all. The
    target is the speech as it stands in the mixture, with its room: a voice keeps the place where it was recorded. What
    its recording holds below `VOICE_FROM_HZ` stays in the mixture and leaves the target, as every rumble does.
    """

    def __init__(
        self, banks: Banks, seconds: float, seed: int, config: MixConfig, part: Part = "train", reuse: int = 1
    ):
        if reuse < 1:
            raise UsageError(f"reuse {reuse}; give 1 (nothing is used again) or more")
        self.banks, self.rate, self.seed, self.config, self.reuse = banks, banks.speech.rate, seed, config, reuse
        self.count = round(seconds * self.rate)
        self._padded = fft.next_fast_len(self.count + round(TAIL_S * self.rate), real=True)
        self._hz = np.linspace(0, self.rate / 2, self._padded // 2 + 1, dtype=np.float32)
        self._voice_band = high_pass(self._hz, VOICE_FROM_HZ)
        assert banks.noise is not None, "tape noise has a mixer of its own"
        self._noises = banks.noise
        self._speech = clip_weights(banks.speech, voice_probabilities(banks.speech), part)
        self._noise = clip_weights(banks.noise, noise_probabilities(banks.noise), part)
        self._rooms: dict[int, np.ndarray] = {}
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Noisy and target, float32 ``[count]``, and the SNR in dB (nan without speech or without noise)."""
        random, config = np.random.default_rng([self.seed, number]), self.config
        draw = random.random()
        if self.reuse == 1:
            target, noise = self._placed(random, self._dry_speech(random)), self._noise_bed(random)
        else:
            target, noise = self._met(number)
        if draw < config.noise_only:
            target = np.zeros_like(target)
        snr_db = self._snr_db(random)
        noise = noise * (active_level(target) / augment.rms(noise) * 10 ** (-snr_db / 20))
        if random.random() < config.low_noise:
            if random.random() < config.low_noise_alone:
                noise = noise * np.float32(10 ** (random.uniform(*ALONE_DB) / 20))
            noise = noise + self._low_noise(random, target)
        if draw > 1 - config.clean_only:
            noise[:] = 0
        noisy = target + noise
        target = self._filtered(target, self._voice_band)
        gain = 10 ** (random.uniform(*config.level_dbfs) / 20) / (augment.rms(noisy) + 1e-5)
        gain = min(gain, 1.5 / (float(np.abs(noisy).max()) + 1e-6))
        noisy, target = noisy * np.float32(gain), target * np.float32(gain)
        if random.random() < config.band_limited:
            response = augment.band_limit(random, self._hz)
            noisy, target = self._filtered(noisy, response), self._filtered(target, response)
        if random.random() < config.clipped:
            noisy = augment.clip_peaks(random, noisy)
        if random.random() < config.coded:
            noisy = augment.coded(random, noisy, self.rate)
        plain = config.noise_only <= draw <= 1 - config.clean_only
        return noisy.astype(np.float32), target.astype(np.float32), snr_db if plain else float("nan")

    def batch(self, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``number`` of ``size`` pairs: two arrays float32 ``[size, count]``."""
        pairs = [self.pair(number * size + k) for k in range(size)]
        return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])

    def _met(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Voice and noise of a pair where each serves ``reuse`` pairs. A block has ``BLOCK`` of both and goes through
        them in rounds; in each round the noises are shifted against the voices. Nothing but ``number`` decides."""
        block, place = divmod(number, BLOCK * self.reuse)
        turn, place = divmod(place, BLOCK)
        wanted = ("voice", block * BLOCK + place), ("noise", block * BLOCK + (place + 37 * turn) % BLOCK)
        for name, index in wanted:
            if (name, index) in self._kept:
                continue
            for key in [k for k in self._kept if k[1] // BLOCK != block]:
                del self._kept[key]
            random = np.random.default_rng([self.seed, index, name == "voice"])
            self._kept[name, index] = (
                self._placed(random, self._dry_speech(random)) if name == "voice" else self._noise_bed(random)
            )
        voice, noise = (self._kept[key] for key in wanted)
        return voice, noise

    def _snr_db(self, random: augment.Random) -> float:
        lowest, highest = self.config.snr_db
        if self.config.snr_spread_db == 0:
            return float(random.uniform(lowest, highest))
        return float(np.clip(random.normal(self.config.snr_mean_db, self.config.snr_spread_db), lowest, highest))

    def _dry_speech(self, random: augment.Random) -> np.ndarray:
        speed = random.uniform(0.85, 1.18) if random.random() < self.config.speed else 1.0
        dry = self._piece(random, self.banks.speech, self._speech, speed)
        if self.config.whispered and random.random() < self.config.whispered:
            dry = whispered(random, dry, self.rate)
        return augment.with_pauses(random, dry, self.rate) if random.random() < self.config.pauses else dry

    def _low_noise(self, random: augment.Random, voice: np.ndarray) -> np.ndarray:
        """A noise that lies mostly below the voice, at a level set against the voice's."""
        weights = np.array(list(LOW_NOISES.values()), float)
        kind = str(random.choice(list(LOW_NOISES), p=weights / weights.sum()))
        level = active_level(voice) * 10 ** (random.uniform(*self.config.low_noise_db) / 20)
        if kind == "pops":
            if float(np.abs(voice).max()) < QUIET:  # nobody breathes
                kind = "rumble"
            else:
                return np.float32(4 * level) * synthetic_noise.pops(
                    random, voice, self.rate
                )  # a peak, so louder than an RMS
        noise = getattr(synthetic_noise, kind)(random, self.count, self.rate)
        return noise * np.float32(level / augment.rms(noise))

    def _placed(self, random: augment.Random, dry: np.ndarray) -> np.ndarray:
        """Speech as a recording has it: through a microphone, maybe in a room."""
        microphone = augment.equaliser(random, self._hz) if random.random() < self.config.equalise else None
        room = self.banks.room if random.random() < self.config.room else None
        if microphone is None and room is None:
            return dry
        spectrum = fft.rfft(dry, self._padded)
        if microphone is not None:
            spectrum *= microphone
        if room is not None:
            spectrum *= self._room(room, int(random.integers(len(room))))
        return fft.irfft(spectrum, self._padded)[: self.count]

    def _room(self, bank: Bank, i: int) -> np.ndarray:
        """Frequency response of a room; direct sound at time zero, energy one."""
        if i not in self._rooms:
            response = bank.read(i, 0, bank.length(i))
            self._rooms[i] = fft.rfft(augment.direct_first(response, self.rate, ROOM_S), self._padded)
        return self._rooms[i]

    def _noise_bed(self, random: augment.Random) -> np.ndarray:
        """One to three noises on top of each other, RMS about one."""
        bed = self._one_noise(random)
        while random.random() < self.config.second_layer:
            bed = bed + self._one_noise(random) * 10 ** (random.uniform(-12, 0) / 20)
            if random.random() < 0.5:
                break
        return bed.astype(np.float32)

    def _one_noise(self, random: augment.Random) -> np.ndarray:
        kind, count = random.random(), self.count
        for name, chance in self.config.synthetic.items():
            kind -= chance
            if kind < 0:
                own = {"babble": self._babble, "texture": self._texture}.get(name)
                noise = own(random) if own else getattr(synthetic_noise, name)(random, count, self.rate)
                break
        else:
            noise = self._piece(random, self._noises, self._noise, random.uniform(0.8, 1.25))
            if random.random() < self.config.equalise:
                noise = self._filtered(noise, augment.equaliser(random, self._hz))
        if random.random() < self.config.fluctuating:
            noise = noise * augment.fluctuation(random, count, self.rate)
        return noise / (augment.rms(noise) + 1e-4)

    def _babble(self, random: augment.Random) -> np.ndarray:
        voices = [self._piece(random, self.banks.speech, self._speech, 1.0) for _ in range(random.integers(3, 8))]
        return np.sum([v * random.uniform(0.3, 1) / (augment.rms(v) + 1e-3) for v in voices], 0)

    def _texture(self, random: augment.Random) -> np.ndarray:
        noise, voice = (self._noises, self._noise), (self.banks.speech, self._speech)
        spectrum, course = (self._piece(random, *of, 1.0) for of in (noise, voice if random.random() < 0.3 else noise))
        return synthetic_noise.texture(random, spectrum, course, self.rate)

    def _piece(self, random: augment.Random, bank: Bank, weights: np.ndarray, speed: float) -> np.ndarray:
        """A random stretch of a random clip, float32 ``[count]``."""
        wanted = self.count if speed == 1.0 else fft.next_fast_len(int(self.count * speed), real=True)
        i = int(np.searchsorted(weights, random.random() * weights[-1], side="right"))
        offset = int(random.integers(0, max(1, bank.length(i) - wanted)))
        piece = bank.read(i, offset, wanted)
        return piece if wanted == self.count else augment.at_speed(piece, self.count)

    def _filtered(self, x: np.ndarray, response: np.ndarray) -> np.ndarray:
        return fft.irfft(fft.rfft(x, self._padded) * response, self._padded)[: self.count]


def active_level(x: np.ndarray) -> float:
    """RMS of the samples that are not pauses: within 34 dB of the peak."""
    peak = float(np.abs(x).max())
    if peak < QUIET:
        return 0.05
    return float(np.sqrt(np.mean(np.square(x[np.abs(x) > 0.02 * peak]))))


def high_pass(hz: np.ndarray, edge_hz: float) -> np.ndarray:
    """Gain at each ``hz`` of a Butterworth high-pass of 4th order run forwards and backwards: no phase."""
    return (1 / (1 + (edge_hz / np.maximum(hz, 1e-3)) ** 8)).astype(np.float32)
