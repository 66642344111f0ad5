"""The session behind the panel, on a thread of its own: opened anew whenever other devices are chosen.

    page ─▶ `choose`, `apply` ─▶ this thread: libraries ▸ devices ▸ `LiveDenoiser` ─▶ `state`, `history`

Libraries are loaded here too, so that the page answers long before numba does. `rtdenoise ctl` controls it as any other
session. What is set is remembered for the microphone (`rtdenoise.panel.preferences`).
"""

from __future__ import annotations

import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rtdenoise.arguments import VALUES
from rtdenoise.control.messages import TOGGLE
from rtdenoise.control.sockets import ControlError, NotYet
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.live.background import BackgroundThread
from rtdenoise.panel.ends import DEFAULT, source_of, target_of, with_other_end
from rtdenoise.panel.offer import Offer
from rtdenoise.panel.preferences import Preferences
from rtdenoise.profiles import ATTRIBUTES, find, while_running

if TYPE_CHECKING:
    from rtdenoise.live.session import LiveDenoiser
    from rtdenoise.panel.history import History

NO_PROFILE = ""
ENDS, SETTINGS = ("input", "output"), ("model", "channels")
CHOICES = (*ENDS, *SETTINGS, "profile")
# By the names that `LiveDenoiser` has for them.
OPTIONS = {"fixed_latency": "fixed_latency_ms"} | {name: name for name in ("rate", "blocksize", "worker", "backend")}
KEPT = ATTRIBUTES | {"model": "model"}  # for the microphone, by the names that a session has for them
LIST_S = 2.0  # between two looks at the devices, while a page is open
IDLE_S = 0.5  # A choice wakes the thread at once; this is for all else.


