"""What was set for each microphone in the panel: kept by its name, and taken again when it comes back.

    {"USB microphone": {"strength": 12, "channels": 1}}       in one private file beside the configuration

Keys and values are those of the configuration. The panel writes it, whatever runs live audio from the command reads it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtdenoise.arguments import VALUES, near
from rtdenoise.errors import UsageError
from rtdenoise.home import user_folder
from rtdenoise.io.atomic import write_text

KEYS = ("strength", "low_cut", "model", "channels")
MOST = 200  # microphones; beyond, the one that was set longest ago is forgotten


def path() -> Path | None:
    """Where the file is or would be; None for a user without a home."""
    folder = user_folder("config")
    return folder and folder / "microphones.json"


def load() -> dict[str, dict[str, Any]]:
    """Settings by the name of the microphone. Raises `UsageError` that names file, microphone and key."""
    if (file := path()) is None:
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise UsageError(f"cannot read {file}: {problem.strerror}") from problem
    except (ValueError, RecursionError):
        raise UsageError(f"{file} is not valid JSON; mend or remove it") from None
    if not isinstance(kept, dict):
        raise UsageError(f"{file} must be an object of microphones; mend or remove it")
    for name, settings in kept.items():
        _check(settings, f"{file}: {name!r}")
    return kept


def _check(settings: Any, where: str) -> None:
    if not isinstance(settings, dict):
        raise UsageError(f"{where} must be an object of settings, not {settings!r}")
    for key, value in settings.items():
        if key not in KEYS:
            raise UsageError(f"{where}: unknown key {key!r}{near(key, KEYS)}")
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise argparse.ArgumentTypeError(f"{value!r} is neither a number nor a text")
            VALUES[key](str(value))
        except argparse.ArgumentTypeError as problem:
            raise UsageError(f"{where}: {key}: {problem}") from problem


def save(changed: Mapping[str, Mapping[str, Any]]) -> None:
    """Put these in place of what the file says of the same microphones; one without settings is forgotten.

    A file that cannot be read is left as it is, and raises `UsageError`; one that cannot be written OSError.
    """
    if (file := path()) is None:
        return
    kept = {name: settings for name, settings in load().items() if name not in changed}
    kept |= {name: dict(settings) for name, settings in changed.items() if settings}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(dict(list(kept.items())[-MOST:]), indent=1, ensure_ascii=False) + "\n", private=True)
