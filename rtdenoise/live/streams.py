"""The PortAudio streams of one session: one duplex stream on one clock, two one-way streams on two, one beside a file.

Owns opening, closing and watching them; what they carry is in `rtdenoise.live.ring`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rtdenoise.errors import DeviceError
from rtdenoise.live import callback, pulse, ring
from rtdenoise.live.audio_streams import THREADS, AudioStreams
from rtdenoise.live.callback import Kind
from rtdenoise.live.devices import Device, list_devices, share_clock
from rtdenoise.live.pipewire import refuse_unmanaged
from rtdenoise.live.portaudio import changing, open_streams, portaudio

if TYPE_CHECKING:
    import sounddevice as sd

# Through a sound server: it sends bursts whatever we ask, and a larger input buffer only delays them, while an output
# buffer below 10 ms runs dry unheard of. Blocks of 64 frames at 48 kHz follow those bursts closest.
SERVER_LATENCY_S = {"input": 0.005, "output": 0.010}
SERVER_BLOCK_S = 64 / 48_000
LARGEST_CREDIBLE_S = 1.0  # PortAudio's latency figure is garbage on some systems; beyond this it is not shown


class Streams(AudioStreams):
    """PortAudio's, between ``source`` and ``target``."""

    def __init__(self, source: Device, target: Device, *others: Any):
        super().__init__(source, target, *others)
        self.duplex = share_clock(source, target)
        self._open: dict[Kind, sd._StreamBase] = {}

    def opened(self) -> list[Kind]:
        return list(self._open)

    def restart(self, kinds: Sequence[Kind]) -> None:
        listed = list_devices()  # A device that came back may have another number.
        self.source, self.target = (next(filter(d.is_same, listed), d) for d in (self.source, self.target))
        refuse_unmanaged(*self.needed(kinds))
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
            self._note_serials(kind, (device.endpoint, kind == "input"))

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

    def close_one(self, kind: Kind) -> None:
        stream = self._open.pop(kind, None)
        self._serials.pop(kind, None)
        if stream is not None:
            with changing:
                for end in (stream.abort, stream.close):
                    with contextlib.suppress(portaudio().PortAudioError):
                        end()
                open_streams.discard(stream)


def _reason(error: Exception) -> str:
    """PortAudio's own words, without the wrapping."""
    text = str(error.args[0]) if error.args else str(error)
    lines = text.splitlines() or [type(error).__name__]
    hint = "; another program may hold it" if "busy" in text.lower() or "unavailable" in text.lower() else ""
    return lines[0].removeprefix("Error opening ").strip() + hint