class Engine(BackgroundThread):
    """Runs a session between the ends of ``choices``, with its profile and what ``preferences`` say of it. Calls
    ``listeners``, from any thread, after every change."""

    def __init__(self, choices: dict[str, str], preferences: Preferences):
        super().__init__("rtdenoise-engine")
        self.choices = {"model": DEFAULT, "channels": "1"} | choices
        self.settings: dict[str, Any] = {"muted": False, "bypass": False, "strength_db": None, "low_cut_hz": None}
        self.preferences = preferences
        self.chosen_profile: str | None = None  # by somebody since the start
        self.history: History | None = None
        self.watched = False
        self.listeners: list[Callable[[], None]] = []
        self._live: LiveDenoiser | None = None
        self._microphone = ""  # the name of the one that is open, or was; none while another is looked for
        self._microphone_channels = 0
        self._running_model = ""
        self._fixed: dict[str, Any] = {}  # what only a new session can have otherwise
        self._phase, self._problem = "loading", ""
        self._offer = Offer(preferences.profiles)
        self._wake, self._turn = threading.Event(), threading.Lock()
        self._again, self._chosen = True, False  # The session is to be opened anew, or to take on what was chosen.

    def stop(self) -> None:
        """End the session, also one that just starts. Returns at once while it is `busy`."""
        self._end.set()
        self._wake.set()
        if (live := self._live) is not None:
            live.stop()
        if not self.busy:
            super().stop()

    @property
    def busy(self) -> bool:
        """Whether libraries load or compile, which nobody can cut short; nothing is open then."""
        return self._thread.is_alive() and self._phase in ("loading", "compiling")

    def choose(self, choices: dict[str, str]) -> None:
        """Go on with other devices, another model or profile; the same devices once more try again what failed.
        `UsageError` for what there is not."""
        with self._turn:
            try:
                settings = {name: VALUES[name](choices[name]) for name in SETTINGS if name in choices}
            except ArgumentTypeError as problem:
                raise UsageError(str(problem)) from problem
            if "profile" in choices:
                self._begin_profile(choices["profile"])
            choices = with_other_end(self.choices, choices)
            ends = {name for name in ENDS if choices.get(name, self.choices[name]) != self.choices[name]}
            if "input" in ends:
                self._microphone = ""  # What is set from now on is for the next.
            if settings:
                self.preferences.remember(self._microphone, settings)
            self.choices = self.choices | choices
            self._chosen = True
            self._again = self._again or bool(ends) or self._failed(set(choices))
        self._tell()
        self._wake.set()

    def status(self) -> dict[str, Any]:
        return self._running().stats().as_json() | {"profile": self.choices["profile"] or None}

    def apply(self, settings: dict[str, Any]) -> None:
        """Settings that have been checked. They outlive the session, and what a profile sets gives way to them."""
        name = settings.get("profile")
        own = {option: settings[key] for option, key in KEPT.items() if key in settings}
        if name is not None:
            live, profile = self._running(), find(name, self.preferences.profiles())
            fits = lambda key, value: live.fits(value) if key == "model" else value == self._fixed.get(key)
            of_profile = while_running(name, profile, fits)
            settings = of_profile | settings
        if "model" in settings:
            self._exchange(self._running(), settings["model"] or _default_model())
        with self._turn:
            if name is not None:
                self._begin_profile(name)
            for key in self.settings:
                if key in settings:
                    value = settings[key]
                    self.settings = self.settings | {key: not self.settings[key] if value == TOGGLE else value}
            if own:
                self.preferences.remember(self._microphone, own)
            self._set(self._live)
        self._tell()

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
            "microphone": {"name": self._microphone, "channels": self._microphone_channels},
            **self._offer.lists,
            "status": live.stats().as_json() if live is not None and phase == "running" else None,
        }

    def _running(self) -> LiveDenoiser:
        """The session; `NotYet` while one is being opened, in place of another or as the first."""
        live, phase = self._live, self._phase
        if live is not None and phase == "running" and not self._again:
            return live
        error = NotYet if self._again or phase in ("loading", "starting") else ControlError
        raise error(f"the panel runs no session now ({self._problem or phase})")

    def _failed(self, chosen: set[str]) -> bool:
        """Whether there is something that choosing may mend: no session, or one whose model has stopped."""
        live = self._live
        return self._phase == "failed" or (
            live is not None and not chosen.isdisjoint(ENDS) and live.stats().failure is not None
        )

    def _set(self, live: LiveDenoiser | None) -> None:
        if live is not None:
            for name, value in self.settings.items():
                setattr(live, name, value)

    def _begin_profile(self, name: str) -> None:
        self.preferences.begin_profile(self._microphone, name)
        self.choices, self.chosen_profile = self.choices | {"profile": name}, name

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()

    def _run(self) -> None:
        try:
            self._load()
            due = 0.0
            while not self._end.is_set():
                self._wake.clear()
                if self._again:
                    self._open()
                elif self._chosen and (live := self._live) is not None:
                    self._take_on(live)
                if self.watched and time.monotonic() >= due:
                    due = time.monotonic() + LIST_S
                    self._offer.look()
                if not self._again:
                    self._wake.wait(IDLE_S)
        except Exception as problem:  # of a library: a page that says so is of more use than one that waits
            self._fail(problem)
        finally:
            self._close()

    def _load(self) -> None:
        from rtdenoise.live import session  # noqa: F401
        from rtdenoise.panel import history  # noqa: F401

        self._offer.look()

    def _open(self) -> None:
        """The session as it is chosen now; a problem is kept for the page."""
        from rtdenoise.live.compilation import announced
        from rtdenoise.live.session import LiveDenoiser
        from rtdenoise.panel.history import History

        self._phase, self._problem = "starting", ""
        self._close()
        try:
            with self._turn:
                self._again, self._chosen, chosen = False, False, self.choices
            source, device = source_of(chosen["input"])
            with self._turn:
                if not self._again:  # Otherwise another is chosen by now, and comes next.
                    self._microphone, self._microphone_channels = device.name, device.inputs
                    self.preferences.arrived(device.name)
                wanted = self._settle(device.name)
            self._tell()
            with announced(lambda _: self._enter("compiling")):
                live = LiveDenoiser(
                    source,
                    target_of(chosen["output"], bool(wanted.get("monitor"))),
                    self.choices["model"],
                    tap=True,
                    **self._fixed,
                    **{OPTIONS[name]: wanted[name] for name in OPTIONS if wanted.get(name) is not None},
                )
            self._enter("starting")
            self._set(live)
            self._live, self._running_model = live, self.choices["model"]
            if self._end.is_set():
                return
            live.start()
            assert live.tap is not None
            self.history = History(live.tap, live.stats().rate)
            self._enter("running")
        except RtdenoiseError as problem:
            self._fail(problem)

    def _settle(self, microphone: str) -> dict[str, Any]:
        """Take over what is wanted for the microphone and the profile, and return it."""
        wanted = self.preferences.wanted(microphone, self.choices["profile"])
        self._fixed = _fixed(wanted)
        channels = str(wanted.get("channels") or 1)
        self.choices = self.choices | {"model": wanted.get("model") or _default_model(), "channels": channels}
        self.settings = self.settings | {key: wanted.get(name) for name, key in ATTRIBUTES.items()}
        return wanted

    def _take_on(self, live: LiveDenoiser) -> None:
        """What was chosen: without a gap where the timing allows it, otherwise anew."""
        try:
            with self._turn:
                self._chosen = False
                wanted = self.preferences.wanted(self._microphone, self.choices["profile"])
                if self._fixed != _fixed(wanted):
                    self._again = True
                    return
                self._settle(self._microphone)
                self._set(live)
            if self.choices["model"] != self._running_model:
                self._exchange(live, self.choices["model"])
            self._problem = ""
        except UsageError:  # The model has another timing.
            self._again = True
        except RtdenoiseError as problem:
            self._problem = str(problem)
            self.preferences.remember(self._microphone, {"model": self._running_model})
            self.choices = self.choices | {"model": self._running_model}
        self._tell()

    def _exchange(self, live: LiveDenoiser, model: str) -> None:
        live.exchange_model(model)
        if live is not self._live:
            raise NotYet("the panel opens another session")
        self._running_model = model
        self.choices = self.choices | {"model": model}

    def _fail(self, problem: Exception) -> None:
        self._phase, self._problem = "failed", str(problem) or type(problem).__name__
        self._close()
        self._tell()

    def _close(self) -> None:
        live, self._live, self.history = self._live, None, None
        if live is not None:
            live.stop()


def _fixed(wanted: dict[str, Any]) -> dict[str, Any]:
    return {"latency": wanted.get("latency") or "normal", "channels": wanted.get("channels") or 1}


def _default_model() -> str:
    from rtdenoise.model.registry import DEFAULT_MODEL

    return DEFAULT_MODEL
