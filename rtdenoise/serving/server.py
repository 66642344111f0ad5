"""The server: who comes in, and where requests go.

    TCP ─▶ door: strangers are few, one at a time ─▶ access: this machine, or a token ─▶ /v1/stream   a session
                                                                                      ├▶ /metrics     for Prometheus
                                                                                      └▶ /healthz     for anybody

Runs in the event loop of who enters it and leaves nothing behind; filters on a thread for each core.
"""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from rtdenoise import __version__
from rtdenoise.core.compiled_denoiser import CompiledDenoiser
from rtdenoise.errors import RtdenoiseError
from rtdenoise.geometry import MIN_RATE_HZ
from rtdenoise.model.contract import Model
from rtdenoise.serving.access import LOOPBACK, Access
from rtdenoise.serving.door import STRANGER_BYTES, Door
from rtdenoise.serving.limits import Limits
from rtdenoise.serving.metrics import CONTENT_TYPE
from rtdenoise.serving.protocol import PATH
from rtdenoise.serving.session import Service, Session

LOG = logging.Logger(__name__, logging.CRITICAL + 1)  # What strangers send is not for the server's terminal.
SHUTDOWN_S = 3.0
USUAL_CHANNELS = 1, 2


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
            app,
            **settings,
            shutdown_timeout=SHUTDOWN_S,
            keepalive_timeout=self.service.limits.hello_s,
            read_bufsize=STRANGER_BYTES,
        )
        await self._runner.setup()
        assert self._runner.server is not None
        host, port = self._address
        self._door = Door(self._runner.server, self.service)
        try:
            self.port = self._door.open(host, port)
        except OSError as problem:
            await self._runner.cleanup()
            self._executor.shutdown(wait=False)
            raise RtdenoiseError(
                f"cannot listen at {host} port {port} ({problem.strerror or problem}); choose another --port"
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        await self._door.close()
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
        await self._door.turn()
        session = Session(self.service, request, self._door)
        with self._door.passing(request, session):
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


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = f"rtdenoise/{__version__}"
    if not isinstance(response, web.WebSocketResponse):
        response.force_close()  # an idle connection is a stranger again
