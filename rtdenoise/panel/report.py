"""What the panel copies for a bug report: versions, the system and the figures of the session."""

from __future__ import annotations

import json
import platform
from typing import Any

from rtdenoise import __version__


def text(state: dict[str, Any]) -> str:
    """Lines for people; no path and no name but those of devices."""
    lines = [
        f"rtdenoise {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"phase: {state['phase']} {state['problem']}".rstrip(),
        f"choices: {json.dumps(state['choices'])}, settings: {json.dumps(state['settings'])}",
        *(f"{name}: {json.dumps(value)}" for name, value in (state["status"] or {}).items()),
        *(f"{side}: {device['label']}" for side, listed in state["devices"].items() for device in listed),
    ]
    return "\n".join(lines) + "\n"
