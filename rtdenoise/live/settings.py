"""What may be changed while a session runs, from any thread, and is heard a few hops later."""

from __future__ import annotations

from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.live import ring
from rtdenoise.live.ring import Rings, mute_settled


class LiveSettings:
    """The settings of a session that filters by a denoiser, and whose callbacks share a control block."""

    _denoiser: HopDenoiser
    _rings: Rings

    @property
    def bypass(self) -> bool:
        """Whether the input is passed unfiltered, with the same latency."""
        return self._denoiser.bypass

    @bypass.setter
    def bypass(self, on: bool) -> None:
        self._denoiser.bypass = on

    @property
    def muted(self) -> bool:
        """Whether the output is silent, with a short fade and the same latency; what is recorded is silent too."""
        return bool(self._rings.control[ring.MUTED])

    @muted.setter
    def muted(self, on: bool) -> None:
        self._rings.control[ring.MUTED] = bool(on)

    @property
    def settled(self) -> bool:
        """Whether the last change of a setting has left the filter in full."""
        return self._denoiser.settled and mute_settled(self._rings.control)

    @property
    def strength_db(self) -> float | None:
        """Attenuation limit in dB; None is no limit."""
        return self._denoiser.strength_db

    @strength_db.setter
    def strength_db(self, value: float | None) -> None:
        self._denoiser.strength_db = value

    @property
    def low_cut_hz(self) -> float | None:
        """Frequency in Hz below which everything is attenuated; None is no low cut."""
        return self._denoiser.low_cut_hz

    @low_cut_hz.setter
    def low_cut_hz(self, value: float | None) -> None:
        self._denoiser.low_cut_hz = value
