"""The command `rtdenoise virtual-mic create|remove|status`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from rtdenoise import console
from rtdenoise.live import virtual_mic

ACTIONS = {"create": virtual_mic.create, "remove": virtual_mic.remove, "status": virtual_mic.status}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, help="create one that stays, remove it, or show whether one exists")
    parser.add_argument("--json", action="store_true", help="print the status as a JSON object")


def run(args: argparse.Namespace) -> int:
    status = ACTIONS[args.action]()
    if args.json:
        console.print_json(asdict(status), sys.stdout)
        return 0
    if not status.exists:
        text = "there is no virtual microphone"
    elif status.owner:
        text = f'"{virtual_mic.DESCRIPTION}" exists while process {status.owner} runs'
    else:
        text = f'"{virtual_mic.DESCRIPTION}" exists; play into it with --out virtual-mic'
    console.say(
        f"{status.server}: {text}"
        + (f"; {status.stale} modules left by a killed process (remove clears them)" if status.stale else "")
    )
    return 0
