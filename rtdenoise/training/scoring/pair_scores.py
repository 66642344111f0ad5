"""The scores of a system on pairs of noisy and clean files, in one process or several.

Owns what is measured of a pair and how pairs are summed up; `metrics` and `residue` own the definitions. A model runs
as it does for users, through the streaming core at the rate of the file; scores are taken at 16 kHz, the band above
8 kHz at 48 kHz.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from scipy.signal import fftconvolve

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.process_pool import WorkerDied, run_calls
from rtdenoise.training import metrics
from rtdenoise.training.data import augment
from rtdenoise.training.data.clips import read_audio
from rtdenoise.training.metrics import RATE, high_passed, si_sdr_db
from rtdenoise.training.scoring import residue
from rtdenoise.training.scoring.dnsmos import Dnsmos

PROBE_SECONDS = 5.0
LEAST_LOSS = 1e-6  # pystoi adds a trace of random noise, so equal sounds differ in the last digits.
TELEPHONE_RATE = 8000
LONGEST_ROOM_S = 5.0  # The longest part of an impulse response that is used.
STATED_SNR = re.compile(r"(?:^|_)([+-]?\d+(?:\.\d+)?)dB(?=_|$)")  # The SNR in the name of a pair.
Filter = Callable[[np.ndarray, int], np.ndarray]
Row = dict[str, float]


@dataclass(frozen=True)
class Pair:
    """Two recordings of the same speech.

    Attributes
    ----------
    name : str
        Of both files, without folder and suffix.
    noisy, clean : Path
        What goes in, and what should come out.
    """

    name: str
    noisy: Path
    clean: Path


@dataclass(frozen=True)
class Extent:
    """What is measured beside the scores of the pairs."""

    others: bool = True  # clean speech in, noise alone in, telephone input
    dnsmos: Path | None = None
    rooms: tuple[Path, ...] = ()  # responses: the clean speech in them goes in, one room a pair


@dataclass(frozen=True)
class Task:
    """A pair for a system, for whichever process."""

    set_name: str
    system_name: str
    system: Filter
    number: int
    pair: Pair
    extent: Extent


def find_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder: ``noisy/NAME`` and ``clean/NAME``."""
    noisy, clean = folder / "noisy", folder / "clean"
    if not noisy.is_dir() or not clean.is_dir():
        raise UsageError(f"{folder} contains no noisy/ and clean/; `rtdenoise mix --out {folder}` makes such pairs")
    pairs = [Pair(p.stem, p, clean / p.name) for p in sorted(noisy.iterdir()) if (clean / p.name).exists()]
    if not pairs:
        raise UsageError(f"no file of {noisy} has a counterpart of the same name in {clean}")
    return pairs


def named_folders(folders: list[Path]) -> dict[str, Path]:
    """Folders by their own name, or that of their parent before it where two are called alike."""
    paths = [folder.resolve() for folder in folders]
    names = [p.name if sum(p.name == q.name for q in paths) == 1 else f"{p.parent.name}-{p.name}" for p in paths]
    if len({*names}) < len(names):
        raise UsageError(f"two folders are called {max(names, key=names.count)}; rename one, or name each once")
    return dict(zip(names, folders, strict=True))


