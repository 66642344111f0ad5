"""How command lines are read: errors as one line, numbers within their range, no empty names.

Also what each setting may be (`VALUES`), whether it comes from the command line or from the configuration, and the
ranges that hold for calls from Python as well.
"""

from __future__ import annotations

import argparse
import difflib
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from rtdenoise.errors import UsageError

VIRTUAL_MIC, VIRTUAL_SPEAKER = "virtual-mic", "virtual-speaker"  # as ends of a live session
DEFAULT = "default"  # as a value: what holds if neither command line nor configuration says anything
MODES, ECONOMY = ("normal", "low"), "economy"  # files and live audio; live audio only
LONGEST_NOISE_S = 60  # kept in memory


class Parser(argparse.ArgumentParser):
    """Errors as one line, with the nearest known option for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        args, unknown = self.parse_known_args(argv)
        if unknown:
            hint = near(unknown[0].split("=")[0], [s for a in self._actions for s in a.option_strings])
            self.error(f"unknown argument {unknown[0]}{hint}")
        return args


def near(word: str, known: Sequence[str]) -> str:
    """A question that names the one that was probably meant, if any."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f", did you mean {close[0]}?" if close else ""


def refuse_empty(argv: Sequence[str]) -> None:
    """UsageError for an empty argument: what a shell makes of ``--in "$UNSET"``. It would mean the current folder or a
    default device, and nobody asked for these."""
    for i, text in enumerate(argv):
        option, is_assigned, value = text.partition("=")
        if text.startswith("--") and is_assigned and not value.strip():
            raise UsageError(f"{option} is empty; give it a value, or remove it")
        if not text.strip():
            before = argv[i - 1] if i else ""
            what = before if before.startswith("-") and before != "-" else f"argument {i + 1}"
            raise UsageError(f"{what} is empty; give it a value, or remove it")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, which also keeps out NaN and infinity."""

    low: float
    high: float
    unit: str = ""
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:,} to {self.high:,}{self.unit and ' ' + self.unit}"

    def read(self, text: str) -> float:
        """The number that somebody typed; as a type for ``add_argument``."""
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            raise argparse.ArgumentTypeError(f"{text!r} is out of range or not a number; give {self}")
        return value

    def check(self, name: str, value: Any) -> None:
        """UsageError for an argument of a Python call that is not in it, or no number at all."""
        kind: Any = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind) or not self.low <= value <= self.high:
            raise UsageError(f"{name} {value!r} is out of range or not a number; give {self}")


def number(low: float, high: float, unit: str = "", whole: bool = False) -> Callable[[str], Any]:
    """A type for ``add_argument``: a number within a range."""
    return Range(low, high, unit, whole).read


def count(low: int = 1, high: int = 1_000_000_000) -> Callable[[str], int]:
    """A type for ``add_argument``: a whole number."""
    return number(low, high, whole=True)


def _latency(text: str) -> str | float:
    if text in (*MODES, ECONOMY):
        return text
    if text == DEFAULT:
        return MODES[0]
    try:
        float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not normal, low, economy or a number of ms") from None
    return MILLISECONDS.read(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(words)}")
        return text

    return read


def _track(text: str) -> str | float:
    return text if text == "all" else TRACKS.read(text)


def _or_default(read: Callable[[str], Any], *more: str) -> Callable[[str], Any]:
    """The words that stand for no value at all, so that a command line can take back what is configured."""
    return lambda text: None if text in (DEFAULT, *more) else read(text)


MILLISECONDS = Range(0.1, 10_000, "ms")
LOW_CUT = Range(60, 120, "Hz")
HZ = Range(1_000, 1_000_000, "Hz", whole=True)
FRAMES = Range(1, 65_536, "frames", whole=True)  # a callback
TRACKS = Range(1, 1_000, whole=True)
LOUDNESS = Range(-40, -5, "LUFS")
WORKERS = ("native", "python")
BACKENDS = ("portaudio", "pulse", "pipewire")
RATE = HZ.read
SECONDS = number(0.001, 1_000_000_000, "seconds")
VALUES: dict[str, Callable[[str], Any]] = {  # by the name of the option, which is that of the configuration's key
    "model": _or_default(str),
    "profile": _or_default(str, "none"),
    "strength": _or_default(number(0, 1_000, "dB"), "none"),
    "ears_strength": _or_default(number(0, 1_000, "dB"), "none"),
    "low_cut": _or_default(LOW_CUT.read, "off"),
    "latency": _latency,
    "rate": _or_default(RATE),
    "channels": _or_default(count(1, 1_000)),
    "blocksize": _or_default(FRAMES.read),
    "fixed_latency": _or_default(MILLISECONDS.read),
    "worker": _or_default(_one_of(*WORKERS)),
    "backend": _or_default(_one_of(*BACKENDS)),
    "jobs": _or_default(count(1, 1_000)),
    "seconds": SECONDS,
    "track": _track,
    "loudness": _or_default(LOUDNESS.read),
    "learn_noise": number(0.001, LONGEST_NOISE_S, "seconds"),
}


def values_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a file has them, read as the command line is."""
    return {name: VALUES[name](str(value)) for name, value in settings.items()}
