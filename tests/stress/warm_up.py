"""How far a stream that began later is from one that began before, by the length of the warm-up.

    python tests/stress/warm_up.py unet        # some minutes

The sound is a tone that comes and goes in steady noise, the slowest case that was found: speech is forgotten sooner.
Prints the largest difference for each warm-up; the exit code is 1 if that of `WARM_UP_S` is above 1e-4.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import modulated_noise
from rtdenoise import Denoiser
from rtdenoise.io.pieces import WARM_UP_S

RATE, AFTER_S, ALLOWED = 8_000, 30, 1e-4


def run(name: str, sound: np.ndarray) -> np.ndarray:
    stream = Denoiser(name, RATE)
    return np.concatenate([stream.process(block) for block in np.split(sound, len(sound) // RATE)])


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else "unet"
    longest = round(WARM_UP_S)
    sound = modulated_noise(np.random.default_rng(5), RATE * (longest + 60 + AFTER_S), rate=RATE)
    kept = RATE * AFTER_S
    truth = run(name, sound)[-kept:]
    for warm_up in (120, 240, longest):
        off = float(np.abs(run(name, sound[-RATE * (warm_up + AFTER_S) :])[-kept:] - truth).max())
        print(f"{name}: {warm_up} s of warm-up, {off:.1e}", flush=True)
    return int(off > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
