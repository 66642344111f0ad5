"""Kill -9 at random moments of a run on a Dask cluster: nothing is lost, and nothing half written.

    python tests/stress/cluster_kills.py --kills 30        # some ten minutes, on Linux

The archive has short files and a long recording that is filtered in pieces. Each round starts the command, kills the
scheduler, a worker or the command itself at a random moment of its life, looks at what is there, and starts the same
again on a cluster that is whole. Folders and manifests take turns. Prints every fault; the exit code is 1 if there is
any.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from archives import a_cluster, a_worker
from command import start, voice, write

RATE, PATIENCE_S = 8_000, 300
VICTIMS = "scheduler", "worker", "command"


class Rounds:
    """An archive, a cluster, and what went wrong so far."""

    def __init__(self, folder: Path, short: int, long_s: int, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.faults: list[str] = []
        self.killed: Counter[str] = Counter()
        for k in range(short):
            write(folder / f"in/{k % 3}/{k}.wav", voice(RATE * 10, seed=k), RATE)
        minute = np.int16(voice(RATE * 60) * 32_767)
        with soundfile.SoundFile(folder / "in/long.wav", "w", RATE, 1) as file:
            for _ in range(0, long_s, 60):
                file.write(minute)
        self.names = sorted(str(path.relative_to(folder / "in")) for path in (folder / "in").rglob("*.wav"))
        rows = [{"audio_filepath": name} for name in self.names]
        (folder / "in/list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.processes: list[subprocess.Popen] = []
        self._whole_cluster()
        began = time.monotonic()
        self._finish(self._begin("folder", "expected"), "undisturbed", {0})
        self.life_s = time.monotonic() - began

    def _whole_cluster(self) -> None:
        self.close()
        shutil.rmtree(self.folder / "dask", ignore_errors=True)  # where the last one has left its address
        (self.folder / "dask").mkdir()
        self.address, self.scheduler, self.workers = a_cluster(self.processes, self.folder / "dask")

    def _begin(self, kind: str, out: str) -> subprocess.Popen:
        given = ["--in", self.folder / "in"]
        if kind == "manifest":
            given = ["--manifest", self.folder / "in/list.jsonl", "--report", self.folder / f"{out}.jsonl"]
        return start(*given, "--out", self.folder / out, "--cluster", self.address)

    def _finish(self, command: subprocess.Popen, where: str, allowed: set[int]) -> None:
        try:
            _, said = command.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.faults.append(f"{where}: hangs")
            command.kill()
            command.communicate()
            return
        if command.returncode not in allowed:
            self.faults.append(f"{where}: exit code {command.returncode}: {said.decode()[-300:]}")

    def kill(self, number: int) -> None:
        """One round."""
        victim, kind, out = VICTIMS[number % 3], ("folder", "manifest")[number // 3 % 2], f"out-{number}"
        where = f"round {number}, {kind}, {victim}"
        command = self._begin(kind, out)
        time.sleep(self.random.uniform(0, self.life_s))
        at_work = command.poll() is None
        process = {"scheduler": self.scheduler, "command": command, "worker": self.random.choice(self.workers)}[victim]
        process.kill()
        process.wait()
        if victim == "worker":
            self.workers.remove(process)
            self.workers.append(a_worker(self.processes, self.folder / "dask", self.address.replace("dask", "tcp")))
        self._finish(command, where, {"scheduler": {0, 1}, "worker": {0}, "command": {0, -9}}[victim])
        there = self._look(out, where)
        self.killed[f"{victim} {'at work' if at_work else 'after the end'}"] += 1
        if victim == "scheduler":
            self._whole_cluster()
        self._finish(self._begin(kind, out), f"{where}, again", {0})
        if (left := len(self.names) - self._look(out, f"{where}, again")) > 0:
            self.faults.append(f"{where}: {left} files are lost")
        if kind == "manifest":
            self._read(self.folder / f"{out}.jsonl", where)
        print(f"{where}: {there} of {len(self.names)} were there", flush=True)
        shutil.rmtree(self.folder / out)

    def _look(self, out: str, where: str) -> int:
        """How many files are there; each must be whole."""
        there = 0
        for name in self.names:
            path = self.folder / out / name
            if path.exists():
                there += 1
                if path.read_bytes() != (self.folder / "expected" / name).read_bytes():
                    self.faults.append(f"{where}: {name} is not whole")
        return there

    def _read(self, report: Path, where: str) -> None:
        lines = sorted(json.loads(line)["line"] for line in report.read_text().splitlines())
        if lines != [*range(1, len(self.names) + 1)]:
            self.faults.append(f"{where}: the report has {len(lines)} records of {len(self.names)} files")

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--files", type=int, default=60, help="short ones")
    parser.add_argument("--long-s", type=int, default=5_460, help="of the long one; above 5400 it is cut")
    parser.add_argument("--seed", type=int, default=os.getpid())
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rounds = Rounds(Path(name), args.files, args.long_s, args.seed)
        print(f"seed {args.seed}, {len(rounds.names)} files, a run takes {rounds.life_s:.1f} s", flush=True)
        try:
            for number in range(args.kills):
                rounds.kill(number)
        finally:
            rounds.close()
    for fault in rounds.faults:
        print(fault)
    print(", ".join(f"{count} {what}" for what, count in rounds.killed.items()))
    print(f"{args.kills} kills, {len(rounds.faults)} faults")
    return int(bool(rounds.faults))


if __name__ == "__main__":
    sys.exit(main())
