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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rtdenoise import console, signals
from rtdenoise.arguments import VIRTUAL_MIC, VIRTUAL_SPEAKER, values_of
from rtdenoise.cli.config import load_config
from rtdenoise.cli.listening import listen
from rtdenoise.control.server import Session
from rtdenoise.io.descriptors import only_python_speaks
from rtdenoise.live import microphones
from rtdenoise.live.devices import ALIASES, find_device
from rtdenoise.live.echo_canceller import EchoCanceller
from rtdenoise.live.realtime import quiet_memory
from rtdenoise.live.remote import RemoteSession
from rtdenoise.live.session import LiveDenoiser
from rtdenoise.live.stats import Stats, as_record
from rtdenoise.live.virtual_mic import DESCRIPTION, VirtualMicrophone
from rtdenoise.live.virtual_speaker import DESCRIPTION as SPEAKER_NAME
from rtdenoise.live.virtual_speaker import VirtualSpeaker
from rtdenoise.model.registry import DEFAULT_MODEL
from rtdenoise.native.machine_code import release_compiler
from rtdenoise.profiles import in_words

RECORD_S = 1.0  # The interval between two records of --json, and between two looks for changes.
EARLY_S = 2.5  # A session that a signal ends sooner need not have had sound: an idle sink takes two seconds.
END_LOOK_S = 0.1  # The end of a file is noticed this much late at most.
LOOPS = "use headphones: a microphone that picks up the loudspeakers howls"


def run(args: argparse.Namespace) -> int:
    """Filter from device to device until interrupted; 0 after Ctrl-C, since that is how one ends it."""
    return run_all([args], lambda: [session_of(args, tap=is_drawn(args))], lambda lives: remote_of(lives[0], args))


def remote_of(live: LiveDenoiser, args: argparse.Namespace) -> RemoteSession:
    return RemoteSession(live, args.latency, args.profile, lambda: load_config().profiles)


def run_all(
    sides: Sequence[argparse.Namespace],
    make: Callable[[], Sequence[LiveDenoiser]],
    remote: Callable[[Sequence[LiveDenoiser]], Session],
) -> int:
    """Run the sessions that ``make`` gives, one for the options of each direction of sound; the first's hold for what
    they share. ``remote`` is they as `rtdenoise ctl` sees them."""
    args = sides[0]
    with ExitStack() as stack:
        stack.enter_context(only_python_speaks())
        stack.enter_context(quiet_memory())
        stack.enter_context(signals.of_terminal_ignored())
        release_compiler()  # Imports have compiled; most memory is needed when sessions are made.
        with signals.at_once():  # Nothing is created or opened yet, and compiling may take long.
            lives = make()
        release_compiler()
        with signals.held():
            for live in lives:
                stack.enter_context(live)
            if args.control is not False:
                listen(remote(lives), stack)
        came = stack.enter_context(signals.noted())
        over = lambda: bool(came) or any(live.finished for live in lives) or _is_time(lives[0], args.seconds)
        try:
            if args.json:
                for stats in _looks(lives, over):
                    console.print_json(as_record(stats), sys.stdout)
            else:
                _watch(lives, sides, over)
            if came:
                signal.raise_signal(came[0])
        except KeyboardInterrupt:
            pass
        last = [live.stats() for live in lives]
        for live in reversed(lives):
            live.stop()
    return max([_sum_up(*run, bool(came)) for run in zip(lives, last, sides, strict=True)])


def _sum_up(live: LiveDenoiser, last: Stats, args: argparse.Namespace, interrupted: bool) -> int:
    """Say how a session that is over went; returns the exit code."""
    if live.silent_because is None and not (args.json or args.quiet):
        _say_end(last)
    file = args.target if isinstance(args.target, Path) else args.tee
    if live.recorded_s and not (args.json or args.quiet):
        console.say(f"{file}: {live.recorded_s:.1f} s recorded")
    for warning in live.warnings:
        console.say(f"warning: {warning}")
    errors = _errors(live, file, interrupted and last.seconds < EARLY_S)
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


def _watch(lives: Sequence[LiveDenoiser], sides: Sequence[argparse.Namespace], over: Callable[[], bool]) -> None:
    """The view while a terminal is ours, lines otherwise; a shell moves its jobs into the background and back."""

    def watched() -> bool:
        return is_drawn(sides[0]) and console.in_foreground(sys.stdin)

    while not over():
        if watched():
            from rtdenoise.cli.live_view import show

            if show(lives, over):
                return
        else:
            _report_changes(lives, sides, lambda: over() or watched())


def is_drawn(args: argparse.Namespace) -> bool:
    terminal = sys.platform != "win32" and sys.stdin.isatty() and sys.stderr.isatty()
    return terminal and not (args.quiet or args.json)


