"""Who comes in, and how fast: strangers are few, and each step with one is short and waits for its turn.

    backlog ─▶ one every 5 ms ─▶ connection: read 1 KiB at a time ─▶ request, hello: one every 2.5 ms ─▶ session

One loop serves everybody. What it does in one go all sessions wait for, so a hundred strangers at once, who each cost
half a millisecond, are spread over half a second. Sockets are finite, and half of one costs nothing to who opens it:
beyond a number the oldest stranger goes. A session that has been admitted is never closed for another's sake.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aiohttp import web

from rtdenoise.serving.session import Service, Session

BACKLOG = 1_024
KERNEL_BYTES = 32 * 1024  # each way: what a client sends too fast, or does not read, is to wait at its own end
# Of a stranger in one go, who has little to say: of 1 KiB of tiny messages no more than 170 objects are made, and many
# objects make sweeps of the garbage collector long. A session may have more.
STRANGER_BYTES, SESSION_BYTES = 1024, 8 * 1024
ACCEPT_S = 0.005  # between two connections; one costs up to a millisecond in all
TURN_S = 0.0025  # between two requests or hellos; one costs half a millisecond
# A peer that has gone without a word is noticed by the system, after a minute. WebSocket's own pings would cost each
# message a timer, and tie each connection into cycles that only a long sweep of the garbage collector finds.
KEEP_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}
EXHAUSTED_S = 1.0  # until another try, when the system has no sockets left


class Door:
    """Makes the protocol of each TCP connection, while it is open."""

    def __init__(self, server: web.Server, service: Service):
        self._server, self._service = server, service
        self._sessions: dict[asyncio.BaseProtocol, Session] = {}
        self._next_turn_s = 0.0

    def open(self, host: str, port: int) -> int:
        """Listen there; the port, which 0 leaves to the system."""
        self._listener = _listening(host, port)
        self._accepting = asyncio.create_task(self._accept())
        return int(self._listener.getsockname()[1])

    async def close(self) -> None:
        """Listen no more. Who is inside stays."""
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._listener.close()

    def admit(self, request: web.Request) -> None:
        """The session of this request has been admitted."""
        if request.transport is not None:
            _read_at_once(request.transport, SESSION_BYTES)

    async def turn(self) -> None:
        """Wait until it is a stranger's turn to be worked for: first come, first served, one every `TURN_S`."""
        now = time.monotonic()
        turn_s = max(now, self._next_turn_s)
        self._next_turn_s = turn_s + TURN_S
        await asyncio.sleep(turn_s - now)

    @contextmanager
    def passing(self, request: web.Request, session: Session) -> Iterator[None]:
        """For the block, this request's connection is that session's."""
        self._sessions[request.protocol] = session
        try:
            yield
        finally:
            del self._sessions[request.protocol]

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except ConnectionError:  # It has gone again.
                continue
            except OSError:
                await asyncio.sleep(EXHAUSTED_S)
                continue
            with suppress(OSError):
                _keep_alive(sock)
                transport, _ = await loop.connect_accepted_socket(self._protocol, sock)
                _read_at_once(transport, STRANGER_BYTES)
            await asyncio.sleep(ACCEPT_S)

    def _protocol(self) -> asyncio.BaseProtocol:
        strangers = [p for p in self._server.connections if not self._is_admitted(p)]
        if len(strangers) >= self._service.limits.strangers:
            strangers[0].force_close()
            self._service.metrics.refusals.labels("stranger").inc()
        return self._server()

    def _is_admitted(self, protocol: asyncio.BaseProtocol) -> bool:
        return protocol in self._sessions and self._sessions[protocol].admitted


def _read_at_once(transport: asyncio.BaseTransport, most_bytes: int) -> None:
    transport.max_size = most_bytes  # type: ignore[attr-defined]  # asyncio's own on Unix heed it


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _listening(host: str, port: int) -> socket.socket:
    """A socket bound there, whose connections have small buffers."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, KERNEL_BYTES)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
