"""The other end: connect to a running session, ask, wait for the answer. Blocking, as a command is."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtdenoise.control import sockets
from rtdenoise.control.messages import SLOW, request
from rtdenoise.control.sockets import ControlError

CONNECT_S, ANSWER_S = 1.0, 30.0  # longer than a session takes that just opens its devices anew
MODEL_S = 60.0  # for a model that must be loaded, and perhaps compiled for
LONGEST_ANSWER = 1 << 20
NOBODY = "no live session is running; start one with: rtdenoise --in mic --out virtual-mic"


class Client:
    """A connection to the newest session, to that of a process, or to the one at a path; a context manager.

    Raises `ControlError` where there is none, for what the session refuses, and if it does not answer.
    """

    def __init__(self, session: int | Path | None = None):
        self._pending, self._ended = b"", False
        self.path, self._socket = _connect(session)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, do: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request."""
        slow = settings is not None and any(name in settings for name in SLOW)
        self._send(request(do, 1, settings), MODEL_S if slow else ANSWER_S)
        answer = self._receive()
        if not answer.get("ok"):
            raise ControlError(str(answer.get("error", "the session refused")))
        return answer

    def watch(self) -> Iterator[dict[str, Any]]:
        """The status whenever it changes, and once a second, until the session ends."""
        self._send(request("watch", 1), ANSWER_S)
        while True:
            try:
                yield self._receive()["status"]
            except ControlError:
                if self._ended:
                    return
                raise

    def _send(self, data: bytes, timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(data)
        except OSError as problem:
            raise self._lost(problem) from problem

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._pending:
            try:
                data = self._socket.recv(1 << 16)
            except OSError as problem:
                raise self._lost(problem) from problem
            self._pending += data
            if not data or len(self._pending) > LONGEST_ANSWER:
                self._ended = not data
                raise ControlError(f"session {sockets.pid_of(self.path)} has ended")
        first, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(first)
        return answer

    def _lost(self, problem: OSError) -> ControlError:
        self._ended = isinstance(problem, ConnectionError)
        said = "has ended" if self._ended else "does not answer"
        return ControlError(f"session {sockets.pid_of(self.path)} {said}")


def _connect(session: int | Path | None) -> tuple[Path, socket.socket]:
    """The first that listens; one that cannot be reached is named if there is no other."""
    problem: ControlError | None = None
    for path in [session] if isinstance(session, Path) else sockets.sessions():
        if not isinstance(session, int) or sockets.pid_of(path) == str(session):
            try:
                if (connection := sockets.connected(path, CONNECT_S)) is not None:
                    return path, connection
            except ControlError as e:
                problem = problem or e
    if problem is None and isinstance(session, int):
        problem = ControlError(f"process {session} runs no session that can be controlled; see: rtdenoise ctl sessions")
    raise problem or ControlError(NOBODY)
