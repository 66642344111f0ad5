"""The live view of a terminal: meters, latency, load, spectrograms; keys as the panel has them, and one to quit."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rtdenoise import console
from rtdenoise.cli.keys import ESCAPE, Keys
from rtdenoise.cli.live_spectrogram import COLUMNS_PER_S, Spectrograms, room
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.geometry import Framing
from rtdenoise.live.session import LiveDenoiser
from rtdenoise.live.stats import Stats
from rtdenoise.model.contract import ModelInfo
from rtdenoise.model.registry import list_models
from rtdenoise.panel.history import History

LOOK_S, MOST_BYTES = 0.1, 1024  # The view is drawn this often, and reads this much of what was typed each time.
QUIETEST_DB, METER_CELLS = -60.0, 24
STRENGTH_STEP_DB, STRONGEST_DB = 3.0, 60.0  # Beyond the strongest there is no limit.
TAB = "\t"
DIRECTIONS, OTHER = ("microphone", "what you hear"), "tab: keys for this one"
NONE: Mapping[int, RenderableType] = {}
KEYS = "f filter   m mute   + - attenuation limit   n next model   q quit"


def show(lives: Sequence[LiveDenoiser], over: Callable[[], bool]) -> bool:
    """Draw until a key ends it, which is true, or until ``over()`` or another job gets the terminal, which is false."""
    stop = signal.SIGTSTP
    stopped: list[int] = []
    before = signal.signal(stop, lambda number, frame: stopped.append(number))
    try:
        if not _drawn(lives, lambda: bool(stopped) or over() or not console.in_foreground(sys.stdin)):
            return True
    finally:
        signal.signal(stop, before)
    if stopped:
        signal.raise_signal(stop)  # The terminal has been restored by now.
    return False


def _drawn(lives: Sequence[LiveDenoiser], over: Callable[[], bool]) -> bool:
    """False if a key ended it, true at ``over()``."""
    note, keys, console, chosen = "", Keys(), Console(stderr=True), 0
    histories = [History(live.tap, live.stats().rate, COLUMNS_PER_S) for live in lives if live.tap]
    pictures = [Spectrograms(history) for history in histories]
    with _keys_unseen(), Live(console=console, auto_refresh=False, transient=True) as screen:
        while not over():
            for picture in pictures:
                picture.look(console.width)
            beneath = shown(pictures, chosen, room(console, len(lives)))
            screen.update(draw_all([live.stats() for live in lives], chosen, note, beneath), refresh=True)
            for key in keys.feed(_typed(), time.monotonic()):
                try:
                    note = ""
                    if key == TAB:
                        chosen = (chosen + 1) % len(lives)
                    elif not press(lives[chosen], key):
                        return False
                except RtdenoiseError as e:  # The new model does not fit; the old one keeps running.
                    note = str(e)
    return True


def _typed() -> bytes:
    """What has been typed since, as soon as there is something; nothing after a moment."""
    terminal = sys.stdin.fileno()
    with contextlib.suppress(OSError):  # The terminal has gone, or belongs to another job by now.
        if not select.select([terminal], [], [], LOOK_S)[0]:
            return b""
        if data := os.read(terminal, MOST_BYTES):
            return data
    time.sleep(LOOK_S)
    return b""


def press(live: LiveDenoiser, key: str) -> bool:
    """Do what a key says; false ends the view."""
    if key in ("f", "b"):
        live.bypass = not live.bypass
    elif key in ("m", "x"):
        live.muted = not live.muted
    elif key in ("+", "="):
        strength = STRONGEST_DB if live.strength_db is None else live.strength_db + STRENGTH_STEP_DB
        live.strength_db = strength if strength < STRONGEST_DB else None
    elif key == "-":
        strength = STRONGEST_DB if live.strength_db is None else live.strength_db
        live.strength_db = max(0.0, strength - STRENGTH_STEP_DB)
    elif key == "n":
        live.exchange_model(next_model(live.model, live.framing))
    return key not in ("q", ESCAPE)


@cache
def _installed() -> list[ModelInfo]:
    return list_models()


def next_model(name: str, framing: Framing) -> str:
    """The installed model after this one that has its framing, or the sound would jump; after a model of one's own,
    the first. `UsageError` if there is no other."""
    names = [info.name for info in _installed() if info.framing == framing]
    if not set(names) - {name}:
        raise UsageError(
            f"no other model has windows of {framing.window_ms:g} ms and {framing.look_ahead} frames of look-ahead; "
            "restart with --model"
        )
    return names[(names.index(name) + 1) % len(names)] if name in names else names[0]


def shown(pictures: Sequence[Spectrograms], chosen: int, count: int) -> dict[int, Spectrograms]:
    """The pictures of so many directions, by number: all of them, or the chosen one's."""
    return {k: picture for k, picture in enumerate(pictures) if count >= len(pictures) or (count and k == chosen)}


