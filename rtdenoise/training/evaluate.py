"""``rtdenoise evaluate``: score models, or any command, on pairs of noisy and clean files; Markdown and JSON.

Owns what is measured and how it is summed up; `metrics` owns the definitions. A model runs as it does for users,
through the streaming core at the rate of the file; scores are taken at 16 kHz, the band above 8 kHz at 48 kHz.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr

from rtdenoise.arguments import count
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.training import cards, metrics
from rtdenoise.training.dnsmos import Dnsmos
from rtdenoise.training.metrics import RATE
from rtdenoise.training.pictures import Pair, plot
from rtdenoise.training.score_tables import COLUMNS, as_markdown, keep_scores, read_scores
from rtdenoise.training.systems import Filter, open_system

PROBE_SECONDS = 5.0
LEAST_LOSS = 1e-6  # pystoi adds a trace of random noise: equal sounds differ in the last digits
Opinion = Callable[[np.ndarray], dict[str, float]]  # of a sound at 16 kHz


def find_pairs(folder: Path) -> list[Pair]:
    """Name, noisy and clean file of each pair: ``noisy/NAME`` and ``clean/NAME``."""
    noisy, clean = folder / "noisy", folder / "clean"
    if not noisy.is_dir() or not clean.is_dir():
        raise UsageError(f"{folder} holds no noisy/ and clean/; `rtdenoise mix --out {folder}` makes such pairs")
    pairs = [(p.stem, p, clean / p.name) for p in sorted(noisy.iterdir()) if (clean / p.name).exists()]
    if not pairs:
        raise UsageError(f"no file of {noisy} has one of the same name in {clean}")
    return pairs


def score_pair(
    clean: np.ndarray, noisy: np.ndarray, rate: int, system: Filter, opinion: Opinion | None = None
) -> dict[str, float]:
    """All scores of one pair. ``gain_db`` is what the clean part was multiplied by."""
    begin = time.perf_counter()
    out = system(noisy, rate)
    seconds = time.perf_counter() - begin
    c, y, n = (at_16_khz(x, rate) for x in (clean, out, noisy))
    row = scores(c, y) | (opinion(y) if opinion else {})
    before = {"estoi": metrics.estoi(c, n), "si_sdr": metrics.si_sdr_db(c, n)}
    row |= {f"{k}_noisy": v for k, v in before.items()}
    row["gain_db"] = 20 * np.log10(abs(np.dot(c, y) / np.dot(c, c)) + 1e-6)
    row["rtf"] = seconds / (len(noisy) / rate)
    unspoilt = at_16_khz(system(clean, rate), rate)
    row |= {"clean_in_si_sdr": metrics.si_sdr_db(c, unspoilt), "clean_in_pesq": metrics.pesq_wide(c, unspoilt)}
    row["noise_in_db"] = attenuation_db(noisy - clean, system, rate)
    if rate == 48000 and metrics.has_high_band(clean):
        for name, x in (("", out), ("_noisy", noisy)):
            row |= {f"lsd_8_20k{name}": metrics.hf_lsd_db(clean, x), f"si_sdr_48k{name}": metrics.si_sdr_db(clean, x)}
    return {k: float(v) for k, v in row.items()}


def scores(clean: np.ndarray, out: np.ndarray) -> dict[str, float]:
    """The scores of `COLUMNS`, at 16 kHz."""
    wide, ssnr = metrics.pesq_wide(clean, out), metrics.segmental_snr_db(clean, out)
    values = (
        wide,
        metrics.pesq_wide(clean, out, "nb"),
        metrics.stoi(clean, out),
        metrics.estoi(clean, out),
        metrics.si_sdr_db(clean, out),
        ssnr,
        metrics.log_spectral_distance_db(clean, out),
        *metrics.composite(clean, out, wide, ssnr),
    )
    return dict(zip(COLUMNS, values, strict=True))


def attenuation_db(noise: np.ndarray, system: Filter, rate: int) -> float:
    """How much quieter a noise alone comes out, after the first second."""
    out = system(noise.astype(np.float32), rate)[rate:]
    return float(10 * np.log10((np.mean(noise[rate:] ** 2) + 1e-12) / (np.mean(out**2) + 1e-12)))


def probes(system: Filter) -> dict[str, float]:
    """Attenuation in dB of made noises at 48 kHz: white, and a fan (a wandering tone with harmonics and air)."""
    from rtdenoise.training import augment, sounds

    random, rate = np.random.default_rng(5), 48000
    white = 0.05 * random.standard_normal(int(PROBE_SECONDS * rate), dtype=np.float32)
    fan = sounds.tones(random, len(white), rate)
    return {
        "white_db": attenuation_db(white, system, rate),
        "fan_db": attenuation_db((0.05 * fan / augment.rms(fan)).astype(np.float32), system, rate),
    }


def at_16_khz(x: np.ndarray, rate: int) -> np.ndarray:
    return x if rate == RATE else soxr.resample(x, rate, RATE)


def evaluate(
    system: Filter, pairs: list[Pair], tell: Callable[[str], None], opinion: Opinion | None = None
) -> dict[str, Any]:
    """Scores of every pair, their means, and the means of each 5 dB of SNR, as names state it (``..._-2.5dB``)."""
    rows: dict[str, dict[str, float]] = {}
    for k, (name, noisy, clean) in enumerate(pairs):
        (x, rate), (c, clean_rate) = (sf.read(p, dtype="float32", always_2d=True) for p in (noisy, clean))
        if rate != clean_rate or len(x) != len(c):
            raise RtdenoiseError(f"pair {name}: noisy and clean differ in rate or length; leave it out or mix it again")
        rows[name] = score_pair(c[:, 0], x[:, 0], rate, system, opinion)
        tell(f"{k + 1}/{len(pairs)} {name}: PESQ-WB {rows[name]['pesq_wb']:.2f}, SI-SDR {rows[name]['si_sdr']:.1f} dB")
    buckets: dict[float, list[dict[str, float]]] = {}
    for name, row in rows.items():
        stated = re.search(r"([+-]?\d+(\.\d+)?)dB$", name)
        snr_db = 5 * np.floor(float(stated[1]) / 5) + 2.5 if stated else np.nan
        buckets.setdefault(snr_db, []).append(row)
    values = list(rows.values())
    return {
        "mean": _mean(values),
        "by_snr": {f"{snr:g}": _mean(buckets[snr]) for snr in sorted(buckets)},
        "worse_than_noisy": {k: sum(r[k] < r[f"{k}_noisy"] - LEAST_LOSS for r in values) for k in ("estoi", "si_sdr")},
        "pairs": rows,
        "probes": probes(system),
    }


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = {k: None for row in rows for k in row}
    return {k: round(float(np.mean([r[k] for r in rows if k in r])), 4) for k in keys}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "systems",
        nargs="+",
        metavar="SYSTEM",
        help="a model (name or file; with @low behind it at 8 ms of delay), or 'name=command {in} {out}'",
    )
    parser.add_argument("pairs", type=Path, metavar="PAIRS_DIR", help="folder with noisy/ and clean/, same file names")
    parser.add_argument(
        "--tape",
        action="store_true",
        help="PAIRS_DIR is a folder with clean music instead: score tape noise added to it",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write scores.md and a NAME.json for each system")
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE.md",
        help="put the tables between the marks <!-- scores --> of a model's card",
    )
    parser.add_argument(
        "--dnsmos",
        type=Path,
        metavar="FILE.onnx",
        help="also what listeners would say, by the DNS challenge's sig_bak_ovr.onnx: SIG, BAK, OVRL",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE.json",
        help="also how systems scored before differ, pair by pair: a NAME.json of --out, or a table of several",
    )
    parser.add_argument(
        "--plot",
        type=count(0),
        default=0,
        metavar="N",
        help="spectrograms of the N pairs that the first system is worst at (PESQ), as worst.png into --out",
    )


def run(args: argparse.Namespace) -> int:
    from rtdenoise import ui

    if args.card:
        cards.around(args.card, "scores")  # raises now what would else be raised after the work
    if args.tape:
        from rtdenoise.training import tape_scores

        if args.dnsmos or args.against:
            raise UsageError("--dnsmos and --against are for speech; leave them out with --tape")
        return tape_scores.run(args)
    try:
        import pesq  # noqa: F401
        import pystoi  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error.name} is missing; install it with: pip install 'rtdenoise[eval]'") from error
    if args.plot and not args.out:
        raise UsageError("--plot needs --out DIR, where the pictures go")
    opinion = Dnsmos(args.dnsmos) if args.dnsmos else None
    pairs = find_pairs(args.pairs)
    kept = read_scores(args.against, [name for name, *_ in pairs]) if args.against else {}
    systems = dict(open_system(text) for text in args.systems)
    results = {name: evaluate(system, pairs, ui.say, opinion) for name, system in systems.items()}
    tables = as_markdown(results, kept)
    print(tables, end="")
    if args.card:
        cards.put(args.card, "scores", f"{cards.how(args)}\n{tables}")
    if args.out:
        keep_scores(args.out, "scores.md", tables, results)
        scored = next(iter(results.values()))["pairs"]
        if args.plot:
            worst = sorted(pairs, key=lambda p: scored[p[0]]["pesq_wb"])[: args.plot]
            plot(worst, systems, args.out / "worst.png")
    return 0
