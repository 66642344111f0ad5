"""The parts of `rtdenoise-bench` that take a latency report, or some of it, and where it goes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rtdenoise.arguments import RATE, SECONDS, count, number
from rtdenoise.errors import UsageError
from rtdenoise.io.atomic import write_text
from rtdenoise.model.registry import DEFAULT_MODEL, find_model
from rtdenoise_bench.measure import peers
from rtdenoise_bench.measure.live import SERVERS
from rtdenoise_bench.measure.matrix import FEW_RATES_HZ, RATES_HZ
from rtdenoise_bench.measure.measure import LIVE_S, REAL_TIME_S, ROUNDS, Wish, take
from rtdenoise_bench.report import terminal
from rtdenoise_bench.report.report import Report, to_json

ENGINE_PARTS = ("noise", "engine", "real time", "start")


@dataclass(frozen=True)
class Part:
    """One command: the measurements it takes."""

    parts: tuple[str, ...]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        if self.parts != ("matrix",):
            add("--model", default=DEFAULT_MODEL, help="model to measure (default %(default)s)")
            add("--latency", choices=("normal", "low"), default="normal")
        if "engine" in self.parts:
            add("--rate", type=RATE, default=48_000, help="Hz (default %(default)s)")
            add("--channels", type=count(1, 1_000), default=1)
            add("--rounds", type=count(), default=ROUNDS, help="of 500 hops, back to back (default %(default)s)")
            add(
                "--real-time",
                type=number(0, 86_400, "seconds"),
                default=REAL_TIME_S,
                metavar="S",
                help="seconds undisturbed, and half of it for each disturbance (default %(default)s)",
            )
        if "live" in self.parts:
            every = " (default: all)" if self.parts == ("live",) else " (default: the one that runs here, and JACK)"
            add("--server", action="append", choices=SERVERS, help="may be repeated" + every)
            add("--live", type=SECONDS, default=LIVE_S, metavar="S", help="seconds to listen (default %(default)s)")
            add("--in", dest="source", metavar="DEVICE", help="with --out: measure these devices by a loopback instead")
            add("--out", dest="target", metavar="DEVICE", help="its sound must come back at --in, by a cable or by air")
            add("--blocksize", type=count(1, 65_536), help="frames a callback, where the server allows it")
        if "peers" in self.parts:
            form = "NAME='COMMAND {in} {out}'"
            add(
                "--peer", action="append", default=[], metavar=form, help="another program on the same clip; repeatable"
            )
            add("--clip", type=Path, help="clip for --peer (default: a synthetic voice in noise)")
        add("--json", type=Path, metavar="FILE", help="keep the report, for `rtdenoise-bench compare`")
        add("--md", type=Path, metavar="FILE", help="the same as Markdown, for a ticket")
        add("--html", type=Path, metavar="FILE", help="the same as one page with pictures")
        add("--quiet", action="store_true", help="print nothing")

    def run(self, args: argparse.Namespace) -> int:
        draw = _drawings(args)
        console = Console(width=None if os.isatty(1) else terminal.PIPE_COLUMNS, highlight=False)
        report = take(self._wish(args), Console(stderr=True, quiet=args.quiet))
        for path, form in draw:
            write_text(path, form(report))
        if not args.quiet:
            terminal.show(report, console)
        return 0

    def _wish(self, args: argparse.Namespace) -> Wish:
        wanted = vars(args)
        given = {
            name: wanted[name]
            for name in ("model", "latency", "rate", "channels", "rounds", "blocksize", "clip")
            if name in wanted
        }
        find_model(given.setdefault("model", DEFAULT_MODEL))
        others = [peers.parse(text) for text in wanted.get("peer", ())]
        parts = tuple(p for p in self.parts if p != "peers" or others)
        everywhere = SERVERS if self.parts == ("live",) and not wanted.get("source") else None
        if bool(wanted.get("source")) != bool(wanted.get("target")):
            raise UsageError("a loopback needs both --in and --out; see `rtdenoise devices`")
        return Wish(
            parts=parts,
            real_time_s=wanted.get("real_time", 0.0),
            live_s=wanted.get("live", 0.0),
            servers=tuple(wanted["server"]) if wanted.get("server") else everywhere,
            devices=(args.source, args.target) if wanted.get("source") else None,
            peers=others,
            matrix_rates=RATES_HZ if self.parts == ("matrix",) else FEW_RATES_HZ,
            **given,
        )


def _drawings(args: argparse.Namespace) -> list[tuple[Path, Callable[[Report], str]]]:
    """Where to write what; asked before measuring, so that nothing missing is found out only afterwards."""
    found: list[tuple[Path, Callable[[Report], str]]] = []
    if args.json:
        found.append((args.json, to_json))
    if args.md:
        from rtdenoise_bench.report.markdown import page

        found.append((args.md, page))
    if args.html:
        from rtdenoise_bench.report.html import page as html_page

        found.append((args.html, html_page))
    return found


REPORT = Part((*ENGINE_PARTS, "live", "matrix", "peers"))
ENGINE, MODELS, LIVE = Part(ENGINE_PARTS), Part(("matrix",)), Part(("live",))
