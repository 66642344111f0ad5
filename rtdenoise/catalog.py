"""`rtdenoise models`: the shipped models as a table, as JSON or as Markdown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from rtdenoise import ui
from rtdenoise.contract import ModelInfo
from rtdenoise.errors import ModelError
from rtdenoise.model import DEFAULT_MODEL, list_models

_COLUMNS: dict[str, Callable[[ModelInfo], str]] = {
    "model": lambda m: m.name + (" (default)" if m.name == DEFAULT_MODEL else ""),
    "version": lambda m: m.version,
    "band": lambda m: f"{(m.bins - 1) / 16:g} kHz, {m.bins} bins",  # bins are 62.5 Hz apart
    "parameters": lambda m: f"{m.parameters:,}",
    "scores": lambda m: ", ".join(f"{name} {value:g}" for name, value in m.scores.items()) or "none stated",
    "licence": lambda m: m.licence,
    "trained on": lambda m: m.training_data,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a JSON object a model, one a line")
    form.add_argument("--markdown", action="store_true", help="a table for a README")


def run(args: argparse.Namespace) -> int:
    models = list_models()
    if not models:
        raise ModelError("no model is installed; reinstall rtdenoise, or use --model PATH.onnx")
    if args.json:
        for m in models:
            print(json.dumps({k: v for k, v in vars(m).items() if k != "framing"} | {"path": str(m.path)}))
        return 0
    rows = [[cell(m) for cell in _COLUMNS.values()] for m in models]
    if args.markdown:
        for row in (list(_COLUMNS), ["---"] * len(_COLUMNS), *rows):
            print(f"| {' | '.join(row)} |")
    else:
        ui.print_table(list(_COLUMNS), rows)
    return 0
