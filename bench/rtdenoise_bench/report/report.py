"""The latency report as data: everything that was measured, and nothing about how it looks.

Terminal, Markdown and HTML are drawn from one `Report`; `to_json` and `from_json` keep one in a file, for tickets and
for `rtdenoise-bench compare`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtdenoise.errors import UsageError
from rtdenoise_bench.measure.clock import Noise
from rtdenoise_bench.measure.cost import Cost
from rtdenoise_bench.measure.live import Live
from rtdenoise_bench.measure.loopback import Loopback
from rtdenoise_bench.measure.matrix import Cell
from rtdenoise_bench.measure.peers import Peer
from rtdenoise_bench.measure.stages import Engine, InRealTime
from rtdenoise_bench.measure.start import Start
from rtdenoise_bench.report.machine import Machine

FORMAT = 2


@dataclass(frozen=True)
class Report:
    """``left_out`` says what was not measured and why, ``warnings`` what makes figures doubtful, ``advice`` what to
    change."""

    made: str
    took_s: float
    machine: Machine
    noise: Noise | None = None
    start: Start | None = None
    engine: Engine | None = None
    in_real_time: list[InRealTime] = field(default_factory=list)
    matrix: list[Cell] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    live: list[Live] = field(default_factory=list)
    loopback: Loopback | None = None
    peers: list[Peer] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    format: int = FORMAT


def to_json(report: Report) -> str:
    """Figures as measured; what is not a number becomes null."""
    return json.dumps(_plain(dataclasses.asdict(report)), indent=1)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(path: Path) -> Report:
    """Read a report; `UsageError` if the file is none, or of another version."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{path}: not a readable report ({e}); make one with `rtdenoise-bench --json {path}`") from e
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise UsageError(f"{path}: a report in format {found}, this version reads format {FORMAT}; make a new one")
    try:
        return _built(Report, data)
    except (TypeError, KeyError) as e:
        raise UsageError(f"{path}: an incomplete report ({e}); make a new one") from e


def _built(kind: Any, value: Any) -> Any:
    """A dataclass tree from plain data, by its type hints."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _built(inner[0], value)
    if origin is list:
        return [_built(inner[0], v) for v in value]
    if origin is dict:
        return {k: _built(inner[1], v) for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{k: _built(hints[k], v) for k, v in value.items()})  # type: ignore[operator]
    return math.nan if value is None and kind is float else value
