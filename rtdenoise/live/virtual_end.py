"""An end of a session that is made for it in the sound server, and goes with it."""

from __future__ import annotations

import contextlib
import os
import sys
from abc import ABC, abstractmethod
from typing import Any, Literal, TypeVar

from rtdenoise.errors import DeviceError
from rtdenoise.live import pulse
from rtdenoise.live.own_modules import OwnModules, sweep, this_process
from rtdenoise.live.programs import Moves, restore_left
from rtdenoise.live.server import connection

Self = TypeVar("Self", bound="VirtualEnd")


def put_in_order(client: Any) -> bool:
    """Take away what killed sessions left in the server, and move their programs back; whether there was anything."""
    restore_left(client)
    return sweep(client)


class VirtualEnd(ABC):
    """Sources and sinks that exist while the context holds.

    Raises `DeviceError` without a server, or while another process runs one. ``app`` is a program whose streams are
    moved here meanwhile (`rtdenoise.live.programs.Moves`); one that comes ``later`` is given by its whole name.
    """

    modules: OwnModules
    side: Literal["input", "output"]  # Which end of the session it is.
    in_graph = False  # Whether it is no modules, but a node of PipeWire's graph, which the session's streams make.
    end: str  # The sink that programs play to, or the source that they record.
    description: str  # what people read for that,
    media_class: str  # and what it is as a node of PipeWire's graph

    def __init__(self, app: str | None = None, later: bool = False) -> None:
        self._later = later
        self._moves = None if app is None else Moves(app, self.end, plays=self.side == "input")

    def check(self, client: Any) -> None:
        """`DeviceError` while another process runs one, or something else has a name of its parts, `UsageError`
        without the program that is to be moved."""
        self.modules.refuse_living_owner(client)
        self.modules.refuse_taken(client, {name for name, _ in self.parts})
        if self._moves is not None and not self._later:
            self._moves.find(client)

    def enter_graph(self, wanted: bool) -> None:  # noqa: B027  # An echo canceller cannot.
        """Be such a node from now on, if that is wanted and possible; else modules, which `ensure` makes."""

    @property
    def node(self) -> dict[str, str]:
        """What it is as such a node, but for its channels."""
        return {
            "factory.name": "support.null-audio-sink",
            "node.name": self.end,
            "node.description": self.description,
            "media.class": self.media_class,
            self.modules.mark: this_process(),
        }

    @property
    @abstractmethod
    def parts(self) -> set[tuple[str, bool]]:
        """``(name, is a source)`` of all that has to be there."""

    @abstractmethod
    def load(self, client: Any) -> None:
        """Load its modules, none of which is there."""

    def __enter__(self: Self) -> Self:
        if sys.platform == "linux":
            with self.modules.server() as client:
                put_in_order(client)
                self.modules.refuse_living_owner(client)
            try:
                self.ensure()
            except BaseException:  # For example a signal, which waited until the server had made everything.
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        """Everything that bears our mark goes, whatever happened since it was made."""
        self.move_back()
        with contextlib.suppress(DeviceError), connection() as client:  # Without a server, all of it is gone.
            if client is not None:
                self.modules.unload_own(client)

    def move_back(self) -> None:
        """Move the program back to where it was: while this is still there, or a server would move it anywhere."""
        if self._moves is not None:
            with contextlib.suppress(DeviceError), connection() as client:
                if client is not None:
                    self._moves.restore(client)

    def attend(self, client: Any) -> None:
        """Bring the program here, and what it begins to play or record later."""
        if self._moves is not None:
            self._moves.follow(client)

    def is_in(self, serials: dict[tuple[str, bool], int]) -> bool:
        """Whether the server that has these sources and sinks (`pulse.serials`) has all of it."""
        return sys.platform != "linux" or self.in_graph or self.parts <= serials.keys()

    def ensure(self) -> None:
        """Make it, or make it anew if the server lost all of it or a part."""
        if self.in_graph:
            return
        with self.modules.server() as client:
            self.modules.refuse_living_owner(client, but=os.getpid())
            if not self.is_in(pulse.serials(client)):
                self.load(client)
            self.attend(client)
