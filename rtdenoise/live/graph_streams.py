"""A session as one node of PipeWire's graph: `Streams` without PortAudio, on the graph's clock.

    source's ports ─▶ our inputs ┊ graph callback ┊ our outputs ─▶ sink's ports, or those of the virtual microphone

Where a file stands for one end, the node has ports on the other side alone.
The node is linked by us to the very source and sink that were chosen, and to nothing else. A program that records
behind it gets what we play in the same cycle: the node itself adds no latency.

The virtual microphone and the virtual speaker are nodes in the server (`rtdenoise.live.own_nodes`). Links to the
microphone, and from its source, are passive: they carry sound while a program records, else all of it sleeps, and the
source is let go. At the start a listener of our own records until the latency is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live import ring
from rtdenoise.live.audio_streams import THREADS, AudioStreams, Unfit
from rtdenoise.live.callback import Kind
from rtdenoise.live.devices import Device
from rtdenoise.live.graph_callback import IN_MIXED, OUT_MIXED, GraphPorts, graph_callback
from rtdenoise.live.graph_links import NodeEnd, NodeId, find_node, link, outputs_at_an_input, pair
from rtdenoise.live.own_nodes import OwnNodes
from rtdenoise.live.pipewire import Connection
from rtdenoise.live.pipewire_filter import INPUT, OUTPUT, Filter
from rtdenoise.live.pipewire_library import dsp_buffer_address
from rtdenoise.live.ring import Rings
from rtdenoise.live.virtual_end import VirtualEnd
from rtdenoise.live.virtual_mic import VirtualMicrophone
from rtdenoise.live.virtual_speaker import VirtualSpeaker

NODE, DESCRIPTION = "rtdenoise", "rtdenoise filter"
CHANNELS: dict[int, tuple[str, ...]] = {0: (), 1: ("MONO",), 2: ("FL", "FR")}
MONITOR = ".monitor"
# A shorter cycle is made use of where it makes the latency this much less: each change is heard.
WORTH_MS = 4.0


class GraphStreams(AudioStreams):
    """One node, linked between ``source`` and ``target``; the graph is told the latency that ``latency_ms()`` gives.

    What of ``made`` is a node stands for its end: a virtual speaker for ``source``, a virtual microphone for
    ``target``, which does not sleep where the session is ``watched``: people want to see their voice before any program
    records it.
    """

    def __init__(
        self,
        source: Device,
        target: Device,
        rings: Rings,
        *others: Any,
        made: Sequence[VirtualEnd],
        latency_ms: Callable[[], float],
        watched: bool,
    ):
        super().__init__(source, target, rings, *others)
        self._latency_ms, self._told_ns, self._watched = latency_ms, 0, watched
        own = [end for end in made if end.in_graph]
        self._microphone = next((end for end in own if isinstance(end, VirtualMicrophone)), None)
        self._speaker = next((end for end in own if isinstance(end, VirtualSpeaker)), None)
        self._own = OwnNodes()
        self._listener: Filter | None = None  # What records at the start, and as long as the session is watched.
        self._connection: Connection | None = None
        self._filter: Filter | None = None
        self._ports: GraphPorts | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("output" if self.source.is_file else "input" if self.target.is_file else "duplex",)

    def opened(self) -> list[Kind]:
        return [] if self._connection is None else list(self.kinds)

    def start(self) -> None:
        try:
            super().start()
        except BaseException:
            self.close()
            raise

    def restart(self, kinds: Sequence[Kind]) -> None:
        self.close_one(kinds[0])
        self._ports = self._ports or GraphPorts(self.rings, dsp_buffer_address(), self.kinds[0])
        self._connection = Connection()
        try:
            self._connection.require_manager()
            self._start(self._connection, self._ports)
        except BaseException:
            self.close_one(kinds[0])
            raise

    def _start(self, graph: Connection, ports: GraphPorts) -> None:
        rate = int(self.rings.control[ring.RATE])
        self.rings.control[THREADS[self.kinds[0]]], self._told_ns = 0, 0
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
        process = int(graph_callback.address or 0)
        self._filter = Filter(graph, properties, named, process, ports.address, ports.take, ports.forget)
        ends = []
        if ports.ins:
            self._hear(graph, ports, self._filter.id)
            if self._speaker is None:
                ends.append((self.source.endpoint or "", True))
        if self._microphone is not None:
            self._make_microphone(graph, (self._filter.id, ports.outs), self._microphone)
        elif ports.outs:
            self._play(graph, ports, self._filter.id)
            ends.append((self.target.endpoint or "", False))
        graph.wait(lambda: ports.rate > 0, f"{self.source.name} and {self.target.name} do not run; is one suspended?")
        self._require_rate()
        self._note_serials(self.kinds[0], *ends)

    def _hear(self, graph: Connection, ports: GraphPorts, own: NodeId) -> None:
        count = self.source.inputs
        node = self._made(self._speaker, count) if self._speaker else _node(graph, self.source)
        pairs = pair(graph, (node, count), (own, ports.ins), self.source.name, mix=True)
        ports.state[IN_MIXED] = outputs_at_an_input(pairs)
        link(graph, pairs, self.source.name, passive=self._may_sleep)

    def _play(self, graph: Connection, ports: GraphPorts, own: NodeId) -> None:
        target = _node(graph, self.target), self.target.outputs
        pairs = pair(graph, (own, ports.outs), target, self.target.name, mix=True)
        ports.state[OUT_MIXED] = outputs_at_an_input(pairs)
        link(graph, pairs, self.target.name)

    @property
    def _may_sleep(self) -> bool:
        """Whether all may rest while nobody records; a file is played to its end in any case."""
        return self._microphone is not None and not self._watched and not self.source.is_file

    def _make_microphone(self, graph: Connection, ours: NodeEnd, microphone: VirtualMicrophone) -> None:
        node = self._made(microphone, ours[1])
        link(graph, pair(graph, ours, (node, ours[1]), self.target.name), self.target.name, passive=True)
        if microphone.heard_on and (sink := find_node(graph, microphone.heard_on)) is not None:
            link(graph, pair(graph, ours, (sink, 1), microphone.heard_on), microphone.heard_on)
        words = {"node.name": f"{NODE}-start", "media.type": "Audio", "media.category": "Filter", "media.role": "DSP"}
        self._listener = Filter(graph, words, [(INPUT, "input", "MONO")])
        link(graph, pair(graph, (node, 1), (self._listener.id, 1), self.target.name), self.target.name)

    def _made(self, end: VirtualEnd, channels: int) -> NodeId:
        position = ",".join(CHANNELS[channels])
        return self._own.node(end.node | {"audio.position": position, "audio.channels": str(channels)})

    @property
    def asleep(self) -> bool:
        return self._microphone is not None and self._filter is not None and not self._filter.runs

    def needed(self, kinds: Sequence[Kind]) -> list[Device]:
        made = self._speaker and self.source, self._microphone and self.target
        return [device for device in super().needed(kinds) if device not in made]

    def _require_rate(self) -> None:
        now, rate = self._ports.rate if self._ports else 0, int(self.rings.control[ring.RATE])
        if now not in (0, rate):
            raise Unfit(f"PipeWire's graph runs at {now} Hz now, not {rate}")

    def tend(self) -> None:
        super().tend()
        control = self.rings.control
        if self._filter is not None and self._ports is not None:
            if self._ports.ins and (ns := round(1e6 * self._latency_ms())):
                self._tell(self._filter, ns)
            self._follow_cycles(self._ports.cycle)
            if self._listener and self._may_sleep and control[ring.HEARD_FRAMES] > control[ring.PREFILL] > 0:
                self._listener.close()
                self._listener = None

    def _tell(self, node: Filter, ns: int) -> None:
        if ns != self._told_ns:
            self._told_ns = ns
            node.tell_latency(ns)

    def _follow_cycles(self, cycle: int) -> None:
        """Size the buffer anew where the graph's cycles got longer than it is made for, or much shorter."""
        control = self.rings.control
        sized_for, worth = int(control[ring.SIZED_FOR]), WORTH_MS * 1e-3 * control[ring.RATE]
        if cycle and sized_for and not 0 <= sized_for - cycle < worth:
            control[[ring.IN_BLOCK, ring.OUT_BLOCK]] = cycle
            control[ring.PREFILL] = 0
            control[ring.ANCHOR] += 1

    def latency_s(self) -> float | None:
        return None  # PipeWire does not tell a filter.

    def ended(self) -> list[Kind]:
        """Also where the graph has come to run at another rate."""
        if self._connection is None or self._filter is None or self._ports is None:
            return list(self.kinds)
        fits = self._ports.rate in (0, int(self.rings.control[ring.RATE]))
        goes = fits and self._own.are_whole and not (self._connection.gone or self._filter.ended)
        return [] if goes else list(self.kinds)

    def close_one(self, kind: Kind) -> None:
        connection, self._connection = self._connection, None
        self._filter = self._listener = None
        self._serials.pop(kind, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        super().close()
        self._own.close()


def _node(graph: Connection, device: Device) -> int:
    """The number of a device's node; a sink's monitor is the sink."""
    found = find_node(graph, (device.endpoint or "").removesuffix(MONITOR))
    if found is None:
        raise DeviceError(f"PipeWire does not list {device.name}; see `rtdenoise devices`")
    return found
