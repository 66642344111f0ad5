"""A long run through a sound server: does the latency move, does memory grow, do threads accumulate?"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from rtdenoise.arguments import number
from rtdenoise_bench.measure.correlation import PLACED
from rtdenoise_bench.measure.stress import dropouts, through_pulse
from rtdenoise_bench.report.table import Row, show
from rtdenoise_bench.testbed import busy_model

MOST_MOVED_MS, MOST_GROWN_MB, LEAST_CLEAN = 1.0, 5.0, 0.5
ENDS_S = 60  # The first and the last minute are compared, or quarters of a run that is shorter than four minutes.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=number(0.001, 1_000_000, "minutes"), default=30, help="length (default %(default)g)"
    )
    parser.add_argument("--model", help="model to run (default: one that changes nothing)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="rtd-") as folder:
        model = args.model or busy_model.write(Path(folder) / "plain.onnx")
        delay, stats, _ = through_pulse(model, 60 * args.minutes, *(("--bypass",) if args.model else ()))
    end_s = min(ENDS_S, 60 * args.minutes / 4)
    heard = delay.correlation > PLACED
    ends = delay.at_s - delay.at_s[0] < end_s, delay.at_s[-1] - delay.at_s < end_s
    first, last = (float(np.median(delay.ms[end & heard])) if (end & heard).any() else np.nan for end in ends)
    grown_mb, threads = stats["grown_kb"] / 1024, stats["threads"]
    clean = f"{100 * delay.clean_share:.0f} % of windows clean"
    measured = f"{last - first:+.2f} ms; {clean}; memory {grown_mb:+.1f} MB, threads {threads}, {dropouts(stats)}"
    steady = abs(last - first) < MOST_MOVED_MS and delay.clean_share > LEAST_CLEAN
    ok = steady and grown_mb < MOST_GROWN_MB and len(set(threads)) == 1
    limit = f"< {MOST_MOVED_MS:g} ms, < {MOST_GROWN_MB:g} MB, threads constant"
    return show([Row(f"soak, {args.minutes:g} min: latency moved by", measured, limit, ok)], args.json)
