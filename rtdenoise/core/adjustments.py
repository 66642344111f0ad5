"""What a listener may change while a filter runs: attenuation limit, bypass and low cut, each without a jump.

Owns the small arrays that compiled code reads (`rtdenoise.core.frames.blend`); a change only writes their targets, and
the filter moves towards them hop by hop.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.arguments import LOW_CUT
from rtdenoise.core.frames import MIX, MIX_TARGET
from rtdenoise.core.low_cut import low_bins, low_cut_gains
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Geometry, Latency


class Adjustable:
    """The settings of a filter that has a `geometry` and a `latency`.

    Parameters
    ----------
    strength_db, low_cut_hz
        As for `rtdenoise.core.denoiser.Denoiser`.
    """

    geometry: Geometry
    latency: Latency

    def __init__(self, strength_db: float | None, low_cut_hz: float | None):
        self._mix = np.zeros(2, np.float32)
        self._cut = np.ones((2, low_bins(self.geometry)), np.float32)
        self._bypass = False
        self._low_cut_hz: float | None = None
        self.strength_db, self.low_cut_hz = strength_db, low_cut_hz
        self._settle()

    @property
    def strength_db(self) -> float | None:
        """Attenuation limit in dB, None for no limit. It may be set at any time; changes cross-fade over four hops."""
        return self._strength_db

    @strength_db.setter
    def strength_db(self, value: float | None) -> None:
        if value is not None and not value >= 0:
            raise UsageError(
                f"strength {value} dB is no attenuation limit; give 0 (untouched) or more, or none for no limit"
            )
        self._strength_db = value
        self._aim()

    @property
    def bypass(self) -> bool:
        """Whether the input is passed unfiltered, with the same latency. It may be set at any time, without a jump."""
        return self._bypass

    @bypass.setter
    def bypass(self, on: bool) -> None:
        self._bypass = bool(on)
        self._aim()

    @property
    def low_cut_hz(self) -> float | None:
        """Frequency in Hz below which everything is attenuated, None for no low cut. It may be set at any time."""
        return self._low_cut_hz

    @low_cut_hz.setter
    def low_cut_hz(self, value: float | None) -> None:
        if value is not None:
            LOW_CUT.check("low_cut_hz", value)
        self._low_cut_hz = value
        self._aim()

    def _aim(self) -> None:
        limit = 0.0 if self._strength_db is None else 10 ** (-self._strength_db / 20)
        self._mix[MIX_TARGET] = 1.0 if self._bypass else limit
        cut_hz = None if self._bypass else self._low_cut_hz
        self._cut[MIX_TARGET] = low_cut_gains(self.geometry, self.latency, cut_hz)

    def _settle(self) -> None:
        """Take the settings as they are now, without a cross-fade."""
        for held in (self._mix, self._cut):
            held[MIX] = held[MIX_TARGET]
