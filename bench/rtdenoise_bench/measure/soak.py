"""A long run through a sound server: does the latency move, does memory grow, do threads accumulate?"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from rtdenoise.arguments import number
from rtdenoise_bench.measure import probes, recordings
from rtdenoise_bench.measure.correlation import PLACED, Delay, noise
from rtdenoise_bench.measure.stress import dropouts, through_pulse
from rtdenoise_bench.report.table import Row, show
from rtdenoise_bench.testbed import busy_model, servers

MOST_MOVED_MS = {"pulse": 1.0, "pipewire": 0.2}  # A graph has one clock.
MOST_GROWN_MB, LEAST_CLEAN = 5.0, 0.5
HEARD_S = 10.0  # in each minute
ENDS_S = 60  # The first and the last minute are compared, or quarters of a run that is shorter than four minutes.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=number(0.001, 1_000_000, "minutes"), default=30, help="length (default %(default)g)"
    )
    parser.add_argument("--server", choices=MOST_MOVED_MS, default="pulse", help="sound server (default %(default)s)")
    parser.add_argument("--model", help="model to run (default: one that changes nothing)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="rtd-") as folder:
        model = args.model or busy_model.write(Path(folder) / "plain.onnx")
        argv = ("--bypass",) if args.model else ()
        if args.server == "pipewire":
            delay, stats = _through_graph(model, args.minutes, *argv)
        else:
            delay, stats, _ = through_pulse(model, 60 * args.minutes, *argv)
    end_s = min(ENDS_S, 60 * args.minutes / 4)
    heard = delay.correlation > PLACED
    ends = delay.at_s - delay.at_s[0] < end_s, delay.at_s[-1] - delay.at_s < end_s
    first, last = (float(np.median(delay.ms[end & heard])) if (end & heard).any() else np.nan for end in ends)
    grown_mb, threads = stats["grown_kb"] / 1024, stats["threads"]
    clean = f"{100 * delay.clean_share:.0f} % of windows clean"
    measured = f"{last - first:+.2f} ms; {clean}; memory {grown_mb:+.1f} MB, threads {threads}, {dropouts(stats)}"
    most_ms = MOST_MOVED_MS[args.server]
    steady = abs(last - first) < most_ms and delay.clean_share > LEAST_CLEAN
    ok = steady and grown_mb < MOST_GROWN_MB and len(set(threads)) == 1
    limit = f"< {most_ms:g} ms, < {MOST_GROWN_MB:g} MB, threads constant"
    return show([Row(f"soak, {args.server}, {args.minutes:g} min: latency moved by", measured, limit, ok)], args.json)


def _through_graph(model: object, minutes: float, *argv: str) -> tuple[Delay, dict]:
    """The delay in a part of each minute, as a node of PipeWire's graph hears it, and the product's statistics."""
    heard, rounds = [], max(2, round(minutes))
    length_s = 60 * minutes / rounds
    line = "A.monitor", "B", model, *argv, "--backend", "pipewire"
    with servers.pipewire() as env, probes.product(env, *line) as running:
        for _ in range(rounds):
            until = time.monotonic() + length_s
            with recordings.pulse_playing(env, "A", noise(length_s + 30)):
                time.sleep(probes.SETTLE_S)
                with probes.GraphProbe(env, "A", "B") as probe:
                    time.sleep(min(HEARD_S, length_s / 4))
                    heard.append(probe.stop()[0])
                time.sleep(max(0.0, until - time.monotonic()))
        stats = probes.finish(running)
    return Delay(*(np.concatenate([getattr(d, name) for d in heard]) for name in ("at_s", "ms", "correlation"))), stats
