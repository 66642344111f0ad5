"""Spectrograms before and after the filter in the terminal, side by side: half blocks in 256 colours.

Tap ─▶ `History` ─▶ ten columns a second, a byte a row ─▶ `Spectrograms` ─▶ two rows in a line of the terminal
"""

from __future__ import annotations

from functools import cache
from itertools import groupby

import numpy as np
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from rtdenoise.panel.history import ROWS, History

COLUMNS_PER_S = 10
LINES, GAP = 8, 2
NARROWEST, LOWEST = 60, 24  # columns and lines of a terminal that has room for one beside what else is shown
DIRECTION_LINES = 10  # which is this much longer for each further direction of a call
ROWS_IN_ONE = ROWS // (2 * LINES)
DARKEST = 80  # Bytes up to here are black: -69 dB, where the noise of a good room lies.
# From black by violet and red to yellow, by the numbers that terminals give to their 256 colours.
COLOURS = (16, 17, 53, 54, 90, 126, 125, 161, 167, 203, 209, 215, 222, 229)


def room(console: Console, directions: int = 1) -> int:
    """For how many of so many directions the terminal has the colours, the characters and the room."""
    coloured = console.color_system in ("256", "truecolor") and console.encoding.startswith("utf")
    if not coloured or console.width < NARROWEST:
        return 0
    free = console.height - LOWEST - DIRECTION_LINES * (directions - 1)
    return max(0, min(directions, 1 + free // (1 + LINES)))


class Spectrograms:
    """What ``history``, of `COLUMNS_PER_S`, took in last; drawn as wide as the terminal is."""

    def __init__(self, history: History):
        self._history = history
        self._sides = np.zeros((2, 0, 2 * LINES), np.uint8)  # before and after, oldest column first, lowest pitch first

    def look(self, width: int) -> None:
        """Take in what has come since, and keep what ``width`` columns of the terminal show."""
        since = self._history.taken
        self._history.take()
        count, data = self._history.columns(since)
        new = np.frombuffer(data, np.uint8).reshape(2, count, 2 * LINES, ROWS_IN_ONE).max(axis=3)
        self._sides = np.concatenate([self._sides, new], axis=1)[:, -((width - GAP) // 2) :]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = (options.max_width - GAP) // 2
        yield Segment("before".ljust(width + GAP) + "after\n", Style(dim=True))
        sides = np.zeros((2, width, 2 * LINES), int)
        known = self._sides[:, -width:].astype(int)
        sides[:, width - known.shape[1] :] = known
        steps = np.clip((sides - DARKEST) * len(COLOURS) // (256 - DARKEST), 0, len(COLOURS) - 1)
        for line in range(LINES):
            top = 2 * (LINES - line) - 1
            for side in (0, 1):
                cells = map(tuple, steps[side][:, [top, top - 1]].tolist())
                yield from (Segment("▀" * len(list(run)), _style(*pair)) for pair, run in groupby(cells))
                yield Segment("\n" if side else " " * GAP)


@cache
def _style(upper: int, lower: int) -> Style:
    return Style(color=Color.from_ansi(COLOURS[upper]), bgcolor=Color.from_ansi(COLOURS[lower]))
