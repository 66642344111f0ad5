"""The command `rtdenoise call`: a microphone for calls and what you hear of them, cleaned by one process.

    microphone ─▶ filter ─▶ "rtdenoise microphone" ─▶ the call ─▶ "rtdenoise speaker" ─▶ filter ─▶ loudspeakers

Two sessions, each with a strength of its own, in one view and behind one control socket.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rtdenoise import console
from rtdenoise.arguments import VALUES, VIRTUAL_MIC, VIRTUAL_SPEAKER, Parser
from rtdenoise.cli import live, options, request
from rtdenoise.cli.config import config_path, load_config
from rtdenoise.cli.ends import is_file
from rtdenoise.errors import UsageError
from rtdenoise.live.compilation import announced
from rtdenoise.live.devices import refuse_loop
from rtdenoise.live.echo_canceller import EchoCanceller
from rtdenoise.live.programs import program_named
from rtdenoise.live.remote import RemoteCall
from rtdenoise.live.session import LiveDenoiser

SHARED = ("model", "low_cut", "latency", "backend")  # options that both directions take as they are
OWN = ("mic", "speakers", "strength", "ears_strength", "app", "echo_cancel")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--mic", metavar="X", default="mic", help="your microphone (default: the system's)")
    add("--speakers", metavar="Y", default="speakers", help="where you hear the others (default: the system's)")
    add("--strength", type=VALUES["strength"], metavar="DB", help="attenuation limit of the microphone (default: none)")
    add(
        "--ears-strength",
        type=VALUES["ears_strength"],
        metavar="DB",
        help="attenuation limit of what you hear (default: none)",
    )
    add(
        "--app",
        metavar="NAME",
        help="move the call's program to both, also what it begins to play or record later, and back at the end",
    )
    options.add_echo(add)
    options.add_filter(parser)
    options.add_session(add)


def run(args: argparse.Namespace) -> int:
    """Run both directions until interrupted."""
    args = with_configuration(args)
    for name in (args.mic, args.speakers):
        if is_file(name):
            raise UsageError(f"{name} is no device; rtdenoise call needs a microphone and loudspeakers")
    with request.told_where(args), announced(lambda line: None if args.quiet else console.say(line)):
        # One program may play and not yet record, so that it is found by what it does now and followed by its name.
        app = None if args.app is None else program_named(args.app)
        sides = [_side(args, "microphone", app), _side(args, "ears", app)]
        remote = lambda lives: RemoteCall(*(live.remote_of(*pair) for pair in zip(lives, sides, strict=True)))
        return live.run_all(sides, lambda: _sessions(sides), remote)


def _sessions(sides: Sequence[argparse.Namespace]) -> list[LiveDenoiser]:
    drawn = live.is_drawn(sides[0])
    microphone = live.session_of(sides[0], tap=drawn)
    if sides[0].canceller is not None:
        sides[1].target = sides[0].canceller.loudspeakers()
    ears = live.session_of(sides[1], tap=drawn)
    refuse_loop(microphone.input, ears.output)
    return [microphone, ears]


def with_configuration(args: argparse.Namespace) -> argparse.Namespace:
    """With what the configuration sets and the command line, ``args.argv``, does not."""
    parser = Parser(prog="rtdenoise call", allow_abbrev=False)
    add_arguments(parser)
    settings = load_config().for_call()
    args, argv = parser.parse_all([*request.as_options(settings), *args.argv]), args.argv
    args.said = [name for name in (*SHARED, *OWN) if request.is_said(name, argv)]
    args.configured = {name: str(config_path()) for name in settings if not request.is_said(name, argv)}
    return args


def _side(args: argparse.Namespace, name: str, app: str | None) -> argparse.Namespace:
    """The options of one direction, as those of a session of its own."""
    is_mic = name == "microphone"
    parser = Parser(allow_abbrev=False)
    options.add_arguments(parser)
    side = parser.parse_all([])
    vars(side).update({option: getattr(args, option) for option in (*SHARED, "seconds", "control", "quiet", "json")})
    side.source, side.target = (args.mic, VIRTUAL_MIC) if is_mic else (VIRTUAL_SPEAKER, args.speakers)
    side.strength = args.strength if is_mic else args.ears_strength
    side.app, side.app_later = app, True
    if is_mic and args.echo_cancel:
        side.echo_cancel, side.canceller = True, EchoCanceller(args.mic, args.speakers)
    side.said, side.configured = args.said, args.configured
    return side
