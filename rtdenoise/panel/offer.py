"""What there is to choose from, as the page lists it: devices, models and profiles."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.profiles import Profile

SPEAKER = sys.platform == "linux"  # whether there can be a virtual speaker


class Offer:
    """``lists`` by what is chosen, empty until the first `look`; ``profiles`` gives those there are now."""

    def __init__(self, profiles: Callable[[], Mapping[str, Profile]]):
        self._profiles = profiles
        devices: dict[str, list[dict[str, str]]] = {"inputs": [], "outputs": []}
        self.lists: dict[str, Any] = {"devices": devices, "speaker": SPEAKER, "models": [], "profiles": []}

    def look(self) -> None:
        """List anew. Libraries are loaded here, so that the page answers before."""
        from rtdenoise.live.devices import list_devices
        from rtdenoise.model.registry import list_models

        try:
            listed = [d for d in list_devices() if not d.own]
        except RtdenoiseError:
            listed = []
        named = [(d, {"value": d.endpoint or d.label, "label": d.label}) for d in listed]  # as `find_device` takes it
        devices = {
            "inputs": [name for d, name in named if d.inputs],
            "outputs": [name for d, name in named if d.outputs],
        }
        models = self.lists["models"] or [info.name for info in list_models()]
        profiles = self.lists["profiles"]
        with contextlib.suppress(UsageError):  # A file that somebody edits may be wrong for a while.
            profiles = [{"name": name, "about": profile.about} for name, profile in self._profiles().items()]
        self.lists = self.lists | {"devices": devices, "models": models, "profiles": profiles}
