"""Sinks and sources of ours that are nodes in PipeWire's server: a virtual microphone, a virtual speaker.

They live as long as a connection of their own, longer than the streams that use them, since a program that loses its
device is moved elsewhere. When the process is killed the server takes them away, and moves those programs by itself.
"""

from __future__ import annotations

from rtdenoise.live.graph_links import NodeId, make_node
from rtdenoise.live.pipewire import Connection
from rtdenoise.live.pipewire_library import Words


class OwnNodes:
    """Those of one session, from when they are first asked for until `close`."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._made: dict[str, NodeId] = {}

    def node(self, properties: Words) -> NodeId:
        """The number of the node of this name, which is made if it is not there. Raises as `make_node`."""
        if self._connection is None or self._connection.gone:
            self.close()
            self._connection = Connection()
        name = properties["node.name"]
        if not self._is_there(name):
            try:
                self._made[name] = make_node(self._connection, properties)
            except BaseException:  # One that is a moment too late has been made all the same.
                self.close()
                raise
        return self._made[name]

    @property
    def are_whole(self) -> bool:
        """Whether nobody has taken one away."""
        return all(map(self._is_there, self._made))

    def _is_there(self, name: str) -> bool:
        if self._connection is None or self._connection.gone:
            return False
        nodes = self._connection.objects("Node")
        return any(o.id == self._made.get(name) and o.properties.get("node.name") == name for o in nodes)

    def close(self) -> None:
        """Take all away; safe to call twice."""
        connection, self._connection = self._connection, None
        self._made.clear()
        if connection is not None:
            connection.close()
