"""A session as one node of PipeWire's graph: `Streams` without PortAudio, on the graph's clock.

    source's ports ─▶ our inputs ┊ graph callback ┊ our outputs ─▶ sink's ports

The node is linked by us to the very source and sink that were chosen, and to nothing else. A program that records
behind it gets what we play in the same cycle: the node itself adds no latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import ring
from rtdenoise.live.audio_streams import AudioStreams
from rtdenoise.live.callback import Kind
from rtdenoise.live.devices import Device
from rtdenoise.live.graph_callback import MOST_PORTS, GraphPorts, graph_callback
from rtdenoise.live.pipewire import INPUT, OUTPUT, Connection, Object
from rtdenoise.live.pipewire_library import dsp_buffer_address
from rtdenoise.live.ring import Rings

NODE, DESCRIPTION = "rtdenoise", "rtdenoise filter"
CHANNELS = {1: ("MONO",), 2: ("FL", "FR")}
MONITOR = ".monitor"


class GraphStreams(AudioStreams):
    """One node, linked between ``source`` and ``target``."""

    def __init__(self, source: Device, target: Device, rings: Rings, *others: Any):
        super().__init__(source, target, rings, *others)
        if max(rings.control[ring.CAPTURE_CHANNELS], rings.control[ring.PLAY_CHANNELS]) > MOST_PORTS:
            raise UsageError(f"--backend pipewire takes at most {MOST_PORTS} channels; use --backend portaudio")
        self._connection: Connection | None = None
        self._ports = GraphPorts(rings, dsp_buffer_address())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("duplex",)

    def opened(self) -> list[Kind]:
        return [] if self._connection is None else list(self.kinds)

    def restart(self, kinds: Sequence[Kind]) -> None:
        self.close()
        self._connection = Connection()
        try:
            self._start(self._connection)
        except BaseException:
            self.close()
            raise

    def _start(self, graph: Connection) -> None:
        rate, ports = int(self.rings.control[ring.RATE]), self._ports
        self.rings.control[ring.PLAY_THREAD] = 0
        ports.forget()
        properties = {
            "node.name": NODE,
            "node.description": DESCRIPTION,
            "media.type": "Audio",
            "media.category": "Filter",
            "media.role": "DSP",
            "node.latency": f"{self._blocksize or self.rings.hop}/{rate}",
            "application.name": NODE,
        }
        named = [(INPUT, f"input_{c}", c) for c in CHANNELS[ports.ins]]
        named += [(OUTPUT, f"output_{c}", c) for c in CHANNELS[ports.outs]]
        node = graph.make_filter(properties, named, int(graph_callback.address or 0), ports.address, ports.take)
        self._link(graph, node)
        graph.wait(lambda: ports.rate > 0, f"{self.source.name} and {self.target.name} do not run; is one suspended?")
        if ports.rate != rate:
            raise DeviceError(f"PipeWire's graph runs at {ports.rate} Hz now, not {rate}; use --backend portaudio")
        self._note_serials("duplex", (self.source.endpoint or "", True), (self.target.endpoint or "", False))

    def _link(self, graph: Connection, node: int) -> None:
        source, target = _node(graph, self.source), _node(graph, self.target)
        until = f"PipeWire does not list the ports of {self.source.name} or {self.target.name}"
        ins, outs = self._ports.ins, self._ports.outs
        wanted = ((source, "out", 1), (target, "in", 1), (node, "in", ins), (node, "out", outs))
        graph.wait(lambda: all(len(_ports(graph, n, way)) >= count for n, way, count in wanted), until)
        theirs, ours = _ports(graph, source, "out"), _ports(graph, node, "in")
        pairs = [(theirs[min(k, len(theirs) - 1)], port) for k, port in enumerate(ours)]
        ours, theirs = _ports(graph, node, "out"), _ports(graph, target, "in")
        pairs += [(ours[k % len(ours)], port) for k, port in enumerate(theirs) if k < max(len(ours), MOST_PORTS)]
        for begin, end in pairs:
            graph.make(
                "link-factory",
                "Link",
                {
                    "link.output.node": begin.properties["node.id"],
                    "link.output.port": str(begin.id),
                    "link.input.node": end.properties["node.id"],
                    "link.input.port": str(end.id),
                },
            )
        linked = {(str(a.id), str(b.id)) for a, b in pairs}
        missing = f"PipeWire does not link {self.source.name} and {self.target.name} to the filter"
        graph.wait(lambda: linked <= {_ends(link) for link in graph.objects("Link")}, missing)

    def latency_s(self) -> float | None:
        return None  # PipeWire does not tell a filter.

    def ended(self) -> list[Kind]:
        return list(self.kinds) if self._connection is None or self._connection.gone else []

    def close_one(self, kind: Kind) -> None:
        connection, self._connection = self._connection, None
        self._serials.pop(kind, None)
        if connection is not None:
            connection.close()


def _node(graph: Connection, device: Device) -> int:
    """The number of a device's node; a sink's monitor is the sink."""
    name = (device.endpoint or "").removesuffix(MONITOR)
    found = [o.id for o in graph.objects("Node") if o.properties.get("node.name") == name]
    if not found:
        raise DeviceError(f"PipeWire does not list {device.name}; see `rtdenoise devices`")
    return found[-1]


def _ports(graph: Connection, node: int, way: str) -> list[Object]:
    """A node's ports of a direction, in the order of its channels."""
    mine = [
        o
        for o in graph.objects("Port")
        if o.properties.get("node.id") == str(node) and o.properties.get("port.direction") == way
    ]
    return sorted(mine, key=lambda o: int(o.properties.get("port.id", "0")))


def _ends(link: Object) -> tuple[str, str]:
    return link.properties.get("link.output.port", ""), link.properties.get("link.input.port", "")
