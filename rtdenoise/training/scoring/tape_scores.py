"""``rtdenoise evaluate MODEL MUSIC_DIR --tape``: how well tape noise comes off music, and what happens to clean music.

Every file of the folder is put on a made tape (`tape.on_tape`, a fixed seed for each file and SNR) and filtered as a
user's file would be, at its own rate and in stereo. Scores are means over both channels of all files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

from rtdenoise import console
from rtdenoise.errors import UsageError
from rtdenoise.io.atomic import write_text
from rtdenoise.training import metrics
from rtdenoise.training.data.material import AUDIO_SUFFIXES
from rtdenoise.training.data.tape_noise import on_tape
from rtdenoise.training.scoring.comparison import keep_scores
from rtdenoise.training.scoring.pair_scores import Pair
from rtdenoise.training.scoring.score_tables import table
from rtdenoise.training.scoring.spectrograms import plot

SNRS_DB = (15.0, 20.0, 25.0)
SEED = 60094
PAN_DB, PAN_HZ, PAN_S = 9.0, 997.0, 4.0  # A tone that is panned to one side.
TITLES = {"si_sdr_db": "SI-SDR dB", "ssnr_db": "segmental SNR dB", "lsd_db": "LSD dB"}
Stereo = Callable[[np.ndarray, int], np.ndarray]  # [samples, 2], rate -> the same shape


def run(folder: Path, systems: Mapping[str, Stereo], out: Path | None, pictures: int) -> str:
    """Tables of the systems on the music in ``folder``; into ``out`` go they, the figures and some ``pictures``."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise UsageError(f"no music in {folder}; give a folder with {', '.join(sorted(AUDIO_SUFFIXES))}")
    results = {}
    for name, system in systems.items():
        console.say(f"{name}: {len(files)} files at {', '.join(f'{s:g}' for s in SNRS_DB)} dB, and clean")
        results[name] = score(files, system)
    text = as_markdown(results)
    if out:
        keep_scores(out, results)
        write_text(out / "tape.md", text)
        for k, path in enumerate(files[:pictures]):
            picture(k, path, systems, out)
    return text


def score(files: list[Path], system: Stereo) -> dict[str, dict[str, float]]:
    """Means for each SNR, before and after; and ``clean``: SI-SDR of clean music, level error of a panned tone."""
    rows: dict[str, list[dict[str, float]]] = {f"{s:g}": [] for s in SNRS_DB}
    through = []
    for k, path in enumerate(files):
        audio, rate = sf.read(path, dtype="float32", always_2d=True)
        clean = np.resize(audio.T, (2, len(audio)))
        through.append(both(metrics.si_sdr_db, clean, system(clean.T, rate).T))
        for snr_db in SNRS_DB:
            noisy, wanted = on_tape(_random(k, snr_db), clean, rate, snr_db)
            rows[f"{snr_db:g}"].append(judge(wanted, noisy, system(noisy.T, rate).T, rate))
    means = {snr: {key: float(np.mean([r[key] for r in some])) for key in some[0]} for snr, some in rows.items()}
    return means | {"clean": {"si_sdr_db": float(np.mean(through)), "pan_error_db": pan_error_db(system)}}


def picture(number: int, path: Path, systems: Mapping[str, Stereo], folder: Path) -> None:
    """Spectrograms of a file at the lowest SNR, before and after: ``NAME.png`` beside the scores."""
    audio, rate = sf.read(path, dtype="float32", always_2d=True)
    sides = on_tape(_random(number, SNRS_DB[0]), np.resize(audio.T, (2, len(audio))), rate, SNRS_DB[0])
    with tempfile.TemporaryDirectory() as temporary:
        noisy, clean = (Path(temporary) / f"{side}.wav" for side in ("noisy", "clean"))
        for target, sound in zip((noisy, clean), sides, strict=True):
            sf.write(target, sound.T, rate, subtype="FLOAT")
        plot([Pair(path.stem, noisy, clean)], systems, folder / f"{path.stem}.png")


def _random(number: int, snr_db: float) -> np.random.Generator:
    return np.random.default_rng([SEED, number, int(snr_db)])


def judge(clean: np.ndarray, noisy: np.ndarray, out: np.ndarray, rate: int) -> dict[str, float]:
    """Scores before (``..._in``) and after; float ``[2, samples]`` each."""
    row = {}
    for suffix, sound in (("_in", noisy), ("", out)):
        row["si_sdr_db" + suffix] = both(metrics.si_sdr_db, clean, sound)
        row["ssnr_db" + suffix] = both(lambda a, b: metrics.segmental_snr_db(a, b, rate), clean, sound)
        row["lsd_db" + suffix] = both(lambda a, b: metrics.log_spectral_distance_db(a, b, rate), clean, sound)
    return row


def both(measure: Callable[[np.ndarray, np.ndarray], float], clean: np.ndarray, out: np.ndarray) -> float:
    """Mean of a measure over the two channels; a channel that is silent in the original does not count."""
    sides = [measure(a.astype(float), b.astype(float)) for a, b in zip(clean, out, strict=True) if np.ptp(a) > 1e-4]
    return float(np.mean(sides))


def pan_error_db(system: Stereo, rate: int = 44100) -> float:
    """How far the level difference of a panned tone in tape noise (25 dB) moves, after the first second."""
    tone = 0.2 * np.sin(2 * np.pi * PAN_HZ * np.arange(int(PAN_S * rate)) / rate)
    clean = np.stack([tone, tone * 10 ** (-PAN_DB / 20)]).astype(np.float32)
    noisy, _ = on_tape(np.random.default_rng(SEED), clean, rate, 25.0)
    out = system(noisy.T, rate).T
    levels = [
        np.abs(x[:, rate:] @ np.exp(2j * np.pi * PAN_HZ * np.arange(rate, len(tone)) / rate)) for x in (noisy, out)
    ]
    before, after = (20 * np.log10(a[0] / a[1]) for a in levels)
    return float(abs(after - before))


def as_markdown(results: dict[str, dict[str, dict[str, float]]]) -> str:
    rows = []
    for name, result in results.items():
        for snr_db in SNRS_DB:
            row = result[f"{snr_db:g}"]
            rows.append([name, f"{snr_db:g} dB", *(f"{row[k + '_in']:.1f} -> {row[k]:.1f}" for k in TITLES)])
    main = table(["model", "SNR of the tape", *TITLES.values()], rows)
    rows = [
        [n, f"{r['clean']['si_sdr_db']:.1f} dB", f"{r['clean']['pan_error_db']:.2f} dB"] for n, r in results.items()
    ]
    return main + "\n" + table(["model", "clean music through it: SI-SDR", "panned tone: level error"], rows)
