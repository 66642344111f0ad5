"""The latency of a session: what it consists of, what is asked of it, and what it is now.

    input callback ─▶ hop is collected ─▶ filter ─▶ resampler, on two clocks ─▶ buffer ─▶ output callback
                      └─ part of the buffer         └────── fixed ──────┘

The buffer is sized by the worker once the devices' habits are known (`rtdenoise.live.drift`, `rtdenoise.live.hop`);
this module only prepares and reads it. What a device or a server adds by itself is not counted.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

from rtdenoise.arguments import MILLISECONDS
from rtdenoise.core.hop_denoiser import LIVE_BATCH, HopDenoiser
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Geometry, Latency
from rtdenoise.live import ring
from rtdenoise.live.backends import Route
from rtdenoise.live.drift import TAPS, Drift
from rtdenoise.live.ring import Rings

START_MS = 40.0  # The buffer of a two-stream session in its first second, until the devices' rhythm is known.
LEAST_BUFFER_MS = 2.0
# What devices mostly need on one clock and on two; the mode is chosen by it.
USUAL_BUFFER_MS = {False: 8.0, True: 14.0}
# A recording has no deadline: gains are reused only once the worker is half of this behind.
RECORD_BUFFER_MS = 500.0
LOOK_S = 0.02  # The interval at which it is checked whether the devices' need is known.
# How far a wanted latency may be missed, and what a recommended one has to spare.
TOLERANCE_MS, SPARE_MS = 0.5, 1.0


LiveLatency = Literal["normal", "low", "economy"]


def asked(latency: LiveLatency | float, geometry: Geometry, split: bool) -> tuple[Latency, int, float | None]:
    """What a request for a latency means: the mode, how many hops the worker gathers, and the figure to reach in ms."""
    if latency == "economy":
        return "normal", LIVE_BATCH, None
    if isinstance(latency, str):
        return latency, 1, None
    return mode_for(latency, geometry, split), 1, latency


def mode_for(wanted_ms: float, geometry: Geometry, split: bool) -> Latency:
    """Normal where the wanted latency allows it on usual devices, else low; `UsageError` if no device allows it."""
    MILLISECONDS.check("latency", wanted_ms)
    hop_ms = 1000 * geometry.hop / geometry.rate
    least_ms = geometry.latency_ms("low") - hop_ms + LEAST_BUFFER_MS
    if wanted_ms < least_ms:
        raise UsageError(
            f"latency {wanted_ms:g} ms is too low: the filter alone takes {least_ms:.1f} ms; use a higher one"
        )
    return "normal" if wanted_ms >= geometry.latency_ms("normal") - hop_ms + USUAL_BUFFER_MS[split] else "low"


class SessionLatency:
    """Prepares ``rings`` for a session on one clock, or on two (as its ``route`` has it), and reads its latency.

    gather: hops that the worker waits for. fixed_ms: held even if it causes dropouts. wanted_ms: reached, or `_missed`
    says what the lowest is. None of them applies beside a file (``ring.FILE_END``), which has no clock. Raises
    `UsageError` for a latency below the filter's own.
    """

    def __init__(
        self,
        denoiser: HopDenoiser,
        rings: Rings,
        route: Route,
        gather: int = 1,
        fixed_ms: float | None = None,
        wanted_ms: float | None = None,
    ):
        self._denoiser, self._control = denoiser, rings.control
        control = self._control
        control[ring.GATHER] = 1 if control[ring.FILE_END] else gather
        self._wanted_ms = None if control[ring.FILE_END] else wanted_ms
        if control[ring.FILE_END] == ring.FILE_OUT:
            control[ring.PREFILL] = self._frames(RECORD_BUFFER_MS)
        self.follow(route)
        if fixed_ms is not None and wanted_ms is not None:
            raise UsageError(
                f"a latency of {wanted_ms:g} ms and a fixed latency of {fixed_ms:g} ms exclude each other; give one"
            )
        if fixed_ms is not None:
            MILLISECONDS.check("fixed latency", fixed_ms)
        if fixed_ms is not None and not control[ring.FILE_END]:
            alone_ms = self.filter_ms + 1000 * (gather - 1) * denoiser.geometry.hop / denoiser.rate
            if fixed_ms < alone_ms + LEAST_BUFFER_MS:
                raise UsageError(
                    f"fixed latency {fixed_ms:g} ms is too low: the filter alone takes {alone_ms:.1f} ms; "
                    "use a higher one"
                )
            control[ring.FIXED_TARGET] = control[ring.PREFILL] = self._frames(fixed_ms - self.filter_ms)
        if self._wanted_ms is not None:
            control[ring.WANTED] = self._frames(self._wanted_ms - self.filter_ms)

    def follow(self, route: Route) -> None:
        """Go by this route from now on; the buffer is sized anew. The worker must stand still, or not have begun."""
        control, self._split = self._control, route.split
        control[ring.SPLIT], control[ring.RESERVE] = route.split, self._frames(route.reserve_ms)
        if control[ring.FILE_END] == ring.NO_FILE:
            control[ring.TARGET] = 0
            control[ring.PREFILL] = control[ring.FIXED_TARGET] or (self._frames(START_MS) if route.split else 0)

    @property
    def filter_ms(self) -> float:
        """What filter and resampler take, without the buffer and the hop that is collected in it."""
        d = self._denoiser
        return d.latency_ms - 1000 * d.geometry.hop / d.rate + (1000 * TAPS / 2 / d.rate if self._split else 0)

    @property
    def held_ms(self) -> float:
        """What is held; 0 until it is known. Beside a recording the filter's own, which the file is cut by."""
        if self._control[ring.FILE_END] == ring.FILE_OUT:
            return self._denoiser.latency_ms
        frames = int(self._control[ring.TARGET if self._split else ring.PREFILL])
        return self.filter_ms + 1000 * frames / self._denoiser.rate if frames else 0.0

    def now_ms(self, drift: Drift) -> float:
        """The same, as measured now."""
        if self._control[ring.FILE_END]:
            return self.held_ms
        # On one clock both rings move in one callback, so a frame's places in them differ by a constant.
        frames = drift.delay if self._split else int(self._control[ring.OFFSET])
        return self.filter_ms + 1000 * frames / self._denoiser.rate

    def reach_wanted(
        self, paused: Callable[[], AbstractContextManager[None]], until_s: float, ending: threading.Event
    ) -> None:
        """Wait until the devices' need is known, until the monotonic clock shows ``until_s``, or ``ending``.

        Takes the low mode if that helps, while the worker is ``paused``; `UsageError` if nothing does.
        """
        while self._is_open and time.monotonic() < until_s and not ending.wait(LOOK_S):
            pass
        if self._missed and self._denoiser.latency == "normal":
            with paused():
                self._denoiser.shorten()
        if self._missed:
            raise UsageError(self._missed)

    @property
    def _is_open(self) -> bool:
        """Whether a latency is wanted, and it is not known yet whether it can be reached."""
        return self._wanted_ms is not None and not self.held_ms

    @property
    def _missed(self) -> str | None:
        """The message where the wanted latency is not reached, or None."""
        if self._wanted_ms is None or self.held_ms <= self._wanted_ms + TOLERANCE_MS:
            return None
        return (
            f"{self._wanted_ms:g} ms cannot be reached: these devices need at least {self.held_ms:.1f} ms; use "
            f"--latency {math.ceil(self.held_ms + SPARE_MS)}, or --fixed-latency to accept dropouts"
        )

    def _frames(self, ms: float) -> int:
        return round(ms * self._denoiser.rate / 1000)
