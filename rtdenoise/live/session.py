"""`LiveDenoiser`: a microphone in, loudspeakers or a virtual microphone out, and the filter between them.

It puts the pieces together (devices, rings, streams, worker), watches over them from a quiet thread, and takes them
apart in an order that is safe. Audio itself never passes through this module.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.errors import UsageError
from rtdenoise.geometry import Framing, Geometry
from rtdenoise.live import ring
from rtdenoise.live.backends import Backend, Route, find_route
from rtdenoise.live.carrier import Carrier
from rtdenoise.live.delay import LiveLatency, SessionLatency, asked
from rtdenoise.live.devices import Device, play_channels
from rtdenoise.live.echo_canceller import EchoCanceller
from rtdenoise.live.file_ends import FileEnds, find_ends
from rtdenoise.live.program_end import end_with_program, forget
from rtdenoise.live.ring import Rings, percentile_us
from rtdenoise.live.settings import LiveSettings
from rtdenoise.live.stats import Load, Stats, Stopwatch, counts, settings, why_silent
from rtdenoise.live.tap import Tap
from rtdenoise.live.virtual_end import VirtualEnd
from rtdenoise.live.virtual_mic import VirtualMicrophone
from rtdenoise.live.virtual_speaker import VirtualSpeaker
from rtdenoise.live.watch import Watch
from rtdenoise.live.worker import Kind, Worker
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import DEFAULT_MODEL, load_model

START_TIMEOUT_S = 5.0


class LiveDenoiser(LiveSettings):
    """A running noise filter between two sound devices; use it as a context manager.

    Parameters
    ----------
    input, output : int, str or Path, optional
        Device names, parts of names, or ids (see `list_devices`); None is the system's default. One may be a Path: a
        sound file, played in real time or recorded. The input may be a `VirtualSpeaker` or an `EchoCanceller`,
        the output a `VirtualMicrophone` or a `Device`.
    model, strength_db, low_cut_hz : optional
        As for `Denoiser`.
    rate : int, optional
        Hz; None is the input device's own. Nothing is resampled, except by less than 0.2 % between two clocks.
    channels : int, optional
        1 filters a mono microphone (and plays it on both sides), 2 filters left and right each on its own.
    latency : {"normal", "low", "economy"} or float, optional
        As for `Denoiser`; ``"economy"`` filters four hops at a time, for up to 12 ms more latency and less load; a
        figure is a latency in ms (as `latency_ms` counts it) that `start` must reach, or raises `UsageError`.
    blocksize : int, optional
        Frames in a callback; None is what suits the device.
    fixed_latency_ms : float, optional
        Latency to hold even if it causes dropouts. None is the least that the devices allow. Ignored beside a file.
    worker : {"native", "python"}, optional
        How the model is run (see `rtdenoise.live.worker`); None is the first that works.
    tee : str or Path, optional
        Sound file for what is heard, sample-aligned with the input; it appears when the session ends.
    tap : bool, optional
        Whether ``tap`` reads the sound before and after the filter (`rtdenoise.live.tap`); None without.
    backend : {"portaudio", "pulse", "pipewire"}, optional
        What carries the sound; ``"pipewire"``, a node, or ``"pulse"``, a client, is the default between two devices of
        that server, and between one and a file.

    Raises
    ------
    UsageError, DeviceError, ModelError
        Before any sound is touched.

    Notes
    -----
    It is *made*, runs once, from `start` to `stop`, and is *stopped* (`state`), also by a failed start. Made: settings
    and a model may be chosen, nothing runs, and it may be dropped. Running: any thread may change all. Stopped: figures
    can be read, settings have no effect, `exchange_model` and `start` raise `UsageError`. Several may run at once.
    """

    def __init__(
        self,
        input: int | str | Path | VirtualSpeaker | EchoCanceller | None = None,
        output: int | str | Path | VirtualMicrophone | Device | None = None,
        model: str | Path | Model = DEFAULT_MODEL,
        rate: int | None = None,
        channels: int | None = None,
        strength_db: float | None = None,
        latency: LiveLatency | float = "normal",
        blocksize: int | None = None,
        fixed_latency_ms: float | None = None,
        worker: Kind | None = None,
        tee: str | Path | None = None,
        tap: bool = False,
        backend: Backend | None = None,
        low_cut_hz: float | None = None,
    ):
        source, self.input, self.output = find_ends(input, output)
        self._canceller = input if isinstance(input, EchoCanceller) else None
        self._made = [end for end in (input, output) if isinstance(end, VirtualEnd)]
        route = find_route(self.input, self.output, rate, channels, backend)
        channels = (source.channels if source else 1) if channels is None else channels
        model = model if isinstance(model, Model) else load_model(model)
        mode, gather, wanted_ms = asked(latency, Geometry(route.rate, model.info.framing), route.split)
        self._denoiser = HopDenoiser(model, route.rate, channels, strength_db, mode, low_cut_hz)
        recording = output if isinstance(output, Path) else None if tee is None else Path(tee)
        ends = source.channels if source else min(channels, self.input.inputs), play_channels(channels, self.output)
        kept = tap or recording is not None
        self._rings = Rings(self._denoiser.geometry.hop, channels, route.rate, *ends, record=kept)
        self.tap = Tap(self._rings, self._denoiser) if tap else None
        file_end = ring.FILE_IN if source else ring.FILE_OUT if self.output.is_file else ring.NO_FILE
        self._rings.control[[ring.ANCHOR, ring.FILE_END]] = 1, file_end
        self._latency = SessionLatency(self._denoiser, self._rings, route, gather, fixed_latency_ms, wanted_ms)
        self._files = FileEnds(source, recording, self._rings, self._denoiser)
        self._worker = Worker(self._denoiser, self._rings, worker)
        told = {"worker_below": self._worker.stay_below, "latency_ms": lambda: self.latency_ms, "watched": tap}
        self._carrier = Carrier(route, self._turn_to, self._rings, self._made, blocksize=blocksize, **told)
        self._watch = Watch(self._carrier, self._made)
        self._stack, self._memory_locked = ExitStack(), False
        self._phase: Literal["made", "running", "stopped"] = "made"
        self._turn, self._ending = threading.RLock(), threading.Event()  # start and stop take turns.
        self._clock, self._load = Stopwatch(), Load()

    def __enter__(self) -> LiveDenoiser:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, once. Returns when audio flows, after a few seconds without (see `stats`), or by another's `stop`."""
        with self._turn:
            if self._phase != "made":
                raise UsageError("a LiveDenoiser runs once; create a new one")
            self._phase = "running"
            try:
                self._start()
            except BaseException:
                self.stop()
                raise

    def _start(self) -> None:
        with ExitStack() as stack:
            self._files.make_recording()
            stack.callback(self._files.stop_recording)
            self._memory_locked = stack.enter_context(self._rings.locked())
            self._worker.start()
            stack.callback(self._worker.stop)
            for end in self._made:  # Other programs see it only now, when sound is about to come.
                stack.enter_context(end)
            self._carrier.start()
            stack.callback(self._carrier.close)
            for end in self._made:
                stack.callback(end.move_back)
            self._watch.start()
            stack.callback(self._watch.stop)
            self._files.play(self._carrier.streams.latency_s())
            stack.callback(self._files.stop_playing)
            until = time.monotonic() + START_TIMEOUT_S
            while not self._rings.control[ring.PRIMED] and time.monotonic() < until and not self._ending.wait(0.002):
                pass
            self._clock.begin()
            self._latency.reach_wanted(self._worker.paused, until, self._ending)
            if self._ending.is_set():
                return
            self._files.record()
            end_with_program(self.stop)
            self._stack = stack.pop_all()

    def _turn_to(self, route: Route) -> None:
        with self._worker.paused():
            self._latency.follow(route)

    def stop(self) -> None:
        """End all in a safe order, in any state, twice, and from any threads: each returns when all has ended."""
        self._ending.set()
        with self._turn:
            self._phase = "stopped"
            self._clock.end()
            try:
                self._stack.close()
            finally:
                self._worker.stop()
                self._files.stop_playing()
                forget(self.stop)

    @property
    def state(self) -> str:
        """``"made"``, ``"running"``, what a run waits for, or ``"stopped"``."""
        return self._watch.state if self._phase == "running" else self._phase

    @property
    def settled(self) -> bool:
        """Whether the last change of a setting has left the filter in full, or will have when sound flows again."""
        return self._carrier.streams.asleep or super().settled

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to do: a file was heard to its end, or one cannot be written any more."""
        return self._files.heard or (self.output.is_file and self._files.recording_failed)

    @property
    def model(self) -> str:
        """The name of the model that filters now."""
        return self._denoiser.model.name

    @property
    def framing(self) -> Framing:
        """How the model cuts time; `exchange_model` takes only others that do so too."""
        return self._denoiser.model.info.framing

    @property
    def silent_because(self) -> str | None:
        """Why no sound has come through since start, or None if some has."""
        ends = (None if end.is_file else end.label for end in (self.input, self.output))
        return why_silent(self._rings.control, *ends)

    @property
    def seconds(self) -> float:
        """Since audio began to flow, to the end of the run if that has come; 0 before."""
        return self._clock.seconds

    @property
    def recorded_s(self) -> float:
        """Seconds written to a file so far."""
        return self._files.recorded_s

    @property
    def problems(self) -> list[str]:
        """What went wrong with a file that is read or written; the other end goes on."""
        return self._files.problems

    @property
    def warnings(self) -> list[str]:
        """What a listener should know of a file that is read or written."""
        return self._files.warnings

    def fits(self, model: str | Path | Model) -> bool:
        """Return whether `exchange_model` would take a model, whose timing must be that of the one that filters now.

        Parameters
        ----------
        model : str, Path or Model
            As for `Denoiser`.

        Returns
        -------
        bool
        """
        model = model if isinstance(model, Model) else load_model(model)
        return model.info.framing == self.framing

    def exchange_model(self, model: str | Path | Model) -> None:
        """Filter with another model, without a dropout. Whatever error it raises, the old one stays.

        Parameters
        ----------
        model : str, Path or Model
            As for `Denoiser`, with the same `framing`.
        """
        self._worker.exchange(model if isinstance(model, Model) else load_model(model))

    @property
    def latency_ms(self) -> float:
        """Delay that is held, from input callback to output callback, filter included. 0 until it is known."""
        return self._latency.held_ms

    @property
    def measured_latency_ms(self) -> float:
        """The same, measured now."""
        return self._latency.now_ms(self._worker.drift)

    def stats(self) -> Stats:
        """Return a look at all counters, in any state.

        Returns
        -------
        Stats
        """
        device_s, route = self._carrier.streams.latency_s(), self._carrier.route
        return Stats(
            state=self.state,
            seconds=self.seconds,
            input=self.input.label,
            output=self.output.label,
            **settings(self._denoiser),
            latency_ms=self.latency_ms,
            measured_latency_ms=self.measured_latency_ms,
            echo_cancel=self._canceller is not None,
            echo_cancel_ms=self._canceller.added_ms if self._canceller else None,
            device_latency_ms=None if device_s is None else 1000 * device_s,
            backend=route.backend,
            fallback=route.reason,
            asleep=self._carrier.streams.asleep,
            **self._worker.figures(),
            callback_ms_p999=percentile_us(self._rings.capture_times + self._rings.play_times, 99.9) / 1000,
            **counts(self._rings.control),
            reopened=self._watch.reopened,
            drift_ppm=self._worker.drift.ppm if route.split else None,
            cpu_percent=self._load.percent(),
            memory_locked=self._memory_locked,
            **self._files.figures(),
        )
