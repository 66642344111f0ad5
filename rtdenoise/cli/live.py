"""`rtdenoise --in mic --out speakers` in the terminal: start a session, show how it goes, end it in order.

One of the ends may be a sound file: it is played to its end, or recorded until Ctrl-C or ``--seconds``.

On a terminal: a view with meters and keys (`rtdenoise.cli.live_view`). Otherwise one line at start, and one whenever
something changes that a listener should know; with ``--json`` one record a second on standard output.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from rtdenoise import console, signals
from rtdenoise.arguments import values_of
from rtdenoise.cli.config import load_config
from rtdenoise.cli.ends import VIRTUAL_MIC, VIRTUAL_SPEAKER
from rtdenoise.cli.listening import listen
from rtdenoise.io.descriptors import only_python_speaks
from rtdenoise.live import microphones
from rtdenoise.live.devices import ALIASES, find_device
from rtdenoise.live.realtime import quiet_memory
from rtdenoise.live.remote import RemoteSession
from rtdenoise.live.session import LiveDenoiser
from rtdenoise.live.stats import Stats
from rtdenoise.live.virtual_mic import DESCRIPTION, VirtualMicrophone
from rtdenoise.live.virtual_speaker import VirtualSpeaker
from rtdenoise.model.registry import DEFAULT_MODEL
from rtdenoise.profiles import in_words

RECORD_S = 1.0  # The interval between two records of --json, and between two looks for changes.
EARLY_S = 2.5  # A session that a signal ends sooner need not have had sound: an idle sink takes two seconds.
END_LOOK_S = 0.1  # The end of a file is noticed this much late at most.
LOOPS = "use headphones: a microphone that picks up the loudspeakers howls"


def run(args: argparse.Namespace) -> int:
    """Filter from device to device until interrupted; 0 after Ctrl-C, since that is how one ends it."""
    with ExitStack() as stack:
        stack.enter_context(only_python_speaks())
        stack.enter_context(quiet_memory())
        stack.enter_context(signals.of_terminal_ignored())
        with signals.at_once():  # Nothing is created or opened yet, and compiling may take long.
            live = _session(args)
        with signals.held():
            stack.enter_context(live)
            if args.control is not False:
                listen(RemoteSession(live, args.latency, args.profile, lambda: load_config().profiles), stack)
        came = stack.enter_context(signals.noted())
        over = lambda: bool(came) or live.finished or (args.seconds is not None and _length_s(live) >= args.seconds)
        try:
            if args.json:
                for stats in _looks(live, over):
                    console.print_json(stats.as_json(), sys.stdout)
            else:
                _watch(live, args, over)
            if came:
                signal.raise_signal(came[0])
        except KeyboardInterrupt:
            pass
        last = live.stats()
        live.stop()
    if live.silent_because is None and not (args.json or args.quiet):
        _say_end(last)
    file = args.target if isinstance(args.target, Path) else args.tee
    if live.recorded_s and not (args.json or args.quiet):
        console.say(f"{file}: {live.recorded_s:.1f} s recorded")
    for warning in live.warnings:
        console.say(f"warning: {warning}")
    errors = _errors(live, file, bool(came) and last.seconds < EARLY_S)
    for error in errors:
        console.say(f"error: {error}")
    return int(bool(errors))


def _errors(live: LiveDenoiser, file: Path | None, is_early: bool) -> list[str]:
    """Why the session that is over has not done what it was started for."""
    if live.problems:
        return live.problems
    if file and not live.recorded_s:
        return [f"{file} was not written, since no sound came; see `rtdenoise doctor`"]
    if live.silent_because and not is_early:
        return [f"no sound came through: {live.silent_because}; see `rtdenoise doctor`"]
    return []


def _watch(live: LiveDenoiser, args: argparse.Namespace, over: Callable[[], bool]) -> None:
    """The view while a terminal is ours, lines otherwise; a shell moves its jobs into the background and back."""

    def watched() -> bool:
        return _is_drawn(args) and console.in_foreground(sys.stdin)

    while not over():
        if watched():
            from rtdenoise.cli.live_view import show

            if show(live, over):
                return
        else:
            _report_changes(live, args, lambda: over() or watched())


def _is_drawn(args: argparse.Namespace) -> bool:
    terminal = sys.platform != "win32" and sys.stdin.isatty() and sys.stderr.isatty()
    return terminal and not (args.quiet or args.json)


def _session(args: argparse.Namespace) -> LiveDenoiser:
    """The session that was asked for, not begun."""
    _take_remembered(args)
    speaks = args.source == VIRTUAL_SPEAKER
    app = None if speaks else args.app
    live = LiveDenoiser(
        VirtualSpeaker(args.app) if speaks else _device(args.source),
        VirtualMicrophone(bool(args.monitor), app) if args.target == VIRTUAL_MIC else _device(args.target),
        args.model or DEFAULT_MODEL,
        rate=args.rate,
        channels=args.channels,
        strength_db=args.strength,
        low_cut_hz=args.low_cut,
        latency=args.latency,
        blocksize=args.blocksize,
        fixed_latency_ms=args.fixed_latency,
        worker=args.worker,
        backend=args.backend,
        tee=args.tee,
        tap=_is_drawn(args),
    )
    live.bypass = args.bypass
    return live


def _take_remembered(args: argparse.Namespace) -> None:
    """What the panel remembers for this microphone, unless the command line says otherwise."""
    source = _device(args.source)
    if isinstance(source, Path) or source == VIRTUAL_SPEAKER or not (kept := microphones.load()):
        return
    name = find_device(source, "input").name
    settings = {key: value for key, value in kept.get(name, {}).items() if key not in args.said}
    for key, value in values_of(settings).items():
        setattr(args, key, value)
        args.configured[key] = str(microphones.path())
    if settings and not args.quiet:
        console.say(f"{name}: {in_words(settings)}, as set in the panel")


def _device(end: str | Path) -> str | Path | None:
    return None if end == "default" else end


def _length_s(live: LiveDenoiser) -> float:
    """What `--seconds` counts: sound in a recording, time otherwise."""
    return live.recorded_s if live.output.is_file else live.seconds


def _looks(live: LiveDenoiser, over: Callable[[], bool]) -> Iterator[Stats]:
    """A look a second until the session is over."""
    due = time.monotonic()
    while not over():
        due += RECORD_S
        while time.monotonic() < due and not over():
            time.sleep(min(END_LOOK_S, max(0.0, due - time.monotonic())))
        yield live.stats()


def _report_changes(live: LiveDenoiser, args: argparse.Namespace, over: Callable[[], bool]) -> None:
    """One line at start, then only what changes: the wait for a device, a new latency, a model that failed."""
    said: tuple[object, ...] = ()
    file_problem = fallback = None
    for s in _looks(live, over):
        if s.fallback != fallback and not args.quiet:
            console.say(f"by PortAudio, with more latency: {s.fallback}")
            fallback = s.fallback
        if s.file_problem != file_problem:
            console.say(f"warning: {s.file_problem}")
            file_problem = s.file_problem
        news = s.state, round(s.latency_ms), s.failure
        if news != said and s.latency_ms and not args.quiet:
            console.say(_line(s) if s.state == "running" else s.state)
            is_microphone = not live.input.is_file and args.source != VIRTUAL_SPEAKER
            if not said and (args.monitor or args.target in ALIASES) and is_microphone:
                console.say(LOOPS)
        if s.failure and (not said or not said[-1]):
            console.say(
                f"warning: the model stopped ({s.failure}); the sound passes unfiltered; try another with --model"
            )
        said = news


def _line(s: Stats) -> str:
    heard = f'"{DESCRIPTION}"' if "rtdenoise output" in s.output else s.output
    worker = "" if s.worker == "native" else ", worker in Python"
    return (
        f"{s.input} -> {heard}, {s.model}, {s.rate} Hz, latency {s.latency_ms:.1f} ms ({s.scheduling} priority{worker})"
    )


def _say_end(s: Stats) -> None:
    lost = ", no dropouts"
    if s.underruns or s.reused_gains:
        lost = f", {s.underruns} underruns ({s.dropout_ms:.0f} ms of dropout), {s.reused_gains} hops reused gains"
    latency = f"latency {s.latency_ms:.1f} ms" if s.latency_ms else "too short for the latency to settle"
    console.say(f"{s.seconds:.0f} s, {latency}{lost}")