def session_of(args: argparse.Namespace, tap: bool = False) -> LiveDenoiser:
    """The session that was asked for, not begun."""
    _take_remembered(args)
    speaks = args.source == VIRTUAL_SPEAKER
    moved, unmoved = (args.app, args.app_later), (None, False)
    canceller = args.canceller or (EchoCanceller(_device(args.source)) if args.echo_cancel else None)
    live = LiveDenoiser(
        VirtualSpeaker(*moved) if speaks else canceller or _device(args.source),
        VirtualMicrophone(bool(args.monitor), *(unmoved if speaks else moved))
        if args.target == VIRTUAL_MIC
        else _device(args.target),
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
        tap=tap,
    )
    live.bypass = args.bypass
    return live


def _take_remembered(args: argparse.Namespace) -> None:
    """What the panel remembers for this microphone, unless the command line says otherwise."""
    source = _device(args.source)
    if isinstance(source, Path) or not (kept := microphones.load()):
        return
    name = SPEAKER_NAME if source == VIRTUAL_SPEAKER else find_device(source, "input").name
    settings = {key: value for key, value in kept.get(name, {}).items() if key not in args.said}
    for key, value in values_of(settings).items():
        setattr(args, key, value)
        args.configured[key] = str(microphones.path())
    if settings and not args.quiet:
        console.say(f"{name}: {in_words(settings)}, as set in the panel")


def _device(end: Any) -> Any:
    return None if end == "default" else end


def _is_time(live: LiveDenoiser, seconds: float | None) -> bool:
    """Whether `--seconds` are over: of sound in a recording, of time otherwise."""
    return seconds is not None and (live.recorded_s if live.output.is_file else live.seconds) >= seconds


def _looks(lives: Sequence[LiveDenoiser], over: Callable[[], bool]) -> Iterator[list[Stats]]:
    """A look at all a second until they are over."""
    due = time.monotonic()
    while not over():
        due += RECORD_S
        while time.monotonic() < due and not over():
            time.sleep(min(END_LOOK_S, max(0.0, due - time.monotonic())))
        yield [live.stats() for live in lives]


def _report_changes(
    lives: Sequence[LiveDenoiser], sides: Sequence[argparse.Namespace], over: Callable[[], bool]
) -> None:
    """One line for each at start, then only what changes."""
    news = [_News(*pair) for pair in zip(lives, sides, strict=True)]
    for stats in _looks(lives, over):
        for each, s in zip(news, stats, strict=True):
            each.report(s)


class _News:
    """What of a session is worth a line: the wait for a device, a new latency, a model that failed."""

    def __init__(self, live: LiveDenoiser, args: argparse.Namespace):
        self._quiet = args.quiet
        self._cancels_echo = bool(args.echo_cancel)
        self._howls = (args.monitor or args.target in ALIASES) and not (live.input.is_file or live.input.own)
        self._said: tuple[object, ...] = ()
        self._file_problem: str | None = None
        self._fallback: str | None = None

    def report(self, s: Stats) -> None:
        if s.fallback != self._fallback and not self._quiet:
            console.say(f"as a PulseAudio client, with more latency: {s.fallback}")
            self._fallback = s.fallback
        if s.file_problem != self._file_problem:
            console.say(f"warning: {s.file_problem}")
            self._file_problem = s.file_problem
        news = s.state, round(s.latency_ms), s.failure
        if news != self._said and s.latency_ms and not self._quiet:
            console.say(_line(s) if s.state == "running" else s.state)
            if not self._said and self._howls:
                console.say(LOOPS)
            if not self._said and self._cancels_echo:
                console.say(_echo(s))
        if s.failure and (not self._said or not self._said[-1]):
            console.say(
                f"warning: the model stopped ({s.failure}); the sound passes unfiltered; try another with --model"
            )
        self._said = news


def _line(s: Stats) -> str:
    heard = f'"{DESCRIPTION}"' if "rtdenoise output" in s.output else s.output
    worker = "" if s.worker == "native" else ", worker in Python"
    return (
        f"{s.input} -> {heard}, {s.model}, {s.rate} Hz, latency {s.latency_ms:.1f} ms ({s.scheduling} priority{worker})"
    )


def _echo(s: Stats) -> str:
    if s.echo_cancel_ms is None:
        return "what the echo canceller adds to that is unknown, since nothing was heard at the start that could tell"
    return f"the echo canceller adds {s.echo_cancel_ms:.0f} ms to that, as measured now"


def _say_end(s: Stats) -> None:
    lost = ", no dropouts"
    if s.underruns or s.reused_gains:
        lost = f", {s.underruns} underruns ({s.dropout_ms:.0f} ms of dropout), {s.reused_gains} hops reused gains"
    latency = f"latency {s.latency_ms:.1f} ms" if s.latency_ms else "too short for the latency to settle"
    console.say(f"{s.seconds:.0f} s, {latency}{lost}")
