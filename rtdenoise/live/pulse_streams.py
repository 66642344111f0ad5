"""A session's streams on a PulseAudio server, by its own client library: without PortAudio, ALSA and their threads.

    source ─▶ recording ─▶ read callback ─┐            ┌─▶ write callback ─▶ playback ─▶ sink
                                          └─▶ worker ──┘
    all callbacks: one thread of the library's

Each stream is made for the very source or sink that was chosen. Where a playback runs dry, the server goes on with
silence and what comes too late is left out: the delay stays as it is.
"""

from __future__ import annotations

import ctypes as C
import threading
from collections.abc import Sequence
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live import pulse, ring
from rtdenoise.live.audio_streams import THREADS, AudioStreams
from rtdenoise.live.callback import Kind
from rtdenoise.live.devices import Device
from rtdenoise.live.environment import changed
from rtdenoise.live.pipewire import refuse_unmanaged
from rtdenoise.live.pulse_callback import PulseMemory, latency_us, read_callback, underflow_callback, write_callback
from rtdenoise.live.pulse_connection import PulseConnection
from rtdenoise.live.pulse_library import (
    ADJUST_LATENCY,
    FLOAT32,
    PLACES,
    STREAM_FAILED,
    STREAM_READY,
    TIMING,
    WHATEVER,
    BufferAttributes,
    ChannelMap,
    SampleSpec,
)

# What a recording brings and a playback asks for at a time, and what the server shall hold of it. Below 10 ms a sink
# runs dry; shorter blocks than 5 ms come no sooner, and wake the thread three times as often.
BLOCK_MS, TARGET_MS = 5.0, 10.0
FLAGS = ADJUST_LATENCY | TIMING
STREAM_NAME = b"filter"  # what volume controls show beside the program's name


class PulseStreams(AudioStreams):
    """One recording and one playback between ``source`` and ``target``, or one of them beside a file."""

    def __init__(self, source: Device, target: Device, *others: Any):
        super().__init__(source, target, *others)
        self._connection: PulseConnection | None = None
        self._open: dict[Kind, tuple[int, PulseMemory]] = {}
        self._closing = threading.RLock()  # A stream that is looked at must not go meanwhile.

    @property
    def kinds(self) -> tuple[Kind, ...]:
        ends: tuple[tuple[Kind, Device], ...] = ("input", self.source), ("output", self.target)
        return tuple(kind for kind, device in ends if not device.is_file)

    def opened(self) -> list[Kind]:
        return list(self._open)

    def restart(self, kinds: Sequence[Kind]) -> None:
        refuse_unmanaged(*self.needed(kinds))
        if self._connection is None or self._connection.gone:
            self.close()
            self._connection, kinds = PulseConnection(), self.kinds
        try:
            for kind in kinds:
                self._start(self._connection, kind)
        except BaseException:
            for kind in kinds:
                self.close_one(kind)
            raise

    def _start(self, server: PulseConnection, kind: Kind) -> None:
        pa, device = server.library, self.source if kind == "input" else self.target
        buffers, name = self._buffers(kind), (device.endpoint or "").encode()
        self.rings.control[THREADS[kind]] = 0
        with server.locked(), changed(dict.fromkeys(pulse.OVERRULING)):
            stream = self._made(server, kind)
            memory = PulseMemory(kind, self.rings, server.loop, stream, self._frames(TARGET_MS))
            self._open[kind] = stream, memory
            if kind == "input":
                pa.pa_stream_set_read_callback(stream, read_callback.address, memory.address)
                refused = pa.pa_stream_connect_record(stream, name, C.byref(buffers), FLAGS)
            else:
                pa.pa_stream_set_write_callback(stream, write_callback.address, memory.address)
                pa.pa_stream_set_underflow_callback(stream, underflow_callback.address, memory.address)
                refused = pa.pa_stream_connect_playback(stream, name, C.byref(buffers), FLAGS, None, None)
        words = f"{device.label} does not open at {int(self.rings.control[ring.RATE])} Hz"
        if refused:
            raise DeviceError(f"{words} ({server.error})")
        server.wait(lambda: self._state(kind) == STREAM_READY, lambda: self._state(kind) >= STREAM_FAILED, words)
        if kind == "output" and name.startswith(pulse.OWN_PREFIX.encode()):
            pulse.refresh_sink(name.decode())
        self._note_serials(kind, (name.decode(), kind == "input"))

    def _made(self, server: PulseConnection, kind: Kind) -> int:
        channels = self._channels(kind)
        form = SampleSpec(FLOAT32, int(self.rings.control[ring.RATE]), channels)
        places = ChannelMap()
        server.library.pa_channel_map_init_extend(C.byref(places), channels, PLACES)
        marks = (pulse.SOURCE_MARK, self.source.endpoint), (pulse.SINK_MARK, self.target.endpoint)
        with server.properties({mark: end for mark, end in marks if end}) as words:
            made = server.library.pa_stream_new_with_proplist(
                server.context, STREAM_NAME, C.byref(form), C.byref(places), words
            )
        if not made:
            raise DeviceError(f"the sound server takes no stream of {channels} channels at {form.rate} Hz")
        return int(made)

    def _channels(self, kind: Kind) -> int:
        return int(self.rings.control[ring.CAPTURE_CHANNELS if kind == "input" else ring.PLAY_CHANNELS])

    def _buffers(self, kind: Kind) -> BufferAttributes:
        """What to ask for; a callback's length decides where one was chosen."""
        frame_bytes, block = 4 * self._channels(kind), self._blocksize or self._frames(BLOCK_MS)
        target = max(self._frames(TARGET_MS), 2 * block)
        return BufferAttributes(WHATEVER, *(frame_bytes * frames for frames in (target, 0, block, block)))

    def _frames(self, ms: float) -> int:
        return round(ms * int(self.rings.control[ring.RATE]) / 1000)

    def _state(self, kind: Kind) -> int:
        if self._connection is None or kind not in self._open:
            return STREAM_FAILED
        return int(self._connection.library.pa_stream_get_state(self._open[kind][0]))

    def latency_s(self) -> float | None:
        """What the server says that its buffers and the devices add; None until it has said it of all streams."""
        with self._closing:
            told = [latency_us.ctypes(memory.address) for _, memory in list(self._open.values())]
        return sum(told) / 1e6 if told and min(told) >= 0 else None

    def ended(self) -> list[Kind]:
        return [kind for kind in self._open if self._state(kind) >= STREAM_FAILED]

    def close_one(self, kind: Kind) -> None:
        server = self._connection
        self._serials.pop(kind, None)
        with self._closing:
            stream, _ = self._open.pop(kind, (0, None))
            if not stream or server is None:
                return
            with server.locked():
                server.library.pa_stream_set_read_callback(stream, None, None)
                server.library.pa_stream_set_write_callback(stream, None, None)
                server.library.pa_stream_set_underflow_callback(stream, None, None)
                server.library.pa_stream_disconnect(stream)
                server.library.pa_stream_unref(stream)

    def close(self) -> None:
        super().close()
        server, self._connection = self._connection, None
        if server is not None:
            server.close()
