"""A long run through a sound server: does the delay move, does memory grow, do threads pile up?"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from rtdenoise_bench import burden
from rtdenoise_bench.stress import gaps, through_pulse
from rtdenoise_bench.table import Row, show

MOST_MOVED_MS, MOST_GROWN_MB = 1.0, 5.0
ENDS_S = 60  # at the start and at the end, that are compared; a quarter of a run that is shorter than four of them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=30, help="length (default %(default)g)")
    parser.add_argument("--model", help="model to run (default: one that changes nothing)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="rtd-") as folder:
        model = args.model or burden.write(Path(folder) / "plain.onnx")
        delay, stats, _ = through_pulse(model, 60 * args.minutes, *(("--bypass",) if args.model else ()))
    end_s = min(ENDS_S, 60 * args.minutes / 4)
    ends = delay.at_s - delay.at_s[0] < end_s, delay.at_s[-1] - delay.at_s < end_s
    first, last = (float(np.nanmedian(delay.ms[end])) for end in ends)
    grown_mb, threads = stats["grown_kb"] / 1024, stats["threads"]
    seen = f"{last - first:+.2f} ms; memory {grown_mb:+.1f} MB, threads {threads}, {gaps(stats)}"
    ok = abs(last - first) < MOST_MOVED_MS and grown_mb < MOST_GROWN_MB and len(set(threads)) == 1
    asked = f"< {MOST_MOVED_MS:g} ms, < {MOST_GROWN_MB:g} MB, threads constant"
    return show([Row(f"soak, {args.minutes:g} min: delay moved by", seen, asked, ok)], args.json)
