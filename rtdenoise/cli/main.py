"""The command `rtdenoise`: arguments in, one call into the package, an exit code out.

Importing this module costs milliseconds: numpy, numba, onnxruntime and rich are loaded by the part that needs them,
after the arguments are known to be good. Errors end here as one line on standard error, never as a traceback.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from rtdenoise import __version__, signals
from rtdenoise.arguments import Parser, near, refuse_empty
from rtdenoise.cli import ends, options, request
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io import descriptors, remote

EXAMPLES = """\
examples:
  rtdenoise --in noisy.wav --out clean.wav               one file, same format and length (also: noisy.wav clean.wav)
  rtdenoise --in recordings/ --out cleaned/ --jobs 4     a folder and its subfolders, resumable
  rtdenoise talk.mp4 clean.mp4                           a film: its sound is filtered, all else is copied
  rtdenoise --in mic --out virtual-mic                   a microphone for calls: choose "rtdenoise microphone" there
  rtdenoise --in mic --out speakers                      hear the result live (use headphones)
  rtdenoise --in virtual-speaker --out speakers          hear other programs cleaned: choose "rtdenoise speaker" there
  rtdenoise call                                         both at once, for calls: choose "rtdenoise ..." twice there
  ffmpeg -i talk.mkv -f wav - | rtdenoise --in - --out - | ffplay -     a pipe, filtered as it streams
"""

DETAILS = """\
formats: WAV, FLAC, OGG, Opus, MP3, AIFF and CAF, by the file name's extension; with the extra "media" also MP4, MOV,
MKV, WebM, M4A, AAC, WMA, AMR and others, where picture, subtitles and other tracks are copied. The output keeps the
sample rate, the channels and, where the format has one, the bit depth, and is sample-aligned with the input. An
existing output file is replaced once the new one is complete; in the short form X Y, and in a folder for files that are
finished and newer than their input, only with --overwrite.
exit code: 0 success, 1 something failed, 2 invalid request.
"""


@dataclass(frozen=True)
class Command:
    """A subcommand: ``module``, loaded only when asked for, has ``add_arguments(parser)`` and ``run(args) -> int``."""

    help: str
    module: str
    extra: str | None = None


COMMANDS = {
    "devices": Command("list microphones, loudspeakers and virtual devices", "rtdenoise.cli.devices"),
    "call": Command("a microphone and what you hear, both cleaned, in one view", "rtdenoise.cli.call"),
    "apps": Command("list programs that play or record, for --app", "rtdenoise.cli.apps"),
    "virtual-mic": Command("create, remove or inspect the virtual microphone", "rtdenoise.cli.virtual_mic"),
    "ctl": Command("look at a running session, mute it, change its settings", "rtdenoise.cli.ctl"),
    "panel": Command("see, hear and steer the filter in a page of the browser", "rtdenoise.cli.panel", "panel"),
    "serve": Command("filter what other programs send over WebSockets", "rtdenoise.cli.serve", "serve"),
    "doctor": Command("check the audio set-up and say what to fix", "rtdenoise.cli.doctor"),
    "service": Command("start the virtual microphone at every login (systemd)", "rtdenoise.cli.service"),
    "config": Command("show or edit the configuration file", "rtdenoise.cli.config"),
    "profiles": Command("list the sets of settings that --profile knows", "rtdenoise.cli.profiles"),
    "models": Command("list the models and their scores", "rtdenoise.cli.models"),
    "rooms": Command(
        "simulate room impulse responses, for train and mix --rir", "rtdenoise.training.data.room_simulation", "train"
    ),
    "mix": Command("mix speech and noise into training or test pairs", "rtdenoise.training.data.mix", "train"),
    "devset": Command("make development sets, to choose between candidates", "rtdenoise.training.data.devset", "train"),
    "train": Command("train a model", "rtdenoise.training.train", "train"),
    "export": Command("export a trained model to ONNX", "rtdenoise.training.onnx_export.export", "train"),
    "evaluate": Command("score a model on noisy/clean pairs", "rtdenoise.training.scoring.evaluate", "train"),
}

EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 128 + signal.SIGINT, 128 + 13


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1, 2, or 128 + the signal that ended it."""
    argv = sys.argv[1:] if argv is None else argv
    closed = descriptors.settle()
    with signals.raising() as came:
        try:
            return _run(argv, closed)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        except BrokenPipeError:  # The reader closed the pipe, as `head` does; that is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Otherwise Python's own flush at exit would complain.
            return EXIT_BROKEN_PIPE
        except Exception as problem:
            if not came:
                return _reported(problem)
            code = 128 + came[0]  # A library turned the interrupt into an error of its own.
    if code == EXIT_INTERRUPTED:
        print("rtdenoise: interrupted; no half-written file is left", file=sys.stderr)
    return code


def _reported(problem: Exception) -> int:
    """Report an expected error in one line and return its exit code; raise an unexpected one again."""
    if isinstance(problem, RtdenoiseError):
        print(f"rtdenoise: error: {problem}", file=sys.stderr)
        return problem.exit_code
    if isinstance(problem, OSError):  # A file's has its name; a vanished device or a closed standard input has none.
        what = problem.strerror or problem
        if problem.filename is None:
            advice = f"{what}; check the device or pipe"
        else:
            advice = f"{problem.filename}: {what}; check the path, its permissions and the free space"
        print(f"rtdenoise: error: {advice}", file=sys.stderr)
        return RtdenoiseError.exit_code
    raise problem


