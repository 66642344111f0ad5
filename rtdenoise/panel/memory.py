"""What the panel remembers from one start to the next: the choices made in it, in a small file of its own.

What is set for a microphone is kept beside it (`rtdenoise.live.microphones`), since live audio without a panel takes it
too.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rtdenoise.home import user_folder
from rtdenoise.io.atomic import write_text

LONGEST_NAME = 1000
LANGUAGES = ("de", "en")


@dataclass(frozen=True)
class Memory:
    """Choices; None was never chosen. ``guided``: the first-run guide has been closed."""

    input: str | None = None
    output: str | None = None
    profile: str | None = None
    language: str | None = None
    guided: bool = False

    def but(self, changes: dict[str, Any]) -> Memory:
        """With those of the changes that make sense: they come from the page, or from a file that anyone may edit."""
        return replace(self, **{name: value for name, value in changes.items() if _fits(name, value)})


def _fits(name: str, value: Any) -> bool:
    if name in ("input", "output", "profile"):
        return value is None or (isinstance(value, str) and len(value) <= LONGEST_NAME)
    if name == "language":
        return value in LANGUAGES
    return name == "guided" and isinstance(value, bool)


def path() -> Path | None:
    folder = user_folder("config")
    return folder and folder / "panel.json"


def load() -> Memory:
    """What was remembered; nothing of a file that cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if (file := path()) is not None and isinstance(kept := json.loads(file.read_text(encoding="utf-8")), dict):
            return Memory().but(kept)
    return Memory()


def save(memory: Memory) -> None:
    """Remember, where there is a place to; a full disk costs only the memory."""
    with contextlib.suppress(OSError):
        if (file := path()) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(asdict(memory), indent=1) + "\n", private=True)
