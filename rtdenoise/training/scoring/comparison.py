"""How the first system differs from every other, pair by pair, and whether that is more than chance.

Owns the scores kept on disk, and the verdicts: a mean difference within twice its standard error, or within
rounding, is a tie.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise.io.atomic import write_text
from rtdenoise.training.scoring.score_tables import COLUMNS, LESS_IS_BETTER, OPINIONS, WATCH, places, table

JUDGED = COLUMNS | OPINIONS | WATCH
ROUNDING = 1e-9  # The same sound scores differently in the last bits, as its sums lie in memory.
Rows = dict[str, dict[str, float]]  # scores of every pair


def verdicts(sets: dict[str, dict[str, Rows]]) -> str:
    """Tables of the first system against the others that were scored on a set: one for each set, and of more than one
    set the mean of their differences."""
    parts = {name: _verdicts_on([systems]) for name, systems in sets.items()}
    if len(sets) > 1:
        parts[f"mean of {' and '.join(sets)}"] = _verdicts_on(list(sets.values()))
    named = [f"On {name}:\n\n{part}" if len(sets) > 1 else part for name, part in parts.items() if part]
    return "\n".join(named)


def _verdicts_on(sets: list[dict[str, Rows]]) -> str:
    first, *others = sets[0]
    others = [name for name in others if all(name in systems for systems in sets)]
    judged = {
        key: [_verdict([(systems[first], systems[name]) for systems in sets], key) for name in others] for key in JUDGED
    }
    rows = [[JUDGED[key], *cells] for key, cells in judged.items() if {*cells} != {"-"}]
    return table([f"{first} (± 2 standard errors)", *(f"against {name}" for name in others)], rows) if others else ""


def _verdict(compared: list[tuple[Rows, Rows]], key: str) -> str:
    """Better, worse or a tie in one score, by the mean over the sets."""
    means, errors = [], []
    for one, other in compared:
        apart = [row[key] - other[pair][key] for pair, row in one.items() if key in row and key in other[pair]]
        if not apart:
            return "-"
        means.append(np.mean(apart))
        errors.append(np.std(apart, ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.inf)
    mean, two_errors = np.mean(means), 2 * np.sqrt(np.sum(np.square(errors))) / len(errors)
    side = "better" if (mean > 0) != (key in LESS_IS_BETTER) else "worse"
    word = side if abs(mean) > max(two_errors, ROUNDING) else "tie"
    return "{}, {:+.{places}f} ± {:.{places}f}".format(word, mean, two_errors, places=places(key))


def beside(results: dict[str, Any], kept: dict[str, Rows]) -> dict[str, Rows]:
    """What was scored now, and behind it what was before; a namesake does not take the first one's place."""
    scored = {name: result["pairs"] for name, result in results.items()}
    return scored | {f"{name} before" if name in scored else name: rows for name, rows in kept.items()}


def keep_scores(folder: Path, results: dict[str, Any]) -> None:
    """Every system's figures as ``SYSTEM.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    for system, result in results.items():
        write_text(folder / f"{system}.json", json.dumps(result, indent=1))


def read_kept(paths: list[Path], sets: dict[str, list[str]]) -> dict[str, dict[str, Rows]]:
    """Systems scored before, for each of the ``sets`` (names of pairs) that a file has scores of. A file holds one
    system as `keep_scores` writes it, or several as ``{"metrics": [...], "pairs": [...], "scores": {SYSTEM: [[...] for
    each pair]}}``, where null stands for what could not be measured."""
    kept: dict[str, dict[str, Rows]] = {name: {} for name in sets}
    for path in paths:
        systems = _read(path)
        fitting = [name for name, pairs in sets.items() if all({*pairs} <= {*rows} for rows in systems.values())]
        if not fitting:
            wanted = next(iter(sets.values()))
            missing = next(p for rows in systems.values() for p in wanted if p not in rows)
            raise UsageError(f"{path} has no scores of pair {missing}; give scores of the same pairs")
        for name in fitting:
            if twice := {*systems} & {*kept[name]}:
                raise UsageError(f"{path} is the second file with scores of {twice.pop()} on {name}; give one of them")
            kept[name] |= systems
    return kept


def _read(path: Path) -> dict[str, Rows]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if "scores" not in kept:
            return {f"{path.stem} before": {pair: dict(row) for pair, row in kept["pairs"].items()}}
        systems = {}
        for name, rows in kept["scores"].items():
            named = [dict(zip(kept["metrics"], row, strict=True)) for row in rows]
            known = [{k: v for k, v in row.items() if v is not None} for row in named]
            systems[name] = dict(zip(kept["pairs"], known, strict=True))
        return systems
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} contains no scores ({error}); give a file written by `rtdenoise evaluate --out`"
        ) from error