def _run(argv: list[str], closed: set[int]) -> int:
    refuse_empty(argv)
    if not argv:
        print(
            f"rtdenoise {__version__}: real-time speech denoiser\n\n{EXAMPLES}\nSee rtdenoise --help for all options."
        )
        return 0
    if positional := _is_pair(argv):
        argv = ["--in", argv[0], "--out", argv[1], *argv[2:]]
    if argv[0].startswith("-"):
        return _filter(argv, closed, positional)
    if argv[0] not in COMMANDS:
        raise UsageError(f"unknown command {argv[0]}{near(argv[0], list(COMMANDS))}; to filter, use --in X --out Y")
    return _run_command(argv[0], argv[1:])


def _warn_in_lines() -> None:
    """Format the package's log records as the command's own messages."""
    import logging

    if logging.lastResort:
        logging.lastResort.setFormatter(logging.Formatter("rtdenoise: warning: %(message)s"))


def _is_pair(argv: list[str]) -> bool:
    """Whether the request begins with an input and an output without their options' names, as `cp` has it."""
    named = [a for a in argv[:2] if a == "-" or not a.startswith("-")]
    known = any(ends.is_file(end) or ends.is_device(end) for end in named)
    return len(named) == 2 and known and named[0] not in COMMANDS


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every parser by how its command line begins, ``rtdenoise`` and ``rtdenoise models`` for instance."""
    subcommands = {name: _command_parser(name, import_module(command.module)) for name, command in COMMANDS.items()}
    return {parser.prog: parser for parser in (_filter_parser(), *subcommands.values())}


def _command_parser(name: str, module: ModuleType) -> Parser:
    parser = Parser(prog=f"rtdenoise {name}", description=COMMANDS[name].help, allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def _run_command(name: str, argv: list[str]) -> int:
    command = COMMANDS[name]
    try:
        with signals.at_once():
            module = import_module(command.module)
        args = _command_parser(name, module).parse_all(argv)
        args.argv = argv
        _warn_in_lines()
        code: int = module.run(args)
        return code
    except ModuleNotFoundError as missing:
        if command.extra is None or (missing.name or "").startswith("rtdenoise"):
            raise
        raise RtdenoiseError(
            f"rtdenoise {name} needs {missing.name}; install it with: pip install 'rtdenoise[{command.extra}]'"
        ) from missing


def _filter_parser() -> Parser:
    commands = "\n".join(f"  rtdenoise {name:<12}{command.help}" for name, command in COMMANDS.items())
    parser = Parser(
        prog="rtdenoise",
        usage="rtdenoise --in X --out Y [options]     (or: rtdenoise X Y [options])\n       rtdenoise COMMAND ...",
        description="Remove noise from speech: in files, folders and pipes, and live from device to device.",
        epilog=f"commands (each has --help):\n{commands}\n\n{EXAMPLES}\n{DETAILS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_arguments(parser)
    parser.add_argument("--version", action="version", version=f"rtdenoise {__version__}")
    return parser


def _filter(argv: list[str], closed: set[int], positional: bool) -> int:
    args = request.read(_filter_parser(), argv)
    for fd, end, name in ((0, args.source, "in"), (1, args.target, "out")):
        if end == "-" and fd in closed:
            raise RtdenoiseError(f"--{name} -: standard {name}put is closed; name a file, or keep it open")
    if positional and args.kind not in ("folder", "manifest") and not args.overwrite and _is_taken(args.target):
        raise UsageError(f"{args.target} exists; to replace it, add --overwrite or use --in {args.source} --out ...")
    _warn_in_lines()
    with request.told_where(args):
        if args.kind == "live":
            return _run_live(args)
        with descriptors.only_python_speaks():
            if args.kind == "file":
                return _filter_one(args)
            with signals.at_once():
                from rtdenoise.cli import archive
            return archive.run(args)


def _is_taken(target: str) -> bool:
    if remote.is_remote(target):
        return remote.look(target) is not None
    return ends.is_file(target) and os.path.isfile(target)


def _run_live(args: argparse.Namespace) -> int:
    from pathlib import Path

    for name in ("source", "target"):
        if ends.is_live_file(getattr(args, name)):
            setattr(args, name, Path(getattr(args, name)))
    from rtdenoise import console

    with signals.at_once():
        from rtdenoise.live.compilation import announced
    with announced(lambda line: None if args.quiet else console.say(line)):
        with signals.at_once():
            from rtdenoise.cli import live
        return live.run(args)


def _filter_one(args: argparse.Namespace) -> int:
    with signals.at_once():
        from rtdenoise import console
        from rtdenoise.io.pipeline import filter_sound
        from rtdenoise.io.pipes import RawFormat, is_stream

    piped_in, piped_out = is_stream(args.source), is_stream(args.target)
    if args.raw and not (piped_in or piped_out):
        raise UsageError("--raw is only valid with a pipe (-) as --in or --out; remove it")
    if not (args.raw and piped_in) and (args.rate or args.channels):
        raise UsageError(
            "--rate and --channels are only valid with --raw input; a header states them otherwise; remove them"
        )
    raw = RawFormat(options.RAW_ENCODINGS[args.raw], args.rate, args.channels) if args.raw else None
    for_people = not (piped_in or piped_out or args.quiet or args.json)
    if for_people and console.has_terminal():
        with console.file_progress(args.source) as progress:
            report = filter_sound(args.source, args.target, request.settings(args), raw, progress)
    else:
        report = filter_sound(args.source, args.target, request.settings(args), raw)
    if args.json:
        console.print_json(report.as_json(), sys.stderr if args.target == "-" else sys.stdout)
    else:
        console.say_report(report, summary=for_people)
    return 1 if report.damaged else 0
