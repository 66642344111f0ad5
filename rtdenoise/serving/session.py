"""One client's stream, from hello to end: a message in, its answer out, then the next one.

    network ─▶ unread: a message, and 8 KiB ─▶ pace ─▶ thread: AsyncDenoiser ─▶ unsent: 128 KiB ─▶ network
                 └── until its answer is sent, nothing more is read: a client fills its own buffers, fast or slow

Whatever a client does costs others nothing but its fair share of the threads: what is unread, unsent, too fast or too
long is bounded, and every wait has an end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Protocol

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web

from rtdenoise import __version__
from rtdenoise.core.async_denoiser import AsyncDenoiser
from rtdenoise.errors import RtdenoiseError
from rtdenoise.model.contract import Model
from rtdenoise.serving import protocol
from rtdenoise.serving.limits import LEAST_S, Limits, Pace
from rtdenoise.serving.metrics import Metrics
from rtdenoise.serving.protocol import CHANGEABLE, Hello, Refusal

PING_S = 0.25  # between pings that are answered at once, for more than `BURST_S` of them
GOODBYE_S = 1.0  # for a client to take in why its connection ends
CODES = {"busy": WSCloseCode.TRY_AGAIN_LATER, "partial-sample": WSCloseCode.INVALID_TEXT}
ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED)


class Door(Protocol):
    """Strangers are worked for in turn, until they are admitted."""

    async def turn(self) -> None: ...

    def admit(self, request: web.Request) -> None: ...


class Service:
    """What all sessions of a server share."""

    def __init__(self, model: Model, limits: Limits, executor: Executor):
        self.model, self.limits, self.executor = model, limits, executor
        self.metrics = Metrics(__version__, model.name, limits.connections)
        self.taken = 0
        # Clients that are faster than real time take turns, so that all of them together delay the others by one piece.
        self.hurry = asyncio.Lock()
        self.sessions: set[Session] = set()

    @contextmanager
    def place(self, channels: int) -> Iterator[None]:
        """Places for so many channels, or a `Refusal`."""
        if self.taken + channels > self.limits.connections:
            raise Refusal("busy", f"all {self.limits.connections} places of this server are taken; try again later")
        self._take(channels)
        try:
            yield
        finally:
            self._take(-channels)

    def _take(self, channels: int) -> None:
        self.taken += channels
        self.metrics.places_taken.set(self.taken)


class Session:
    """A WebSocket that has been asked for; ``admitted`` once its hello has been answered."""

    def __init__(self, service: Service, request: web.Request, door: Door):
        self._service, self._limits, self._metrics = service, service.limits, service.metrics
        self._socket = web.WebSocketResponse(
            max_msg_size=self._limits.message_bytes + 1,  # which aiohttp refuses
            timeout=GOODBYE_S,
            compress=False,
            autoping=False,
        )
        self._request, self._door = request, door
        self._pace, self._pings = Pace(self._limits.speed), Pace(1.0)
        self.admitted, self._leaving = False, asyncio.Event()

    async def run(self) -> web.WebSocketResponse:
        """Until either side ends it."""
        await self._socket.prepare(self._request)
        transport, end = self._request.transport, "left"
        self._service.sessions.add(self)
        try:
            await self._talk()
        except RtdenoiseError as problem:
            end = getattr(problem, "code", "failed")
            await self._refuse(problem, CODES.get(end, WSCloseCode.POLICY_VIOLATION))
        except (ConnectionError, asyncio.TimeoutError):
            end = "lost"
        finally:
            await self._socket.close()
            if (stored := self._socket.exception()) is not None:
                _forget_frames(stored)
            self._service.sessions.discard(self)
            self._metrics.ends.labels(end).inc()
            if transport is not None:  # what a client does not read must not keep its connection
                asyncio.get_running_loop().call_later(GOODBYE_S, transport.abort)
        return self._socket

    async def leave(self) -> None:
        """End it, since the server ends."""
        self._leaving.set()
        if self._request.transport is not None:
            self._request.transport.resume_reading()  # the client's goodbye
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server ends", drain=False)

    async def _talk(self) -> None:
        first = await self._receive(self._limits.hello_s, "no hello came")
        if first is None:
            return
        await self._door.turn()
        if first.type is not WSMsgType.TEXT:
            raise Refusal("bad-hello", "sound came before a hello")
        hello = protocol.read_hello(first.data)
        settings = hello.rate, hello.channels, hello.strength_db, hello.latency, hello.low_cut_hz
        with self._service.place(hello.channels):
            self.admitted = True
            self._door.admit(self._request)
            async with AsyncDenoiser(self._service.model, *settings, executor=self._service.executor) as stream:
                stream.bypass = hello.bypass
                await self._send(self._hello(hello, stream))
                while message := await self._receive(self._limits.idle_s, "nothing was sent"):
                    await self._send(await self._answer(message, hello, stream))

    def _hello(self, hello: Hello, stream: AsyncDenoiser) -> str:
        info, limits = self._service.model.info, self._limits
        return protocol.text(
            "hello",
            protocol=protocol.VERSION,
            server=f"rtdenoise {__version__}",
            model=f"{info.name} {info.version}".strip(),
            rate=hello.rate,
            channels=hello.channels,
            format=hello.format,
            latency_samples=stream.latency_samples,
            latency_ms=stream.latency_ms,
            limits={"speed": limits.speed, "message_bytes": limits.message_bytes, "idle_s": limits.idle_s},
            **_settings(stream),
        )

    async def _answer(self, message: WSMessage, hello: Hello, stream: AsyncDenoiser) -> bytes | str:
        """What a message asks for."""
        if message.type is WSMsgType.BINARY:
            return await self._filtered(message.data, hello, stream)
        await self._keep_pace(0.0)
        kind, given = protocol.read_message(message.data)
        if kind == "set":
            for name, value in protocol.read_settings(given).items():
                setattr(stream, name, value)
            return protocol.text("set", **_settings(stream))
        if kind == "flush" and not given:
            rest = await stream.flush()
            await stream.reset()
            return hello.encode(rest)
        raise Refusal("bad-message", 'after the hello, a text message is of type "set" or "flush"')

    async def _filtered(self, data: bytes, hello: Hello, stream: AsyncDenoiser) -> bytes:
        samples = hello.decode(data)
        seconds, faulty = hello.seconds(data), stream.nonfinite_samples
        await self._keep_pace(seconds)
        began = time.perf_counter()
        async with self._service.hurry if self._pace.hurries else nullcontext():
            answer = hello.encode(await stream.process(samples))
        self._metrics.answers.observe(time.perf_counter() - began)
        self._metrics.sound_s.inc(seconds * hello.channels)
        if more := stream.nonfinite_samples - faulty:
            self._metrics.faulty_samples.inc(more)
        return answer

    async def _keep_pace(self, seconds: float) -> None:
        wait_s = self._pace.wait_s(seconds)
        if wait_s:
            self._metrics.held_back_s.inc(wait_s)
        if wait_s or not seconds:  # others take turns with one that has much to say
            await asyncio.sleep(wait_s)

    async def _receive(self, most_s: float, silence: str) -> WSMessage | None:
        """The next message that wants an answer, None at the end. Pings do not keep a connection that is idle."""
        until_s = time.monotonic() + most_s
        while True:
            try:
                with self._reading():
                    message = await self._socket.receive(timeout=max(LEAST_S, until_s - time.monotonic()))
            except asyncio.TimeoutError:
                raise Refusal("idle", f"{silence} for {most_s:g} s") from None
            if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                return message
            if message.type in ENDED:
                return None
            if message.type is WSMsgType.ERROR:
                raise self._fault(message.data)
            if not self.admitted:
                raise Refusal("bad-hello", "a ping or pong came before a hello")
            await asyncio.sleep(self._pings.wait_s(PING_S))
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Read from the network in the block alone. aiohttp would store a thousand messages ahead."""
        transport = self._request.transport
        if transport is not None:
            transport.resume_reading()
        try:
            yield
        finally:
            if transport is not None and not self._leaving.is_set():
                transport.pause_reading()

    def _fault(self, problem: Exception) -> Exception:
        """What broke the connection: the client's own doing, which it has been told by a close code, or the network."""
        if isinstance(problem, WebSocketError):
            _forget_frames(problem)
            too_long = problem.code == WSCloseCode.MESSAGE_TOO_BIG
            return Refusal("too-long" if too_long else "no-websocket", str(problem))
        return ConnectionError("the connection broke")

    async def _send(self, message: bytes | str) -> None:
        transport = self._request.transport
        if transport is None:
            raise ConnectionError("the client has gone")
        timer = asyncio.get_running_loop().call_later(self._limits.stall_s, transport.abort)
        try:
            await (self._socket.send_bytes(message) if isinstance(message, bytes) else self._socket.send_str(message))
        finally:
            timer.cancel()

    async def _refuse(self, problem: Exception, code: int) -> None:
        """Say why, and hang up. What the client goes on sending stays unread; aiohttp's own farewell would read it."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return
        transport.pause_reading()
        with suppress(ConnectionError, RuntimeError, asyncio.TimeoutError):
            await self._send(protocol.refusal(problem))
            transport.write(protocol.close_frame(code, getattr(problem, "code", "failed")))
            transport.write_eof()
            await asyncio.wait_for(self._leaving.wait(), GOODBYE_S)
        transport.abort()


def _forget_frames(problem: BaseException) -> None:
    """Of an error that a connection stores: they store the connection, and all of it would wait for a sweep."""
    problem.__traceback__ = problem.__context__ = None


def _settings(stream: AsyncDenoiser) -> dict[str, Any]:
    return {name: getattr(stream, name) for name in CHANGEABLE}
