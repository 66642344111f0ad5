"""Profiles: named sets of settings, for what a microphone is used for.

    command line ▸ its --profile ▸ remembered for the microphone ▸ configured profile ▸ configuration ▸ built-in value

The configuration may change those that are built in, and add others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rtdenoise.arguments import near, values_of
from rtdenoise.errors import UsageError

LONGEST_NAME = 60
# What a session calls settings that can be changed while it runs, by the names of the options, if they differ.
ATTRIBUTES = {"strength": "strength_db", "low_cut": "low_cut_hz"}
UNITS = {"strength": " dB", "low_cut": " Hz", "latency": " ms"}  # of figures
NOTHING = {"strength": "none", "low_cut": "off"}  # how the absence of one is written


@dataclass(frozen=True)
class Profile:
    """Settings by the names of the options; None is left as it is. ``about`` says what it is for."""

    about: str = ""
    model: str | None = None
    strength: float | str | None = None  # "none" is no limit
    low_cut: float | str | None = None  # "off" is none
    latency: str | float | None = None
    channels: int | None = None

    def settings(self) -> dict[str, Any]:
        """What it sets, as the configuration has it."""
        return {name: value for name, value in vars(self).items() if name != "about" and value is not None}

    def values(self) -> dict[str, Any]:
        """The same, read as the command line is: no limit is None."""
        return values_of(self.settings())


BUILT_IN = {
    "call": Profile("calls and meetings: as little noise as possible", strength="none", latency="normal"),
    "podcast": Profile(
        "recordings of a voice: some of the room stays; 40 ms", model="studio", strength=12.0, latency="normal"
    ),
    "music-practice": Profile("singing or playing and hearing it: 8 ms, and gentle", strength=6.0, latency="low"),
    "far-microphone": Profile("a microphone across the room: a weak voice is kept", strength=18.0, latency="normal"),
}


def in_words(settings: Mapping[str, Any]) -> str:
    """
    >>> in_words({"low_cut": 80, "strength": 12.0, "latency": "low"})
    'low cut 80 Hz, strength 12 dB, latency low'
    """
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}' + UNITS.get(name, '')}"
        for name, value in settings.items()
    )


def find(name: str, profiles: Mapping[str, Profile]) -> Profile:
    """The profile of this name; `UsageError` if there is none."""
    if name not in profiles:
        raise UsageError(f"unknown profile {name!r}{near(name, list(profiles))}; see rtdenoise profiles")
    return profiles[name]


def while_running(name: str, profile: Profile, fits: Callable[[str, Any], bool]) -> dict[str, Any]:
    """What a profile sets in a session that runs, by the names of its attributes; a model of None is the default one.
    `UsageError` for what only a new session can have, unless it ``fits`` already."""
    values = profile.values()
    fixed = {key: values.pop(key, None) for key in ("latency", "channels")}
    timed = fixed | {"model": values.get("model")}  # which may be exchanged for one of the same timing
    if wrong := [f"{key} {value}" for key, value in timed.items() if value is not None and not fits(key, value)]:
        raise UsageError(
            f"profile {name} has {' and '.join(wrong)}, which a running session cannot take on; start it again with "
            f"--profile {name}, or choose it in rtdenoise panel"
        )
    return {ATTRIBUTES.get(key, key): value for key, value in values.items()}
