"""`rtdenoise-bench load` says what whole sessions took, and misses its limits when they take too much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtdenoise.errors import UsageError
from rtdenoise_bench.measure.load import ECONOMY, OTHER, OURS, SETTLE_RECORDS, Way


def program(folder: Path, records: list[dict], status: int = 0) -> str:
    """A stand-in for an interpreter: says these records, whatever it is asked."""
    path = folder / f"python{len(list(folder.iterdir()))}"
    lines = [f"echo '{json.dumps(record)}'" for record in records]
    path.write_text("\n".join(["#!/bin/sh", *lines, "echo no device >&2", f"exit {status}", ""]), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def visited(folder: Path, name: str, percents: list[float], underruns: list[int]) -> Way:
    records = [{"cpu_percent": p, "underruns": u} for p, u in zip(percents, underruns, strict=True)]
    way = Way(name, program(folder, records))
    way.visit({"PATH": "/usr/bin:/bin"}, "pulse", Path("m.onnx"), len(percents) - SETTLE_RECORDS)
    return way


def test_what_a_start_takes_does_not_count(tmp_path):
    way = visited(tmp_path, OURS, [90, 80, 10, 12, 11], [5, 7, 7, 7, 9])
    assert way.percents == [11]
    assert way.underruns == 2


@pytest.mark.parametrize(("percent", "underruns", "ok"), [(9.9, 0, True), (10.1, 0, False), (9.9, 1, False)])
def test_half_of_the_others_time_without_more_gaps_is_the_limit(tmp_path, percent, underruns, ok):
    ours = visited(tmp_path, OURS, [50, 50, percent, percent], [0, 0, 0, underruns])
    other = visited(tmp_path, OTHER, [50, 50, 20, 20], [0, 0, 0, 0])
    row = ours.row(other, "pulse")
    assert row.ok is ok
    assert f"{percent / 20:.2f} x the other's" in row.measured
    assert other.row(other, "pulse").ok is None


def test_economy_has_a_limit_of_its_own(tmp_path):
    economy = visited(tmp_path, ECONOMY, [50, 50, 7, 7], [0] * 4)
    assert economy.row(visited(tmp_path, OTHER, [50, 50, 20, 20], [0] * 4), "pulse").ok is False


def test_a_session_that_does_not_come_about_says_why(tmp_path):
    way = Way(OURS, program(tmp_path, [], 1))
    with pytest.raises(UsageError, match="no device"):
        way.visit({"PATH": "/usr/bin:/bin"}, "pulse", Path("m.onnx"), 1)
