"""What carries a session's sound to and from the devices: PortAudio, or a node of our own in PipeWire's graph.

Both fill and empty the same rings from machine code. A back end gives one object with the interface of `AudioStreams`;
which one, at what rate and on how many clocks is decided here, before anything is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rtdenoise.arguments import BACKENDS, HZ
from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import pipewire
from rtdenoise.live.audio_streams import AudioStreams
from rtdenoise.live.devices import Device, common_rate, share_clock
from rtdenoise.live.graph_callback import MOST_PORTS
from rtdenoise.live.graph_streams import GraphStreams
from rtdenoise.live.ring import Rings
from rtdenoise.live.streams import Streams

Backend = Literal["portaudio", "pipewire"]
# What the play callback should find left over in its worst usual moment: on two clocks, and on PipeWire's one, whose
# cycles wake the worker a little late on a machine that has other work.
TWO_CLOCKS_RESERVE_MS, GRAPH_RESERVE_MS = 5.0, 2.0
SERVER = "PipeWire"


@dataclass(frozen=True)
class Route:
    """How a session's sound goes: by which back end, at what rate in Hz, on two clocks or one."""

    source: Device
    target: Device
    backend: Backend
    rate: int
    split: bool

    @property
    def reserve_ms(self) -> float:
        """What the output shall find left over."""
        return GRAPH_RESERVE_MS if self.backend == "pipewire" else TWO_CLOCKS_RESERVE_MS if self.split else 0.0

    def streams(self, rings: Rings, blocksize: int | None, worker_below: Callable[[int], None]) -> AudioStreams:
        """The streams over ``rings``, not opened."""
        make = GraphStreams if self.backend == "pipewire" else Streams
        return make(self.source, self.target, rings, blocksize, worker_below)


def find_route(
    source: Device, target: Device, rate: int | None = None, channels: int | None = None, wanted: Backend | None = None
) -> Route:
    """The wanted back end, or the one that suits both ends; `UsageError` or `DeviceError` where it does not."""
    if wanted not in (None, *BACKENDS):
        raise UsageError(f"back end {wanted!r}; choose {' or '.join(map(repr, BACKENDS))}")
    if wanted == "pipewire":
        return _by_graph(source, target, rate)
    if wanted is None and _are_in_graph(source, target) and (channels or 1) <= MOST_PORTS:
        with contextlib.suppress(DeviceError, UsageError):
            return _by_graph(source, target, rate)
    split = not share_clock(source, target) and not (source.is_file or target.is_file)
    return Route(source, target, "portaudio", common_rate(source, target, rate), split)


def _are_in_graph(*devices: Device) -> bool:
    return all(device.endpoint is not None and device.host == SERVER for device in devices)


def _by_graph(source: Device, target: Device, rate: int | None) -> Route:
    for device in (source, target):
        if not _are_in_graph(device):
            raise UsageError(f"--backend pipewire: {device.label} is not one of its devices; use --backend portaudio")
    if rate is not None:
        HZ.check("rate", rate)
    with pipewire.Connection() as graph:
        if rate not in (None, graph.rate):
            raise UsageError(f"--backend pipewire: the graph runs at {graph.rate} Hz, not {rate}; leave --rate out")
        return Route(source, target, "pipewire", graph.rate, split=False)
