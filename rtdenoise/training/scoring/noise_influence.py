"""Which noise of a set a difference between two systems hangs on: a mean over few noises may be the work of one.

Owns the noises of pairs, as the ``pairs.csv`` of a set names them.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise.training.scoring.comparison import Rows
from rtdenoise.training.scoring.score_tables import COLUMNS, OPINIONS, places, table

NAMED = ("noise_source", "noise")  # The columns that name a noise; `devset` puts both into the second.
# Of each of these more is better.
SHOWN = {k: v for k, v in (COLUMNS | OPINIONS).items() if k in ("pesq_wb", "estoi", "si_sdr_80hz", "covl", "ovrl")}


def noises_of(folder: Path) -> dict[str, str]:
    """The noise of every pair by the pair's name; nothing without a ``pairs.csv`` that has the columns ``pair`` and
    ``noise``."""
    path = folder / "pairs.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}; mend it, or remove it: scores do not need it") from error
    if not rows or not {"pair", "noise"} <= {*rows[0]}:
        return {}
    return {row["pair"]: "/".join(row[k] for k in NAMED if row.get(k)) for row in rows}


def influences(sets: dict[str, dict[str, Rows]], noises: dict[str, dict[str, str]]) -> str:
    """A table for each set whose noises are known: how the first system differs from every other, and how without the
    one noise that pulls it down most."""
    parts = {name: _influences_on(systems, noises[name]) for name, systems in sets.items() if noises[name]}
    return "\n".join(
        f"On {name}, and without the noise that pulls it down most (so many pairs):\n\n{part}"
        for name, part in parts.items()
        if part
    )


def _influences_on(systems: dict[str, Rows], noises: dict[str, str]) -> str:
    first, *others = systems
    rows = [[f"against {name}", *(_cell(systems[first], systems[name], noises, k) for k in SHOWN)] for name in others]
    return table([first, *SHOWN.values()], rows) if others else ""


def _cell(one: Rows, other: Rows, noises: dict[str, str], key: str) -> str:
    """The mean difference, the same without the pairs of one noise, that noise, and how many pairs it has."""
    apart = {pair: row[key] - other[pair][key] for pair, row in one.items() if key in row and key in other[pair]}
    noise = {pair: noises.get(pair) or "the unnamed" for pair in apart}
    if len({*noise.values()}) < 2:
        return "-"
    rest = {out: np.mean([x for pair, x in apart.items() if noise[pair] != out]) for out in sorted({*noise.values()})}
    most = max(rest, key=lambda name: rest[name])
    count, digits = list(noise.values()).count(most), places(key)
    return f"{np.mean(list(apart.values())):+.{digits}f}, {rest[most]:+.{digits}f} without {most} ({count})"
