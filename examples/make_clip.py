"""Make the two clips of this folder: clean.wav (a voice) and noisy.wav (the same voice in a noisy room).

    python examples/make_clip.py

Nothing here was recorded: espeak-ng speaks (`apt-get install espeak-ng`), numpy makes the noise from a fixed seed. So
the clips are free of anyone's rights, and the clean voice is known to the sample, which makes honest scores possible.
The clips are part of the repository; you only need this script to make others.
"""

import argparse
import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE_HZ = 16_000
VOICE_DBFS = -25.0  # over the whole clip
SNR_DB = 5.0  # of the same: a loud fan beside the desk
LEAD_S, PAUSE_S = 0.9, 0.8  # pauses show what the filter does when nobody speaks
LINES = [
    ("en-us+f4", 155, "The fan is loud, and someone is typing."),
    ("en-gb+m3", 150, "Can you still hear every word I say?"),
]


def speak(voice: str, words_a_minute: int, text: str) -> np.ndarray:
    """One sentence by espeak-ng, float ``[samples]`` at RATE_HZ."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "--stdout", text]
    sound, rate = soundfile.read(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))
    return soxr.resample(sound / np.sqrt(np.mean(sound**2)), rate, RATE_HZ)


def shaped_noise(rng: np.random.Generator, samples: int, slope: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Gaussian noise whose power falls as 1 / f**slope between two corners, at unit level."""
    hz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    gain = np.maximum(hz, low_hz) ** (-slope / 2) / (1 + (hz / high_hz) ** 4)
    noise = np.fft.irfft(gain * np.fft.rfft(rng.standard_normal(samples)), samples)
    return noise / noise.std()


def fan(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A motor's hum with blade tones that waver a little, and the rush of its air."""
    t = np.arange(samples) / RATE_HZ
    turns = 47.0 * t + 0.05 * np.sin(2 * np.pi * 0.31 * t)  # seven blades, 47 turns a second
    tones = [(1, 0.30), (2, 0.16), (7, 0.42), (14, 0.26), (21, 0.15), (28, 0.10), (42, 0.05)]
    hum = sum(level * np.sin(2 * np.pi * order * turns + rng.uniform(0, 2 * np.pi)) for order, level in tones)
    return hum + 0.6 * shaped_noise(rng, samples, 1.0, 150, 3_000)


def keyboard(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Keys struck in bursts: a sharp click of noise, and a softer one when the key comes up."""
    out = np.zeros(samples)
    at = 0.35 * RATE_HZ
    while at < samples:
        for late_s, level in ((0.0, 1.0), (0.085, 0.35)):
            start, length = int(at + late_s * RATE_HZ), int(0.02 * RATE_HZ)
            decay = np.exp(-np.arange(length) / (0.0035 * RATE_HZ))
            click = level * rng.uniform(0.5, 1.0) * decay * rng.standard_normal(length)
            out[start : start + length] += click[: max(0, samples - start)]
        at += RATE_HZ * (rng.uniform(0.11, 0.22) if rng.random() < 0.8 else rng.uniform(0.5, 0.9))
    return out


def street(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Pink noise whose level wanders by several dB within a second, as traffic behind a window does."""
    slow = np.interp(np.arange(samples), np.linspace(0, samples, 28), rng.standard_normal(28))
    return 10 ** (4.0 * slow / 20) * shaped_noise(rng, samples, 1.2, 60, 7_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the clips")
    parser.add_argument("--seed", type=int, default=3, help="of the noise")
    args = parser.parse_args()

    pause = np.zeros(round(PAUSE_S * RATE_HZ))
    spoken = [part for line in LINES for part in (speak(*line), pause)]
    clean = np.concatenate([np.zeros(round(LEAD_S * RATE_HZ)), *spoken])
    clean *= 10 ** (VOICE_DBFS / 20) / clean.std()

    rng = np.random.default_rng(args.seed)
    noise = fan(rng, len(clean)) + 1.6 * keyboard(rng, len(clean)) + 0.7 * street(rng, len(clean))
    noise *= 10 ** ((VOICE_DBFS - SNR_DB) / 20) / noise.std()
    for name, sound in (("clean.wav", clean), ("noisy.wav", clean + noise)):
        soundfile.write(args.out / name, sound, RATE_HZ, subtype="PCM_16")
        print(f"{args.out / name}: {len(sound) / RATE_HZ:.1f} s, peak {np.abs(sound).max():.2f}")


if __name__ == "__main__":
    main()
