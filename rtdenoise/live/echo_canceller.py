"""An echo canceller of the sound server between the microphone and a session, so that loudspeakers need no headphones.

    programs ─▶ sink `rtdenoise-echo-sink` ─▶ loudspeakers ─▶ the room ─▶ microphone
                        └─▶ the server's canceller (WebRTC) ◀─────────────────┘ ─▶ source `rtdenoise-echo-source` ─▶ us

On PulseAudio it is a module, on PipeWire a process (`rtdenoise.live.graph_canceller`). The sink is the canceller's
reference: it knows only of what is played there, so the programs that play on the loudspeakers are moved to it, and
back at the end. Its names do not begin as those of our virtual devices do, since what
it gives is a microphone, which a session may record.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import numpy as np

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import pulse
from rtdenoise.live.devices import Device, find_device, server_bridge, server_device
from rtdenoise.live.graph_canceller import GraphCanceller
from rtdenoise.live.own_modules import MONO, RATE_HZ, OwnModules, this_process, unload
from rtdenoise.live.portaudio import changing, portaudio
from rtdenoise.live.programs import Moves
from rtdenoise.live.virtual_end import VirtualEnd

MODULE = "module-echo-cancel"
SINK, SOURCE = "rtdenoise-echo-sink", "rtdenoise-echo-source"
SINK_DESCRIPTION, DESCRIPTION = "Loudspeakers with echo cancelled", "Microphone without echo"
# The filter behind it takes the noise away, and a level that changes by itself would hinder both. The extended filter
# reaches 128 ms back instead of 48. Without it about 1 dB more of a near voice stays while the other speaks, but of
# an echo that comes 100 ms late, as by many loudspeakers, 4 to 8 dB go instead of 48 to 66.
ENGINE = "analog_gain_control=0 digital_gain_control=0 noise_suppression=0 high_pass_filter=0 extended_filter=1"
GRAPH_ENGINE = {f"webrtc.{n}": "false" for n in ("gain_control", "noise_suppression", "high_pass_filter")}
GRAPH_ENGINE["webrtc.extended_filter"] = "true"
MADE_S, LOOK_FOR_S = 5.0, 0.02  # PipeWire makes it within half a second, and must have done so after this.
PIECE = 480  # frames that a stream brings at a time
COMPARED_S, LOOK_S = 1.0, 0.4  # how much of both is compared, and how often
MOST_LISTENED_S, SILENT_S = 4.0, 1.2  # A start may wait so long for sound that tells, and so long in silence.
LEAST_CORRELATION, AGREE_MS, EARLIEST_MS, LATEST_MS = 0.3, 3.0, -20.0, 250.0
SILENCE = 1e-4  # -80 dBFS
Pieces = list[tuple[float, np.ndarray]]  # when each came, and its sound


class EchoCanceller(VirtualEnd):
    """As `VirtualEnd`: a microphone without the echo of what is played on ``speakers``, and the input of a session.

    ``microphone`` and ``speakers`` are as for `find_device`. ``added_ms`` is by how much it delays the microphone, as
    measured when it was made; None where nothing was heard that could tell.
    """

    modules, side, end = OwnModules("rtdenoise.echo", "an echo canceller"), "input", SINK

    def __init__(self, microphone: int | str | None = None, speakers: int | str | None = None):
        super().__init__()
        self._wanted = microphone, speakers
        self._microphone = self._speakers = ""  # the server's names
        self._host = ""
        self._process: GraphCanceller | None = None
        self.added_ms: float | None = None

    def device(self) -> Device:
        """What a session will record; nothing is made yet. Raises as the context would, and `UsageError` for what is
        no device of the server's."""
        with self.modules.server() as client:
            self.check(client)
            self._host = pulse.endpoints_of(client)[0]
        microphone, speakers = find_device(self._wanted[0], "input"), find_device(self._wanted[1], "output")
        for device in (microphone, speakers):
            if device.endpoint is None:
                raise UsageError(f"--echo-cancel: {device.label} is not a device of the sound server's; choose one")
        if microphone.own or microphone.endpoint == f"{speakers.endpoint}.monitor":
            raise UsageError(f"--echo-cancel: {microphone.name} is no microphone; choose another input")
        self._microphone, self._speakers = str(microphone.endpoint), str(speakers.endpoint)
        self._moves = Moves.from_end(self._speakers, SINK)
        source = pulse.Endpoint(-1, SOURCE, f"{DESCRIPTION} ({microphone.name})", True, RATE_HZ, 1, False)
        return server_device(source, self._host, server_bridge())

    def loudspeakers(self) -> Device:
        """Where sound of our own is played, so that the canceller knows it."""
        sink = pulse.Endpoint(-1, SINK, SINK_DESCRIPTION, False, RATE_HZ, 2, False)
        return server_device(sink, self._host, server_bridge())

    @property
    def parts(self) -> set[tuple[str, bool]]:
        return {(SINK, False), (SOURCE, True)}

    def load(self, client: Any) -> None:
        self._end_in_graph()  # of a server that has gone
        unload(client, list(self.modules.owners(client)))
        if self._host == pulse.PIPEWIRE:
            self._load_in_graph(client)
            return
        mark, owner = self.modules.properties, this_process()
        arguments = [
            f"source_name={SOURCE} source_master={self._microphone} {mark(DESCRIPTION, owner, 'source')}",
            f"sink_name={SINK} sink_master={self._speakers} {mark(SINK_DESCRIPTION, owner, 'sink')}",
            f'rate={RATE_HZ} {MONO} aec_method=webrtc aec_args="{ENGINE}"',
        ]
        self.modules.load(client, owner, [(MODULE, " ".join(arguments))])

    def _load_in_graph(self, client: Any) -> None:
        self.modules.refuse_taken(client, {SINK, SOURCE})
        owner = {self.modules.mark: this_process()}
        source = owner | {"node.name": SOURCE, "node.description": DESCRIPTION}
        sink = owner | {"node.name": SINK, "node.description": SINK_DESCRIPTION}
        made = self._process = GraphCanceller(self._microphone, self._speakers, source, sink, GRAPH_ENGINE)
        until = time.monotonic() + MADE_S
        while not self.is_in(pulse.serials(client)):
            if made.ended or time.monotonic() > until:
                self._end_in_graph()
                raise DeviceError(
                    f"PipeWire does not make {self.modules.what}; are the programs and modules of PipeWire installed, "
                    "with its WebRTC canceller?"
                )
            time.sleep(LOOK_FOR_S)

    def _end_in_graph(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def __enter__(self) -> EchoCanceller:
        if sys.platform != "linux":
            raise DeviceError(f"{self.modules.what} needs PulseAudio or PipeWire, and so Linux")
        super().__enter__()
        with contextlib.suppress(DeviceError):
            self.added_ms = _added_ms(self._microphone, SOURCE)
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._end_in_graph()


def _added_ms(before: str, after: str) -> float | None:
    """How much later sound comes by the source ``after`` than by ``before``, found by listening to both.

    A new canceller skips until its clocks agree, and the room may be quiet at first: what counts is what two looks in
    a row say of the last second. None where there is silence, or nothing in common for as long as a start may wait.
    """
    pieces: tuple[Pieces, Pieces] = ([], [])
    with contextlib.ExitStack() as stack:
        for heard, source in zip(pieces, (before, after), strict=True):
            try:
                stack.enter_context(_listening(source, heard))
            except portaudio().PortAudioError as e:
                raise DeviceError(f"{source} does not open ({e})") from e
        began, last = time.monotonic(), None
        while (waited_s := time.monotonic() - began) < MOST_LISTENED_S:
            time.sleep(LOOK_S)
            now = lag_ms(*map(_latest, pieces))
            if now is not None and last is not None and abs(now - last) < AGREE_MS:
                return now
            last = now
            if waited_s > SILENT_S and _is_silent(pieces[0]):
                break
    return None


def _listening(source: str, heard: Pieces) -> Any:
    """A stream that adds what it hears to ``heard``, to be started."""

    def note(data: np.ndarray, _frames: int, _time: Any, _status: Any) -> None:
        heard.append((time.monotonic(), data[:, 0].copy()))

    with changing, pulse.addressed(source):
        return portaudio().InputStream(RATE_HZ, PIECE, server_bridge().index, 1, "float32", callback=note)


def _latest(pieces: Pieces) -> Pieces:
    return pieces[-int(COMPARED_S * RATE_HZ / PIECE) :]


def _is_silent(pieces: Pieces) -> bool:
    return not any(np.abs(data).max() > SILENCE for _, data in _latest(pieces))


def lag_ms(before: Pieces, after: Pieces) -> float | None:
    """How much later the same sound is in ``after``: pieces of both, each with the time at which it came. None where
    they have nothing in common."""
    if not before or not after:
        return None
    (x, x_began), (y, y_began) = map(_joined, (before, after))
    length = len(x) + len(y)
    cross = np.fft.irfft(np.fft.rfft(y, length) * np.conj(np.fft.rfft(x, length)), length)
    best = int(np.argmax(np.abs(cross)))
    power = float(np.linalg.norm(x) * np.linalg.norm(y))
    shift = best - length if best > length // 2 else best
    ms = 1000 * (shift / RATE_HZ + y_began - x_began)
    alike = power > 0 and abs(float(cross[best])) > LEAST_CORRELATION * power
    return ms if alike and EARLIEST_MS < ms < LATEST_MS else None


def _joined(pieces: Pieces) -> tuple[np.ndarray, float]:
    """The sound, and when its first sample came by the piece that was the least late."""
    ends = np.cumsum([len(data) for _, data in pieces]) / RATE_HZ
    began = np.array([at for at, _ in pieces]) - ends
    return np.concatenate([data for _, data in pieces]), float(began.min())
