"""The session's end of the control socket: one thread, any number of requests, nothing that audio waits for.

    clients ─▶ lines of at most 16 KiB ─▶ one event loop ─▶ `Session` ─▶ answers, within a bounded buffer

Each client is served in turn and has one request under way; what it sends meanwhile waits in the socket. One that
sends no messages, or does not read its answers, is dropped. The model is exchanged on a thread of its own, since
loading one takes a while. A session that opens its devices anew is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from rtdenoise import __version__
from rtdenoise.control.messages import (
    EARS,
    LONGEST_LINE,
    SLOW,
    VERSION,
    Request,
    id_of,
    line,
    read_object,
    read_request,
)
from rtdenoise.control.sockets import Listener, NotYet
from rtdenoise.errors import RtdenoiseError, UsageError

MOST_CLIENTS = 32
MOST_ERRORS = 10  # of a client, until it is taken for none
UNREAD_BYTES = 64 * 1024  # of answers, from which on a client is waited for
SLOW_S = 5.0  # for so long
HEARD_S = 1.0  # for which an answer waits for its effect, at most: without a device there is none
LOOK_S = 0.002  # how often the effect is looked for: half a hop
BETWEEN_S, AGAIN_S = 20.0, 0.02  # for which a session that is `NotYet` there is waited for, and how often asked
WATCH_S, NEWS_S = 0.1, 1.0  # how often a watcher's status is looked at, and sent though no setting has changed
FRESH_S = 0.05  # for which a status serves all who ask
END_S = 10.0  # longer than a model takes to load
T = TypeVar("T")
NEWS = ("state", "input", "output", "model", "muted", "bypass", "strength_db", "low_cut_hz", "profile", "failure")


class Session(Protocol):
    """What is controlled. Called from threads of the server's; raises `RtdenoiseError` for what cannot be done, and
    `NotYet`, with nothing done, for what can be in a moment."""

    def status(self) -> dict[str, Any]: ...

    def apply(self, settings: dict[str, Any]) -> None: ...

    def heard(self) -> bool:
        """Whether what was applied last has reached the output."""
        ...


class ControlServer:
    """Listens for ``session`` while the context holds. Raises `ControlError` where that cannot be."""

    def __init__(self, session: Session):
        self._session = session
        self._listener = Listener()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rtdenoise-control", daemon=True)
        self._clients: dict[asyncio.Task[None], float] = {}  # and when each was last heard of
        self._watchers: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._model_turn = asyncio.Lock()
        self._loading: threading.Thread | None = None
        self._status: tuple[float, dict[str, Any]] = (0.0, {})

    def __enter__(self) -> ControlServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if self._loading is not None:
            self._loading.join(END_S)

    def changed(self) -> None:
        """Something was changed another way; those who watch learn of it at once. From any thread."""

        def look_anew() -> None:
            self._status = (0.0, {})
            self._changed.set()

        with contextlib.suppress(RuntimeError):  # It has ended.
            self._loop.call_soon_threadsafe(look_anew)

    def _run(self) -> None:
        loop = self._loop
        try:
            self._listener.socket.setblocking(False)
            accepting = loop.create_task(self._accept(self._listener.socket))
            loop.run_forever()
            rest = [accepting, *self._clients]
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        finally:
            self._listener.close()
            loop.close()

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listening)
            except OSError:  # for example too many open files, of which some client may soon close one
                await asyncio.sleep(WATCH_S)
                continue
            if len(self._clients) >= MOST_CLIENTS:
                self._make_room()
            task = self._loop.create_task(self._serve(connection))
            self._clients[task] = time.monotonic()
            task.add_done_callback(self._forget)

    def _make_room(self) -> None:
        """End whoever has been silent longest, watchers last."""
        oldest = min(self._clients, key=lambda task: (task in self._watchers, self._clients[task]))
        oldest.cancel()
        self._forget(oldest)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._clients.pop(task, None)
        self._watchers.discard(task)

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LONGEST_LINE)
        writer.transport.set_write_buffer_limits(high=UNREAD_BYTES)
        errors = 0
        try:
            while errors < MOST_ERRORS and (data := await reader.readline()):
                errors += not await self._answer(data, writer)
                if (task := asyncio.current_task()) in self._clients and task is not None:
                    self._clients[task] = time.monotonic()
        except ValueError:  # how `readline` reports a line that is too long
            with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):
                await self._send(writer, None, ok=False, error=f"a message has at most {LONGEST_LINE} bytes")
        except (OSError, TimeoutError, asyncio.TimeoutError):
            pass  # It has gone, or does not read.
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() > UNREAD_BYTES else writer.close()

    async def _send(self, writer: asyncio.StreamWriter, id: int | str | None, **fields: Any) -> None:
        if writer.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        writer.write(line({"v": VERSION, "id": id, **fields}))
        if writer.transport.get_write_buffer_size():
            await asyncio.wait_for(writer.drain(), SLOW_S)

    async def _answer(self, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the line was a request; one that fails is one too."""
        id = None
        try:
            message = read_object(data)
            id = id_of(message)
            asked = read_request(message)
        except UsageError as problem:
            await self._send(writer, id, ok=False, error=str(problem))
            return False
        try:
            if asked.do == "watch":
                await self._watch(writer, asked.id)
            heard = await self._carry_out(asked)
            await self._send(writer, id, ok=True, heard=heard, status=await self._look())
        except RtdenoiseError as problem:
            await self._send(writer, id, ok=False, error=str(problem))
        return True

    async def _carry_out(self, asked: Request) -> bool:
        """Whether the effect was heard, for which it waits a moment."""
        if asked.do == "set":
            try:
                await _patiently(lambda: self._apply(asked.settings))
            finally:
                self._status = (0.0, {})
                self._changed.set()
            await self._look()  # A session that is not there yet cannot be heard.
        until = self._loop.time() + (HEARD_S if asked.do == "set" else 0.0)
        while not (heard := self._session.heard()) and self._loop.time() < until:
            await asyncio.sleep(LOOK_S)
        return heard

    async def _apply(self, settings: dict[str, Any]) -> None:
        if any(name in settings.get(EARS, settings) for name in SLOW):
            async with self._model_turn:
                await self._beside(lambda: self._session.apply(settings))
        else:
            self._session.apply(settings)

    async def _beside(self, work: Callable[[], None]) -> None:
        """Run something slow on a thread, whose error is raised here."""
        done: asyncio.Future[None] = self._loop.create_future()

        def finish(problem: Exception | None) -> None:
            if not done.done():
                done.set_exception(problem) if problem else done.set_result(None)

        def run() -> None:
            problem: Exception | None = None
            try:
                work()
            except Exception as e:
                problem = e if isinstance(e, RtdenoiseError) else RtdenoiseError(f"{type(e).__name__}: {e}")
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(finish, problem)

        self._loading = threading.Thread(target=run, name="rtdenoise-model", daemon=True)
        self._loading.start()
        await done

    async def _watch(self, writer: asyncio.StreamWriter, id: int | str | None) -> None:
        """Send the status whenever a setting changes, and once a second, until the client goes."""
        if (task := asyncio.current_task()) is not None:
            self._watchers.add(task)
        last: list[Any] | None = None
        sent_s = 0.0
        while True:
            status = await self._look()
            news = [side.get(name) for side in (status, status.get(EARS, {})) for name in NEWS]
            if news != last or time.monotonic() - sent_s >= NEWS_S:
                last, sent_s = news, time.monotonic()
                await self._send(writer, id, event="status", status=status)
            self._changed.clear()
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), WATCH_S)

    async def _look(self) -> dict[str, Any]:
        """The status, which serves all who ask within a moment."""
        now_s = time.monotonic()
        if now_s - self._status[0] > FRESH_S:
            self._status = now_s, {"pid": os.getpid(), "version": __version__, **await _patiently(self._ask)}
        return self._status[1]

    async def _ask(self) -> dict[str, Any]:
        return self._session.status()


async def _patiently(do: Callable[[], Awaitable[T]]) -> T:
    """What ``do`` gives, tried again while it is `NotYet` possible, for `BETWEEN_S` at most."""
    until = time.monotonic() + BETWEEN_S
    while True:
        try:
            return await do()
        except NotYet:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(AGAIN_S)
