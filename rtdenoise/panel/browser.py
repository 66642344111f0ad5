"""Opening the panel in the user's browser without telling its address to other users of the machine.

A command line is for everybody to read (`ps`), so the browser is given the name of a private file that leads on.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtdenoise.control.sockets import AVAILABLE, ControlError, private_folder
from rtdenoise.io.atomic import write_text

NAME = "panel.html"
LEAD = """\
<!doctype html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0; url={url}">
<title>rtdenoise</title>
<p><a href="{url}">rtdenoise panel</a></p>
"""
ANSWER_S = 10.0  # A panel that has gone refuses at once; one on a busy machine takes its time.


def running() -> Path | None:
    """The file that leads to a panel which already runs."""
    if not AVAILABLE:
        return None
    with contextlib.suppress(OSError, ValueError, ControlError):
        lead = private_folder() / NAME
        address = re.search(r'href="(http://127\.0\.0\.1:\d+/[\w-]+/)"', lead.read_text(encoding="utf-8"))
        plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        if address and plain.open(address[1], timeout=ANSWER_S).status == 200:
            return lead
    return None


@contextmanager
def lead_to(url: str) -> Iterator[Path | None]:
    """A private file that leads to ``url`` while this holds; None where there is no private place."""
    if not AVAILABLE:
        yield None
        return
    try:
        lead = private_folder() / NAME
        write_text(lead, LEAD.format(url=url), private=True)
    except (OSError, ControlError):
        yield None
        return
    try:
        yield lead
    finally:
        with contextlib.suppress(OSError):
            if url in lead.read_text(encoding="utf-8"):
                lead.unlink()


def show(lead: Path) -> None:
    """Open it, where there is a desktop: a browser of the terminal would take the terminal."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(lead.as_uri())
