"""``rtdenoise rooms``: simulated room impulse responses, for ``--rir``; equal seeds write equal files.

Shoebox rooms by the image-source method (Allen and Berkley 1979, https://doi.org/10.1121/1.382599) as pyroomacoustics
computes it: walls that swallow more the higher the frequency, air that does so too, a voice and a microphone anywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyroomacoustics as pra

from rtdenoise import console
from rtdenoise.arguments import RATE, count, number
from rtdenoise.errors import UsageError
from rtdenoise.training.data.mix import write

REPORT_EVERY = 50  # Progress is reported after this many rooms.
SIDES_M = (2.0, 9.0), (2.0, 9.0), (2.2, 4.0)  # Rooms range from a booth to a hall.
OCTAVES_HZ = [125, 250, 500, 1000, 2000, 4000, 8000]
TILT = (0.0, 0.35)  # Absorption grows with frequency to this power.
ABSORPTION = (0.02, 0.95)  # The bounds for a wall.
FROM_WALLS_M, APART_M = 0.3, (0.2, 3.5)
SHORTEST_S = 0.1  # For shorter times hardly any size has walls that absorb enough.
LONGEST_ORDER = 30  # Later reflections are far below the noise of any mixture.
LOOSE_M = 0.08  # Image sources are moved by this much, since no room is so regular that its echoes sweep.
PEAK = 0.9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for one FLAC file per room")
    parser.add_argument("--count", type=count(), default=300, help="number of rooms (default 300)")
    parser.add_argument(
        "--rt60",
        type=number(0.01, 20, "seconds"),
        nargs=2,
        default=(0.12, 0.7),
        metavar=("LO", "HI"),
        help="range of the reverberation time in seconds, by Sabine's formula",
    )
    parser.add_argument("--rate", type=RATE, default=48000, help="sample rate of the files (default 48000)")
    parser.add_argument("--seed", type=count(0), default=0)


def run(args: argparse.Namespace) -> int:
    if args.count < 1 or not SHORTEST_S <= args.rt60[0] <= args.rt60[1]:
        raise UsageError(
            f"--count must be 1 or more, and --rt60 two times of at least {SHORTEST_S:g} s, the shorter first"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    for k in range(args.count):
        wanted_s, response = room(np.random.default_rng([args.seed, k]), args.rate, tuple(args.rt60))
        write(args.out / f"room_{k:04d}_{wanted_s:.2f}s.flac", response, args.rate)
        if (k + 1) % REPORT_EVERY == 0 or k + 1 == args.count:
            console.say(f"{k + 1}/{args.count} rooms")
    return 0


def room(random: np.random.Generator, rate: int, rt60_s: tuple[float, float]) -> tuple[float, np.ndarray]:
    """Reverberation time that was asked for, and the response, float ``[samples]`` with a peak of 0.9.

    A small room cannot ring for long nor a large one fall silent at once: sizes are drawn until Sabine's formula has
    walls for the time.
    """
    wanted_s = float(random.uniform(*rt60_s))
    while True:
        size_m = np.array([random.uniform(*side) for side in SIDES_M])
        try:
            absorption, order = pra.inverse_sabine(wanted_s, size_m)
            break
        except ValueError:  # walls would have to swallow more than all
            pass
    tilted = absorption * (np.array(OCTAVES_HZ) / 1000) ** random.uniform(*TILT)
    tilted *= absorption / tilted.mean()
    walls = {"coeffs": np.clip(tilted, *ABSORPTION).tolist(), "center_freqs": OCTAVES_HZ}
    pra.random.seed(int(random.integers(2**31)))
    box = pra.ShoeBox(
        size_m,
        fs=rate,
        materials=pra.Material(energy_absorption=walls),
        max_order=min(order, LONGEST_ORDER),
        air_absorption=True,
        use_rand_ism=True,
        max_rand_disp=LOOSE_M,
    )
    voice, microphone = _places(random, size_m)
    box.add_source(voice)
    box.add_microphone(microphone)
    box.compute_rir()
    response = box.rir[0][0]
    return wanted_s, PEAK * response / np.abs(response).max()


def _places(random: np.random.Generator, size_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a voice and a microphone: away from walls, as far apart as people are."""
    nearest_m, farthest_m = APART_M
    while True:
        places = FROM_WALLS_M + random.random((2, 3)) * (size_m - 2 * FROM_WALLS_M)
        if nearest_m <= np.linalg.norm(places[0] - places[1]) <= farthest_m:
            return places[0], places[1]
