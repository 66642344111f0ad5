"""The command on files and pipes: speed on one core, memory over hours, time to the first byte."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from rtdenoise.arguments import number
from rtdenoise.errors import UsageError
from rtdenoise.model.registry import FILE_MODEL, find_model
from rtdenoise_bench.measure.start import COMMAND, first_byte, waited_mb
from rtdenoise_bench.report.table import Row, at_least, at_most, show

ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=FILE_MODEL, help="model to measure (default %(default)s)")
    parser.add_argument(
        "--minutes",
        type=number(0.001, 1_000_000, "minutes"),
        default=10,
        help="length of the speed test's file (default %(default)s)",
    )
    parser.add_argument(
        "--hours",
        type=number(0, 10_000, "hours"),
        default=0,
        help="also filter this many hours of stereo (2 for the README)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if not hasattr(os, "wait4"):
        raise UsageError(
            "this part measures processes through wait4, which this system has not; run it on Linux or macOS"
        )
    find_model(args.model)
    with tempfile.TemporaryDirectory(prefix="rtdenoise-bench-") as folder:
        rows = [*start_up(args.model, Path(folder)), *speed(args.model, args.minutes, Path(folder))]
        if args.hours:
            rows.append(memory(args.model, args.hours, Path(folder)))
    return show(rows, args.json)


def start_up(model: str, folder: Path) -> list[Row]:
    """Medians of five: ``--help``; first byte of a held-open pipe, warm and with an empty numba cache (once)."""
    helps = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
        helps.append(time.perf_counter() - start)
    warm = [first_byte(model)[0] for _ in range(6)][1:]
    cold, _ = first_byte(model, NUMBA_CACHE_DIR=str(folder / "numba"))
    return [
        at_most("rtdenoise --help, median of 5", statistics.median(helps), 0.3, "s"),
        at_most("first byte of a pipe, warm caches, median of 5", statistics.median(warm), 1.0, "s"),
        at_most("first byte of a pipe, empty numba cache", cold, 3.0, "s"),
    ]


def filtered(model: str, source: Path, target: Path, one_core: bool = True) -> tuple[float, float]:
    """Run the command; returns its wall time in seconds and its peak resident memory in MB."""
    if one_core and hasattr(os, "sched_setaffinity"):
        everything = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(everything)})  # children inherit it
    start = time.perf_counter()
    arguments = ["--in", str(source), "--out", str(target), "--model", model, "--quiet", "--json"]
    process = subprocess.Popen([*COMMAND, *arguments], env=os.environ | ONE_CORE, stdout=subprocess.PIPE)
    if one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, everything)
    assert process.stdout is not None
    report = process.stdout.read()
    status, peak_mb = waited_mb(process)
    if status:
        raise UsageError(f"the command failed on {source.name}: {report.decode().strip()}")
    json.loads(report)
    return time.perf_counter() - start, peak_mb


def speed(model: str, minutes: float, folder: Path) -> list[Row]:
    """Times real time of the whole command, start-up included, held to one core."""
    rows = []
    for rate in (16_000, 48_000):
        source, seconds = folder / f"{rate}.wav", round(60 * minutes)
        second = (0.1 * np.random.default_rng(0).standard_normal(rate)).astype(np.float32)
        soundfile.write(source, np.tile(second, seconds), rate, "PCM_16")
        wall_s, peak_mb = filtered(model, source, folder / f"{rate}.clean.wav")
        what = f"{model}: {minutes:g} min of {rate // 1000} kHz mono, one core (peak {peak_mb:.0f} MB)"
        rows.append(at_least(what, seconds / wall_s, 25, "x real time", ".0f"))
    return rows


def memory(model: str, hours: float, folder: Path) -> Row:
    """Peak memory over hours of 48 kHz stereo: a sparse WAV of silence, which no model finds cheaper."""
    source, frames = folder / "long.wav", round(hours * 3600 * 48_000)
    with soundfile.SoundFile(source, "w", 48_000, 2, "PCM_16") as f:
        f.write(np.zeros((0, 2), np.float32))
    header = bytearray(source.read_bytes())
    header[4:8] = (len(header) - 8 + 4 * frames).to_bytes(4, "little")
    header[-4:] = (4 * frames).to_bytes(4, "little")  # the data chunk's size ends the header
    source.write_bytes(header)
    os.truncate(source, len(header) + 4 * frames)
    wall_s, peak_mb = filtered(model, source, folder / "long.flac")
    what = f"{hours:g} h of 48 kHz stereo: peak memory ({hours * 3600 / wall_s:.0f}x real time)"
    return at_most(what, peak_mb, 400, "MB", ".0f")
