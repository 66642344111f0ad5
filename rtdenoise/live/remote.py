"""A `LiveDenoiser` as those see it who control it from another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rtdenoise.control.messages import EARS, TOGGLE
from rtdenoise.errors import UsageError
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
        if EARS in settings:
            raise UsageError("this session has one direction; `rtdenoise call` has ears too")
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
        """Whether the session runs with that latency or that many channels already, or can take on that model."""
        stats = self._live.stats()
        if name == "model":
            return self._live.fits(value)
        if name == "channels":
            return bool(value == stats.channels)
        full_ms = Geometry(stats.rate, self._live.framing).latency_ms("normal")
        running = {self._latency, "normal" if stats.algorithmic_latency_ms > full_ms - 0.1 else "low"}
        return value in running


class RemoteCall:
    """A call, which has two directions: what is set is the microphone's, and below ``ears`` that of what is heard."""

    def __init__(self, microphone: RemoteSession, ears: RemoteSession):
        self._microphone, self._ears = microphone, ears

    def status(self) -> dict[str, Any]:
        return self._microphone.status() | {EARS: self._ears.status()}

    def apply(self, settings: dict[str, Any]) -> None:
        if EARS in settings:
            self._ears.apply(settings[EARS])
        else:
            self._microphone.apply(settings)

    def heard(self) -> bool:
        return self._microphone.heard() and self._ears.heard()
