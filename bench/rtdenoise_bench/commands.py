"""The commands of `rtdenoise-bench` that make a latency report, or sections of it, and write it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rtdenoise.arguments import BACKENDS, RATE, SECONDS, count, number
from rtdenoise.errors import UsageError
from rtdenoise.io.atomic import write_text
from rtdenoise.model.registry import DEFAULT_MODEL, find_model
from rtdenoise_bench.measure import cost, peers
from rtdenoise_bench.measure.live import SERVERS
from rtdenoise_bench.measure.matrix import FEW_RATES_HZ, RATES_HZ
from rtdenoise_bench.measure.measure import LIVE_S, REAL_TIME_S, ROUNDS, Request, take
from rtdenoise_bench.report import terminal
from rtdenoise_bench.report.report import Report, to_json

PRINTED = Path("-")  # the name of standard output
ENGINE_SECTIONS = ("noise", "engine", "real time", "start")


@dataclass(frozen=True)
class Command:
    """A command that measures these sections of the report."""

    sections: tuple[str, ...]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        if "cost" in self.sections:
            add("--model", dest="models", action="append", help="model to measure; may be repeated (default: all)")
            add(
                "--step",
                action="append",
                default=[],
                metavar="NAME=FILE.onnx@MS",
                help="a streaming model of another make, stepped in the same run; MS of sound a step; may be repeated",
            )
        elif self.sections != ("matrix",):
            add("--model", default=DEFAULT_MODEL, help="model to measure (default %(default)s)")
            add("--latency", choices=("normal", "low"), default="normal")
        if {"engine", "cost"} & set(self.sections):
            add("--rate", type=RATE, default=48_000, help="Hz (default %(default)s)")
        if "engine" in self.sections:
            add("--channels", type=count(1, 1_000), default=1)
            add(
                "--rounds",
                type=count(),
                default=ROUNDS,
                help="number of rounds of 500 hops, back to back (default %(default)s)",
            )
            add(
                "--real-time",
                type=number(0, 86_400, "seconds"),
                default=REAL_TIME_S,
                metavar="S",
                help="seconds without a stressor, and half of that with each stressor (default %(default)s)",
            )
        if "live" in self.sections:
            every = " (default: all)" if self.sections == ("live",) else " (default: the one that runs here, and JACK)"
            add("--server", action="append", choices=SERVERS, help="sound server to measure; may be repeated" + every)
            add(
                "--backend",
                action="append",
                choices=BACKENDS,
                help="how sound goes by the server; may be repeated, for both side by side (default: as a session)",
            )
            add("--live", type=SECONDS, default=LIVE_S, metavar="S", help="seconds to record (default %(default)s)")
            add(
                "--in",
                dest="source",
                metavar="DEVICE",
                help="with --out: measure the round trip through these devices instead",
            )
            add(
                "--out",
                dest="target",
                metavar="DEVICE",
                help="output whose sound comes back at --in, by a cable or through the air",
            )
            add("--blocksize", type=count(1, 65_536), help="frames per callback, where the server allows it")
        if "peers" in self.sections:
            form = "NAME='COMMAND {in} {out}'"
            add(
                "--peer",
                action="append",
                default=[],
                metavar=form,
                help="another program to run on the same clip; may be repeated",
            )
            add("--clip", type=Path, help="clip for --peer (default: a synthetic voice in noise)")
        add(
            "--json",
            type=Path,
            metavar="FILE",
            help="also write the report as JSON, for `rtdenoise-bench compare`; `-`: print that instead",
        )
        add(
            "--md",
            type=Path,
            metavar="FILE",
            help="also write it as Markdown, for a ticket; `-`: print its tables instead",
        )
        add("--html", type=Path, metavar="FILE", help="also write it as one HTML page with charts")
        add("--quiet", action="store_true", help="do not print the report")

    def run(self, args: argparse.Namespace) -> int:
        draw = _drawings(args)
        console = Console(width=None if os.isatty(1) else terminal.PIPE_COLUMNS, highlight=False)
        report = take(self._request(args), Console(stderr=True, quiet=args.quiet))
        for path, form in draw:
            if path == PRINTED:
                print(form(report))
            else:
                write_text(path, form(report))
        if not (args.quiet or any(path == PRINTED for path, _ in draw)):
            terminal.show(report, console)
        return 0

    def _request(self, args: argparse.Namespace) -> Request:
        wanted = vars(args)
        given: dict[str, Any] = {
            name: wanted[name]
            for name in ("model", "models", "latency", "rate", "channels", "rounds", "blocksize", "clip")
            if name in wanted
        }
        find_model(given.setdefault("model", DEFAULT_MODEL))
        given["steps"] = [cost.parse_step(text) for text in wanted.get("step", ())]
        others = [peers.parse(text) for text in wanted.get("peer", ())]
        sections = tuple(p for p in self.sections if p != "peers" or others)
        everywhere = SERVERS if self.sections == ("live",) and not wanted.get("source") else None
        if bool(wanted.get("source")) != bool(wanted.get("target")):
            raise UsageError("a loopback needs both --in and --out; see `rtdenoise devices`")
        return Request(
            sections=sections,
            real_time_s=wanted.get("real_time", 0.0),
            live_s=wanted.get("live", 0.0),
            servers=tuple(wanted["server"]) if wanted.get("server") else everywhere,
            backends=tuple(wanted["backend"]) if wanted.get("backend") else (None,),
            devices=(args.source, args.target) if wanted.get("source") else None,
            peers=others,
            matrix_rates=RATES_HZ if self.sections == ("matrix",) else FEW_RATES_HZ,
            **given,
        )


def _drawings(args: argparse.Namespace) -> list[tuple[Path, Callable[[Report], str]]]:
    """The files to write, with their renderers. Made before measuring, so a missing library is reported at once."""
    found: list[tuple[Path, Callable[[Report], str]]] = []
    if args.json:
        found.append((args.json, to_json))
    if args.md:
        from rtdenoise_bench.report.markdown import page, part

        found.append((args.md, part if args.md == PRINTED else page))
    if args.html:
        from rtdenoise_bench.report.html import page as html_page

        found.append((args.html, html_page))
    return found


REPORT = Command((*ENGINE_SECTIONS, "live", "matrix", "peers"))
ENGINE, MODELS, LIVE = Command(ENGINE_SECTIONS), Command(("matrix",)), Command(("live",))
COST = Command(("cost", "peers"))
