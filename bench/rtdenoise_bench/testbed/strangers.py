"""Clients that no server deserves: half-open, slow, oversized and garbage, over and over until told to stop.

Raw sockets, since a proper library would not do it. They connect to the loopback alone, wait a moment before each new
attempt, and end when their task is cancelled. As a program, with a port and a count, until it is terminated.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import struct
import sys

HOST = "127.0.0.1"
AGAIN_S = 1.0  # between two attempts of one client
HELLO = json.dumps({"type": "hello", "protocol": 1, "rate": 16_000}).encode()
TEXT, BINARY, PING = 1, 2, 9


def request(path: str = "/v1/stream") -> bytes:
    """A WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]).encode()


def frame(kind: int, data: bytes, says: int | None = None) -> bytes:
    """A frame of a client, masked with zeros; ``says`` is the length that it claims."""
    size = len(data) if says is None else says
    if size < 126:
        head = struct.pack(">BB", 0x80 | kind, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", 0x80 | kind, 0xFE, size)
    else:
        head = struct.pack(">BBQ", 0x80 | kind, 0xFF, size)
    return head + bytes(4) + data


async def half_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random) -> None:
    """Nothing at all, half a request, or a WebSocket and then nothing."""
    whole = request()
    writer.write(rng.choice([b"", whole[: len(whole) // 2], whole]))
    await reader.read()


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random) -> None:
    """A request byte by byte; or sound in real time whose answers are never read."""
    if rng.random() < 0.5:
        for byte in request():
            writer.write(bytes([byte]))
            await writer.drain()  # ends it with the connection
            await asyncio.sleep(0.3)
        await reader.read()
    writer.write(request() + frame(TEXT, HELLO))
    while True:
        writer.write(frame(BINARY, bytes(640)))
        await writer.drain()
        await asyncio.sleep(0.02)


async def oversized(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random) -> None:
    """More than any server should take in: headers, a hello or sound, or its mere announcement."""
    big = b"x" * (1 << 20)
    start = request() + frame(TEXT, HELLO)
    writer.write(
        rng.choice([
            b"GET / HTTP/1.1\r\nX: " + big,
            request() + frame(TEXT, big),
            start + frame(BINARY, big),
            start + frame(BINARY, b"x" * 1000, says=1 << 62),
        ])
    )  # fmt: skip
    await writer.drain()
    await reader.read()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random) -> None:
    """Noise instead of HTTP, of frames, of JSON; a storm of pings or of empty messages."""
    writer.write(
        rng.choice([
            rng.randbytes(5_000),
            request() + rng.randbytes(5_000),
            request() + frame(TEXT, rng.randbytes(500)),
            request() + frame(TEXT, b'{"type": "hello", "protocol": 1, "rate": [[' + b"[" * 3_000),
            request() + frame(TEXT, HELLO) + frame(BINARY, b"abc"),
            request() + frame(PING, b"") * 20_000,
            request() + frame(TEXT, HELLO) + frame(BINARY, b"") * 20_000,
        ])
    )  # fmt: skip
    await writer.drain()
    await reader.read()


KINDS = (half_open, slow, oversized, garbage)


async def crowd(port: int, count: int, seed: int = 0) -> None:
    """So many of them, of each kind as many, until it is cancelled."""
    await asyncio.gather(*(_again_and_again(port, KINDS[k % len(KINDS)], seed + k) for k in range(count)))


async def _again_and_again(port: int, kind, seed: int) -> None:
    rng = random.Random(seed)
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                await kind(reader, writer, rng)
            finally:
                writer.transport.abort()
        await asyncio.sleep(AGAIN_S)


if __name__ == "__main__":
    if hasattr(os, "sched_setscheduler"):  # whatever priority those who measure have
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    asyncio.run(crowd(int(sys.argv[1]), int(sys.argv[2])))
