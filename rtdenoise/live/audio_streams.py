"""What a session needs of its streams, whichever back end they are of, and what all of them do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from rtdenoise.arguments import FRAMES
from rtdenoise.errors import DeviceError
from rtdenoise.live import pulse, realtime, ring
from rtdenoise.live.callback import Kind
from rtdenoise.live.devices import Device
from rtdenoise.live.ring import Rings
from rtdenoise.live.server import connection

THREADS: dict[Kind, int] = {"duplex": ring.PLAY_THREAD, "input": ring.CAPTURE_THREAD, "output": ring.PLAY_THREAD}


class Unfit(DeviceError):
    """A back end cannot carry this session, though the devices are there."""


class AudioStreams(ABC):
    """The streams of one session over its rings. Their callbacks copy, count, and wake the worker, and nothing else.

    What opens them raises `DeviceError` in one line where a device refuses. ``worker_below`` is told the real-time
    priority of each thread that calls back, 0 if it has none.
    """

    def __init__(
        self,
        source: Device,
        target: Device,
        rings: Rings,
        blocksize: int | None = None,
        worker_below: Callable[[int], None] = lambda priority: None,
    ):
        if blocksize is not None:
            FRAMES.check("blocksize", blocksize)
        self.source, self.target, self.rings = source, target, rings
        self._blocksize, self._worker_below = blocksize, worker_below
        self._raised: dict[int, int] = {}  # The thread that was given priority, by its slot.
        # The server's numbers of the sources and sinks that a stream was opened with.
        self._serials: dict[Kind, dict[tuple[str, bool], int | None]] = {}

    @property
    @abstractmethod
    def kinds(self) -> tuple[Kind, ...]:
        """The streams that a session between these devices has."""

    @abstractmethod
    def opened(self) -> list[Kind]:
        """Those that are open now."""

    @abstractmethod
    def restart(self, kinds: Sequence[Kind]) -> None:
        """Open and start these, again or for the first time, or none; devices are found by name."""

    @abstractmethod
    def close_one(self, kind: Kind) -> None:
        """Close one stream, if it is open."""

    @abstractmethod
    def latency_s(self) -> float | None:
        """What the devices themselves add, or None where that is not known."""

    @abstractmethod
    def ended(self) -> list[Kind]:
        """Streams that the sound system has given up."""

    @property
    def asleep(self) -> bool:
        """Whether the sound system does not call back because nobody needs what it would."""
        return False

    def needed(self, kinds: Sequence[Kind]) -> list[Device]:
        """The devices that have to be there for these streams."""
        ends = {"input": [self.source], "output": [self.target]}
        return list(dict.fromkeys(device for kind in kinds for device in ends.get(kind, [self.source, self.target])))

    def start(self) -> None:
        """Open and start all streams, or none."""
        self.restart(self.kinds)

    def close(self) -> None:
        """Close all."""
        for kind in self.opened():
            self.close_one(kind)

    def tend(self) -> None:
        """Do what is due now and then: first of all, real-time priority for the threads that have called back since
        their stream began. One that a sound system made so already keeps its own, which suits that system's other
        threads."""
        for kind in self.opened():
            slot = THREADS[kind]
            thread = int(self.rings.control[slot])
            if thread and self._raised.get(slot) != thread:
                self._raised[slot] = thread
                if not realtime.priority(thread):
                    realtime.elevate(thread, realtime.CALLBACK_PRIORITY)
                self._worker_below(realtime.priority(thread))

    def served(self) -> list[Kind]:
        """Open streams that end with the sound server."""
        return list(self._serials)

    def replaced(self, serials: dict[tuple[str, bool], int]) -> list[Kind]:
        """Streams whose source or sink is gone from the server (which has then moved them to some other one)."""
        return [k for k, ends in self._serials.items() if any(serials.get(end) != was for end, was in ends.items())]

    def _note_serials(self, kind: Kind, *ends: tuple[str, bool]) -> None:
        """Note which sources and sinks, ``(name, is a source)``, a stream stands on that was just opened."""
        with connection() as client:
            known = {} if client is None else pulse.serials(client)
        self._serials[kind] = {end: known.get(end) for end in ends}
