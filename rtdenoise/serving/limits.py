"""What a server grants, and the pace that it holds a connection to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

BURST_S = 5.0  # of sound that a client may send at once, after a stall of its network for instance
JITTER_S = 0.1  # by which messages of a client in real time may come early
LEAST_S = 0.004  # A message counts as a hop of sound at least, so that a flood of empty ones is a fast client, too.


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes
    ----------
    connections : int
        Channels that are filtered at once; one of a connection each, for most.
    speed : float
        Times real time that a connection may send; what comes faster waits.
    message_bytes : int
        Longest message.
    hello_s, idle_s, stall_s : float
        Longest waits for a hello, for a client's next message, and for a client to read its answer.
    strangers : int
        Connections that have not said hello, or ask for other pages; the oldest goes for one more.
    """

    connections: int = 16
    speed: float = 2.0
    message_bytes: int = 256 * 1024
    hello_s: float = 10.0
    idle_s: float = 300.0
    stall_s: float = 10.0
    strangers: int = 256


class Pace:
    """Keeps a connection to ``speed`` times real time, and tells whether it is faster than real time at all.

    What a client could not send during a stall of its network is no hurry: up to `BURST_S` it may send afterwards.

    >>> now = 0.0
    >>> pace = Pace(2.0, lambda: now)
    >>> pace.wait_s(10.0), pace.hurries, pace.wait_s(2.0)  # 10 s of sound take 5 s at that speed, which is the burst
    (0.0, True, 1.0)
    """

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic):
        self._speed, self._clock = speed, clock
        self._sent_s = clock()  # when all that was sent would have come in real time
        self._due_s = clock() - BURST_S
        self.hurries = False

    def wait_s(self, seconds: float) -> float:
        """Count a message of so much sound; the seconds until it may be worked on."""
        now, seconds = self._clock(), max(seconds, LEAST_S)
        self._sent_s = max(self._sent_s, now - BURST_S) + seconds
        self.hurries = self._sent_s > now + seconds + JITTER_S
        self._due_s = max(self._due_s, now - BURST_S) + seconds / self._speed
        return max(0.0, self._due_s - now)