def draw_all(
    stats: Sequence[Stats], chosen: int, note: str = "", pictures: Mapping[int, RenderableType] = NONE
) -> Group:
    """One look at each direction, by its number; with two, the keys are the chosen one's."""
    parts: list[RenderableType] = []
    for k, (name, s) in enumerate(zip(DIRECTIONS, stats, strict=False)):
        mark, style = ("▸", "bold") if k == chosen else (" ", "dim")
        parts += [Text(f"{mark} {name}", style)] if len(stats) > 1 else []
        parts += [draw(s, note if k == chosen else "", KEYS if k == chosen else OTHER)]
        parts += [pictures[k]] if k in pictures else []
    return Group(*parts)


def draw(s: Stats, note: str = "", keys: str = KEYS) -> Group:
    """One look as lines."""
    table = Table.grid(padding=(0, 2))
    table.add_row("in", _meter(s.level_in_db), s.input)
    table.add_row("out", _meter(s.level_out_db), s.output)
    limit = "no limit" if s.strength_db is None else f"limit {s.strength_db:.0f} dB"
    limit += "" if s.low_cut_hz is None else f", low cut {s.low_cut_hz:.0f} Hz"
    effect = Text("BYPASS", "bold yellow") if s.bypass else Text(f"-{s.reduction_db:.0f} dB, {limit}")
    if s.muted:
        effect = Text("MUTED", "bold red")
    way = s.backend if s.fallback is None else f"{s.backend} ({s.fallback})"
    table.add_row("filter", effect, f"{s.model}, {s.worker} worker, {s.scheduling} priority, {way}")
    latency = f"{s.measured_latency_ms:.1f} ms, target {s.latency_ms:.1f}" if s.latency_ms else "measuring"
    device = "" if s.device_latency_ms is None else f"plus {s.device_latency_ms:.0f} ms reported by the devices"
    echo = "what is unknown" if s.echo_cancel_ms is None else f"{s.echo_cancel_ms:.0f} ms"
    device += f"  plus {echo} of the echo canceller" if s.echo_cancel else ""
    table.add_row("latency", latency, device)
    table.add_row(
        "model", f"{s.model_ms_p50:.2f} ms per hop, p99 {s.model_ms_p99:.2f} ms", f"CPU {s.cpu_percent:.0f} % of a core"
    )
    lost = f", {s.device_xruns} lost cycles" if s.backend == "pipewire" else f", {s.device_xruns} device xruns"
    drift = "one clock" if s.drift_ppm is None else f"clock drift {s.drift_ppm:+.0f} ppm"
    underruns = f"{s.underruns} ({s.dropout_ms:.0f} ms of dropout)"
    table.add_row("underruns", f"{underruns}, {s.reused_gains} hops reused gains{lost}", drift)
    if s.recorded_s:
        table.add_row("file", f"{s.recorded_s:.0f} s recorded", "")
    bad = s.failure or s.file_problem
    doing = f"{s.state}, asleep until a program records" if s.asleep else s.state
    state = Text(bad or doing, "red" if bad else "green" if s.state == "running" else "yellow")
    return Group(table, Text.assemble(state, "   ", (note or keys, "yellow" if note else "dim")))


def _meter(level_db: float) -> Text:
    cells = round(METER_CELLS * min(1.0, max(0.0, 1 - level_db / QUIETEST_DB)))
    colour = "red" if level_db > -3 else "green"
    return Text.assemble(("█" * cells, colour), ("·" * (METER_CELLS - cells), "dim"), f" {max(level_db, -99):4.0f} dB")


@contextmanager
def _keys_unseen() -> Iterator[None]:
    """Keys arrive one by one and unseen while this holds; afterwards all is as before, unless the terminal is another
    job's by then, whose settings it has."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield
    finally:
        if console.in_foreground(sys.stdin):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
