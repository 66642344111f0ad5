"""Where running sessions listen: one socket each, in a folder that only its user can enter.

    $XDG_RUNTIME_DIR/rtdenoise/PID.sock      (else /run/user/UID/rtdenoise, else TMPDIR/rtdenoise-UID)

A folder that is not ours, or that others can enter, is never used. A socket appears under its name only once it
listens, so one that refuses is a dead process's and may be removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path

from rtdenoise.errors import RtdenoiseError

LONGEST_PATH = 100  # bytes: the system's limit is 108 on Linux and 104 elsewhere, less the longest name
BACKLOG = 64  # clients that wait to be taken
UNNAMED_S = 60.0  # after which a socket that never got its name is a dead process's
AGAIN_S = 0.005
SUFFIX = ".sock"
AVAILABLE = hasattr(socket, "AF_UNIX") and sys.platform != "win32"


class ControlError(RtdenoiseError):
    """There is nothing to control, or no place to listen."""


class NotYet(ControlError):
    """The session is between two states, which takes moments: who asks may wait."""


def folder() -> Path:
    """Our folder, which need not exist; the same for who listens and who asks. Raises `ControlError`."""
    if not AVAILABLE:
        raise ControlError("control of a running session needs Unix sockets, which this system lacks")
    user = os.getuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"):
        place = Path(base) / "rtdenoise"
        if base.startswith("/") and _is_users(Path(base)) and len(os.fsencode(place)) + 32 <= LONGEST_PATH:
            return place
    return Path(tempfile.gettempdir()) / f"rtdenoise-{user}"


def private_folder() -> Path:
    """Our folder, made if necessary; `ControlError` if it is not ours alone, or cannot be made."""
    place = folder()
    try:
        with contextlib.suppress(FileExistsError):
            place.mkdir(0o700)
        if _is_users(place) and place.lstat().st_mode & 0o077:
            place.chmod(0o700)
    except OSError as problem:
        raise ControlError(f"cannot make {place}: {problem.strerror}") from problem
    _refuse_strange(place)
    return place


def _is_users(place: Path) -> bool:
    """Whether it is a folder, no link, of this user."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _refuse_strange(place: Path) -> None:
    if not _is_users(place) or place.lstat().st_mode & 0o077:
        raise ControlError(f"{place} is not a folder of this user alone; remove it, or set XDG_RUNTIME_DIR")


class Listener:
    """A listening ``socket`` at ``path`` until `close`. Sockets of dead processes are cleared away on the way."""

    def __init__(self) -> None:
        place = private_folder()
        _sweep(place)
        new = place / f".{os.getpid()}-{os.urandom(4).hex()}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(os.fspath(new))
            new.chmod(0o600)
            self.socket.listen(BACKLOG)
            self.path = new.rename(_free_name(place))
            self._inode = self.path.lstat().st_ino
        except OSError as problem:
            self.socket.close()
            with contextlib.suppress(OSError):
                new.unlink()
            raise ControlError(f"cannot listen in {place}: {problem.strerror or problem}") from problem

    def close(self) -> None:
        """Also remove it, unless another process has taken its place since."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()


def _sweep(place: Path) -> None:
    """Remove what killed processes left. What has no name yet may be about to listen, so it is given time."""
    for path in place.glob("*"):
        with contextlib.suppress(OSError):
            named = path.name.endswith(SUFFIX)
            if (named or time.time() - path.lstat().st_mtime > UNNAMED_S) and _refuses(path):
                path.unlink()


def _refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        return client.connect_ex(os.fspath(path)) == errno.ECONNREFUSED


def _free_name(place: Path) -> Path:
    """The process's, with a number if one of that name is alive: the second session of a process, or one of a process
    in another container that shares the folder."""
    names = (place / f"{os.getpid()}{'' if k == 1 else f'-{k}'}{SUFFIX}" for k in range(1, BACKLOG))
    return next(path for path in names if not path.exists())


def sessions() -> list[Path]:
    """Sockets, the newest first; some may be dead. None without a folder; `ControlError` if that is not ours alone."""
    place = folder()
    if not place.is_dir():
        return []
    _refuse_strange(place)
    found = []
    for path in place.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            found.append((path.lstat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def pid_of(path: Path) -> str:
    """The process that made it, as its name says."""
    return path.name.removesuffix(SUFFIX).partition("-")[0]


def connected(path: Path, timeout_s: float) -> socket.socket | None:
    """A connection to whoever listens there; None if nobody does. `ControlError` if its queue stays full."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_s)
    until = time.monotonic() + timeout_s
    while True:
        try:
            client.connect(os.fspath(path))
            return client
        except (ConnectionRefusedError, FileNotFoundError):
            client.close()
            return None
        except BlockingIOError:  # Its queue is full for the moment.
            if time.monotonic() > until:
                client.close()
                raise ControlError(f"session {pid_of(path)} does not answer") from None
            time.sleep(AGAIN_S)
        except OSError as problem:
            client.close()
            raise ControlError(f"session {pid_of(path)} cannot be reached: {problem.strerror or problem}") from problem
