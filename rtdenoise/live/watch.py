"""A quiet thread that notices when a device vanishes, waits for it by name, and takes it again.

A sound server says itself when a source or sink goes, over one connection that lasts as long as the session; a server
that ends, and a device without one, are noticed by a stream that ends or falls silent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rtdenoise.errors import DeviceError, RtdenoiseError
from rtdenoise.live import pulse, ring
from rtdenoise.live.audio_streams import AudioStreams, Unfit
from rtdenoise.live.background import BackgroundThread
from rtdenoise.live.callback import Kind
from rtdenoise.live.carrier import Carrier
from rtdenoise.live.devices import list_devices, server_bridge
from rtdenoise.live.portaudio import rescan
from rtdenoise.live.server import Changes, ServerEnded
from rtdenoise.live.virtual_end import VirtualEnd

TICK_S, ASLEEP_TICK_S = 0.1, 0.5
# A stream is lost after this many ticks without a callback: an idle sink may render 2 s ahead before it asks again.
# Ticks and not seconds, so that a stopped or sleeping process loses nothing.
SILENT_TICKS = 30
RETRY_S = 0.25  # The pause between attempts is too short to be noticed by who plugs a device in again.
RESCAN_S = 1.0  # PortAudio's list is made anew at most this often, since that takes a good part of a second.
RESCAN_AFTER = 3  # After this many refusals of a listed device the list itself is doubted.


class Watch(BackgroundThread):
    """Watches a ``carrier``'s streams until `stop`; ``state`` is "running" or what is waited for, ``reopened`` a count.

    What of the ends was ``made`` for the session is made anew where the sound server lost it.
    """

    def __init__(self, carrier: Carrier, made: Sequence[VirtualEnd] = ()):
        super().__init__("rtdenoise-watch")
        self.state, self.reopened = "running", 0
        self._carrier, self._control, self._made = carrier, carrier.streams.rings.control, made
        self._seen: dict[Kind, tuple[int, int]] = {}  # The position, and the ticks for which it has not moved.
        self._changes = Changes()

    @property
    def _streams(self) -> AudioStreams:
        return self._carrier.streams

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                if lost := self._lost_in_a_tick():
                    self._recover(lost)
        except Exception as e:  # An error of a library, which nobody else would report.
            self.state = f"running, but a device that vanishes will not be reopened ({e or type(e).__name__})"
        finally:
            self._changes.close()

    def _lost_in_a_tick(self) -> list[Kind]:
        self._streams.tend()
        tick_s = ASLEEP_TICK_S if self._streams.asleep else TICK_S
        until, served = time.monotonic() + tick_s, self._streams.served()
        if served and self._changes.connect():
            try:
                if self._changes.wait(tick_s) and (lost := self._lost_by_server()):
                    return lost
            except ServerEnded:
                return served
            except DeviceError:
                pass  # What changed is gone again, or the server is too busy; lost streams are noticed anyway.
        self._end.wait(max(0.0, until - time.monotonic()))
        return [kind for kind in self._streams.kinds if self._is_lost(kind)]

    def _lost_by_server(self) -> list[Kind]:
        with self._changes.asked() as client:
            serials = pulse.serials(client)
            if lost := [end.side for end in self._made if not end.is_in(serials)]:
                return list(lost)
            for end in self._made:
                end.attend(client)
            source, sink = (
                device.endpoint if not device.own and (device.endpoint, is_source) in serials else None
                for device, is_source in ((self._streams.source, True), (self._streams.target, False))
            )
            pulse.keep_off_our_own(client, source, sink)
        return self._streams.replaced(serials)

    def _is_lost(self, kind: Kind) -> bool:
        position = int(self._control[ring.OUT_TAIL if kind == "output" else ring.IN_HEAD])
        before, ticks = self._seen.get(kind, (-1, 0))
        ticks = ticks + 1 if position == before and not self._streams.asleep else 0
        self._seen[kind] = position, ticks
        return ticks >= SILENT_TICKS or kind in self._streams.ended()

    def _recover(self, lost: list[Kind]) -> None:
        """Close what is lost, keep the other side running, and try again until it works or the session ends."""
        for kind in lost:
            self._streams.close_one(kind)
            self._control[ring.OUT_TIME if kind == "output" else ring.IN_TIME] = 0
        self.state = "waiting for " + " and ".join(d.name for d in self._streams.needed(lost))
        refused, rescanned_s = 0, time.monotonic()
        while not self._end.wait(RETRY_S):
            try:
                for end in self._made:
                    end.ensure()
                there = self._are_listed(lost)
                due = time.monotonic() - rescanned_s > RESCAN_S
                if due and (refused >= RESCAN_AFTER if there else self._are_unknown_to_portaudio(lost)):
                    refused, rescanned_s, lost = 0, time.monotonic(), list(self._streams.kinds)
                    self._streams.close()
                    rescan()
                elif there:
                    refused += 1
                    self._carrier.restart(lost)
                    break
            except Unfit as e:
                self.state = f"waiting: {e}"
            except RtdenoiseError:
                pass  # The device is not there yet.
        else:
            return
        self._control[ring.ANCHOR] += 1
        self._seen.clear()
        self.state, self.reopened = "running", self.reopened + 1

    def _are_listed(self, kinds: list[Kind]) -> bool:
        listed = list_devices()
        return all(any(map(d.is_same, listed)) for d in self._streams.needed(kinds))

    def _are_unknown_to_portaudio(self, kinds: list[Kind]) -> bool:
        """Whether a new list of PortAudio's could help: not while it is the sound server that is away."""
        if any(d.endpoint is None for d in self._streams.needed(kinds)):
            return True
        if not pulse.endpoints()[1]:
            return False
        try:
            server_bridge()
        except DeviceError:
            return True
        return False
