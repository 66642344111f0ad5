"""What leaves the filter, written to a sound file by a plain thread that audio never waits for.

    worker ─▶ recorded ring (8 s) ─▶ this thread ─▶ file beside, renamed at the end

The recording is sample-aligned with the input: the filter's latency is removed, and nothing that a device drops or
repeats is in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.sound_sink import SoundFileSink
from rtdenoise.live import ring
from rtdenoise.live.background import BackgroundThread
from rtdenoise.live.ring import Rings

LOOK_S = 0.1
USABLE_SHARE = 0.9  # Anything older than this share of the ring may be overwritten while it is read.
CONTAINER, ENCODING = "WAV", "PCM_24"  # Where the name leaves a choice; 24 bits are more than any microphone delivers.


class Recorder(BackgroundThread):
    """Writes from `start` to `stop`, which completes the file; an empty recording leaves none.

    ``skip`` frames at the start are dropped; no more than ``limit`` are written. ``problem`` is why it ended early,
    or None; ``lost`` counts frames that came faster than the disk took them and stand in the file as silence. Raises
    `UsageError` or `AudioFileError` if the file cannot be made.
    """

    def __init__(self, path: Path, rings: Rings, rate: int, channels: int, skip: int, limit: int | None = None):
        super().__init__("rtdenoise-recorder")
        self._sink = SoundFileSink(str(path), rate, channels, CONTAINER, ENCODING, recording=True)
        self.problem: str | None = None
        self.written = self.lost = 0
        self._rings, self._rate, self._limit = rings, rate, limit
        self._tail = skip

    def stop(self) -> None:
        """Write what is left and complete the file; one that was never started is not left behind."""
        super().stop()
        failed = None if self.written else UserWarning  # Without sound there is no file.
        try:
            self._sink.__exit__(failed)
        except RtdenoiseError as e:
            self.problem = self.problem or str(e)

    @property
    def warnings(self) -> list[str]:
        """What a listener should know of the recording."""
        found = list(self._sink.warnings)
        if self.lost:
            lost_ms = 1000 * self.lost / self._rate
            found.append(f"{lost_ms:.0f} ms of the recording are silence: the disk was too slow")
        return found

    @property
    def seconds(self) -> float:
        return self.written / self._rate

    def _run(self) -> None:
        try:
            while not self._end.wait(LOOK_S):
                self._write_what_is_there()
            self._write_what_is_there()
        except RtdenoiseError as e:
            self.problem = str(e)

    def _write_what_is_there(self) -> None:
        memory, capacity = self._rings.recorded, len(self._rings.recorded)
        head = ring.read(self._rings.control, ring.RECORDED_HEAD)
        lost = max(0, head - self._tail - int(USABLE_SHARE * capacity))
        self.lost += lost
        self._write(np.zeros((lost, memory.shape[1]), np.float32))
        self._tail += lost
        while self._tail < head:
            at = self._tail % capacity
            count = min(head - self._tail, capacity - at)
            self._write(memory[at : at + count])
            self._tail += count

    def _write(self, samples: np.ndarray) -> None:
        if self._limit is not None:
            samples = samples[: self._limit - self.written]
        if len(samples):
            self._sink.write(samples)
            self.written += len(samples)
