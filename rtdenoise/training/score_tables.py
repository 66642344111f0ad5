"""What `evaluate` prints and keeps: scores as Markdown tables and JSON, means and paired differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rtdenoise.atomic import write_text
from rtdenoise.errors import UsageError

PLACES = {"stoi": 3, "estoi": 3, "si_sdr": 1}  # decimals shown; two otherwise
COLUMNS = {  # score -> heading
    "pesq_wb": "PESQ-WB",
    "pesq_nb": "PESQ-NB",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "si_sdr": "SI-SDR",
    "ssnr": "SSNR",
    "lsd": "LSD",
    "csig": "CSIG",
    "cbak": "CBAK",
    "covl": "COVL",
}
OPINIONS = {"sig": "SIG", "bak": "BAK", "ovrl": "OVRL"}  # of `dnsmos`, where it was asked for


def as_markdown(results: dict[str, dict[str, Any]], kept: dict[str, dict[str, Any]] | None = None) -> str:
    """Tables: the scores, some of them by SNR, what else was asked, and how the others differ from the first. ``kept``
    are systems as `read_scores` gives them; they count among the others."""
    first = next(iter(results.values()))
    snrs, lowest = list(first["by_snr"]), next(iter(first["by_snr"]))
    columns = _columns(first["mean"])
    score = lambda r, k: f"{r[k]:.{PLACES.get(k, 2)}f}"
    rows = [[name, *(score(r["mean"], k) for k in columns)] for name, r in results.items()]
    main = table(["system", *columns.values()], rows)
    shown = [(k, s) for k in ("pesq_wb", "si_sdr", "estoi") for s in snrs]
    rows = [[name, *(score(r["by_snr"][s], k) for k, s in shown)] for name, r in results.items()]
    by_snr = table(["system", *(f"{COLUMNS[k]} at {s} dB" for k, s in shown)], rows)
    rows = []
    for name, r in results.items():
        mean, worse, probe = r["mean"], r["worse_than_noisy"], r["probes"]
        rows.append(
            [
                name,
                f"{worse['estoi']} / {worse['si_sdr']} of {len(r['pairs'])}",
                f"{r['by_snr'][lowest]['gain_db']:.1f} dB",
                f"{mean['clean_in_si_sdr']:.1f} dB / {mean['clean_in_pesq']:.2f}",
                f"{mean['noise_in_db']:.0f} / {probe['white_db']:.0f} / {probe['fan_db']:.0f} dB",
                *(
                    f"{mean[k]:.2f} ({mean[f'{k}_noisy']:.2f})" if k in mean else "-"
                    for k in ("lsd_8_20k", "si_sdr_48k")
                ),
                f"{mean['rtf']:.3f}",
            ]
        )
    titles = [
        "system",
        "worse than noisy, ESTOI / SI-SDR",
        f"gain on the clean part at {lowest} dB",
        "clean in: SI-SDR / PESQ-WB",
        "noise alone, attenuation: pairs / white / fan",
        "LSD 8-20 kHz (noisy)",
        "SI-SDR at 48 kHz (noisy)",
        "RTF",
    ]
    return "\n".join([main, by_snr, table(titles, rows), *differences(results, kept)])


def differences(results: dict[str, dict[str, Any]], kept: dict[str, dict[str, Any]] | None = None) -> list[str]:
    """A table of the others minus the first, pair by pair: means and twice their standard errors. Less is a tie. What
    is ``kept`` may bear the name of one of the results."""
    (first, one), *others = [*results.items(), *(kept or {}).items()]
    columns = _columns(next(iter(one["pairs"].values())))
    rows = []
    for name, other in others:
        cells = [f"{name} minus {first}"]
        for key in columns:
            if any(key not in other["pairs"][pair] for pair in one["pairs"]):
                cells.append("-")
                continue
            apart = np.array([other["pairs"][pair][key] - row[key] for pair, row in one["pairs"].items()])
            error = np.std(apart, ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.inf
            cells.append("{:+.{places}f} ± {:.{places}f}".format(apart.mean(), 2 * error, places=PLACES.get(key, 2)))
        rows.append(cells)
    return [table(["mean difference ± 2 standard errors", *columns.values()], rows)] if rows else []


def _columns(scored: dict[str, float]) -> dict[str, str]:
    return COLUMNS | {k: heading for k, heading in OPINIONS.items() if k in scored}


def table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_scores(path: Path, pairs: list[str]) -> dict[str, dict[str, Any]]:
    """Systems scored before on these ``pairs``, as `differences` takes them: one by a ``SYSTEM.json`` of `keep_scores`,
    or several by one file, ``{"metrics": [...], "pairs": [...], "scores": {SYSTEM: [[...] for each pair]}}``."""
    try:
        kept = json.loads(path.read_text())
        if "scores" in kept:
            systems = {
                name: {
                    pair: dict(zip(kept["metrics"], row, strict=True))
                    for pair, row in zip(kept["pairs"], rows, strict=True)
                }
                for name, rows in kept["scores"].items()
            }
        else:
            systems = {f"{path.stem} before": dict(kept["pairs"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds no scores ({error}); give a file that `evaluate --out` wrote") from error
    missing = next((pair for rows in systems.values() for pair in pairs if pair not in rows), None)
    if missing:
        raise UsageError(f"{path} has no scores of pair {missing}; give scores of the same pairs")
    return {name: {"pairs": rows} for name, rows in systems.items()}


def keep_scores(folder: Path, name: str, tables: str, results: dict[str, Any]) -> None:
    """The tables as ``name`` and every system's figures as ``SYSTEM.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / name, tables)
    for system, result in results.items():
        write_text(folder / f"{system}.json", json.dumps(result, indent=1))
