"""How much faster two Dask workers of this machine filter a folder than one.

    python tests/stress/cluster_speed.py --rounds 3      # some minutes; the machine must have two free cores

Both clusters stand ready, warm, and take turns, so what else the machine does meets both alike. Prints each round's
times; the exit code is 1 if the median of the speed-ups is below 1.8.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import modulated_noise
from rtdenoise.io.batch import find_jobs, run_folder
from rtdenoise.io.cluster import connected
from rtdenoise.io.descriptors import only_python_speaks
from rtdenoise.io.executors import Executor
from rtdenoise.io.pipeline import Settings

RATE, LEAST = 16_000, 1.8


def filter_all(folder: Path, executor: Executor) -> float:
    """How long it takes, in s."""
    jobs = find_jobs(str(folder / "in"), str(folder / "out"), overwrite=True)
    began = time.perf_counter()
    with closing(run_folder(jobs, Settings(), executor)) as outcomes:
        assert all(outcome.report for outcome in outcomes)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=48)
    parser.add_argument("--seconds", type=int, default=10, help="of sound in a file")
    args = parser.parse_args()
    with ExitStack() as stack:
        stack.enter_context(only_python_speaks())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "in").mkdir()
        sound = modulated_noise(np.random.default_rng(5), RATE * args.seconds, rate=RATE)
        for k in range(args.files):
            soundfile.write(folder / f"in/{k}.wav", sound, RATE)
        clusters = [stack.enter_context(connected(f"dask://local:{count}")) for count in (1, 2)]
        for cluster in clusters:
            filter_all(folder, cluster)  # Each worker loads the model.
        gains = []
        for _ in range(args.rounds):
            one, two = (filter_all(folder, cluster) for cluster in clusters)
            gains.append(one / two)
            print(f"1 worker {one:.1f} s, 2 workers {two:.1f} s: {gains[-1]:.2f}", flush=True)
    print(f"median {statistics.median(gains):.2f}")
    return int(statistics.median(gains) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
