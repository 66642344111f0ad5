"""The command `rtdenoise panel`: a page that shows the filter at work and steers it, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

from rtdenoise import console, signals
from rtdenoise.arguments import VALUES, VIRTUAL_MIC, values_of
from rtdenoise.cli.ends import refuse_wrong_side
from rtdenoise.cli.listening import listen
from rtdenoise.live import microphones
from rtdenoise.panel import browser, desktop, memory
from rtdenoise.panel.ends import DEFAULT, with_other_end
from rtdenoise.panel.engine import NO_PROFILE, Engine
from rtdenoise.panel.preferences import Preferences

ALIASES = ("default", "mic", "microphone", "speakers", "speaker")
LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--in", dest="source", metavar="X", help="mic, virtual-speaker or a device (default: as last time, else mic)")
    add("--out", dest="target", metavar="Y", help="virtual-mic, speakers or a device (default: as last time)")
    add("--model", type=VALUES["model"], metavar="NAME", help="as without panel (default: as last time)")
    add(
        "--profile",
        type=_profile,
        metavar="NAME",
        help="one of rtdenoise profiles (default: as last time)",
    )
    add("--no-browser", action="store_true", help="print the address of the page, and open nothing")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--install", action="store_true", help="add the panel to the desktop's programs, and end")
    group.add_argument("--remove", action="store_true", help="undo --install, and end")


def run(args: argparse.Namespace) -> int:
    if args.install or args.remove:
        for path in (desktop.install if args.install else desktop.remove)():
            console.say(f"{path} {'written' if args.install else 'removed'}")
        return 0
    from rtdenoise.panel.server import PanelServer  # the one part that needs the extra

    if not args.no_browser and (lead := browser.running()):
        console.say("the panel runs already; opening it")
        browser.show(lead)
        return 0
    refuse_wrong_side(args.source, args.target)
    engine, control = _engine(args)
    with suppress(KeyboardInterrupt), ExitStack() as stack:  # Ctrl-C is how one ends it.
        with signals.held():
            server = stack.enter_context(PanelServer(engine))
            stack.callback(engine.stop)
            engine.start()
            if control and (remote := listen(engine, stack)):
                engine.listeners.append(remote.changed)
            lead = stack.enter_context(browser.lead_to(server.access.url))
        came = stack.enter_context(signals.noted())
        console.say(f"panel at {server.access.url} (whoever knows this address is let in; Ctrl-C ends it)")
        if lead and not args.no_browser:
            threading.Thread(target=browser.show, args=(lead,), daemon=True).start()
        while not came:
            time.sleep(LOOK_S)
    if engine.busy:
        os._exit(0)  # All is in order, and a compiler would keep the process for up to a minute.
    return 0


def _engine(args: argparse.Namespace) -> tuple[Engine, bool]:
    """With what the command line says, what was chosen last time, or what is configured; and whether `ctl` may control
    it."""
    from rtdenoise.cli.config import load_config

    config = load_config()
    configured = {name: _read(name, value) for name, value in config.for_live().items()}
    kept, profile, typed = memory.load(), configured.get("profile") or NO_PROFILE, {}
    if args.profile is not None:
        profile, typed = args.profile, values_of(config.of_profile(args.profile))
    elif kept.profile is not None and kept.profile in (NO_PROFILE, *config.profiles):
        profile = kept.profile
    choices = {
        "input": _end(args.source, kept.input, DEFAULT),
        "output": _end(args.target, kept.output, VIRTUAL_MIC if sys.platform == "linux" else DEFAULT),
        "profile": profile,
    }
    if args.target is None:
        before = {"input": kept.input or DEFAULT, "output": choices["output"]}
        choices |= with_other_end(before, {"input": choices["input"]})
    said = {"model": args.model} if args.model else {}
    preferences = Preferences(configured, lambda: load_config().profiles, said, microphones.load(), typed)
    return Engine(choices, preferences), configured.get("control") is not False


def _profile(text: str) -> str:
    return VALUES["profile"](text) or NO_PROFILE


def _read(name: str, value: Any) -> Any:
    return VALUES[name](str(value)) if name in VALUES else value


def _end(said: str | None, kept: str | None, usual: str) -> str:
    if said is not None:
        return DEFAULT if said in ALIASES else said
    return usual if kept is None else kept
