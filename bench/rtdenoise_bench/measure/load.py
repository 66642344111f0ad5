"""What a live session costs as a whole process, in turns with another installation: processor time, memory, gaps.

    null sink's monitor ─▶ `rtdenoise --json` ─▶ null sink          (or JACK's dummy device, both ways)

The same programs run one after the other, again and again, so that a machine that changes its pace does so for all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtdenoise.arguments import count, number
from rtdenoise.errors import UsageError
from rtdenoise.model.registry import DEFAULT_MODEL, find_model
from rtdenoise_bench.measure.correlation import noise
from rtdenoise_bench.measure.probes import import_path
from rtdenoise_bench.measure.recordings import pulse_playing
from rtdenoise_bench.report.table import Row, show
from rtdenoise_bench.testbed import servers

START_S = 20  # at most, where all is compiled
SETTLE_RECORDS = 2  # of one second each: what it takes to start is not what it costs
ENDS = {"pulse": ("A.monitor", "B"), "jack": ("system", "system")}
OURS, ECONOMY, OTHER = "this one", "this one, economy", "the other one"
MOST_MB = 200.0
SHARES = {OURS: 0.5, ECONOMY: 0.3}  # of the other's processor time


@dataclass
class Way:
    """One program, and what its runs took: percent of a core, peak MB, underruns."""

    name: str
    python: str
    argv: tuple[str, ...] = ()
    percents: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    underruns: int = 0

    def visit(self, env: dict[str, str], server: str, model: Path, seconds: int) -> None:
        """Run it once. `UsageError` if it does not come to its end."""
        source, target = ENDS[server]
        line = [self.python, "-m", "rtdenoise", "--in", source, "--out", target, "--model", str(model), "--json"]
        line += ["--seconds", str(seconds + SETTLE_RECORDS), *self.argv]
        env = env | (import_path() if self.python == sys.executable else {})
        # Python takes a package out of the folder it runs in before the one that is installed.
        process = subprocess.Popen(line, env=env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout
        assert process.stderr
        records, peak_mb = [], 0.0
        for text in process.stdout:
            if text.startswith("{"):
                records.append(json.loads(text))
                peak_mb = _peak_mb(process.pid) or peak_mb
        said, status = process.stderr.read(), process.wait()
        records = records[SETTLE_RECORDS:]
        if status or not records:
            raise UsageError(f"{self.name}: no session came about ({said.strip()[-300:] or status})")
        self.percents.append(float(np.median([r["cpu_percent"] for r in records])))
        self.megabytes.append(peak_mb)
        self.underruns += records[-1]["underruns"] - records[0]["underruns"]

    def row(self, other: Way | None, title: str) -> Row:
        """Its line of the table; with another one, of whose processor time it may take a share."""
        percent, memory = float(np.median(self.percents)), max(self.megabytes)
        value = f"{percent:.1f} % of a core, {memory:.0f} MB, {self.underruns} underruns"
        if other is None or self is other:
            return Row(f"{title}: {self.name}", value)
        ratio = percent / float(np.median(other.percents))
        ok = ratio <= SHARES[self.name] and self.underruns <= other.underruns and memory <= MOST_MB
        limit = f"<= {SHARES[self.name]:g} x, <= {MOST_MB:.0f} MB, no more underruns"
        return Row(f"{title}: {self.name}", f"{value}; {ratio:.2f} x the other's", limit, ok)


def _peak_mb(pid: int) -> float:
    """Most memory that a process has had; 0 once it has ended. (What `wait4` tells includes its parent's.)"""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return float(fields["VmHWM"].split()[0]) / 1024
    except (OSError, KeyError):
        return 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="model that all run (default %(default)s)")
    add("--server", action="append", choices=tuple(ENDS), help="may be repeated (default: pulse)")
    add("--frames", type=count(16, 8_192), default=256, help="of JACK's cycle (default %(default)s)")
    add("--seconds", type=number(1, 3_600, "seconds"), default=8, help="of each run (default %(default)s)")
    add("--rounds", type=count(1, 1_000), default=3, help="turns of each (default %(default)s)")
    add("--against", metavar="PYTHON", help="the interpreter of another installation of rtdenoise, of any version")
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    model = find_model(args.model).resolve()
    return show(
        [
            row
            for server in args.server or ["pulse"]
            for row in measure(server, model, round(args.seconds), args.rounds, args.against, args.frames)
        ],
        args.json,
    )


def measure(
    server: str, model: Path, seconds: int, rounds: int, against: str | None = None, frames: int = 256
) -> list[Row]:
    """The ways in turns through a server of our own; `UsageError` says why that cannot be."""
    economy = Way(ECONOMY, sys.executable, ("--latency", "economy"))
    ways = [Way(OURS, sys.executable), economy, *([Way(OTHER, against)] if against else [])]
    with contextlib.ExitStack() as stack:
        try:
            if server == "jack":
                env = stack.enter_context(servers.jack(frames=frames))
            else:
                env = stack.enter_context(servers.pulseaudio())
                longest_s = rounds * len(ways) * (seconds + SETTLE_RECORDS + START_S)
                stack.enter_context(pulse_playing(env, "A", noise(longest_s)))
            for _ in range(rounds):
                for way in ways:
                    way.visit(env, server, model, seconds)
        except (OSError, RuntimeError) as problem:
            raise UsageError(f"{server}: {problem}; `make system` installs sound servers") from problem
    title = f"jack, {frames} frames" if server == "jack" else server
    return [way.row(ways[-1] if against else None, title) for way in ways]
