"""The statistics of a `LiveDenoiser`."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rtdenoise.core.denoiser import Denoiser
from rtdenoise.live import ring

SILENCE_DB = -120.0
LOAD_S = 0.5


@dataclass(frozen=True)
class Stats:
    """A snapshot of a `LiveDenoiser`; all counts are since its start."""

    state: str  # "made", "running", "waiting for ..." a device, or "stopped"
    seconds: float  # since audio began to flow
    input: str  # name of the device or file
    output: str  # name of the device or file
    model: str  # name of the model in use
    bypass: bool  # whether the sound passes unfiltered
    muted: bool  # whether the output is silent
    strength_db: float | None  # attenuation limit; None: no limit
    low_cut_hz: float | None  # below it everything is attenuated; None: no low cut
    rate: int  # sample rate in Hz
    channels: int  # filtered channels
    block_in: int  # most frames in one input callback
    block_out: int  # most frames in one output callback
    algorithmic_latency_ms: float  # what the filter itself adds
    latency_ms: float  # from the input's callback to the output's, filter included, as it is held
    measured_latency_ms: float  # the same, as measured now
    device_latency_ms: float | None  # what PortAudio or the server reports for the devices; None where not known
    echo_cancel: bool  # whether the server's echo canceller is before the filter
    echo_cancel_ms: float | None  # what that adds to the latency; None without one, or where nothing was heard to tell
    level_in_db: float  # RMS of the last 40 ms or so, in dBFS
    level_out_db: float  # the same of the output
    model_ms_p50: float  # median time of a model step
    model_ms_p99: float  # 99th percentile of it
    callback_ms_p999: float  # 99.9th percentile of the time in the audio callbacks
    underruns: int  # output callbacks that found too little to play
    dropout_ms: float  # silence that they played instead
    reused_gains: int  # hops that reused the last gains because time was short
    skipped_ms: float  # input skipped after a long stall
    resyncs: int  # jumps that restored the latency after a device lost or hoarded audio
    device_xruns: int  # under- and overflows that PortAudio or the server reports, or cycles that PipeWire lost
    reopened: int  # times a vanished device was opened again
    drift_ppm: float | None  # output clock against input clock; None where one clock serves both ends
    cpu_percent: float  # of one core, whole process, over the last half second or since the previous snapshot
    backend: str  # what carries the sound: "portaudio", "pulse" or "pipewire"
    fallback: str | None  # why PipeWire's graph does not carry sound that it could have; None where it need not say
    asleep: bool  # whether nothing runs, since no program records the virtual microphone
    worker: str  # "native" (without the GIL) or "python"
    scheduling: str  # priority of the worker: "fifo" (real-time), "nice" or "normal"
    memory_locked: bool  # whether the audio buffers are kept from being paged out
    failure: str | None  # why the model stopped, if it did
    recorded_s: float  # written to a file so far
    file_problem: str | None  # why a file is no longer read or written, if so

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


def as_record(stats: Sequence[Stats]) -> dict[str, Any]:
    """A session as one JSON object; of a call the microphone, and below ``ears`` what is heard.

    Parameters
    ----------
    stats : sequence of Stats
        One for each direction, the microphone's first.

    Returns
    -------
    dict
        What ``--json`` prints once a second.
    """
    first, *others = [s.as_json() for s in stats]
    return first | ({"ears": others[0]} if others else {})


class Load:
    """How much of one core the process takes, from one call to the next that is `LOAD_S` later; in between, as before.

    Several observers may ask, each at a rhythm of its own.
    """

    def __init__(self) -> None:
        self._before = time.monotonic(), time.process_time(), 0.0  # One tuple, so that threads may share it.

    def percent(self) -> float:
        """Load since the last call that counts.

        Returns
        -------
        float
            Per cent of one core.
        """
        at_s, used_s, percent = self._before
        now_s = time.monotonic()
        if now_s - at_s >= LOAD_S or not percent:
            used_now_s = time.process_time()
            percent = 100 * (used_now_s - used_s) / max(1e-9, now_s - at_s)
            self._before = now_s, used_now_s, percent
        return percent


class Stopwatch:
    """Seconds from `begin` to `end`, or to now; 0 before. Each may be said again, without effect."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended: float | None = None

    def begin(self) -> None:
        """The time begins now, if it has not."""
        self._began = self._began or time.monotonic()

    def end(self) -> None:
        """The time ends now, if it has not."""
        self._ended = self._ended or time.monotonic()

    @property
    def seconds(self) -> float:
        """The time so far."""
        if self._began is None:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._began


def settings(denoiser: Denoiser) -> dict[str, Any]:
    """The fields of `Stats` that the filter knows.

    Parameters
    ----------
    denoiser : Denoiser
        The filter.

    Returns
    -------
    dict
        Values by field.
    """
    return {
        "model": denoiser.model.name,
        "bypass": denoiser.bypass,
        "strength_db": denoiser.strength_db,
        "low_cut_hz": denoiser.low_cut_hz,
        "rate": denoiser.rate,
        "algorithmic_latency_ms": denoiser.latency_ms,
        "channels": denoiser.channels,
    }


def counts(control: np.ndarray) -> dict[str, Any]:
    """The fields of `Stats` that callbacks and worker count, or are told by a slot.

    Parameters
    ----------
    control : ndarray
        The control block of `rtdenoise.live.ring`.

    Returns
    -------
    dict
        Values by field.
    """
    frame_ms = 1000 / int(control[ring.RATE])
    return {
        "muted": bool(control[ring.MUTED]),
        "block_in": int(control[ring.IN_BLOCK]),
        "block_out": int(control[ring.OUT_BLOCK]),
        "underruns": int(control[ring.UNDERRUNS]),
        "dropout_ms": int(control[ring.DROPOUT_FRAMES]) * frame_ms,
        "reused_gains": int(control[ring.REUSED_GAINS]),
        "skipped_ms": int(control[ring.SKIPPED_FRAMES]) * frame_ms,
        "resyncs": int(control[ring.RESYNCS]),
        "device_xruns": int(control[ring.IN_XRUNS] + control[ring.OUT_XRUNS]),
    }


def why_silent(control: np.ndarray, input: str | None, output: str | None) -> str | None:
    """Why no sound has come through since start.

    Parameters
    ----------
    control : ndarray
        The control block.
    input, output : str or None
        Names of the devices; None for a file.

    Returns
    -------
    str or None
        The reason, or None if sound has come through.
    """
    if control[ring.HOPS] and (output is None or control[ring.HEARD_FRAMES] > control[ring.PREFILL]):
        return None
    if input is not None and not control[ring.IN_HEAD]:
        return f"{input} delivered none"
    waits = control[ring.IN_HEAD] - control[ring.IN_TAIL] > control[ring.HOP]
    if not control[ring.HOPS] and waits and control[ring.PRIMED]:
        return "the filter got no processor time; is the machine overloaded?"
    taken = control[ring.OUT_TAIL]
    if output is not None and (not taken or control[ring.OUT_HEAD] > taken):
        return f"{output} took none"
    return "it came too late to be played; is the machine overloaded?"


def level_db(mean_square: float) -> float:
    """Level of a mean square, not below `SILENCE_DB`.

    Parameters
    ----------
    mean_square : float
        Mean of squared samples, 1 at full scale.

    Returns
    -------
    float
        dBFS.

    Examples
    --------
    >>> level_db(0.5), level_db(0.0)
    (-3.010299956639812, -120.0)
    """
    return max(SILENCE_DB, 10 * math.log10(max(mean_square, 1e-30)))