def score_sets(
    systems: Mapping[str, Filter],
    sets: Mapping[str, list[Pair]],
    extent: Extent,
    jobs: int,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Every system's scores on every set, by set and by system; so many processes do the work."""
    tasks = [
        Task(set_name, name, system, k, pair, extent)
        for set_name, pairs in sets.items()
        for name, system in systems.items()
        for k, pair in enumerate(pairs)
    ]
    rows: dict[Task, Row] = {}
    with closing(_run(tasks, jobs)) as running:
        for task, row in running:
            if isinstance(row, Exception):
                raise row
            rows[task] = row
            tell(
                f"{len(rows)}/{len(tasks)} {task.system_name} on {task.pair.name}: "
                f"PESQ-WB {row['pesq_wb']:.2f}, SI-SDR above 80 Hz {row['si_sdr_80hz']:.1f} dB"
            )
    probed = {name: probes(system) if extent.others else {} for name, system in systems.items()}
    return {
        set_name: {
            name: in_sum({t.pair.name: rows[t] for t in tasks if (t.set_name, t.system_name) == (set_name, name)})
            | {"probes": probed[name]}
            for name in systems
        }
        for set_name in sets
    }


def _run(tasks: list[Task], jobs: int) -> Generator[tuple[Task, Row | Exception]]:
    if jobs == 1:
        yield from ((task, _scored(task)) for task in tasks)
        return
    for (task,), row in run_calls(_scored, [(task,) for task in tasks], jobs):
        if isinstance(row, WorkerDied):
            row = RtdenoiseError(f"a worker process {row}; try fewer --jobs")
        yield task, row


def _scored(task: Task) -> Row | Exception:
    try:
        return score_task(task)
    except RtdenoiseError as problem:
        return problem


def in_sum(rows: dict[str, Row]) -> dict[str, Any]:
    """The scores of all pairs, their means and medians, and the means of each 5 dB of SNR, as names state it
    (``..._-2.5dB``, ``..._-2.5dB_rumble``)."""
    buckets: dict[float, list[Row]] = {}
    for name, row in rows.items():
        stated = STATED_SNR.search(name)
        buckets.setdefault(5 * np.floor(float(stated[1]) / 5) + 2.5 if stated else np.nan, []).append(row)
    values = list(rows.values())
    return {
        "mean": summary(values, np.mean),
        "median": summary(values, np.median),
        "by_snr": {f"{snr:g}": summary(buckets[snr], np.mean) for snr in sorted(buckets)},
        "worse_than_noisy": {
            k: sum(r[k] < r[f"{k}_noisy"] - LEAST_LOSS for r in values) for k in ("estoi", "si_sdr_80hz")
        },
        "pairs": rows,
    }


def summary(rows: list[Row], of: Callable[[list[float]], Any]) -> Row:
    keys = {k: None for row in rows for k in row}
    return {k: round(float(of([r[k] for r in rows if k in r])), 4) for k in keys}


def score_task(task: Task) -> Row:
    pair, extent = task.pair, task.extent
    (noisy, rate), (clean, clean_rate) = (sf.read(p, dtype="float32", always_2d=True) for p in (pair.noisy, pair.clean))
    if rate != clean_rate or len(noisy) != len(clean):
        raise RtdenoiseError(f"pair {pair.name}: noisy and clean differ in rate or length; leave it out")
    clean, noisy = clean[:, 0], noisy[:, 0]
    row = score_pair(clean, noisy, rate, task.system, extent.dnsmos)
    if extent.others:
        row |= score_others(clean, noisy, rate, task.system)
    if extent.rooms:
        room = augment.direct_first(
            read_audio(extent.rooms[task.number % len(extent.rooms)], rate)[:, 0], rate, LONGEST_ROOM_S
        )
        heard = fftconvolve(clean, room)[: len(clean)].astype(np.float32)
        row |= passage("reverberant_in", heard, rate, task.system)
    return {k: float(v) for k, v in row.items()}


def score_pair(clean: np.ndarray, noisy: np.ndarray, rate: int, system: Filter, dnsmos: Path | None = None) -> Row:
    """The scores of one pair. ``gain_db`` is what the clean part was multiplied by."""
    begin = time.perf_counter()
    out = system(noisy, rate)
    seconds = time.perf_counter() - begin
    c, y, n = (at_rate(x, rate) for x in (clean, out, noisy))
    row = scores(c, y) | residue.residue_db(c, n, y) | residue.of_voice_db(c, n)
    row |= _dnsmos(dnsmos)(y) if dnsmos else {}
    row |= {"estoi_noisy": metrics.estoi(c, n), "si_sdr_80hz_noisy": si_sdr_db(high_passed(c), high_passed(n))}
    row["gain_db"] = 20 * np.log10(abs(np.dot(c, y) / np.dot(c, c)) + 1e-6)
    row["rtf"] = seconds / (len(noisy) / rate)
    if rate == 48000 and metrics.has_high_band(clean):
        for name, x in (("", out), ("_noisy", noisy)):
            row |= {f"lsd_8_20k{name}": metrics.hf_lsd_db(clean, x), f"si_sdr_48k{name}": si_sdr_db(clean, x)}
    return row


def scores(clean: np.ndarray, out: np.ndarray) -> Row:
    """The usual scores, at 16 kHz."""
    wide, ssnr = metrics.pesq_wide(clean, out), metrics.segmental_snr_db(clean, out)
    csig, cbak, covl = metrics.composite(clean, out, wide, ssnr)
    above = high_passed(clean), high_passed(out)
    return {
        "pesq_wb": wide,
        "pesq_nb": metrics.pesq_wide(clean, out, "nb"),
        "stoi": metrics.stoi(clean, out),
        "estoi": metrics.estoi(clean, out),
        "si_sdr": si_sdr_db(clean, out),
        "si_sdr_80hz": si_sdr_db(*above),
        "ssnr": ssnr,
        "lsd": metrics.log_spectral_distance_db(clean, out),
        "csig": csig,
        "cbak": cbak,
        "covl": covl,
        "covl_80hz": metrics.composite(*above, wide, ssnr)[2],
        "iou": metrics.overlap(clean, out),
    }


def score_others(clean: np.ndarray, noisy: np.ndarray, rate: int, system: Filter) -> Row:
    """What clean speech, the noise alone, and the pair as a telephone has it and as 16 kHz have it come out like."""
    row = passage("clean_in", clean, rate, system) | {"noise_in_db": attenuation_db(noisy - clean, system, rate)}
    for key, at in (("gain_8k_db", TELEPHONE_RATE), ("gain_16k_db", RATE)):
        c, n = (at_rate(x, rate, at) for x in (clean, noisy))
        before, after = (
            si_sdr_db(*(high_passed(x, rate=at) for x in (c, y))) for y in (n, system(n.astype(np.float32), at))
        )
        row[key] = after - before
    return row


def passage(key: str, clean: np.ndarray, rate: int, system: Filter) -> Row:
    """How a sound without noise gets through."""
    c, y = (at_rate(x, rate) for x in (clean, system(clean, rate)))
    return {f"{key}_si_sdr_80hz": si_sdr_db(high_passed(c), high_passed(y)), f"{key}_pesq": metrics.pesq_wide(c, y)}


def attenuation_db(noise: np.ndarray, system: Filter, rate: int) -> float:
    """How much quieter a noise alone comes out, after the first second."""
    out = system(noise.astype(np.float32), rate)[rate:]
    return float(10 * np.log10((np.mean(noise[rate:] ** 2) + 1e-12) / (np.mean(out**2) + 1e-12)))


def probes(system: Filter) -> Row:
    """Attenuation in dB of synthetic noises at 48 kHz: white, and a fan (a wandering tone with harmonics and air)."""
    from rtdenoise.training.data import synthetic_noise

    random, rate = np.random.default_rng(5), 48000
    white = 0.05 * random.standard_normal(int(PROBE_SECONDS * rate), dtype=np.float32)
    fan = synthetic_noise.tones(random, len(white), rate)
    return {
        "white_db": attenuation_db(white, system, rate),
        "fan_db": attenuation_db((0.05 * fan / augment.rms(fan)).astype(np.float32), system, rate),
    }


def at_rate(x: np.ndarray, rate: int, wanted: int = RATE) -> np.ndarray:
    return x if rate == wanted else soxr.resample(x, rate, wanted)


@lru_cache(maxsize=1)
def _dnsmos(path: Path) -> Dnsmos:
    return Dnsmos(path)
