"""The command `rtdenoise panel`: a page that shows the filter at work and steers it, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

from rtdenoise import console, signals
from rtdenoise.arguments import VALUES
from rtdenoise.control import sockets
from rtdenoise.control.server import ControlServer
from rtdenoise.panel import browser, desktop, memory
from rtdenoise.panel.engine import DEFAULT, VIRTUAL_MIC, Engine

ALIASES = ("default", "mic", "microphone", "speakers", "speaker")
OPTIONS = {"latency": "latency", "rate": "rate", "channels": "channels", "blocksize": "blocksize"} | {
    "fixed_latency": "fixed_latency_ms",
    "worker": "worker",
    "backend": "backend",
}  # of the configuration, with the names that `LiveDenoiser` has for them
LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--in", dest="source", metavar="X", help="mic or a device (default: as last time, else mic)")
    add("--out", dest="target", metavar="Y", help="virtual-mic, speakers or a device (default: as last time)")
    add("--model", type=VALUES["model"], metavar="NAME", help="as without panel (default: as last time)")
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
    with suppress(KeyboardInterrupt), ExitStack() as stack:  # Ctrl-C is how one ends it.
        engine, control = _engine(args)
        with signals.held():
            server = stack.enter_context(PanelServer(engine))
            stack.callback(engine.stop)
            engine.start()
            if control and sockets.AVAILABLE:
                _listen(engine, stack)
            lead = stack.enter_context(browser.lead_to(server.access.url))
        came = stack.enter_context(signals.noted())
        console.say(f"panel at {server.access.url} (whoever knows this address is let in; Ctrl-C ends it)")
        if lead and not args.no_browser:
            threading.Thread(target=browser.show, args=(lead,), daemon=True).start()
        while not came:
            time.sleep(LOOK_S)
    return 0


def _engine(args: argparse.Namespace) -> tuple[Engine, bool]:
    """With what the command line says, what was chosen last time, or what is configured; and whether `ctl` may control
    it."""
    from rtdenoise.cli.config import load_config

    configured = {name: _read(name, value) for name, value in load_config().for_live().items()}
    kept = memory.load()
    choices = {
        "input": _end(args.source, kept.input, DEFAULT),
        "output": _end(args.target, kept.output, VIRTUAL_MIC if sys.platform == "linux" else DEFAULT),
        "model": args.model or kept.model or configured.get("model") or DEFAULT,
    }
    strength = configured.get("strength") if kept.strength_db is None else kept.strength_db
    settings = {"muted": False, "bypass": False, "strength_db": strength}
    options = {name: configured[key] for key, name in OPTIONS.items() if configured.get(key) is not None}
    return Engine(choices, settings, options, bool(configured.get("monitor"))), configured.get("control") is not False


def _read(name: str, value: Any) -> Any:
    return VALUES[name](str(value)) if name in VALUES else value


def _end(said: str | None, kept: str | None, usual: str) -> str:
    if said is not None:
        return DEFAULT if said in ALIASES else said
    return usual if kept is None else kept


def _listen(engine: Engine, stack: ExitStack) -> None:
    try:
        stack.enter_context(ControlServer(engine))
    except sockets.ControlError as problem:
        console.say(f"warning: {problem}; rtdenoise ctl will not find the panel's session")
