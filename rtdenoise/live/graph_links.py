"""Which nodes and ports of PipeWire's graph are meant, and links between them."""

from __future__ import annotations

import os
from collections import Counter

from rtdenoise.errors import DeviceError
from rtdenoise.live.pipewire import Connection, Object
from rtdenoise.live.pipewire_library import Words

MOST_PORTS = 2  # inputs of a node that are linked
NodeId = int
NodeEnd = tuple[int, int]  # a node's number, and how many ports it has on the side in question
Pairs = list[tuple[Object, Object]]  # outputs and the inputs that they go to


def find_node(graph: Connection, name: str) -> NodeId | None:
    """The number of the device's node that was made last under this name."""
    found = _devices(graph, name)
    return found[-1].id if found else None


def _devices(graph: Connection, name: str) -> list[Object]:
    """Sinks and sources of this name. A program may call its streams and filters so too, which no one means by it."""
    nodes = [o for o in graph.objects("Node") if o.properties.get("node.name") == name]
    return [o for o in nodes if o.properties.get("media.class", "").startswith("Audio/")]


def make_node(graph: Connection, properties: Words) -> NodeId:
    """Make a node that lives in the server, as long as the connection; returns its number.

    `DeviceError` where another bears the name already, also one that was made at the same time and a moment sooner.
    """
    name, before = properties["node.name"], {o.id for o in graph.objects("Node")}

    def named() -> list[Object]:
        return sorted(_devices(graph, name), key=lambda o: int(o.properties.get("object.serial", o.id)))

    def mine() -> list[NodeId]:
        return [o.id for o in named() if o.id not in before and _owner(graph, o.id) in ("", str(os.getpid()))]

    graph.make("adapter", "Node", properties)
    graph.wait(lambda: bool(mine()), f"PipeWire does not make {name}")
    first = named()[0].id
    if first != mine()[0]:
        words = properties["node.description"]
        raise DeviceError(f"{words} is in use by process {_owner(graph, first) or 'unknown'}; stop that one first")
    return first


def _owner(graph: Connection, node: NodeId) -> str:
    """The process that made a node, by its number; nothing where that is not known."""
    listed = {o.id: o.properties for o in graph.objects("Node") + graph.objects("Client")}
    client = listed.get(node, {}).get("client.id", "")
    return listed.get(int(client), {}).get("pipewire.sec.pid", "") if client.isdigit() else ""


def ports(graph: Connection, node: NodeId, way: str) -> list[Object]:
    """A node's ports of a direction, "in" or "out", in the order of its channels."""
    mine = [
        o
        for o in graph.objects("Port")
        if o.properties.get("node.id") == str(node) and o.properties.get("port.direction") == way
    ]
    return sorted(mine, key=lambda o: int(o.properties.get("port.id", "0")))


def pair(graph: Connection, begin: NodeEnd, end: NodeEnd, names: str, mix: bool = False) -> Pairs:
    """Which outputs of a node go to which inputs of another, each with how many ports it has at least: one output to
    every input, mono to both sides. With ``mix`` a single input gets all outputs, and so their sum.

    Waits for the ports; ``names`` are for an error.
    """
    sides = (*begin, "out"), (*end, "in")
    complete = lambda: all(len(ports(graph, node, way)) >= count for node, count, way in sides)
    graph.wait(complete, f"PipeWire does not list the ports of {names}")
    outs, ins = ports(graph, begin[0], "out"), ports(graph, end[0], "in")[:MOST_PORTS]
    if mix and len(ins) == 1:
        return [(one, ins[0]) for one in outs]
    return [(outs[min(k, len(outs) - 1)], port) for k, port in enumerate(ins)]


def outputs_at_an_input(pairs: Pairs) -> int:
    """How many outputs one input is given, the sum of which it hears."""
    return max(Counter(other.id for _, other in pairs).values())


def link(graph: Connection, pairs: Pairs, names: str, passive: bool = False) -> None:
    """Link outputs to inputs. A ``passive`` link wakes nobody: it carries sound while something else needs it."""
    for one, other in pairs:
        words = {
            "link.output.node": one.properties["node.id"],
            "link.output.port": str(one.id),
            "link.input.node": other.properties["node.id"],
            "link.input.port": str(other.id),
            "link.passive": str(passive).lower(),
        }
        graph.make("link-factory", "Link", words)
    wanted = {(str(one.id), str(other.id)) for one, other in pairs}
    graph.wait(lambda: wanted <= _linked(graph), f"PipeWire does not link {names}")


def _linked(graph: Connection) -> set[tuple[str, str]]:
    ends = ("link.output.port", "link.input.port")
    return {(o.properties.get(ends[0], ""), o.properties.get(ends[1], "")) for o in graph.objects("Link")}
