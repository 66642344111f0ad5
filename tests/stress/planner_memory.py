"""How much memory the process takes that plans 1,000 hours: 100,000 short files and 50 long ones.

    python tests/stress/planner_memory.py        # some minutes

The files are sparse, and workers only pretend to filter them, in no time; the folder is walked, long recordings are cut
at pauses, and calls go to a Dask cluster of this machine, whose scheduler is in the same process. Folder and manifest
are measured in a process each. Prints files, hours and the largest memory; the exit code is 1 if it is above 300 MB, or
if an outcome is missing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from command import endless_wav
from rtdenoise.io import jobs
from rtdenoise.io.batch import find_jobs, run_folder
from rtdenoise.io.cluster import connected
from rtdenoise.io.descriptors import only_python_speaks
from rtdenoise.io.manifest import run_manifest
from rtdenoise.io.pipeline import FileReport, Settings
from rtdenoise.io.report import Report

ALLOWED_MB, SHORT_S, LONG_S = 300, 29, 4 * 3_600
LINKS = 10_000  # names of one file: no file system allows many more


def pretend(task: Any, settings: Settings) -> dict[str, Any]:
    """What `jobs` would have from a worker that has filtered."""
    seconds = task.job.size_bytes / 32_000
    return {"report": FileReport(task.job.source, task.job.target, 16_000, 1, seconds, 1.0, 16.0, 0, 0)}


def make(folder: Path, short: int, long: int) -> None:
    for first in range(0, short, LINKS):
        home = folder / f"in/{first}"
        home.mkdir(parents=True)
        one = endless_wav(home / "0.wav", SHORT_S)
        for k in range(1, min(LINKS, short - first)):
            (home / f"{k}.wav").hardlink_to(one)
    for k in range(long):
        endless_wav(folder / f"in/long-{k}.wav", LONG_S)
    with (folder / "list.jsonl").open("w") as file:
        for path in sorted((folder / "in").rglob("*.wav")):
            print(
                json.dumps({"audio_filepath": str(path), "duration": float(SHORT_S), "text": "what is said"}), file=file
            )


def plan(kind: str, folder: Path, cluster: str) -> None:
    """In a process of its own: what came of it, as JSON."""
    jobs._perform = pretend
    began, errors, seconds = time.perf_counter(), Counter(), 0.0
    with only_python_speaks(), connected(cluster) as executor, Report(str(folder / f"{kind}.jsonl")) as report:
        target = str(folder / kind)
        if kind == "folder":
            outcomes = run_folder(find_jobs(str(folder / "in"), target), Settings(), executor)
        else:
            outcomes = run_manifest(str(folder / "list.jsonl"), target, report, Settings(), executor)
        for outcome in outcomes:
            errors[outcome.error] += 1
            seconds += outcome.report.seconds if outcome.report else 0.0
    told = {
        "files": errors.pop(None, 0),
        "hours": round(seconds / 3_600),
        "errors": errors.most_common(3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024),
        "took_s": round(time.perf_counter() - began),
    }
    print(json.dumps(told))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", type=int, default=100_000, help=f"files of {SHORT_S} s")
    parser.add_argument("--long", type=int, default=50, help=f"files of {LONG_S // 3_600} h")
    parser.add_argument("--cluster", default="dask://local:2")
    parser.add_argument("--in-folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=["folder", "manifest"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.kind:
        plan(args.kind, args.in_folder, args.cluster)
        return 0
    fine = True
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), args.short, args.long)
        for kind in ("folder", "manifest"):
            line = [sys.executable, __file__, "--kind", kind, "--in-folder", name, "--cluster", args.cluster]
            done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
            told = json.loads(done.stdout)
            print(kind, done.stdout.strip(), flush=True)
            fine &= told["files"] == args.short + args.long and told["peak_mb"] <= ALLOWED_MB
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
