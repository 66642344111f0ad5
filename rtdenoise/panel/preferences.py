"""What the panel's session is to have, by the names of the options, for a microphone and a profile.

this start's command line, its --profile too ▸ remembered for the microphone ▸ profile ▸ configuration
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from rtdenoise.arguments import values_of
from rtdenoise.live import microphones
from rtdenoise.profiles import NOTHING, Profile, find


class Preferences:
    """``configured`` and ``said`` as read, and ``typed``: what the profile sets that the command line names, until
    another takes its place. ``profiles`` gives those there are now. Safe from several threads."""

    def __init__(
        self,
        configured: Mapping[str, Any],
        profiles: Callable[[], Mapping[str, Profile]],
        said: Mapping[str, Any],
        kept: Mapping[str, Mapping[str, Any]],
        typed: Mapping[str, Any] | None = None,
    ):
        self.profiles = profiles
        self._configured, self._typed = configured, dict(typed or {})
        self._said = self._typed | dict(said)
        self._kept = {name: dict(settings) for name, settings in kept.items()}
        self._next: dict[str, Any] = {}  # what was set while no microphone was known
        self._unsaved: set[str] = set()
        self._turn = threading.Lock()

    def wanted(self, microphone: str, profile: str) -> dict[str, Any]:
        """The settings that hold; `UsageError` for an unknown profile, of which "" is none."""
        chosen = find(profile, self.profiles()).values() if profile else {}
        with self._turn:
            kept = values_of(self._kept.get(microphone, {}))
            wanted = dict(self._configured) | chosen | kept | self._said
        if isinstance(wanted.get("latency"), float) and "latency" in chosen:
            wanted.pop("fixed_latency", None)  # The two exclude each other.
        return wanted

    def remember(self, microphone: str, settings: Mapping[str, Any]) -> None:
        """Settings as read. While no microphone is known, they are for the one that comes next."""
        with self._turn:
            self._said = {name: value for name, value in self._said.items() if name not in settings}
            if not microphone:
                self._next |= settings
                return
            plain = {name: NOTHING[name] if value is None else value for name, value in settings.items()}
            self._kept[microphone] = self._kept.get(microphone, {}) | plain
            self._unsaved.add(microphone)

    def arrived(self, microphone: str) -> None:
        """The microphone is known for which settings may wait."""
        with self._turn:
            waiting, self._next = self._next, {}
        if waiting:
            self.remember(microphone, waiting)

    def begin_profile(self, microphone: str, profile: str) -> None:
        """Forget what is remembered in place of what the profile sets, of which "" sets nothing. `UsageError` for an
        unknown one."""
        names = set(find(profile, self.profiles()).settings()) if profile else set()
        with self._turn:
            gone, self._typed = names | set(self._typed), {}
            self._said = {name: value for name, value in self._said.items() if name not in gone}
            self._next = {name: value for name, value in self._next.items() if name not in names}
            before = self._kept.get(microphone, {})
            kept = {name: value for name, value in before.items() if name not in names}
            if kept != before:
                self._kept[microphone] = kept
                self._unsaved.add(microphone)

    @property
    def unsaved(self) -> bool:
        return bool(self._unsaved)

    def save(self) -> None:
        """As `microphones.save`; what could not be saved is not tried again until it changes."""
        with self._turn:
            changed, self._unsaved = {name: dict(self._kept[name]) for name in self._unsaved}, set()
        if changed:
            microphones.save(changed)
