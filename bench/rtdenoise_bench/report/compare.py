"""Compare two reports: ratios of the figures that both have, with the uncertainty that each report's own noise gives.

A figure counts as slower only if it is so by more than the threshold even at the near end of its noise; then the
command ends with exit code 1.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from rtdenoise import console
from rtdenoise.arguments import number
from rtdenoise.errors import UsageError
from rtdenoise_bench.report.report import Report, load

THRESHOLD = 0.10


@dataclass(frozen=True)
class Figure:
    """A value where less is better, and how much of it may be noise."""

    value: float
    unit: str
    noise: float


@dataclass(frozen=True)
class Ratio:
    """One figure of both reports; ``noise`` is that of the ratio."""

    name: str
    before: Figure
    after: Figure

    @property
    def ratio(self) -> float:
        return self.after.value / self.before.value

    @property
    def noise(self) -> float:
        return math.hypot(self.before.noise, self.after.noise)

    def verdict(self, threshold: float) -> str:
        """
        >>> us = lambda value: Figure(value, "us", 0.03)
        >>> [Ratio("hop", us(100), us(v)).verdict(0.1) for v in (80, 96, 112, 130)]
        ['faster', 'same', 'same', 'SLOWER']
        """
        if self.ratio / (1 + self.noise) > 1 + threshold:
            return "SLOWER"
        return "faster" if self.ratio * (1 + self.noise) < 1 - threshold else "same"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, help="a report made with --json")
    parser.add_argument("after", type=Path, help="another one, of the same machine")
    parser.add_argument(
        "--threshold",
        type=number(0, 100_000, "percent"),
        default=100 * THRESHOLD,
        metavar="PERCENT",
        help="fail if a figure is slower by more than this (default %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    before, after = load(args.before), load(args.after)
    threshold = args.threshold / 100
    ratios = compare(before, after)
    rows = [
        [r.name, _text(r.before), _text(r.after), f"{r.ratio:.3f}", f"+-{100 * r.noise:.1f} %", r.verdict(threshold)]
        for r in ratios
    ]
    console.print_table(["figure", "before", "after", "ratio", "noise", f"beyond {args.threshold:g} %"], rows)
    for report, path in ((before, args.before), (after, args.after)):
        for text in report.warnings:
            console.say(f"{path}: {text}")
    if before.machine.line != after.machine.line:
        console.say(f"not the same machine or versions: {before.machine.line} / {after.machine.line}")
    slower = [r.name for r in ratios if r.verdict(threshold) == "SLOWER"]
    if slower:
        console.say(f"slower by more than {args.threshold:g} %: {', '.join(slower)}")
    return int(bool(slower))


def compare(before: Report, after: Report) -> list[Ratio]:
    """Every figure that both reports have. `UsageError` if there is none."""
    old, new = _figures(before), _figures(after)
    found = [Ratio(name, old[name], new[name]) for name in old if name in new]
    if not found:
        raise UsageError("the reports have no figure in common; make both with the same sections, model and servers")
    return found


def _figures(report: Report) -> dict[str, Figure]:
    """Medians, each with the noise that the report itself measured; the clock's resolution counts too."""
    found = {}
    steady = report.engine.noise if report.engine else 0.0
    grain_us = report.noise.reading_ns / 1000 if report.noise else 0.0
    noise = lambda us: math.hypot(steady, grain_us / us)
    if e := report.engine:
        of = f"{e.model} {e.rate} Hz x {e.channels} {e.latency}"
        for name, t in [*((s.name, s.times) for s in e.stages), ("whole hop", e.hop)]:
            found[f"{of}: {name}"] = Figure(t.median, "us", noise(t.median))
    for c in report.matrix:
        of = f"{c.model} {c.rate} Hz x {c.channels} {c.latency}: hop"
        found[of] = Figure(c.hop_us, "us", math.hypot(c.noise, noise(c.hop_us)))
    for k in report.costs:
        of = f"{k.name}, {k.way}: a second of sound"
        found[f"{of}, warm"] = Figure(k.warm, "%", k.noise)
        if math.isfinite(k.cold):
            found[f"{of}, cold"] = Figure(k.cold, "%", k.noise)
    for w in report.live:
        half = (w.high_ms - w.low_ms) / 2 / w.latency_ms
        found[f"{w.name} {w.model} {w.latency}: end to end"] = Figure(w.latency_ms, "ms", half)
    if loop := report.loopback:
        half = (loop.high_ms - loop.low_ms) / 2 / loop.latency_ms
        found[f"{loop.output} -> {loop.input}: round trip"] = Figure(loop.latency_ms, "ms", half)
    return found


def _text(figure: Figure) -> str:
    return f"{figure.value:,.4g} {figure.unit}"
