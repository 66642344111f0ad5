"""The session behind the panel, on a thread of its own: opened anew whenever other devices are chosen.

    page ─▶ `choose`, `apply` ─▶ this thread: libraries ▸ devices ▸ `LiveDenoiser` ─▶ `state`, `history`

Libraries are loaded here too, so that the page answers long before numba does. `rtdenoise ctl` controls it as any other
session.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from rtdenoise.control.messages import TOGGLE
from rtdenoise.control.sockets import ControlError
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.live.background import BackgroundThread

if TYPE_CHECKING:
    from rtdenoise.live.session import LiveDenoiser
    from rtdenoise.panel.history import History

DEFAULT, VIRTUAL_MIC = "", "virtual-mic"  # what may be chosen beside the names of devices
CHOICES = ("input", "output", "model")
LIST_S = 2.0  # between two looks at the devices, while a page is open
IDLE_S = 0.5  # A choice wakes the thread at once; this is for all else.


class Engine(BackgroundThread):
    """Runs a session with ``choices`` (`CHOICES`), ``settings`` (bypass, muted, strength_db) and ``options``, which are
    further arguments of `LiveDenoiser`."""

    def __init__(self, choices: dict[str, str], settings: dict[str, Any], options: dict[str, Any], monitor: bool):
        super().__init__("rtdenoise-engine")
        self.choices, self.settings = choices, settings
        self.history: History | None = None
        self.watched = False
        self._options, self._monitor = options, monitor
        self._live: LiveDenoiser | None = None
        self._model = ""  # the one that the session has been given last
        self._phase, self._problem = "loading", ""
        self._devices: dict[str, list[dict[str, str]]] = {"inputs": [], "outputs": []}
        self._models: list[str] = []
        self._wake, self._turn = threading.Event(), threading.Lock()
        self._again = True  # The session is to be opened anew.

    def stop(self) -> None:
        """End the session, also one that just starts."""
        self._end.set()
        self._wake.set()
        if (live := self._live) is not None:
            live.stop()
        super().stop()

    def choose(self, choices: dict[str, str]) -> None:
        """Go on with other devices, or with another model; the same once more tries again what failed."""
        with self._turn:
            only_model = set(choices) == {"model"} and self._phase == "running"
            self.choices = self.choices | choices
            self._again = self._again or not only_model
        self._wake.set()

    def status(self) -> dict[str, Any]:
        return self._running().stats().as_json()

    def apply(self, settings: dict[str, Any]) -> None:
        """Settings that have been checked. They outlive the session."""
        if "model" in settings:
            self._running().exchange_model(settings["model"])
            self._model = settings["model"]
            self.choices = self.choices | {"model": self._model}
        with self._turn:
            for name in ("muted", "bypass", "strength_db"):
                if name in settings:
                    value = settings[name]
                    self.settings = self.settings | {name: not self.settings[name] if value == TOGGLE else value}
            if (live := self._live) is not None:
                self._set(live)

    def heard(self) -> bool:
        return (live := self._live) is not None and live.settled

    def state(self) -> dict[str, Any]:
        """What the page shows, at any time."""
        live, phase = self._live, self._phase
        return {
            "phase": phase,
            "problem": self._problem,
            "choices": self.choices,
            "settings": self.settings,
            "devices": self._devices,
            "models": self._models,
            "status": live.stats().as_json() if live is not None and phase == "running" else None,
        }

    def _running(self) -> LiveDenoiser:
        if (live := self._live) is None or self._phase != "running":
            raise ControlError(f"the panel runs no session now ({self._problem or self._phase})")
        return live

    def _set(self, live: LiveDenoiser) -> None:
        live.muted, live.bypass = self.settings["muted"], self.settings["bypass"]
        live.strength_db = self.settings["strength_db"]

    def _run(self) -> None:
        try:
            self._load()
            due = 0.0
            while not self._end.is_set():
                self._wake.clear()
                if self._again:
                    self._open()
                elif (live := self._live) is not None and self.choices["model"] != self._model:
                    self._exchange(live)
                if self.watched and time.monotonic() >= due:
                    due = time.monotonic() + LIST_S
                    self._list()
                self._wake.wait(IDLE_S)
        except Exception as problem:  # of a library: a page that says so is of more use than one that waits
            self._fail(problem)
        finally:
            self._close()

    def _load(self) -> None:
        from rtdenoise.live import session  # noqa: F401
        from rtdenoise.model.registry import DEFAULT_MODEL, list_models
        from rtdenoise.panel import history  # noqa: F401

        self._models = [info.name for info in list_models()]
        if self.choices["model"] == DEFAULT:
            self.choices = self.choices | {"model": DEFAULT_MODEL}
        self._list()

    def _open(self) -> None:
        """The session as it is chosen now; a problem is kept for the page."""
        from rtdenoise.live.session import LiveDenoiser
        from rtdenoise.live.virtual_mic import VirtualMicrophone
        from rtdenoise.panel.history import History

        with self._turn:
            self._again, chosen = False, self.choices
        self._phase, self._problem = "starting", ""
        self._close()
        output = VirtualMicrophone(self._monitor) if chosen["output"] == VIRTUAL_MIC else chosen["output"] or None
        try:
            live = LiveDenoiser(chosen["input"] or None, output, chosen["model"], tap=True, **self._options)
            self._set(live)
            self._live = live
            if self._end.is_set():
                return
            self._model = chosen["model"]
            live.start()
            assert live.tap is not None
            self.history = History(live.tap, live.stats().rate)
            self._phase = "running"
        except RtdenoiseError as problem:
            self._fail(problem)

    def _exchange(self, live: LiveDenoiser) -> None:
        """Without a gap where the model's timing allows it; otherwise anew."""
        before, self._model = self._model, self.choices["model"]
        try:
            live.exchange_model(self._model)
            self._problem = ""
        except UsageError:
            self._again = True
            self._wake.set()
        except RtdenoiseError as problem:
            self._model, self._problem = before, str(problem)
            self.choices = self.choices | {"model": before}

    def _fail(self, problem: Exception) -> None:
        self._phase, self._problem = "failed", str(problem) or type(problem).__name__
        self._close()

    def _close(self) -> None:
        live, self._live, self.history = self._live, None, None
        if live is not None:
            live.stop()

    def _list(self) -> None:
        """The devices by the names that `find_device` takes; never our own."""
        from rtdenoise.live.devices import list_devices

        try:
            listed = [d for d in list_devices() if not d.own]
        except RtdenoiseError:
            listed = []
        named = [(d, {"value": d.endpoint or d.label, "label": d.label}) for d in listed]
        self._devices = {
            "inputs": [name for d, name in named if d.inputs],
            "outputs": [name for d, name in named if d.outputs],
        }
