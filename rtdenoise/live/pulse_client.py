"""Settings of the Pulse client library for PortAudio's streams: the user's, without memory shared with the server.

libpulse keeps a block of the server's shared memory while a piece of a recording is read. If the server ends in that
moment, the library's thread waits for the block, and holds the lock that the reader needs to give it back: neither goes
on, and the stream can never be closed (seen with libpulse 16.1, in ``pa_memimport_free``). Sound that comes through the
socket lies in no such block.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEM = Path("/etc/pulse/client.conf")
NAMED = "PULSE_CLIENTCONFIG"  # the variable by which the library is told to read another file


@contextmanager
def private_memory() -> Iterator[dict[str, str]]:
    """Variables under which a stream that opens shares no memory; valid while this holds.

    Yields
    ------
    dict of str
        Empty where the library is not used, or where no file can be written: a stream matters more than this.
    """
    with contextlib.ExitStack() as stack:
        variables: dict[str, str] = {}
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtdenoise-pulse-")))
                own = folder / "client.conf"
                own.write_text("".join(f".include {path}\n" for path in _of_the_user()) + "enable-shm = no\n")
                variables[NAMED] = str(own)
        yield variables


def _of_the_user() -> list[Path]:
    """What the library would read by itself: the first file that there is, and what lies in the folder beside it."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    own = Path(os.environ.get("PULSE_CONFIG_PATH") or os.path.join(home, "pulse")) / SYSTEM.name
    named = os.environ.get(NAMED)
    for file in map(Path.absolute, [Path(named)] if named else [own, SYSTEM]):
        if os.access(file, os.R_OK):
            return [file, *sorted(file.with_name(f"{file.name}.d").glob("*.conf"))]
    return []
