"""The audio callbacks with an observer around them: when each came, which frames it moved, what the driver reports.

The live callbacks themselves stay as they are; this one calls them by address and records a row. It can also inject
a delay that only a measurement from outside can see: the stages then add up to that much less.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rtdenoise.live import callback, ring
from rtdenoise.live.ring import Rings
from rtdenoise.native import compilation
from rtdenoise.native.compilation import carray
from rtdenoise.native.intrinsics import call8, pointer

# Columns of the log: monotonic ns, first frame of the captured and of the played timeline, frames, and the driver's
# report: ns that the block's first frame is old when the callback comes, and ns until its first frame will be heard
AT, IN_FROM, OUT_FROM, FRAMES, HEARD_AGO, HEARD_IN, COLUMNS = range(7)
ROWS = 1 << 17  # Three minutes of blocks of 64 frames fit.
AUDIO_FRAMES = 1 << 19  # The first channel's input and output are kept for 11 s at 48 kHz.
CALLBACK, CONTROL, LOG, COUNT, LINE, LINE_FRAMES, LINE_AT, IS_INPUT, CHANNELS_IN, CHANNELS_OUT = range(10)
AUDIO_IN, AUDIO_OUT, SLOTS = range(10, 13)


@compilation.callback(f"intc(int64, int64, {callback.ULONG}, int64, {callback.ULONG}, int64)", error_model="numpy")
def _traced_callback(source, target, frames, clock, flags, user):
    plan = carray(pointer(user), (SLOTS,), np.int64)
    control = carray(pointer(plan[CONTROL]), (ring.SLOTS,), np.int64)
    log = carray(pointer(plan[LOG]), (ROWS, COLUMNS), np.int64)
    driver = carray(pointer(clock), (3,), np.float64)  # heard at, now, to be heard at: seconds
    before, count = control[ring.IN_HEAD], np.int64(frames)
    result = call8(plan[CALLBACK], (source, target, count, clock, np.int64(flags), plan[CONTROL], 0, 0))
    if source != 0:
        heard = carray(pointer(source), (count, plan[CHANNELS_IN]), np.float32)
        kept = carray(pointer(plan[AUDIO_IN]), (AUDIO_FRAMES,), np.float32)
        for i in range(count):
            kept[(before + i) % AUDIO_FRAMES] = heard[i, 0]
    if target != 0:
        channels, line_frames = plan[CHANNELS_OUT], plan[LINE_FRAMES]
        played = carray(pointer(target), (count, channels), np.float32)
        line = carray(pointer(plan[LINE]), (max(1, line_frames), channels), np.float32)
        kept = carray(pointer(plan[AUDIO_OUT]), (AUDIO_FRAMES,), np.float32)
        for i in range(count):
            at = plan[LINE_AT]
            if line_frames > 0:
                for c in range(channels):
                    played[i, c], line[at, c] = line[at, c], played[i, c]
                plan[LINE_AT] = at + 1 if at + 1 < line_frames else 0
            kept[(control[ring.OUT_TAIL] - count + i) % AUDIO_FRAMES] = played[i, 0]
    row = plan[COUNT] % ROWS
    log[row, AT] = control[ring.IN_TIME] if plan[IS_INPUT] else control[ring.OUT_TIME]
    log[row, IN_FROM], log[row, OUT_FROM], log[row, FRAMES] = before, control[ring.OUT_TAIL] - count, count
    log[row, HEARD_AGO] = np.int64((driver[1] - driver[0]) * 1e9)
    log[row, HEARD_IN] = np.int64((driver[2] - driver[1]) * 1e9)
    plan[COUNT] += 1
    return np.int32(result)


class Observer:
    """Traces every stream that the session opens from now on; ``delay_frames`` are added to what it plays."""

    def __init__(self, delay_frames: int = 0):
        self._delay_frames = delay_frames
        self._kept: list[Any] = []
        self._plans: dict[str, np.ndarray] = {}
        self._logs: dict[str, np.ndarray] = {}
        self._audio: dict[str, np.ndarray] = {}
        self._real = callback.entry
        callback.entry = self._entry

    def _entry(self, kind: callback.Kind, rings: Rings) -> tuple[int, int]:
        plan, log = np.zeros(SLOTS, np.int64), np.zeros((ROWS, COLUMNS), np.int64)
        ends = [int(rings.control[slot]) for slot in (ring.CAPTURE_CHANNELS, ring.PLAY_CHANNELS)]
        line = np.zeros((max(1, self._delay_frames), ends[1]), np.float32)
        audio = np.zeros((2, AUDIO_FRAMES), np.float32)
        plan[[CALLBACK, CONTROL]] = self._real(kind, rings)
        plan[LOG], plan[LINE], plan[LINE_FRAMES] = log.ctypes.data, line.ctypes.data, self._delay_frames
        plan[AUDIO_IN], plan[AUDIO_OUT] = audio[0].ctypes.data, audio[1].ctypes.data
        plan[CHANNELS_IN], plan[CHANNELS_OUT], plan[IS_INPUT] = *ends, kind != "output"
        self._kept += [line, rings]
        self._plans[kind], self._logs[kind], self._audio[kind] = plan, log, audio
        return _traced_callback.address, plan.ctypes.data

    def recorded(self) -> dict[str, np.ndarray]:
        """What the callbacks recorded, oldest first (``log_in``, ``log_out``), and what of the sound they kept
        (``audio_in``, ``audio_out``, the frame at ``position % AUDIO_FRAMES``)."""
        ends = {"in": self._logs.keys() & {"duplex", "input"}, "out": self._logs.keys() & {"duplex", "output"}}
        found = {}
        for row, (end, kinds) in enumerate(ends.items()):
            (kind,) = kinds
            found[f"log_{end}"] = _in_order(self._logs[kind], int(self._plans[kind][COUNT]))
            found[f"audio_{end}"] = self._audio[kind][row]
        return found


def _in_order(log: np.ndarray, count: int) -> np.ndarray:
    return log[:count].copy() if count <= len(log) else np.roll(log, -(count % len(log)), 0)
