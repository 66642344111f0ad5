"""How far a recording of hours that two Dask workers filtered in pieces is from one pass.

    python tests/stress/long_recording.py --hours 4        # some twenty minutes

Voices, noise and slow tones come and go, louder and softer, with pauses between them. Prints where the recording was
cut and the largest difference, of all samples and of those around the cuts. The exit code is 1 if it is above 1e-4.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import modulated_noise
from rtdenoise.io.batch import filter_jobs, find_jobs
from rtdenoise.io.cluster import connected
from rtdenoise.io.descriptors import only_python_speaks
from rtdenoise.io.pieces import cut
from rtdenoise.io.pipeline import Settings, filter_sound

RATE, ALLOWED = 8_000, 1e-4
PART_S, PAUSE_S, AROUND_S = 19, 1, 2


def sound(seconds: int) -> Iterator[np.ndarray]:
    """A second of pause after each part, as a speaker makes one."""
    rng = np.random.default_rng(5)
    parts = [modulated_noise(rng, RATE * PART_S, rate=RATE) for _ in range(20)]
    tone = np.sin(2 * np.pi * 440 / RATE * np.arange(RATE * PART_S, dtype=np.float32))[:, None]
    for _ in range(0, seconds, PART_S + PAUSE_S):
        level = 10 ** (rng.uniform(-30, 6) / 20)
        yield (level * (parts[rng.integers(len(parts))] + rng.uniform(0, 0.05) * tone)).astype(np.float32)
        yield (0.003 * rng.standard_normal((RATE * PAUSE_S, 1))).astype(np.float32)


def differences(one: Path, other: Path) -> np.ndarray:
    """The largest one in each second."""
    found = []
    blocks = zip(*(soundfile.blocks(path, RATE, dtype="float32") for path in (one, other)), strict=True)
    for a, b in blocks:
        found.append(np.abs(a - b).max())
    return np.array(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--cluster", default="dask://local:2")
    parser.add_argument("--model")
    args = parser.parse_args()
    settings = Settings(args.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        source, target, alone = (folder / part / "long.wav" for part in ("in", "out", "."))
        with soundfile.SoundFile(source, "w", RATE, 1, "FLOAT") as file:
            for block in sound(round(3_600 * args.hours)):
                file.write(block)
        pieces = cut(str(source), str(target), source.stat().st_size, settings)
        cuts_s = [piece.start / RATE for piece in pieces[1:]]
        print(f"{len(pieces)} pieces, cut at {', '.join(f'{at:.1f}' for at in cuts_s)} s", flush=True)
        if not pieces:
            parser.error(f"{args.hours} h are filtered in one pass; give more")
        began = time.perf_counter()
        with only_python_speaks(), connected(args.cluster) as cluster:
            (outcome,) = filter_jobs(find_jobs(str(folder / "in"), str(folder / "out")), settings, cluster)
        print(f"{args.cluster}: {time.perf_counter() - began:.0f} s{outcome.error or ''}", flush=True)
        report = filter_sound(str(source), str(alone), settings)
        print(f"one pass: {report.work_seconds:.0f} s", flush=True)
        off = differences(target, alone)
    around = [off[max(0, int(at) - AROUND_S) : int(at) + AROUND_S + 1].max() for at in cuts_s]
    print(f"largest difference {off.max():.1e}; around the cuts {', '.join(f'{each:.1e}' for each in around)}")
    return int(not off.max() <= ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
