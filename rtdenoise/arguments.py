"""How command lines are read: errors as one line, numbers within their range, no empty names.

Also what each setting may be (`VALUES`), whether it comes from the command line or from the configuration.
"""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rtdenoise.errors import UsageError

DEFAULT = "default"  # as a value: what holds if neither command line nor configuration says anything
MODES = ("normal", "low")
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
            raise UsageError(f"{option} is empty; give it a value, or leave it away")
        if not text.strip():
            before = argv[i - 1] if i else ""
            what = before if before.startswith("-") and before != "-" else f"argument {i + 1}"
            raise UsageError(f"{what} is empty; give it a value, or leave it away")


def number(low: float, high: float, unit: str = "", whole: bool = False) -> Callable[[str], Any]:
    """A type for ``add_argument``: a number from ``low`` to ``high``, which also keeps out NaN and infinity."""

    def read(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            wanted = f"{kind} from {low:,} to {high:,}{unit and ' ' + unit}"
            raise argparse.ArgumentTypeError(f"{text!r} is out of range or no number; give {wanted}")
        return value

    return read


def count(low: int = 1, high: int = 1_000_000_000) -> Callable[[str], int]:
    """A type for ``add_argument``: a whole number."""
    return number(low, high, whole=True)


def _latency(text: str) -> str | float:
    if text in MODES:
        return text
    if text == DEFAULT:
        return MODES[0]
    try:
        float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither normal nor low nor a number of ms") from None
    return _MILLISECONDS(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def _or_default(read: Callable[[str], Any], *more: str) -> Callable[[str], Any]:
    """The words that stand for no value at all, so that a command line can take back what is configured."""
    return lambda text: None if text in (DEFAULT, *more) else read(text)


_MILLISECONDS = number(0.1, 10_000, "ms")
RATE = count(1_000, 1_000_000)
SECONDS = number(0.001, 1_000_000_000, "seconds")
VALUES: dict[str, Callable[[str], Any]] = {  # by the name of the option, which is that of the configuration's key
    "model": _or_default(str),
    "strength": _or_default(number(0, 1_000, "dB"), "none"),
    "latency": _latency,
    "rate": _or_default(RATE),
    "channels": _or_default(count(1, 1_000)),
    "blocksize": _or_default(count(1, 65_536)),
    "budget": _or_default(_MILLISECONDS),
    "worker": _or_default(_one_of("native", "python")),
    "jobs": _or_default(count(1, 1_000)),
    "seconds": SECONDS,
    "learn_noise": number(0.001, LONGEST_NOISE_S, "seconds"),
}
