"""The server: who comes in, and where requests go.

    TCP ─▶ door: strangers are few, the oldest goes ─▶ access: this machine, or a token ─▶ /v1/stream   a session
                                                                                        ├▶ /metrics     for Prometheus
                                                                                        └▶ /healthz     for anybody

Runs in the event loop of who enters it and leaves nothing behind; filters on a thread for each core.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from rtdenoise import __version__
from rtdenoise.core.compiled_denoiser import CompiledDenoiser
from rtdenoise.errors import RtdenoiseError
from rtdenoise.geometry import MIN_RATE_HZ
from rtdenoise.model.contract import Model
from rtdenoise.serving.access import LOOPBACK, Access
from rtdenoise.serving.limits import Limits
from rtdenoise.serving.metrics import CONTENT_TYPE
from rtdenoise.serving.protocol import PATH
from rtdenoise.serving.session import Service, Session

LOG = logging.Logger(__name__, logging.CRITICAL + 1)  # What strangers send is not for the server's terminal.
SHUTDOWN_S = 3.0
BACKLOG = 1_024
USUAL_CHANNELS = 1, 2
KERNEL_BYTES = 32 * 1024  # each way: what a client sends too fast, or does not read, is to wait at its own end


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Server:
    """Serves a model while the context holds; ``port`` is where.

    Parameters
    ----------
    model : Model
        Which all sessions share.
    limits : Limits, optional
        What is granted.
    host, port : str, int
        Where to listen; 0 takes a free port.
    access : Access, optional
        Who is let in. Another host than the loopback needs a token.
    """

    def __init__(
        self,
        model: Model,
        limits: Limits | None = None,
        host: str = LOOPBACK,
        port: int = 0,
        access: Access | None = None,
    ):
        self._access = access or Access()
        if host != LOOPBACK and self._access.token is None:
            raise RtdenoiseError(f"to listen at {host} needs a token")
        self._executor = ThreadPoolExecutor(cores(), "rtdenoise-serve")
        self.service = Service(model, limits or Limits(), self._executor)
        self._address, self.port = (host, port), port
        self._ending = False

    async def __aenter__(self) -> Server:
        loop = asyncio.get_running_loop()
        # What is loaded and compiled once is not to hold up the first client.
        for channels in USUAL_CHANNELS:
            await loop.run_in_executor(self._executor, CompiledDenoiser, self.service.model, MIN_RATE_HZ, channels)
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get(PATH, self._stream)
        app.on_response_prepare.append(_add_headers)
        settings: dict[str, Any] = {"access_log": None, "logger": LOG, "handle_signals": False}
        self._runner = web.AppRunner(
            app, **settings, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=self.service.limits.hello_s
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._door = Door(self._runner.server, self.service)
        try:
            listening = _listening(*self._address)
            self._listener = await loop.create_server(self._door, sock=listening, backlog=BACKLOG)
        except OSError as problem:
            await self._runner.cleanup()
            self._executor.shutdown(wait=False)
            host, port = self._address
            raise RtdenoiseError(
                f"cannot listen at {host} port {port} ({problem.strerror or problem}); choose another --port"
            ) from None
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        self._listener.close()
        await asyncio.gather(*(session.leave() for session in self.service.sessions), return_exceptions=True)
        await self._runner.cleanup()
        self._executor.shutdown(wait=False)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        host = self._address[0]
        return f"ws://{f'[{host}]' if ':' in host else host}:{self.port}{PATH}"

    @property
    def connections(self) -> int:
        """TCP connections now, whatever they do."""
        assert self._runner.server is not None
        return len(self._runner.server.connections)

    async def _health(self, _: web.Request) -> web.Response:
        taken, places = self.service.taken, self.service.limits.connections
        state = {"status": "ending" if self._ending else "ok", "places": places, "free": places - taken}
        return web.json_response(state, status=503 if self._ending else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        self._admit(request)
        self.service.metrics.connections.set(self.connections)
        return web.Response(body=self.service.metrics.page(), headers={"Content-Type": CONTENT_TYPE})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        session = Session(self.service, request)
        self._door.talks(request, session)
        return await session.run()

    def _admit(self, request: web.Request) -> None:
        if self._access.admits(request.headers):
            return
        self.service.metrics.refusals.labels("access").inc()
        if self._access.token is None:
            raise web.HTTPForbidden(text="only programs of this machine are let in, by the name localhost\n")
        raise web.HTTPUnauthorized(
            text="send the header: Authorization: Bearer TOKEN\n", headers={"WWW-Authenticate": "Bearer"}
        )


class Door:
    """Makes the protocol of each TCP connection, and keeps strangers few: sockets are finite, and half of them cost
    nothing to who opens them. A session that has been admitted is never closed for another's sake."""

    def __init__(self, server: web.Server, service: Service):
        self._server, self._service = server, service
        self._sessions: dict[asyncio.BaseProtocol, Session] = {}

    def __call__(self) -> asyncio.BaseProtocol:
        strangers = [p for p in self._server.connections if not self._is_admitted(p)]
        if len(strangers) >= self._service.limits.strangers:
            strangers[0].force_close()
            self._service.metrics.refusals.labels("stranger").inc()
        return self._server()

    def talks(self, request: web.Request, session: Session) -> None:
        """This request's connection is that session's."""
        self._sessions[request.protocol] = session

    def _is_admitted(self, protocol: asyncio.BaseProtocol) -> bool:
        return protocol in self._sessions and self._sessions[protocol].admitted


def _listening(host: str, port: int) -> socket.socket:
    """A socket bound there, whose connections have small buffers."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, KERNEL_BYTES)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = f"rtdenoise/{__version__}"
    if not isinstance(response, web.WebSocketResponse):
        response.force_close()  # an idle connection is a stranger again
