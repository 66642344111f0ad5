"""The command `rtdenoise`: arguments in, one call into the package, an exit code out.

Importing this module costs milliseconds: numpy, numba, onnxruntime and rich are loaded by the part that needs them,
after the arguments are known to be good. Errors end here as one line on standard error, never as a traceback.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from rtdenoise import __version__, descriptors
from rtdenoise.errors import RtdenoiseError, UsageError

if TYPE_CHECKING:
    from rtdenoise.transfer import Settings

EXAMPLES = """\
examples:
  rtdenoise --in noisy.wav --out clean.wav               one file, same format and length (also: noisy.wav clean.wav)
  rtdenoise --in recordings/ --out cleaned/ --jobs 4     a folder with all below it, resumable
  rtdenoise --in mic --out virtual-mic                   a microphone for calls: choose "rtdenoise microphone" there
  rtdenoise --in mic --out speakers                      hear it at once (use headphones)
  ffmpeg -i talk.mkv -f wav - | rtdenoise --in - --out - | ffplay -     a pipe, answered as it comes
"""

DETAILS = """\
formats: WAV, FLAC, OGG, Opus, MP3, AIFF and CAF by the name's extension; the output keeps rate, channels and, where the
format has it, the bit depth, and lies sample by sample over the input. An existing output file is replaced once the new
one is complete; after a bare X Y, and of a folder what is finished and newer than its input, only with --overwrite.
exit code: 0 done, 1 something failed, 2 the request makes no sense.
"""


@dataclass(frozen=True)
class Command:
    """A subcommand: ``module``, loaded only when asked for, has ``add_arguments(parser)`` and ``run(args) -> int``."""

    help: str
    module: str
    extra: str | None = None


COMMANDS = {
    "devices": Command("list microphones, loudspeakers and virtual devices", "rtdenoise.live.listing"),
    "virtual-mic": Command("make, remove or look at the virtual microphone", "rtdenoise.live.virtual_mic_command"),
    "doctor": Command("check what live audio stands on, and say what to fix", "rtdenoise.live.doctor"),
    "service": Command("start the virtual microphone at every login (systemd)", "rtdenoise.live.service"),
    "config": Command("show or edit the configuration file", "rtdenoise.config"),
    "models": Command("list the models and their scores", "rtdenoise.catalog"),
    "rooms": Command("make responses of rooms, for train and mix --rir", "rtdenoise.training.rooms", "train"),
    "mix": Command("mix speech and noise into training or test pairs", "rtdenoise.training.mix", "train"),
    "train": Command("train a model", "rtdenoise.training.train", "train"),
    "export": Command("export a trained model to ONNX", "rtdenoise.training.export", "train"),
    "evaluate": Command("score a model on noisy/clean pairs", "rtdenoise.training.evaluate", "train"),
}
LIVE_ENDS = ("mic", "microphone", "speakers", "speaker", "default", "virtual-mic")
LONGEST_SUFFIX = 5  # of a sound file, ".aiff"; what follows the last dot of a device's name is longer, or a number
LIVE_OPTIONS = ("blocksize", "budget", "worker", "tee", "monitor", "seconds")
LONGEST_NOISE_S = 60  # kept in memory
Flag = argparse.BooleanOptionalAction
RAW_ENCODINGS = {"s16le": "PCM_16", "f32le": "FLOAT"}

EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 128 + signal.SIGINT, 128 + 13


class _Parser(argparse.ArgumentParser):
    """Errors as one line, with the nearest known option for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse_all(self, argv: list[str]) -> argparse.Namespace:
        args, unknown = self.parse_known_args(argv)
        if unknown:
            near = _near(unknown[0].split("=")[0], [s for a in self._actions for s in a.option_strings])
            self.error(f"unknown argument {unknown[0]}{near}")
        return args


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1, 2, or 128 + the signal that ended it."""
    argv = sys.argv[1:] if argv is None else argv
    closed = descriptors.settle()
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        here = threading.current_thread() is threading.main_thread()
        if here and number and signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP on purpose
            signal.signal(number, _end_by_signal)
    if logging.lastResort:
        logging.lastResort.setFormatter(logging.Formatter("rtdenoise: warning: %(message)s"))
    try:
        if not argv:
            print(f"rtdenoise {__version__}: real-time speech denoiser\n\n{EXAMPLES}\nrtdenoise --help says the rest")
            return 0
        if positional := _is_pair(argv):
            argv = ["--in", argv[0], "--out", argv[1], *argv[2:]]
        if argv[0].startswith("-"):
            return _filter(argv, closed, positional)
        if argv[0] not in COMMANDS:
            raise UsageError(
                f"unknown command {argv[0]}{_near(argv[0], list(COMMANDS))}; to filter, say --in X --out Y"
            )
        return _run_command(argv[0], argv[1:])
    except RtdenoiseError as problem:
        print(f"rtdenoise: error: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("rtdenoise: interrupted; no half-written file is left", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader has heard enough, as `head` does: nothing to complain about
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python's own flush at exit would complain
        return EXIT_BROKEN_PIPE
    except OSError as problem:  # a device that went away, a closed standard input
        print(f"rtdenoise: error: {problem.strerror or problem}; check the device or pipe", file=sys.stderr)
        return RtdenoiseError.exit_code


def _end_by_signal(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # an exception, so that half-written files are removed on the way out


def _is_pair(argv: list[str]) -> bool:
    """Whether the request begins with an input and an output without their options' names, as `cp` has it."""
    ends = [a for a in argv[:2] if a == "-" or not a.startswith("-")]
    known = any(_is_file_name(end) or end in LIVE_ENDS or end.isdigit() for end in ends)
    return len(ends) == 2 and known and ends[0] not in COMMANDS


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every parser by how its command line begins, ``rtdenoise`` and ``rtdenoise models`` for instance."""
    subcommands = {name: _command_parser(name, import_module(command.module)) for name, command in COMMANDS.items()}
    return {parser.prog: parser for parser in (_filter_parser(), *subcommands.values())}


def _command_parser(name: str, module: ModuleType) -> _Parser:
    parser = _Parser(prog=f"rtdenoise {name}", description=COMMANDS[name].help, allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def _run_command(name: str, argv: list[str]) -> int:
    command = COMMANDS[name]
    try:
        module = import_module(command.module)
        return module.run(_command_parser(name, module).parse_all(argv))
    except ModuleNotFoundError as missing:
        if command.extra is None or (missing.name or "").startswith("rtdenoise"):
            raise
        raise RtdenoiseError(
            f"rtdenoise {name} needs {missing.name}; install it with: pip install 'rtdenoise[{command.extra}]'"
        ) from missing


def _filter_parser() -> _Parser:
    commands = "\n".join(f"  rtdenoise {name:<12}{command.help}" for name, command in COMMANDS.items())
    parser = _Parser(
        prog="rtdenoise",
        usage="rtdenoise --in X --out Y [options]     (or: rtdenoise X Y [options])\n       rtdenoise COMMAND ...",
        description="Remove noise from speech: in files, folders and pipes, and live from device to device.",
        epilog=f"commands (each has --help):\n{commands}\n\n{EXAMPLES}\n{DETAILS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--in",
        dest="source",
        metavar="X",
        required=True,
        help="a sound file, a folder, - for a pipe of WAV; or mic, a device",
    )
    add(
        "--out",
        dest="target",
        metavar="Y",
        required=True,
        help="a sound file, a folder, - for a pipe; or speakers, virtual-mic, a device",
    )
    add("--model", metavar="NAME", help="a model's name (rtdenoise models) or the path of an .onnx file")
    add("--strength", type=float, metavar="DB", help="attenuate by DB at most: 0 changes nothing (default: no limit)")
    add(
        "--latency",
        type=_latency,
        default="normal",
        metavar="normal|low|MS",
        help="normal: 16 ms (default); low: 8 ms (tape: 64, 32); live also a delay in ms: finds mode and buffer for it",
    )
    add("--bypass", action="store_true", help="pass the sound through unfiltered")
    add("--quiet", action=Flag, help="no progress and no summary, only warnings and errors")
    add(
        "--json",
        action="store_true",
        help="one JSON object a file, live a second; on standard output, or standard error beside audio",
    )
    live = parser.add_argument_group("live, where an end is a device").add_argument
    live("--rate", type=int, metavar="HZ", help="samples a second of the devices (default: their own); of --raw input")
    live("--channels", type=int, metavar="N", help="channels of the devices (default 1); of --raw input, interleaved")
    live("--blocksize", type=int, metavar="N", help="frames a callback (default: what suits the device)")
    live("--budget", type=float, metavar="MS", help="delay to hold, come what may (default: what the devices allow)")
    live("--worker", choices=("native", "python"), help="how the model is run (default: native where possible)")
    live("--tee", metavar="FILE", help="also write what is heard to a sound file")
    live("--monitor", action=Flag, help="with --out virtual-mic: hear it on the default output too (headphones)")
    live("--seconds", type=float, metavar="S", help="end after S seconds (default: at Ctrl-C, or with the input file)")
    files = parser.add_argument_group("files, folders and pipes").add_argument
    files("--jobs", type=int, metavar="N", help="processes for a folder (default 1)")
    files(
        "--learn-noise",
        type=float,
        metavar="S",
        help="the first S seconds are noise alone: learn it from them, then filter from the start",
    )
    files("--overwrite", action=Flag, help="replace an output that exists; of a folder, finished ones")
    files("--raw", choices=RAW_ENCODINGS, help="pipes carry bare samples, without a header")
    add("--version", action="version", version=f"rtdenoise {__version__}")
    return parser


def _latency(text: str) -> str | float:
    if text in ("normal", "low"):
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither normal nor low nor a number of ms") from None


def _filter(argv: list[str], closed: set[int], positional: bool) -> int:
    parser = _filter_parser()
    args = parser.parse_all(argv)  # what comes from the configuration depends on what the ends are
    for fd, end, name in ((0, args.source, "in"), (1, args.target, "out")):
        if end == "-" and fd in closed:
            raise RtdenoiseError(f"--{name} -: standard {name}put is closed; name a file, or leave it open")
    live, folder = _is_live(args.source, args.target), os.path.isdir(args.source)
    args = parser.parse_all([*_configured(parser, live, folder), *argv])
    if positional and not folder and not args.overwrite and os.path.isfile(args.target):
        raise UsageError(f"{args.target} exists; to replace it, add --overwrite or say --in {args.source} --out ...")
    if live:
        return _run_live(args)
    for name in LIVE_OPTIONS:
        if getattr(args, name):
            raise UsageError(f"--{name} is for live audio, and neither --in nor --out is a device; leave it away")
    if not isinstance(args.latency, str):
        raise UsageError(f"--latency {args.latency:g}: files know normal and low; a figure in ms is for live audio")
    if args.learn_noise is not None and not 0 < args.learn_noise <= LONGEST_NOISE_S:
        raise UsageError(f"--learn-noise {args.learn_noise:g}; give more than 0 and up to {LONGEST_NOISE_S} seconds")
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs {args.jobs}; give 1 or more")
    if not folder and args.jobs is not None:
        raise UsageError(f"--jobs is for folders, and {args.source} is none; leave it away")
    with descriptors.only_python_speaks():
        return _filter_folder(args) if folder else _filter_one(args)


def _configured(parser: _Parser, live: bool, folder: bool) -> list[str]:
    """What the configuration file says, as options."""
    from rtdenoise.config import config_path, load_config

    config = load_config()
    argv = config.for_live() if live else config.for_files(folder)
    try:
        parser.parse_all(["--in", "-", "--out", "-", *argv])
    except UsageError as problem:
        raise UsageError(f"{config_path()}: {problem}") from problem
    return argv


def _run_live(args: argparse.Namespace) -> int:
    not_for_live = ["jobs", "raw", "learn_noise", *([] if _is_file_name(args.target) else ["overwrite"])]
    for name in not_for_live:
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} is for files and pipes; leave it away for live audio")
    if "-" in (args.source, args.target):
        raise UsageError("a device and a pipe do not go together; take a file, or pipe through `--in - --out -`")
    if args.monitor and args.target != "virtual-mic":
        raise UsageError(f"--monitor goes with --out virtual-mic; --out {args.target} is another end, leave it away")
    if args.seconds is not None and not args.seconds > 0:
        raise UsageError(f"--seconds {args.seconds:g}; give more than 0")
    from pathlib import Path

    for name in ("source", "target"):
        if _is_file_name(getattr(args, name)):
            setattr(args, name, Path(getattr(args, name)))
    if args.tee and isinstance(args.target, Path):
        raise UsageError(f"--tee {args.tee}: --out {args.target} is a recording already; leave one of them away")
    if args.tee and isinstance(args.source, Path) and args.source.resolve() == Path(args.tee).resolve():
        raise UsageError(f"--tee {args.tee} is the input itself; give it another name")
    if isinstance(args.source, Path) and (args.rate or args.channels):
        raise UsageError(f"--rate and --channels are for devices; {args.source} says them itself, leave them away")
    from rtdenoise import signals

    with signals.held():  # libraries that start make other errors of an interrupt
        from rtdenoise.live import run

    return run.run(args)


def _is_live(source: str, target: str) -> bool:
    """Whether an end is a sound device: by alias or number, or because it does not look like a file beside one that
    does."""
    ends = source, target
    if any((end in LIVE_ENDS or end.isdigit()) and not os.path.exists(end) for end in ends):
        return True
    return not all(map(_is_file_name, ends)) and not os.path.isdir(source) and "-" not in ends


def _is_file_name(end: str) -> bool:
    """Whether this end can only mean a file, a folder or a pipe."""
    suffix = os.path.splitext(end)[1]
    has_suffix = suffix[1:2].isalpha() and len(suffix) <= LONGEST_SUFFIX
    return end == "-" or os.path.exists(end) or os.sep in end or has_suffix


def _filter_one(args: argparse.Namespace) -> int:
    from rtdenoise import ui
    from rtdenoise.pipes import RawFormat, is_stream
    from rtdenoise.transfer import filter_sound

    piped_in, piped_out = is_stream(args.source), is_stream(args.target)
    if args.raw and not (piped_in or piped_out):
        raise UsageError("--raw is for pipes, and neither --in nor --out is one; leave it away")
    if not (args.raw and piped_in) and (args.rate or args.channels):
        raise UsageError("--rate and --channels are for --raw input; a WAV or a file says them itself, leave them away")
    raw = RawFormat(RAW_ENCODINGS[args.raw], args.rate, args.channels) if args.raw else None
    for_people = not (piped_in or piped_out or args.quiet or args.json)
    if for_people and ui.has_terminal():
        with ui.file_progress(args.source) as progress:
            report = filter_sound(args.source, args.target, _settings(args), raw, progress)
    else:
        report = filter_sound(args.source, args.target, _settings(args), raw)
    if args.json:
        ui.print_json(report.as_json(), sys.stderr if args.target == "-" else sys.stdout)
    else:
        ui.say_report(report, summary=for_people)
    return 1 if report.damaged else 0


def _filter_folder(args: argparse.Namespace) -> int:
    from rtdenoise import ui
    from rtdenoise.folders import filter_jobs, find_jobs

    if args.raw or args.rate or args.channels:
        raise UsageError("--raw, --rate and --channels are for pipes; leave them away for a folder")
    if args.target == "-":
        raise UsageError("a folder cannot go into a pipe; name a folder with --out")
    jobs, settings = find_jobs(args.source, args.target, bool(args.overwrite)), _settings(args)
    processes = args.jobs or 1
    if args.json:
        outcomes = filter_jobs(jobs, settings, processes, lambda outcome: ui.print_json(outcome.as_json(), sys.stdout))
    elif ui.has_terminal() and not args.quiet:
        with ui.folder_progress(jobs) as progress:
            outcomes = filter_jobs(jobs, settings, processes, progress)
    else:
        outcomes = filter_jobs(jobs, settings, processes)
    ui.say_folder(outcomes, summary=not (args.quiet or args.json))
    return 1 if any(outcome.error or (outcome.report and outcome.report.damaged) for outcome in outcomes) else 0


def _settings(args: argparse.Namespace) -> Settings:
    from rtdenoise.transfer import Settings

    return Settings(args.model, args.strength, args.latency, args.bypass, args.learn_noise or 0.0)


def _near(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f", did you mean {close[0]}?" if close else ""
