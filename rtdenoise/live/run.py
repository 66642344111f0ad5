"""`rtdenoise --in mic --out speakers` in the terminal: start a session, show how it goes, end it in order.

On a terminal: a view with meters and keys (`rtdenoise.live.view`). Otherwise one line at start, and one whenever
something changes that a listener should know; with ``--json`` one record a second on standard output.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from rtdenoise import ui
from rtdenoise.live.devices import ALIASES
from rtdenoise.live.session import LiveDenoiser
from rtdenoise.live.stats import Stats
from rtdenoise.live.virtual_mic import DESCRIPTION, VirtualMicrophone
from rtdenoise.model import DEFAULT_MODEL

VIRTUAL_MIC = "virtual-mic"
RECORD_S = 1.0  # between two records of --json, and two looks for changes
LOOPS = "headphones avoid a howl: the microphone hears the loudspeakers"


def run(args: argparse.Namespace) -> int:
    """Filter from device to device until interrupted; 0 after Ctrl-C, since that is how one ends it."""
    with ExitStack() as stack:
        target = args.target
        if target == VIRTUAL_MIC:
            target = stack.enter_context(VirtualMicrophone()).output
        live = LiveDenoiser(
            _device(args.source),
            _device(target),
            args.model or DEFAULT_MODEL,
            rate=args.rate,
            channels=args.channels or 1,
            strength_db=args.strength,
            latency=args.latency,
            blocksize=args.blocksize,
            budget_ms=args.budget,
            worker=args.worker,
        )
        live.bypass = args.bypass
        stack.enter_context(live)
        try:
            if args.json:
                for stats in _looks(live):
                    ui.print_json(stats.as_json(), sys.stdout)
            elif sys.platform != "win32" and sys.stdin.isatty() and ui.has_terminal() and not args.quiet:
                from rtdenoise.live.view import show

                show(live)
            else:
                _report_changes(live, args)
        except KeyboardInterrupt:
            pass
        if not (args.json or args.quiet):
            _say_end(live.stats())
    return 0


def _device(text: str) -> str | None:
    return None if text == "default" else text


def _looks(live: LiveDenoiser) -> Iterator[Stats]:
    while True:
        time.sleep(RECORD_S)
        yield live.stats()


def _report_changes(live: LiveDenoiser, args: argparse.Namespace) -> None:
    """One line at start, then only what changes: the wait for a device, a new delay, a model that failed."""
    said: tuple = ()
    for s in _looks(live):
        news = s.state, round(s.budget_ms), s.failure
        if news != said and s.budget_ms and not args.quiet:
            ui.say(_line(s) if s.state == "running" else s.state)
            if not said and args.target in ALIASES:
                ui.say(LOOPS)
        if s.failure and (not said or not said[-1]):
            ui.say(f"warning: the model stopped ({s.failure}); the sound passes unfiltered, try another with --model")
        said = news


def _line(s: Stats) -> str:
    heard = f'"{DESCRIPTION}"' if "rtdenoise output" in s.output else s.output
    worker = "" if s.worker == "native" else ", worker in Python"
    return f"{s.input} -> {heard}, {s.model}, {s.rate} Hz, delay {s.budget_ms:.1f} ms ({s.scheduling} priority{worker})"


def _say_end(s: Stats) -> None:
    lost = f", {s.underruns} gaps ({s.silent_ms:.0f} ms), {s.holds} held hops" if s.underruns or s.holds else ", no gap"
    ui.say(f"{s.seconds:.0f} s, delay {s.budget_ms:.1f} ms{lost}")
