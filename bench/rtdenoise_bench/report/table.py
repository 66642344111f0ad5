"""Rows of a report: what was measured, and its limit. Printed as Markdown, which can be pasted into a ticket."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rtdenoise_bench.report import machine


@dataclass(frozen=True)
class Row:
    """One measure; ``ok`` is None where there is no limit."""

    what: str
    measured: str
    limit: str = ""
    ok: bool | None = None


def at_most(what: str, value: float, limit: float, unit: str, form: str = ".3g") -> Row:
    return Row(what, f"{value:{form}} {unit}".strip(), f"<= {limit:g} {unit}".strip(), bool(value <= limit))


def at_least(what: str, value: float, limit: float, unit: str, form: str = ".3g") -> Row:
    return Row(what, f"{value:{form}} {unit}".strip(), f">= {limit:g} {unit}".strip(), bool(value >= limit))


def show(rows: list[Row], as_json: bool) -> int:
    """Print the rows; returns 1 if one of them misses its limit."""
    if as_json:
        print(json.dumps({"machine": machine.look().line, "rows": [asdict(r) for r in rows]}))
    else:
        print(machine.look().line, "\n")
        print("| what | measured | limit | |\n|---|---|---|---|")
        for r in rows:
            print(f"| {r.what} | {r.measured} | {r.limit} | {'' if r.ok is None else 'ok' if r.ok else 'MISSED'} |")
    return int(any(r.ok is False for r in rows))
