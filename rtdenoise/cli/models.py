"""`rtdenoise models`: the shipped models as a table, as JSON or as Markdown; alone, or beside other denoisers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from rtdenoise import console
from rtdenoise.errors import ModelError
from rtdenoise.model.contract import ModelInfo
from rtdenoise.model.registry import DEFAULT_MODEL, FILE_MODEL, list_models, models_folder

_DEFAULTS = {DEFAULT_MODEL: " (default)", FILE_MODEL: " (default for files)"}
_COLUMNS: dict[str, Callable[[ModelInfo], str]] = {
    "model": lambda m: m.name + _DEFAULTS.get(m.name, ""),
    "version": lambda m: m.version,
    "band": lambda m: f"{(m.bins - 1) / m.framing.window_ms:g} kHz, {m.bins} bins",
    "parameters": lambda m: f"{m.parameters:,}",
    "latency": lambda m: f"{m.framing.latency_ms:g} ms",
    "scores": lambda m: ", ".join(f"{name} {value:#.3g}" for name, value in m.scores.items()) or "none",
    "licence": lambda m: m.licence,
}
_COMPARED = ("PESQ-WB", "ESTOI", "SI-SDR dB", "COVL")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object per model")
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--peers", action="store_true", help="list scores beside those of other denoisers, best last")


def run(args: argparse.Namespace) -> int:
    models = list_models()
    if not models:
        raise ModelError("no model is installed; reinstall rtdenoise, or use --model PATH.onnx")
    if args.json:
        for m in models:
            plain = {k: v for k, v in vars(m).items() if k != "framing"}
            times = {"latency_ms": m.framing.latency_ms, "look_ahead_frames": m.framing.look_ahead}
            print(json.dumps(plain | {"path": str(m.path)} | times))
        return 0
    titles, rows = _beside_peers(models) if args.peers else _alone(models)
    if args.markdown:
        for row in (titles, ["---"] * len(titles), *rows):
            print(f"| {' | '.join(row)} |")
    else:
        console.print_table(titles, rows)
    return 0


def _alone(models: list[ModelInfo]) -> tuple[list[str], list[list[str]]]:
    return list(_COLUMNS), [[cell(m) for cell in _COLUMNS.values()] for m in models]


def _beside_peers(models: list[ModelInfo]) -> tuple[list[str], list[list[str]]]:
    """Only models that state all scores; ``peers.json`` says how the others were run."""
    systems = json.loads((models_folder() / "peers.json").read_text(encoding="utf-8"))["systems"]
    systems += [
        {
            "system": f"**{m.name}**",
            "latency_ms": m.framing.latency_ms,
            "parameters": m.parameters,
            "scores": m.scores,
        }
        for m in models
        if set(_COMPARED) <= set(m.scores)
    ]
    rows = [
        [
            s["system"],
            f"{s['latency_ms']:g} ms" if s["latency_ms"] else "-",
            f"{s['parameters']:,}" if s["parameters"] else "-",
            *(f"{s['scores'][name]:.{3 if name == 'ESTOI' else 2}f}" for name in _COMPARED),
        ]
        for s in sorted(systems, key=lambda s: s["scores"]["PESQ-WB"])
    ]
    return ["system", "latency", "parameters", *_COMPARED], rows
