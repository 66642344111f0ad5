"""What carries a session's sound: the streams of its route, or a Pulse client's where PipeWire's graph is unfit.

A graph can refuse a node, be kept from us by a sandbox, or run at another rate than it usually does, also from one
moment to the next. PipeWire resamples for clients of its PulseAudio face, so sound goes on by them, with some more
latency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.audio_streams import AudioStreams, Unfit
from rtdenoise.live.backends import Route
from rtdenoise.live.callback import Kind
from rtdenoise.live.pipewire import Unmanaged
from rtdenoise.live.ring import Rings
from rtdenoise.live.virtual_end import VirtualEnd


class Carrier:
    """Holds the ``streams`` of its ``route``, and exchanges both where it must and may.

    ``turn_to`` is told a new route while no stream is open; ``rings`` and the rest are for the streams. What of the
    ends is ``made`` for the session is made as the route wants it.
    """

    def __init__(
        self,
        route: Route,
        turn_to: Callable[[Route], None],
        rings: Rings,
        made: Sequence[VirtualEnd] = (),
        **settings: Any,
    ):
        self.route, self._turn_to, self._rings, self._made = route, turn_to, rings, made
        self._settings = {"made": made} | settings
        self.streams: AudioStreams = route.streams(rings, **self._settings)

    def start(self) -> None:
        """Open and start all streams, or none."""
        try:
            self.streams.start()
        except Unmanaged:
            raise
        except DeviceError as e:
            self._fall_back(e)

    def restart(self, kinds: Sequence[Kind]) -> None:
        """Open and start these again, or all of another route."""
        try:
            self.streams.restart(kinds)
        except Unfit as e:
            self._fall_back(e)

    def close(self) -> None:
        """Close all."""
        self.streams.close()

    def _fall_back(self, e: DeviceError) -> None:
        other = self.route.instead(e)
        if other is None:
            raise e
        self.streams.close()
        self._turn_to(other)
        self.route, self.streams = other, other.streams(self._rings, **self._settings)
        for end in self._made:
            end.ensure()
        self.streams.start()
