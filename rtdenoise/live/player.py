"""A sound file in the place of a microphone: its samples enter the captured ring as fast as the output takes them.

    file ─▶ this thread ─▶ input callback ─▶ captured ring ─▶ worker ─▶ played ring ─▶ device

It reads ahead by `LEAD_MS`, so neither the disk nor Python's lock is heard. The output device is the only clock; when
it pauses or was too fast, the file waits and goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np

from rtdenoise.io.sound_source import SoundFileSource
from rtdenoise.live import ring
from rtdenoise.live.background import BackgroundThread
from rtdenoise.live.callback import input_callback
from rtdenoise.live.ring import Rings

# A key is heard this much later, and other threads may keep the GIL for as long.
LEAD_MS = 100.0
CHUNK_MS = 10.0
UNKNOWN_DEVICE_S = 0.2  # A device that does not report its buffer's length is given this long to play it.


class Player(BackgroundThread):
    """Feeds ``source`` into ``rings`` from `start` to `stop`; ``finished`` is set when its last sample was heard.

    ``problem`` is why it ended early, or None.
    """

    def __init__(self, source: SoundFileSource, rings: Rings, latency_samples: int):
        super().__init__("rtdenoise-player")
        self.finished = threading.Event()
        self.problem: str | None = None
        self.device_s: float | None = None  # Latency of the output beyond its callback, once it is known.
        self._source, self._rings, self._control = source, rings, rings.control
        rate = int(self._control[ring.RATE])
        self._lead, self._chunk = round(LEAD_MS * rate / 1000), round(CHUNK_MS * rate / 1000)
        self._control[ring.PREFILL] = self._lead
        self._tail = latency_samples

    @property
    def warnings(self) -> list[str]:
        """What a listener should know of the file, e.g. that it is cut off."""
        return self._source.warnings

    def stop(self) -> None:
        """End playing and close the file."""
        super().stop()
        self._source.__exit__()

    def _run(self) -> None:
        try:
            for block in self._source.blocks():
                if not self._feed(block):
                    return
        except Exception as e:  # A damaged file is played up to the damage, then the reason is reported.
            self.problem = str(e)
        for silence in self._silence(self._tail):
            self._feed(silence)
        goal = int(self._control[ring.IN_HEAD]) // self._rings.hop * self._rings.hop
        # Where that comes out: both rings count one clock's frames once they are tied together.
        while not self._end.is_set() and self._waiting_before(goal):
            self._feed(np.zeros((self._chunk, self._source.channels), np.float32))
        due = time.monotonic() + (UNKNOWN_DEVICE_S if self.device_s is None else self.device_s)
        for silence in self._silence(None):
            if time.monotonic() > due:
                self.finished.set()
            if not self._feed(silence):
                return

    def _waiting_before(self, goal: int) -> bool:
        """Whether input up to frame ``goal`` still waits in one of the rings."""
        c = self._control
        return int(c[ring.OUT_TAIL]) < int(c[ring.OUT_HEAD]) - max(0, int(c[ring.IN_TAIL]) - goal)

    def _silence(self, frames: int | None) -> Iterator[np.ndarray]:
        """Chunks of zeros, ``frames`` at least or for ever."""
        done = 0
        while frames is None or done < frames:
            yield np.zeros((self._chunk, self._source.channels), np.float32)
            done += self._chunk

    def _feed(self, block: np.ndarray) -> bool:
        """Put a block into the ring, a chunk whenever there is room; false when the session ends first."""
        for at in range(0, len(block), self._chunk):
            chunk = np.ascontiguousarray(block[at : at + self._chunk], np.float32)
            while self._under_way() > self._lead - len(chunk):
                if self._end.wait(CHUNK_MS / 2000):
                    return False
            input_callback.ctypes(chunk.ctypes.data, None, len(chunk), None, 0, self._rings.address)
        return not self._end.is_set()

    def _under_way(self) -> int:
        """Frames between file and device. While the output does not run yet, or anew, nothing more may come."""
        c = self._control
        if c[ring.ANCHORED] != c[ring.ANCHOR]:
            self._rings.post()  # This makes the worker check whether the output runs by now.
            return self._lead
        ahead = int(c[ring.OUT_HEAD] - c[ring.OUT_TAIL])
        if ahead < 0:  # The device took more than there was, so restart from the file's position.
            c[ring.ANCHOR] += 1
            return self._lead
        return int(c[ring.IN_HEAD] - c[ring.IN_TAIL]) + ahead
