"""A quiet thread that notices when a device vanishes, waits for it by name, and takes it again."""

from __future__ import annotations

import threading

from rtdenoise.errors import RtdenoiseError
from rtdenoise.live import pulse, ring
from rtdenoise.live.callback import Kind
from rtdenoise.live.devices import Device, list_devices
from rtdenoise.live.portaudio import rescan
from rtdenoise.live.streams import Streams

TICK_S = 0.1
SILENT_TICKS = 30  # without a callback: an idle sink may render 2 s ahead before it asks again. Ticks
# and not seconds, so that a stopped or sleeping process loses nothing
SERVER_TICKS = 10  # between two looks at the server's list, which costs it and us a few milliseconds
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 1.0  # between attempts, doubling
RESCAN_AFTER = 3  # failed attempts, after which PortAudio must make a new list of devices


class Watch:
    """Watches ``streams`` until `stop`; ``state`` is "running" or what is waited for, ``reopened`` a count."""

    def __init__(self, streams: Streams):
        self.state, self.reopened = "running", 0
        self._streams, self._control = streams, streams.rings.control
        self._seen: dict[Kind, tuple[int, int]] = {}  # position, and ticks for which it has not moved
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtdenoise-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        ticks = 0
        while not self._end.wait(TICK_S):
            ticks += 1
            self._streams.raise_priority()
            replaced = self._streams.replaced() if ticks % SERVER_TICKS == 0 else []
            lost = [kind for kind in self._streams.kinds if self._is_lost(kind) or kind in replaced]
            if lost:
                self._recover(lost)

    def _is_lost(self, kind: Kind) -> bool:
        position = int(self._control[ring.OUT_TAIL if kind == "output" else ring.IN_HEAD])
        before, ticks = self._seen.get(kind, (-1, 0))
        ticks = ticks + 1 if position == before else 0
        self._seen[kind] = position, ticks
        return ticks >= SILENT_TICKS or kind in self._streams.ended()

    def _recover(self, lost: list[Kind]) -> None:
        """Close what is lost, keep the other side running, and try again until it works or the session ends."""
        for kind in lost:
            self._streams.close_one(kind)
            self._control[ring.OUT_TIME if kind == "output" else ring.IN_TIME] = 0
        devices = [self._streams.target if kind == "output" else self._streams.source for kind in lost]
        self.state = "waiting for " + " and ".join(d.name for d in devices)
        wait, attempt = FIRST_WAIT_S, 0
        while not self._end.wait(wait):
            attempt += 1
            try:
                if attempt % RESCAN_AFTER == 0 and not all(map(_is_listed, devices)):
                    self._streams.close()
                    rescan()
                    lost = list(self._streams.kinds)
                if all(map(_is_listed, devices)):
                    self._streams.restart(lost)
                    break
            except RtdenoiseError:
                pass  # not yet
            wait = min(2 * wait, LONGEST_WAIT_S)
        else:
            return
        self._control[ring.ANCHOR] += 1
        self._seen.clear()
        self.state, self.reopened = "running", self.reopened + 1


def _is_listed(device: Device) -> bool:
    if device.endpoint is not None:
        return any(e.name == device.endpoint for e in pulse.endpoints()[1])
    return any(d.label == device.label for d in list_devices())
