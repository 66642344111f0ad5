"""The command `rtdenoise devices`: the devices to record from and to play to."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from rtdenoise import console
from rtdenoise.live.devices import Device, list_devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object per device")


def run(args: argparse.Namespace) -> int:
    devices = list_devices()
    if args.json:
        for d in devices:
            console.print_json(asdict(d), sys.stdout)
    elif devices:
        console.print_table(["id", "name", "host", "in", "out", "rate", ""], [_row(d) for d in devices])
    else:
        console.say("no sound device found; see `rtdenoise doctor`")
    return 0


def _row(d: Device) -> list[str]:
    marks = [
        word
        for word, true in (("mic", d.default_input), ("speakers", d.default_output), ("virtual", d.virtual))
        if true
    ]
    counts = [str(n) if n else "" for n in (d.inputs, d.outputs)]
    return [str(d.id), d.name, d.host, *counts, f"{d.rate} Hz", ", ".join(marks)]
