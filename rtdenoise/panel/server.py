"""The panel's server: one page, one WebSocket a page, on 127.0.0.1 alone, on a thread of its own.

    engine's history ─▶ 30 looks a second ─▶ columns and levels (binary) ─┐
    engine's state ───▶ at once after a change, and 5 a second (JSON) ────┴─▶ every open page, or it skips them

While no page is open it only wakes twice a second, to keep the sound for the replay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import mimetypes
import socket
import struct
import threading
import time
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from rtdenoise.control.messages import SLOW, checked, read_object
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.panel import memory, report
from rtdenoise.panel.access import HEADERS, HOST, Access
from rtdenoise.panel.engine import CHOICES, Engine

if TYPE_CHECKING:
    from rtdenoise.panel.history import History

LOOK_S, STATE_S, IDLE_S = 1 / 30, 0.2, 0.5
SAVE_S = 2.0  # between two writings of what is remembered: a slider that moves must not keep the disk busy
MOST_PAGES, LONGEST_MESSAGE = 8, 16 * 1024
WAITING = 8  # messages for a page that is slow, until it skips some
HEARTBEAT_S = 20.0
PAGE = ("index.html", "panel.css", "panel.js", "picture.js", "replay.js", "icon.svg", "texts/de.json", "texts/en.json")
Page = asyncio.Queue[bytes | str]
LOG = logging.Logger(__name__, logging.CRITICAL + 1)  # What strangers send is not for the user's terminal.


class PanelServer:
    """Serves ``engine``'s state while the context holds; ``access`` knows the address."""

    def __init__(self, engine: Engine):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind((HOST, 0))
        self.access = Access(sock.getsockname()[1])
        self._socket, self._engine = sock, engine
        folder = files("rtdenoise.panel") / "page"
        self._files = {name: (folder / name).read_bytes() for name in PAGE}
        self._memory = self._saved = memory.load()
        self._pages: set[Page] = set()
        self._news, self._said_s = False, 0.0  # Something changed that all pages should learn of at once.
        engine.listeners.append(self._changed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtdenoise-panel", daemon=True)

    def __enter__(self) -> PanelServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if self._unsaved():
            self._save()

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_response_prepare.append(_add_headers)
        settings: dict[str, Any] = {"access_log": None, "logger": LOG, "handle_signals": False}
        runner = web.AppRunner(app, **settings, shutdown_timeout=0.5)
        loop.run_until_complete(runner.setup())
        loop.run_until_complete(web.SockSite(runner, self._socket).start())
        self._looking = loop.create_task(self._look_on())
        self._ready.set()
        try:
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_default_executor())  # What is just being saved is saved in full.
        finally:
            loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        headers = request.headers
        websocket = headers.get("Upgrade", "").lower() == "websocket"
        hosts, origins = headers.getall("Host", []), headers.getall("Origin", [])
        name = self.access.admitted(hosts, origins, path, websocket)
        if name is None:
            raise web.HTTPForbidden(text="open the panel by the address that rtdenoise printed\n")
        if request.method != "GET":
            raise web.HTTPMethodNotAllowed(request.method, ["GET"])
        if name == "ws" and websocket:
            return await self._talk(request)
        if name == "replay.wav":
            return self._replay()
        if name == "report.txt":
            return web.Response(text=report.text(self._engine.state()))
        if (body := self._files.get(name or "index.html")) is None:
            raise web.HTTPNotFound(text="there is no such page\n")
        kind = mimetypes.guess_type(name or "index.html")[0] or "application/octet-stream"
        return web.Response(body=body, content_type=kind, charset="utf-8")

    def _replay(self) -> web.Response:
        if (history := self._engine.history) is None:
            raise web.HTTPConflict(text="no session runs\n")
        history.take()
        sound, gain_db = history.wav()
        return web.Response(body=sound, content_type="audio/wav", headers={"Level-Match-Db": f"{gain_db:.1f}"})

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        """One page's WebSocket, until it goes."""
        if len(self._pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text="too many pages are open\n")
        page: Page = asyncio.Queue(WAITING)
        talk = web.WebSocketResponse(max_msg_size=LONGEST_MESSAGE, heartbeat=HEARTBEAT_S, compress=False)
        await talk.prepare(request)
        if (history := self._engine.history) is not None:
            history.take()
            _give(page, _picture(history, 0))
        self._pages.add(page)
        self._engine.watched = self._news = True
        sending = asyncio.create_task(_send_on(page, talk))
        try:
            async for message in talk:
                if message.type is not WSMsgType.TEXT:
                    break
                try:
                    self._obey(message.data)
                except RtdenoiseError as problem:
                    _give(page, _refusal(str(problem)))
                self._say()
                await asyncio.sleep(0)  # Others take turns with one that has much to say.
        finally:
            self._pages.discard(page)
            self._engine.watched = bool(self._pages)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await talk.close(code=WSCloseCode.GOING_AWAY, drain=False)
        return talk

    def _obey(self, text: str) -> None:
        """What a page asks for; `UsageError` for what makes no sense."""
        message = read_object(text)
        if not all(isinstance(part, dict) for part in message.values()):
            raise UsageError("a message is an object of objects")
        settings = checked(message.get("set", {}))
        if any(name in settings for name in SLOW):
            raise UsageError(f"{' and '.join(SLOW)} are chosen, not set: a model may take a while to load")
        self._engine.apply(settings)
        asked = message.get("choose", {})
        chosen = {
            k: v for k, v in asked.items() if k in CHOICES and isinstance(v, str) and len(v) <= memory.LONGEST_NAME
        }
        if chosen != asked:
            raise UsageError(f"choose {', '.join(CHOICES)}, by their names")
        if chosen:
            before = self._engine.choices
            self._engine.choose(chosen)
            chosen |= {k: v for k, v in self._engine.choices.items() if v != before[k]}  # what goes with it
        self._memory = self._memory.but({**message.get("remember", {}), **chosen})

    async def _look_on(self) -> None:
        """Keep the sound, and tell the pages."""
        saved_s = 0.0
        while True:
            began = time.monotonic()
            if (history := self._engine.history) is not None:
                before = history.taken
                history.take()
                if self._pages:
                    self._tell(_picture(history, before))
            if self._pages and (self._news or began - self._said_s >= STATE_S):
                self._say_now()
            if began - saved_s >= SAVE_S and self._unsaved():
                saved_s = began
                if problem := await self._loop.run_in_executor(None, self._save):
                    self._tell(_refusal(problem))
            await asyncio.sleep(max(0.0, began + (LOOK_S if self._pages else IDLE_S) - time.monotonic()))

    def _changed(self) -> None:
        """A change that came another way; called from any thread."""
        with contextlib.suppress(RuntimeError):  # The loop has ended.
            self._loop.call_soon_threadsafe(self._say)

    def _say(self) -> None:
        """All pages learn of a change at once; of several in a row, of the last at the next look."""
        self._news = True
        if self._pages and time.monotonic() - self._said_s >= LOOK_S:
            self._say_now()

    def _say_now(self) -> None:
        self._news, self._said_s = False, time.monotonic()
        self._tell(json.dumps(self._state()))

    def _unsaved(self) -> bool:
        if (profile := self._engine.chosen_profile) is not None:
            self._memory = self._memory.but({"profile": profile})
        return self._memory != self._saved or self._engine.preferences.unsaved

    def _save(self) -> str | None:
        """What there is a place for; why not, if the file of the microphones cannot be read or written."""
        if self._memory != self._saved:
            self._saved = self._memory
            memory.save(self._saved)
        try:
            self._engine.preferences.save()
        except (OSError, UsageError) as problem:
            return f"not remembered: {problem}"
        return None

    def _state(self) -> dict[str, Any]:
        return {
            "type": "state",
            "memory": asdict(self._memory),
            "thread": threading.get_native_id(),
            **self._engine.state(),
        }

    def _tell(self, message: bytes | str) -> None:
        for page in self._pages:
            _give(page, message)


def _give(page: Page, message: bytes | str) -> None:
    with contextlib.suppress(asyncio.QueueFull):  # It is slow, and misses this one.
        page.put_nowait(message)


def _refusal(problem: str) -> str:
    return json.dumps({"type": "refused", "problem": problem})


def _picture(history: History, since: int) -> bytes:
    """Count of columns, both levels in dBFS, then the columns (`History.columns`); little-endian."""
    count, columns = history.columns(since)
    return struct.pack("<i2f", count, *history.levels_db) + columns


async def _send_on(page: Page, talk: web.WebSocketResponse) -> None:
    """Until it is gone; one that does not read is noticed by its missing heartbeat."""
    with contextlib.suppress(ConnectionError, RuntimeError):
        while True:
            message = await page.get()
            await (talk.send_bytes(message) if isinstance(message, bytes) else talk.send_str(message))


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers["Server"] = "rtdenoise"
