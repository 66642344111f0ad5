"""The PortAudio streams of one session: one duplex stream on one clock, two one-way streams on two, one beside a file.

Owns opening, closing and watching them; what they carry is in `rtdenoise.live.ring`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rtdenoise.arguments import FRAMES
from rtdenoise.errors import DeviceError
from rtdenoise.live import callback, pulse, realtime, ring
from rtdenoise.live.callback import Kind
from rtdenoise.live.devices import Device, list_devices, share_clock
from rtdenoise.live.portaudio import changing, open_streams, portaudio
from rtdenoise.live.ring import Rings
from rtdenoise.live.server import connection

if TYPE_CHECKING:
    import sounddevice as sd

# Through a sound server: it sends bursts whatever we ask, and a larger input buffer only delays them, while an output
# buffer below 10 ms runs dry unheard of. Blocks of 64 frames at 48 kHz follow those bursts closest.
SERVER_LATENCY_S = {"input": 0.005, "output": 0.010}
SERVER_BLOCK_S = 64 / 48_000
THREADS: dict[Kind, int] = {"duplex": ring.PLAY_THREAD, "input": ring.CAPTURE_THREAD, "output": ring.PLAY_THREAD}
LARGEST_CREDIBLE_S = 1.0  # PortAudio's latency figure is garbage on some systems; beyond this it is not shown


class Streams:
    """Opens what ``source`` and ``target`` need over ``rings``; raises `DeviceError` in one line if they refuse.

    ``worker_below`` is told the real-time priority of each thread that calls back, 0 if it has none.
    """

    def __init__(
        self,
        source: Device,
        target: Device,
        rings: Rings,
        blocksize: int | None = None,
        worker_below: Callable[[int], None] = lambda priority: None,
    ):
        if blocksize is not None:
            FRAMES.check("blocksize", blocksize)
        self.source, self.target = source, target
        self.rings, self._blocksize = rings, blocksize
        self.duplex = share_clock(source, target)
        self._open: dict[Kind, sd._StreamBase] = {}
        self._serials: dict[Kind, int | None] = {}
        self._raised: dict[int, int] = {}  # The thread that was given priority, by its slot.
        self._worker_below = worker_below

    def start(self) -> None:
        """Open and start all streams, or none."""
        self.restart(self.kinds)

    def restart(self, kinds: Sequence[Kind]) -> None:
        """Open and start these streams again, found by name: a device that came back may have another number."""
        listed = list_devices()
        self.source, self.target = (next(filter(d.is_same, listed), d) for d in (self.source, self.target))
        try:
            for kind in kinds:
                self._start(kind)
        except BaseException:
            for kind in kinds:
                self.close_one(kind)
            raise

    @property
    def kinds(self) -> tuple[Kind, ...]:
        if self.duplex:
            return ("duplex",)
        ends: tuple[tuple[Kind, Device], ...] = ("input", self.source), ("output", self.target)
        return tuple(kind for kind, device in ends if not device.is_file)

    def _start(self, kind: Kind) -> None:
        sd = portaudio()
        device = self.target if kind == "output" else self.source
        rate = int(self.rings.control[ring.RATE])
        settings = {"samplerate": rate, "blocksize": self._blocksize or 0, "latency": "low"}
        if device.is_server and not self._blocksize:
            settings |= {"blocksize": round(SERVER_BLOCK_S * rate), "latency": SERVER_LATENCY_S[kind]}
        counts = int(self.rings.control[ring.CAPTURE_CHANNELS]), int(self.rings.control[ring.PLAY_CHANNELS])
        if kind == "duplex":
            settings |= {"device": (self.source.index, self.target.index), "channels": counts}
        else:
            settings |= {"device": device.index, "channels": counts[kind == "output"]}
        try:
            with changing, pulse.addressed(self.source.endpoint, self.target.endpoint):
                self.rings.control[THREADS[kind]] = 0
                stream = callback.open_stream(kind, self.rings, **settings)
                self._open[kind] = stream
                open_streams.add(stream)
                stream.start()
            if kind == "output" and device.endpoint and device.endpoint.startswith(pulse.OWN_PREFIX):
                pulse.refresh_sink(device.endpoint)
        except (sd.PortAudioError, ValueError) as e:
            self.close_one(kind)
            raise DeviceError(f"{device.label} does not open at {rate} Hz ({_reason(e)})") from e
        if device.endpoint:
            with connection() as client:
                known = {} if client is None else pulse.serials(client)
            self._serials[kind] = known.get((device.endpoint, kind == "input"))

    def raise_priority(self) -> None:
        """Real-time priority for the threads that have called back since their stream began. One that a sound system
        made so already keeps its own, which suits that system's other threads."""
        for kind in list(self._open):
            slot = THREADS[kind]
            thread = int(self.rings.control[slot])
            if thread and self._raised.get(slot) != thread:
                self._raised[slot] = thread
                if not realtime.priority(thread):
                    realtime.elevate(thread, realtime.CALLBACK_PRIORITY)
                self._worker_below(realtime.priority(thread))

    def latency_s(self) -> float | None:
        """What PortAudio says the devices themselves add, or None where that cannot be true."""
        total = 0.0
        for stream in list(self._open.values()):  # The watching thread may change it meanwhile.
            latency = stream.latency  # This is a pair for a duplex stream.
            total += sum(latency) if isinstance(latency, tuple) else latency
        return total if math.isfinite(total) and 0 < total < LARGEST_CREDIBLE_S else None

    def ended(self) -> list[Kind]:
        """Streams that PortAudio has given up."""
        return [kind for kind, stream in self._open.items() if not stream.active]

    def served(self) -> list[Kind]:
        """Open streams that end with the sound server."""
        return list(self._serials)

    def replaced(self, serials: dict[tuple[str, bool], int]) -> list[Kind]:
        """Streams whose source or sink is gone from the server (which has then moved them to some other one)."""
        ends = {"input": self.source.endpoint, "output": self.target.endpoint}
        return [k for k, was in self._serials.items() if serials.get((ends.get(k) or "", k == "input")) != was]

    def close_one(self, kind: Kind) -> None:
        stream = self._open.pop(kind, None)
        self._serials.pop(kind, None)
        if stream is not None:
            with changing:
                for end in (stream.abort, stream.close):
                    with contextlib.suppress(portaudio().PortAudioError):
                        end()
                open_streams.discard(stream)

    def close(self) -> None:
        for kind in list(self._open):
            self.close_one(kind)


def _reason(error: Exception) -> str:
    """PortAudio's own words, without the wrapping."""
    text = str(error.args[0]) if error.args else str(error)
    lines = text.splitlines() or [type(error).__name__]
    hint = "; another program may hold it" if "busy" in text.lower() or "unavailable" in text.lower() else ""
    return lines[0].removeprefix("Error opening ").strip() + hint
