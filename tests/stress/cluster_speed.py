"""How much faster two Dask workers of this machine filter a folder than one.

    python tests/stress/cluster_speed.py --rounds 3      # some minutes; the machine must have two free cores

Both clusters stand ready, warm, and take turns, so what else the machine does meets both alike. Prints each round's
times, and what two plain processes with half the files each gain over one, which is all that the machine has to give:
memory, caches and clock rates are shared. The exit code is 1 if the median of the clusters' speed-ups is below 1.8.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from multiprocessing import get_context
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


def filter_share(folder: Path, k: int, count: int) -> None:
    """What one of so many plain processes does."""
    jobs = find_jobs(str(folder / "in"), str(folder / "out"), overwrite=True)[k::count]
    with closing(run_folder(jobs, Settings(), 1)) as outcomes:
        assert all(outcome.report for outcome in outcomes)


def filter_plainly(folder: Path, processes: list[ProcessPoolExecutor]) -> float:
    """How long it takes without a cluster, in s."""
    began = time.perf_counter()
    shares = [pool.submit(filter_share, folder, k, len(processes)) for k, pool in enumerate(processes)]
    for share in shares:
        share.result()
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
        plain = [stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for _ in range(2)]
        filter_plainly(folder, plain)
        gains, ceilings = [], []
        for _ in range(args.rounds):
            one, two = (filter_all(folder, cluster) for cluster in clusters)
            alone, both = (filter_plainly(folder, processes) for processes in (plain[:1], plain))
            gains.append(one / two)
            ceilings.append(alone / both)
            print(
                f"1 worker {one:.1f} s, 2 workers {two:.1f} s: {gains[-1]:.2f}; "
                f"1 plain process {alone:.1f} s, 2 {both:.1f} s: {ceilings[-1]:.2f}",
                flush=True,
            )
    print(f"median {statistics.median(gains):.2f}, of plain processes {statistics.median(ceilings):.2f}")
    return int(statistics.median(gains) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
