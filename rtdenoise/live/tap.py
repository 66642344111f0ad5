"""A look at the sound before and after the filter, for a picture or a replay, that the worker does not notice.

    captured ring ─┐ read where they are, a moment later, by a thread that audio never waits for
    recorded ring ─┴─▶ `Tap.read` ─▶ before, after: as long as each other, in step

Nothing is written to shared memory and nothing is waited for. Who reads too seldom loses sound, and is told so.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.live import ring
from rtdenoise.live.ring import Rings

USABLE_SHARE = 0.7  # Anything older than this share of the captured ring, 0.7 s, may be overwritten while it is read.
LOOKS = 3  # The worker stands between its two counters for nanoseconds, so of three looks one sees both in step.


class Tap:
    """Reads from the rings of a session, which must record."""

    def __init__(self, rings: Rings, denoiser: HopDenoiser):
        self._rings, self._denoiser = rings, denoiser
        self._position = self._ahead = 0
        self.lost = 0  # frames that were not read in time

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """What has come since the last call: float32 ``[frames, channels]`` before and after the filter."""
        head, ahead = self._look()
        if ahead not in (self._ahead, self._ahead - self._rings.hop):  # More input than output was taken: it skipped.
            self._ahead = ahead
        first = max(self._position, head - int(USABLE_SHARE * len(self._rings.captured)))
        self.lost += first - self._position
        self._position = head
        late = self._denoiser.latency_samples - self._rings.hop  # A live filter does not wait for a hop.
        before = _copied(self._rings.captured, first + self._ahead - late, head - first)
        after = _copied(self._rings.recorded, first, head - first)
        if not np.isfinite(before.sum(dtype=np.float64)):
            np.nan_to_num(before, copy=False, posinf=0, neginf=0)
        return before, after

    def _look(self) -> tuple[int, int]:
        """How much is recorded, and how far the input's counter is ahead of it."""
        control, ahead = self._rings.control, []
        for _ in range(LOOKS):
            head = ring.read(control, ring.RECORDED_HEAD)
            ahead.append(ring.read(control, ring.IN_TAIL) - head)
        return head, sorted(ahead)[LOOKS // 2]


def _copied(memory: np.ndarray, first: int, count: int) -> np.ndarray:
    at = first % len(memory)
    return np.concatenate([memory[at : at + count], memory[: max(0, at + count - len(memory))]])
