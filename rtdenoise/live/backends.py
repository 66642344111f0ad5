"""What carries a session's sound: PortAudio, streams of our own on a PulseAudio server, or a node in PipeWire's graph.

All fill and empty the same rings from machine code. A back end gives one object with the interface of `AudioStreams`;
which one, at what rate and on how many clocks is decided here, before anything is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rtdenoise.arguments import BACKENDS, HZ
from rtdenoise.errors import DeviceError, RtdenoiseError, UsageError
from rtdenoise.live import pipewire_library, pulse, pulse_library
from rtdenoise.live.audio_streams import AudioStreams
from rtdenoise.live.devices import Device, common_rate, share_clock
from rtdenoise.live.graph_callback import MOST_PORTS
from rtdenoise.live.graph_streams import GraphStreams
from rtdenoise.live.pipewire import refuse_unmanaged
from rtdenoise.live.pulse_streams import PulseStreams
from rtdenoise.live.ring import Rings
from rtdenoise.live.streams import Streams
from rtdenoise.live.virtual_end import VirtualEnd

INSTEAD = "use --backend portaudio"
Backend = Literal["portaudio", "pulse", "pipewire"]
# What the play callback should find left over in its worst usual moment: on two clocks, and on PipeWire's one, whose
# cycles wake the worker a little late on a machine that has other work.
TWO_CLOCKS_RESERVE_MS, GRAPH_RESERVE_MS = 5.0, 2.0


@dataclass(frozen=True)
class Route:
    """How a session's sound goes: by which back end, at what rate in Hz, on two clocks or one. ``reason``: why not by
    PipeWire's graph, although both ends are its devices or files. ``fixed``: whether the back end was asked for."""

    source: Device
    target: Device
    backend: Backend
    rate: int
    split: bool
    fixed: bool = False
    reason: str | None = None

    @property
    def reserve_ms(self) -> float:
        """What the output shall find left over."""
        return GRAPH_RESERVE_MS if self.backend == "pipewire" else TWO_CLOCKS_RESERVE_MS if self.split else 0.0

    def streams(
        self,
        rings: Rings,
        blocksize: int | None,
        worker_below: Callable[[int], None],
        latency_ms: Callable[[], float],
        watched: bool,
        made: Sequence[VirtualEnd],
    ) -> AudioStreams:
        """The streams over ``rings``, not opened; those in PipeWire's graph make what of ``made`` is a node there."""
        in_graph = self.backend == "pipewire"
        for end in made:
            end.enter_graph(in_graph)
        ends = self.source, self.target, rings, blocksize, worker_below
        if self.backend == "pulse":
            return PulseStreams(*ends)
        if not in_graph:
            return Streams(*ends)
        return GraphStreams(*ends, made=made, latency_ms=latency_ms, watched=watched)

    def instead(self, e: RtdenoiseError) -> Route | None:
        """The way as a Pulse client, because of this; None if there is no other than this one."""
        if self.fixed or self.backend != "pipewire":
            return None
        return replace(_by_pulse(self.source, self.target, self.rate), reason=str(e))


def find_route(
    source: Device, target: Device, rate: int | None = None, channels: int | None = None, wanted: Backend | None = None
) -> Route:
    """The wanted back end, or the one that suits both ends; `UsageError` or `DeviceError` where it does not."""
    if wanted not in (None, *BACKENDS):
        raise UsageError(f"back end {wanted!r}; choose {' or '.join(map(repr, BACKENDS))}")
    if wanted == "pipewire":
        return replace(_by_graph(source, target, rate, channels), fixed=True)
    if wanted == "pulse":
        return replace(_by_pulse(source, target, rate), fixed=True)
    if wanted is None and _are_of(pulse.PIPEWIRE, source, target):
        try:
            return _by_graph(source, target, rate, channels)
        except (DeviceError, UsageError) as e:
            return replace(_by_pulse(source, target, rate), reason=str(e).removesuffix(f"; {INSTEAD}"))
    if wanted is None and _are_of(pulse.PULSEAUDIO, source, target):
        return _by_pulse(source, target, rate)
    return _by_portaudio(source, target, rate)


def _are_of(host: str, *devices: Device) -> bool:
    """Whether these are sources and sinks of a sound server, or files."""
    return all(d.is_file or (d.endpoint is not None and d.host == host) for d in devices)


def _by_pulse(source: Device, target: Device, rate: int | None) -> Route:
    for device in (source, target):
        if device.endpoint is None and not device.is_file:
            raise UsageError(f"{device.label} is not a device of a sound server; {INSTEAD}")
    pulse_library.loaded()
    return replace(_by_portaudio(source, target, rate), backend="pulse")


def _by_portaudio(source: Device, target: Device, rate: int | None) -> Route:
    refuse_unmanaged(source, target)
    split = not share_clock(source, target) and not (source.is_file or target.is_file)
    return Route(source, target, "portaudio", common_rate(source, target, rate), split)


def _by_graph(source: Device, target: Device, rate: int | None, channels: int | None) -> Route:
    """What can be known before a node is there; the rest is `Carrier`'s."""
    for device in (source, target):
        if not _are_of(pulse.PIPEWIRE, device):
            raise UsageError(f"{device.label} is not a device of PipeWire's; {INSTEAD}")
    if rate is not None:
        HZ.check("rate", rate)
    wanted = rate
    if source.is_file:
        wanted, channels = rate or source.rate, channels or source.inputs
    if (channels or 1) > MOST_PORTS:
        raise UsageError(f"PipeWire's graph takes at most {MOST_PORTS} channels of ours; {INSTEAD}")
    pipewire_library.loaded()
    usual = pulse.usual_rate()
    if wanted not in (None, usual):
        instead = "leave --rate out" if rate else INSTEAD
        raise UsageError(f"PipeWire's graph runs at {usual} Hz, not {wanted}; {instead}")
    return Route(source, target, "pipewire", usual, split=False)
