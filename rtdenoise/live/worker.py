"""The thread that denoises: waits for a callback, then takes hops through the filter until none is left.

It is one compiled function that never needs Python's GIL (`rtdenoise.live.hop_loop`), so nothing else in the process
can make it late. Where the C library of ONNX Runtime is missing, or the model is a third-party one, the same two halves
run around a Python call (`_python_loop`); `Worker.kind` says which. Both give what `Denoiser.process` gives, one hop
earlier.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from rtdenoise.arguments import WORKERS
from rtdenoise.core.hop_denoiser import LIVE_BATCH, HopDenoiser
from rtdenoise.errors import ModelError, UsageError
from rtdenoise.live import realtime, ring
from rtdenoise.live.drift import Drift
from rtdenoise.live.hop import IN_POWER, NOTHING, OUT_POWER, PASS, RUN, HopBuffers, close_hops, judge_step, open_hops
from rtdenoise.live.hop_loop import hop_loop, stopwatch, wait
from rtdenoise.live.ring import HISTOGRAM_BINS, Rings, percentile_us
from rtdenoise.live.stats import level_db
from rtdenoise.live.trace import ANALYSED, OPENED, STEPPED, record_time
from rtdenoise.model.compiled_steps import CompiledSteps, native_steps
from rtdenoise.model.contract import ContractStream, Model
from rtdenoise.model.native_session import NativeSteps, native_steps_available
from rtdenoise.native.arguments import prepared

Kind = Literal["native", "python"]


class Worker:
    """Runs one `HopDenoiser` between the two rings on a thread of its own.

    Everything is compiled before the constructor returns: a compilation during audio would wait for the GIL again and
    again. It is made, runs once, and is stopped. `exchange` and `paused` work before and during the run, and begin no
    thread that was not there; after it they raise `UsageError`. Any thread may call them; they take turns.

    Parameters
    ----------
    denoiser : HopDenoiser
        The filter.
    rings : Rings
        Where sound comes from and goes to.
    kind : {"native", "python"}, optional
        How the model is run (see the head of this file); None is the first that works.

    Attributes
    ----------
    step_times : ndarray
        Histogram of model steps.
    meters : ndarray
        Smoothed mean squares of input and output, float64.
    scheduling : str
        The priority that its thread got.

    Raises
    ------
    ModelError
        If the model cannot be stepped.
    """

    def __init__(self, denoiser: HopDenoiser, rings: Rings, kind: Kind | None = None):
        if kind not in (None, *WORKERS):
            raise UsageError(f"worker {kind!r}; choose {' or '.join(map(repr, WORKERS))}")
        hop, channels = denoiser.geometry.hop, denoiser.channels
        self.rings, self.denoiser = rings, denoiser
        self.drift = Drift(hop, channels)
        self.step_times = np.zeros(HISTOGRAM_BINS, np.int64)
        self.meters = np.zeros(2)
        self.scheduling = "not started"
        self._priority = realtime.WORKER_PRIORITY
        self._trace: np.ndarray | None = None
        self._gains = np.ones((channels, denoiser.model.info.bins), np.float32)
        self._y = np.zeros((LIVE_BATCH * hop, channels), np.float32)
        self._thread: threading.Thread | None = None
        self._turn = threading.RLock()
        self._started = self._stopped = False
        self._failure: str | None = None
        self._native: CompiledSteps | NativeSteps | None = None
        self.kind: Kind = kind or ("native" if native_steps_available(denoiser.stream) else "python")
        if self.kind == "native" and isinstance(denoiser.stream, ContractStream):
            self._native = native_steps(denoiser.model, denoiser.stream, LIVE_BATCH)
        if self._native is None:
            rings.control[ring.GATHER] = 1  # A step has one hop here, so waiting for more saves nothing.
        self._rehearse()

    def _buffers(self) -> HopBuffers:
        r, own = self.rings, (self._gains, self._y, self.meters)
        return HopBuffers(
            r.control, r.captured, r.played, r.recorded, self.denoiser.hop_arguments, self.drift.arguments, *own
        )

    @property
    def hop_arguments(self) -> tuple[HopBuffers, np.ndarray, np.ndarray]:
        """What `next_hops` takes before the trace; for a native worker only."""
        assert self._native is not None
        return self._buffers(), self.step_times, self._native.arguments

    def _rehearse(self) -> None:
        """Compile by running everything once against a ring that says stop."""
        self.rings.control[ring.STOP] = 1
        self.rings.post()
        try:
            self._loop()
        finally:
            self.rings.control[ring.STOP] = 0

    def record_trace(self, trace: np.ndarray) -> None:
        """Note when each hop passes each stage (`rtdenoise.live.trace`). Call it before `start`.

        Parameters
        ----------
        trace : ndarray
            Where to.
        """
        self._trace = trace
        self._rehearse()

    def start(self) -> None:
        """Begin to take hops; `UsageError` for a second time, or after `stop`."""
        with self._turn:
            if self._started or self._stopped:
                raise UsageError("a worker starts once; create a new one")
            self._started = True
            self._begin()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="rtdenoise-worker", daemon=True)
        self._thread.start()

    def stay_below(self, priority: int) -> None:
        """Keep the worker below threads that call back, where they have less priority than usual.

        Parameters
        ----------
        priority : int
            Theirs; 0 if they have none.
        """
        wanted = min(self._priority, priority - 1) if priority else self._priority
        if wanted != self._priority:
            self._priority = wanted
            if self._thread is not None and self._thread.native_id is not None:
                self.scheduling = realtime.elevate(self._thread.native_id, wanted)

    def _end(self) -> None:
        if self._thread is not None:
            self.rings.control[ring.STOP] = 1
            self.rings.post()
            self._thread.join()
            self._thread = None
            self.rings.control[ring.STOP] = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the thread still while this holds; what arrives meanwhile waits in the ring, if only a moment.

        Returns
        -------
        context manager

        Raises
        ------
        UsageError
            After `stop`.
        """
        with self._turn:
            if self._stopped:
                raise UsageError("this session has ended; create a new one")
            runs = self._thread is not None
            self._end()
            try:
                yield
            finally:
                if runs:
                    self._begin()
                    self.rings.post()

    def exchange(self, model: Model) -> None:
        """Go on with another model. It is made ready first, so audio waits a millisecond or two.

        Parameters
        ----------
        model : Model
            The new one, of the same framing. Before `start` it is what that begins with.

        Raises
        ------
        UsageError, ModelError
            If it does not fit or run; the old one then stays.
        """
        stream = model.stream(self.denoiser.channels)
        stream.buffers(1)
        native: CompiledSteps | NativeSteps | None = None
        if self.kind == "native" and isinstance(stream, ContractStream):
            native = native_steps(model, stream, LIVE_BATCH)
        with self.paused():
            self.denoiser.exchange(model, stream)
            native, self._native = self._native, native
            self.kind = "native" if self._native is not None else "python"
            self._gains = np.ones((self.denoiser.channels, model.info.bins), np.float32)
            self.step_times[:] = 0
            self._failure = None
            for slot in (ring.STATUS, ring.STEP_NS, ring.PATIENCE, ring.HOLDING):
                self.rings.control[slot] = 0
            self.rings.control[ring.STALE] = model.info.framing.look_ahead
        if native is not None:
            native.close()

    def stop(self) -> None:
        """End the thread, then release the model's session (the other order would crash). Safe to call twice."""
        with self._turn:
            self._stopped = True
            self._end()
            if self._native is not None:
                self.failure  # reads the message while there is a library to ask  # noqa: B018
                self._native.close()
                self._native = None

    @property
    def failure(self) -> str | None:
        """Why the model no longer runs (the input passes since then), or None."""
        with self._turn:  # Whoever asks first frees the message.
            status = int(self.rings.control[ring.STATUS])
            if self._failure is None and status > 1 and self._native is not None:
                self._failure = self._native.failure(status)
            return self._failure

    def figures(self) -> dict[str, Any]:
        """The fields of `Stats` that the worker knows.

        Returns
        -------
        dict
            Values by field.
        """
        return {
            "level_in_db": level_db(self.meters[IN_POWER]),
            "level_out_db": level_db(self.meters[OUT_POWER]),
            "model_ms_p50": percentile_us(self.step_times, 50) / 1000,
            "model_ms_p99": percentile_us(self.step_times, 99) / 1000,
            "worker": self.kind,
            "scheduling": self.scheduling,
            "failure": self.failure,
        }

    def _run(self) -> None:
        self.scheduling = realtime.elevate(threading.get_native_id(), self._priority)
        self._loop()

    def _loop(self) -> None:
        if self._native is not None:
            hop_loop(*self.hop_arguments, self._trace)
        else:
            self._python_loop()

    def _python_loop(self) -> None:
        buffers, control = prepared(self._buffers()), self.rings.control
        stream, hop, trace = self.denoiser.stream, self.denoiser.geometry.hop, self._trace
        with realtime.eager_switching():
            while not wait(control):
                while True:
                    record_time(trace, control, OPENED)
                    action, _ = open_hops(buffers, 1)
                    if action == NOTHING:
                        break
                    record_time(trace, control, ANALYSED)
                    if action == RUN:
                        began = stopwatch(control)
                        try:
                            stream.step(1)
                        except ModelError as e:
                            self._failure, control[ring.STATUS], action = str(e), 1, PASS
                        judge_step(control, hop, 1, stopwatch(control) - began, self.step_times)
                    record_time(trace, control, STEPPED)
                    close_hops(buffers, action, 1, trace)
