"""A `LiveDenoiser` as those see it who control it from another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rtdenoise.control.messages import TOGGLE
from rtdenoise.geometry import Geometry
from rtdenoise.live.session import LiveDenoiser
from rtdenoise.model.registry import DEFAULT_MODEL
from rtdenoise.profiles import Profile, find, while_running


class RemoteSession:
    """What `rtdenoise.control.server` needs of ``live``, which was asked for a ``latency`` and began with a
    ``profile``; ``profiles`` gives those there are."""

    def __init__(
        self,
        live: LiveDenoiser,
        latency: str | float = "normal",
        profile: str | None = None,
        profiles: Callable[[], Mapping[str, Profile]] = dict,
    ):
        self._live, self._latency = live, latency
        self._profile, self._profiles = profile, profiles

    def status(self) -> dict[str, Any]:
        return self._live.stats().as_json() | {"profile": self._profile}

    def apply(self, settings: dict[str, Any]) -> None:
        """Settings that have been checked (`rtdenoise.control.messages`); what may be refused comes first."""
        live, name = self._live, settings.get("profile")
        if name is not None:
            settings = while_running(name, find(name, self._profiles()), self._fits) | settings
        if "model" in settings and (model := settings["model"] or DEFAULT_MODEL) != live.model:
            live.exchange_model(model)
        for key in ("muted", "bypass"):
            if key in settings:
                value = settings[key]
                setattr(live, key, not getattr(live, key) if value == TOGGLE else value)
        for key in ("strength_db", "low_cut_hz"):
            if key in settings:
                setattr(live, key, settings[key])
        self._profile = name or self._profile

    def heard(self) -> bool:
        return self._live.settled

    def _fits(self, name: str, value: Any) -> bool:
        """Whether the session runs with that latency or that many channels already."""
        stats = self._live.stats()
        if name == "channels":
            return bool(value == stats.channels)
        full_ms = Geometry(stats.rate, self._live.framing).latency_ms("normal")
        running = {self._latency, "normal" if stats.algorithmic_latency_ms > full_ms - 0.1 else "low"}
        return value in running
