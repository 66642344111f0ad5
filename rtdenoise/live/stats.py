"""What a running `LiveDenoiser` tells about itself."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rtdenoise.live import ring

SILENCE_DB = -120.0


@dataclass(frozen=True)
class Stats:
    """One look at the counters of a `LiveDenoiser`; all counts are since its start.

    Attributes
    ----------
    input, output, model : str
        Names of both ends and of the model.
    bypass, strength_db
        As set now, see `LiveDenoiser`.
    rate, channels : int
        Sample rate in Hz, and how many channels are filtered.
    block_in, block_out : int
        Most frames that a callback brought or took.
    delay_ms : float
        Latency as measured now, from the input's callback to the output's, filter included.
    budget_ms : float
        Latency that is held.
    device_ms : float or None
        What PortAudio says the devices add; None where it cannot know.
    level_in_db, level_out_db : float
        RMS of the last moments in dBFS.
    model_ms_p50, model_ms_p99 : float
        Percentiles of the model's time for a hop.
    callback_ms_p999 : float
        The 99.9th percentile of the callbacks' time.
    memory_locked : bool
        Whether the system keeps audio memory from being paged out.

    The other fields are explained where they are defined, and in the reference of records.
    """

    state: str  # "made", "running", what is waited for, or "stopped"
    seconds: float  # since audio began to flow
    input: str
    output: str
    model: str
    bypass: bool
    strength_db: float | None
    rate: int
    channels: int
    block_in: int  # most frames a callback brought
    block_out: int
    budget_ms: float
    delay_ms: float
    device_ms: float | None
    level_in_db: float  # RMS of the last moments, full scale = 0
    level_out_db: float
    model_ms_p50: float
    model_ms_p99: float
    callback_ms_p999: float
    underruns: int  # callbacks that found too little to play
    silent_ms: float  # how much they filled in
    holds: int  # hops that reused the last gains because time was short
    skipped_ms: float  # input left behind after a long stall
    resyncs: int  # jumps that put the delay back after a device lost or hoarded audio
    device_xruns: int  # what PortAudio itself reports
    reopened: int  # times a vanished device was taken again
    drift_ppm: float | None  # None where one clock serves both ends
    cpu_percent: float  # of one core, whole process, since the last look
    worker: str  # "native" (no GIL) or "python"
    scheduling: str  # "fifo", "nice" or "normal"
    memory_locked: bool
    failure: str | None  # why the model stopped, if it did
    recorded_s: float  # written to a file so far
    file_problem: str | None  # why a file is read or written no more, if so

    @property
    def reduction_db(self) -> float:
        """How much quieter the output is than the input at this moment."""
        return max(0.0, self.level_in_db - self.level_out_db)

    def as_json(self) -> dict[str, Any]:
        """Return all figures, rounded, with ``reduction_db``.

        Returns
        -------
        dict
            What ``--json`` prints once a second.
        """
        values = {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return values | {"reduction_db": round(self.reduction_db, 3)}


class Load:
    """How much of one core the process takes, from one look to the next."""

    def __init__(self) -> None:
        self._at_s, self._used_s = time.monotonic(), time.process_time()

    def percent(self) -> float:
        before = self._at_s, self._used_s
        self._at_s, self._used_s = time.monotonic(), time.process_time()
        return 100 * (self._used_s - before[1]) / max(1e-9, self._at_s - before[0])


def counts(control: np.ndarray) -> dict[str, Any]:
    """The fields of `Stats` that callbacks and worker count."""
    frame_ms = 1000 / int(control[ring.RATE])
    return {
        "block_in": int(control[ring.IN_BLOCK]),
        "block_out": int(control[ring.OUT_BLOCK]),
        "underruns": int(control[ring.UNDERRUNS]),
        "silent_ms": int(control[ring.SILENT_FRAMES]) * frame_ms,
        "holds": int(control[ring.HOLDS]),
        "skipped_ms": int(control[ring.SKIPPED_FRAMES]) * frame_ms,
        "resyncs": int(control[ring.RESYNCS]),
        "device_xruns": int(control[ring.IN_XRUNS] + control[ring.OUT_XRUNS]),
    }


def why_silent(control: np.ndarray, input: str | None, output: str | None) -> str | None:
    """Why no sound has come through since start, or None if some has. Names of the devices; None for a file."""
    if control[ring.HOPS] and (output is None or control[ring.HEARD_FRAMES] > control[ring.PREFILL]):
        return None
    if input is not None and not control[ring.IN_HEAD]:
        return f"{input} delivered none"
    waits = control[ring.IN_HEAD] - control[ring.IN_TAIL] > control[ring.HOP]
    if not control[ring.HOPS] and waits and control[ring.PRIMED]:
        return "the filter got no time; is the processor busy?"
    taken = control[ring.OUT_TAIL]
    if output is not None and (not taken or control[ring.OUT_HEAD] > taken):
        return f"{output} took none"
    return "it came too late to be played; is the processor busy?"


def level_db(mean_square: float) -> float:
    """
    >>> level_db(0.5), level_db(0.0)
    (-3.010299956639812, -120.0)
    """
    return max(SILENCE_DB, 10 * math.log10(max(mean_square, 1e-30)))
