"""`rtdenoise models`: the shipped models as a table or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from rtdenoise import ui
from rtdenoise.errors import ModelError
from rtdenoise.model import DEFAULT_MODEL, ModelInfo, list_models

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
    parser.add_argument("--json", action="store_true", help="one JSON object a model, one a line, on standard output")


def run(args: argparse.Namespace) -> int:
    models = list_models()
    if not models:
        raise ModelError("no model is installed; reinstall rtdenoise, or use --model PATH.onnx")
    if args.json:
        for m in models:
            print(json.dumps({k: v for k, v in vars(m).items() if k != "framing"} | {"path": str(m.path)}))
    else:
        ui.print_table(list(_COLUMNS), [[cell(m) for cell in _COLUMNS.values()] for m in models])
    return 0
