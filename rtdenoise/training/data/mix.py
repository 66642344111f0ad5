"""``rtdenoise mix``: pairs of noisy and clean files, with a manifest; the same seed writes the same files."""

from __future__ import annotations

import argparse
import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile as sf

from rtdenoise import console
from rtdenoise.arguments import RATE, count, number
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.atomic import replacing, write_text
from rtdenoise.training.data.material import place
from rtdenoise.training.data.mixer import Banks, MixConfig
from rtdenoise.training.data.tape_mixer import mixer_for

REPORT_EVERY = 100  # Progress is reported after this many pairs.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clean",
        type=place,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders or .jsonl manifests with clean speech",
    )
    parser.add_argument(
        "--noise",
        type=place,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders or .jsonl manifests with noise, or `tape` for synthetic tape noise",
    )
    parser.add_argument(
        "--rir",
        type=place,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders or .jsonl manifests with room impulse responses",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for noisy/, clean/ and manifest.csv"
    )
    parser.add_argument(
        "--hours", type=number(0.0001, 10_000, "hours"), default=1.0, help="total length of the pairs (default 1)"
    )
    parser.add_argument(
        "--seconds", type=number(0.1, 3_600, "seconds"), default=5.0, help="length of a pair (default 5)"
    )
    parser.add_argument(
        "--snr",
        type=number(-100, 100, "dB"),
        nargs=2,
        default=(-5.0, 20.0),
        metavar=("LO", "HI"),
        help="range of the SNR in dB",
    )
    parser.add_argument("--rate", type=RATE, default=48000, help="sample rate of the files (default 48000)")
    parser.add_argument("--seed", type=count(0), default=0)
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where decoded audio is kept (default: OUT/cache)")


def run(args: argparse.Namespace) -> int:
    if args.snr[0] > args.snr[1]:
        raise UsageError(f"--snr {args.snr[0]:g} {args.snr[1]:g}: the lower bound comes first")
    if args.hours <= 0 or args.seconds < 1:
        raise UsageError("--hours must be above 0 and --seconds at least 1")
    banks = Banks.open(args.clean, args.noise, args.rir, args.rate, args.cache or args.out / "cache")
    config = replace(MixConfig(), snr_db=tuple(args.snr), snr_spread_db=0.0, clean_only=0.0, noise_only=0.0)
    if banks.noise is None:
        config = replace(config, low_noise=0.0)  # the SNR asked for is that of all the noise
    mixer = mixer_for(banks, args.seconds, args.seed, config, part="all")
    count = max(1, round(args.hours * 3600 / args.seconds))
    rows = []
    for side in ("noisy", "clean"):
        (args.out / side).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        noisy, clean, snr_db = mixer.pair(k)
        peak = max(1.0, float(np.abs(noisy).max()), float(np.abs(clean).max()))  # both sides by the same factor
        name = f"{k:06d}_{snr_db:+.1f}dB.flac"
        write(args.out / "noisy" / name, noisy.T / peak, args.rate)
        write(args.out / "clean" / name, clean.T / peak, args.rate)
        rows.append({"name": name, "snr_db": round(snr_db, 2), "seconds": args.seconds, "rate": args.rate})
        if (k + 1) % REPORT_EVERY == 0 or k + 1 == count:
            console.say(f"{k + 1}/{count} pairs, {(k + 1) * args.seconds / 3600:.2f} h")
    manifest = io.StringIO(newline="")
    table = csv.DictWriter(manifest, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write_text(args.out / "manifest.csv", manifest.getvalue())
    return 0


def write(path: Path, audio: np.ndarray, rate: int) -> None:
    """Whole, or not at all."""
    encoded = io.BytesIO()
    sf.write(encoded, audio, rate, format="FLAC", subtype="PCM_16")
    try:
        with replacing(path) as file:
            file.write(encoded.getbuffer())
    except OSError as error:
        raise RtdenoiseError(f"cannot write {path}: {error}; free some space and start again") from error
