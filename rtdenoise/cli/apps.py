"""The command `rtdenoise apps`: the programs that play or record now, as `--app` knows them.

Where a session was killed, programs may play to what it left, unheard, so that is put in order first.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from rtdenoise import console
from rtdenoise.live.programs import list_programs
from rtdenoise.live.server import connection
from rtdenoise.live.virtual_end import put_in_order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object per stream")


def run(args: argparse.Namespace) -> int:
    with connection() as client:
        if client is not None and put_in_order(client):
            console.say("a killed session had left a virtual device; it is gone, and its programs are where they were")
    found = list_programs()
    if args.json:
        for program in found:
            console.print_json(asdict(program), sys.stdout)
    elif found:
        rows = [[str(p.id), p.name, "plays on" if p.plays else "records", p.device, p.title] for p in found]
        console.print_table(["id", "name", "", "where", "what"], rows)
    else:
        console.say("no program plays or records anything now")
    return 0
