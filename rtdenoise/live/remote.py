"""A `LiveDenoiser` as those see it who control it from another process or from the panel."""

from __future__ import annotations

from typing import Any

from rtdenoise.control.messages import TOGGLE
from rtdenoise.live.session import LiveDenoiser


class RemoteSession:
    """What `rtdenoise.control.server` needs of ``live``."""

    def __init__(self, live: LiveDenoiser):
        self._live = live

    def status(self) -> dict[str, Any]:
        return self._live.stats().as_json()

    def apply(self, settings: dict[str, Any]) -> None:
        """Settings that have been checked (`rtdenoise.control.messages`); the model first, which may be refused."""
        live = self._live
        if "model" in settings:
            live.exchange_model(settings["model"])
        for name in ("muted", "bypass"):
            if name in settings:
                value = settings[name]
                setattr(live, name, not getattr(live, name) if value == TOGGLE else value)
        for name in ("strength_db", "low_cut_hz"):
            if name in settings:
                setattr(live, name, settings[name])

    def heard(self) -> bool:
        return self._live.settled
