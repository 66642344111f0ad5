"""Denoise every sound file of a folder from Python, and decide yourself what to do with the results.

    python examples/folder_example.py                                  # this folder, into a temporary one
    python examples/folder_example.py --in recordings --out cleaned --jobs 4

The command `rtdenoise --in recordings --out cleaned --jobs 4` does the same; from Python you get a report a file. A run
that was stopped goes on where it ended: finished outputs are kept. A file that cannot be read is reported, and the rest
goes on.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import rtdenoise

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", type=Path, default=HERE, help="folder to read, with all below it")
    parser.add_argument("--out", dest="target", type=Path, help="folder to write (default: a temporary one)")
    parser.add_argument("--model", help="name or .onnx path; `rtdenoise models` lists the names")
    parser.add_argument("--strength", type=float, metavar="DB", help="attenuation limit (default: none)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="worker processes")
    return parser.parse_args()


def show(outcome: rtdenoise.FileOutcome) -> None:
    """Called for each file as soon as it is done."""
    name = Path(outcome.source).name
    if outcome.error:
        print(f"  {name}: FAILED, {outcome.error}")
    elif outcome.skipped:
        print(f"  {name}: was done before")
    elif report := outcome.report:
        notes = [f"{report.clipped} samples held at full scale"] if report.clipped else []
        notes += report.warnings
        print(f"  {name}: {report.seconds:.1f} s, {report.speed:.0f}x real time", *notes, sep="; ")


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        target = args.target or Path(temporary)
        print(f"sound files below {args.source}:")
        options = {"model": args.model, "strength_db": args.strength, "jobs": args.jobs}
        outcomes = rtdenoise.denoise_folder(args.source, target, progress=show, **options)

    reports = [outcome.report for outcome in outcomes if outcome.report]
    hours = sum(report.seconds for report in reports) / 3600
    print(f"{len(reports)} filtered, {hours:.3f} hours of sound")
    return 1 if any(outcome.error for outcome in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except rtdenoise.RtdenoiseError as problem:
        sys.exit(f"folder_example: {problem}")
