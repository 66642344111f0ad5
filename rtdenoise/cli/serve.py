"""The command `rtdenoise serve`: the filter as a WebSocket server, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import gc
from typing import TYPE_CHECKING

from rtdenoise import console, signals
from rtdenoise.arguments import VALUES, count, number
from rtdenoise.errors import UsageError
from rtdenoise.model.registry import DEFAULT_MODEL, load_model
from rtdenoise.serving.access import LOOPBACK, Access, read_token
from rtdenoise.serving.limits import Limits

if TYPE_CHECKING:
    from rtdenoise.serving.server import Server

PORT = 8_765
LOOK_S = 0.2
# Connections leave cycles behind. Old ones are swept after some 7,000 new objects, a few ms at a time; by default it
# would be ten times as many, and a sweep would hold every session up for 50 ms.
OFTEN = 700, 10, 1
LEAST_KIB, MOST_KIB = 4, 16 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--port", type=count(0, 65_535), default=PORT, metavar="N", help="port (default %(default)s; 0: any free one)")
    add(
        "--host",
        metavar="ADDRESS",
        help="listen here instead of 127.0.0.1, e.g. 0.0.0.0 for all; needs --token-file",
    )
    add("--token-file", metavar="FILE", help="let in only who sends the token that is in this file")
    add("--model", type=VALUES["model"], metavar="NAME", help="as without serve")
    add(
        "--connections",
        type=count(1, 10_000),
        metavar="N",
        help="channels filtered at once (default: 8 for each core that may be used)",
    )
    add(
        "--speed",
        type=number(1, 1_000, "times real time"),
        default=Limits.speed,
        metavar="X",
        help="times real time that a connection may send; faster ones wait (default %(default)g)",
    )
    add(
        "--message-kib",
        type=count(LEAST_KIB, MOST_KIB),
        default=Limits.message_bytes // 1024,
        metavar="N",
        help="longest message in KiB (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    if args.host and not args.token_file:
        raise UsageError(f"--host opens the server to others; give --token-file too, or leave --host out ({LOOPBACK})")
    access = Access(read_token(args.token_file) if args.token_file else None)
    from rtdenoise.serving.server import Server, cores  # the one part that needs the extra

    limits = Limits(args.connections or 8 * cores(), args.speed, args.message_kib * 1024)
    model = load_model(args.model or DEFAULT_MODEL)
    seldom = gc.get_threshold()
    try:
        with signals.awaited() as came:
            asyncio.run(_serve(Server(model, limits, args.host or LOOPBACK, args.port, access), came))
    finally:
        gc.set_threshold(*seldom)
    return 0


async def _serve(server: Server, came: list[int]) -> None:
    async with server:
        gc.collect()
        gc.freeze()  # or each sweep through what numba and the model brought holds every session up for 50 to 100 ms
        gc.set_threshold(*OFTEN)
        places = server.service.limits.connections
        console.say(f"serving {server.service.model.name} at {server.url} ({places} places; Ctrl-C ends it)")
        while not came:
            await asyncio.sleep(LOOK_S)
