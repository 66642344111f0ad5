"""The control socket of a session that the command runs, whichever command that is."""

from __future__ import annotations

from contextlib import ExitStack

from rtdenoise import console
from rtdenoise.control import sockets
from rtdenoise.control.server import ControlServer, Session


def listen(session: Session, stack: ExitStack) -> ControlServer | None:
    """Let `rtdenoise ctl` control ``session`` while ``stack`` lasts, if it can be: sound does not depend on it."""
    if not sockets.AVAILABLE:
        return None
    try:
        return stack.enter_context(ControlServer(session))
    except sockets.ControlError as problem:
        console.say(f"warning: {problem}; rtdenoise ctl will not find this session (--no-control: without this line)")
        return None
