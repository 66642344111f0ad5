"""Files that appear under their names only when they are whole.

    with replacing(path) as file:      # a new file beside ``path``, readable by its owner alone
        file.write(...)                # leaving the block puts it in place; an exception takes it away

Owns the name of the part file, which nobody can guess or plant, its rights, and what killed processes left behind. A
part file is locked as long as its process lives, so that a later one can tell a dead part from a living one, across
containers too. Follows a link to the file it means; writes pipes and devices as they are. Knows nothing of sound.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

if sys.platform == "win32":
    fcntl: Any = None
else:
    import fcntl

_NAME_BYTES = 80  # A part's name repeats this much of the target's, so any file system takes it whole.
_PART = re.compile(r"\.(?P<name>.+)\.rtdenoise-(?P<machine>[0-9a-f]{8})-(?P<token>[0-9a-f]{16})\.(?P<kind>part|rec)")
_RIGHTS = 0o777  # Only this of a mode is kept, so no set-user-ID bit is ever passed on.
# A part of another machine, or of one without locks, counts as dead once nothing has written to it for this long.
_OLD_S = 24 * 3600.0
_AGAIN_S = 60.0  # A folder is not looked through again sooner, so thousands of outputs in it cost no more than one.
_swept: dict[Path, float] = {}  # It holds when this process last looked through each folder.
_sweeping = threading.Lock()


class AtomicFile:
    """A file being written, and its way into place.

    Parameters
    ----------
    path
        Where it shall appear. A link is followed; a pipe or device is opened and written directly.
    like
        A file whose mode a new output gets, less the umask, as ``cp`` does it; an output that exists keeps its own
        mode, and its owner and group where this process may give them.
    recording
        Whether what is written exists nowhere else. What a killed process recorded is then not cleared away but given
        a name one can see, see `rescued`.
    private
        Whether its owner alone may read it, whatever ``like`` or what is replaced says.

    Raises OSError, which names ``path``: of a part file nobody need know.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        like: str | os.PathLike[str] | None = None,
        recording: bool = False,
        private: bool = False,
    ):
        self.path = Path(path)
        self._like, self._private = like, private
        self._part: Path | None = None  # It stays None where there is nothing to put into place: pipes, devices.
        self.rescued: list[Path] = []
        with self._named():
            there = _status(self.path)
            if there is not None and not stat.S_ISREG(there.st_mode):
                if stat.S_ISBLK(there.st_mode):
                    raise OSError(errno.EINVAL, "it is a disk, not a file")
                self.file: IO[bytes] = open(self.path, "wb")  # noqa: SIM115
                return
            self._target = Path(os.path.realpath(self.path))
            if there is not None and not os.access(self._target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self.rescued = sweep(self._target.parent)
            self.file = self._create("rec" if recording else "part")

    @property
    def part(self) -> Path | None:
        """Where the bytes are until `commit`, for libraries that open by name; None for a pipe or device."""
        return self._part

    def _create(self, kind: str) -> IO[bytes]:
        name = os.fsencode(self._target.name)[:_NAME_BYTES].decode(errors="ignore")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        while True:
            self._part = self._target.with_name(f".{name}.rtdenoise-{_machine()}-{secrets.token_hex(8)}.{kind}")
            try:
                file = open(os.open(self._part, flags, 0o600), "w+b")  # noqa: SIM115
                if lock(file.fileno()) is not False and _is_at(self._part, file.fileno()):
                    return file
                file.close()  # It was swept between its birth and its lock.
            except FileExistsError:  # Somebody planted it, or it is chance.
                continue
            except BaseException:  # Ctrl-C at this very moment included
                self._part.unlink(missing_ok=True)
                raise

    def commit(self) -> None:
        """Put it in place, whole on the disk. It stays out of place, and OSError is raised, if that fails."""
        with self._named():
            try:
                self.file.flush()
                if self._part is None:
                    return
                os.fsync(self.file.fileno())
                self._give_rights()
                if fcntl is None:  # Windows moves no open file
                    self.file.close()
                os.replace(self._part, self._target)
                self._part = None
                _sync_folder(self._target.parent)
            finally:
                self.discard()

    def discard(self) -> None:
        """Remove it; nothing happens after `commit`."""
        part, self._part = self._part, None
        with contextlib.suppress(OSError):  # The disk is full once more, of which all has been said.
            self.file.close()
        if part is not None:
            part.unlink(missing_ok=True)

    def _give_rights(self) -> None:
        if fcntl is None or self._private:  # It was made its owner's alone.
            return
        fd, before = self.file.fileno(), _status(self._target)
        if before is None:
            like = _status(Path(self._like)) if self._like is not None else None
            regular = like is not None and stat.S_ISREG(like.st_mode)
            mode = like.st_mode & 0o666 if like is not None and regular else 0o666
            with contextlib.suppress(OSError):  # Some file systems have no rights.
                os.fchmod(fd, (mode | stat.S_IRUSR | stat.S_IWUSR) & ~_umask())
            return
        mode, now = before.st_mode & _RIGHTS, os.fstat(fd)
        for owner, group in ((before.st_uid, -1), (-1, before.st_gid)):
            if (owner, group) not in ((now.st_uid, -1), (-1, now.st_gid)):
                with contextlib.suppress(OSError):
                    os.fchown(fd, owner, group)
        if os.fstat(fd).st_gid != before.st_gid:  # Another group gets no more than everybody.
            mode &= ~0o070 | (mode & 0o007) << 3
        with contextlib.suppress(OSError):
            os.fchmod(fd, mode)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            problem.filename, problem.filename2 = str(self.path), None
            raise

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.commit() if kind is None else self.discard()


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], private: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` at the end of the block, and none if the block fails."""
    with AtomicFile(path, private=private) as whole:
        yield whole.file


def write_text(path: str | os.PathLike[str], text: str, private: bool = False) -> None:
    """Replace a text file, in UTF-8."""
    with replacing(path, private) as file:
        file.write(text.encode())


def sweep(folder: Path, now: bool = False) -> list[Path]:
    """Clear away what killed processes left in a folder; the recordings among it, by their new names.

    A recording becomes ``NAME.interrupted-TOKEN.EXT`` beside where it was to go. A folder that was looked through a
    moment ago is left alone, unless it must be ``now``.
    """
    with _sweeping:
        clock = time.monotonic()
        for known in [known for known, when in _swept.items() if clock - when > _AGAIN_S]:
            del _swept[known]
        if folder in _swept and not now:
            return []
        _swept[folder] = clock
    rescued = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for part, named in [(Path(e.path), named) for e in entries if (named := _PART.fullmatch(e.name))]:
            with contextlib.suppress(OSError):  # It is gone already, or not ours to touch.
                if (place := _clear(part, named)) is not None:
                    rescued.append(place)
    return rescued


def _clear(part: Path, named: re.Match[str]) -> Path | None:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    fd = os.open(part, flags)
    try:
        there = os.fstat(fd)
        if not stat.S_ISREG(there.st_mode) or (fcntl is not None and there.st_uid != os.geteuid()):
            return None
        locked, fresh = lock(fd), time.time() - there.st_mtime < _OLD_S
        surely_dead = locked and named["machine"] == _machine()
        if locked is False or (fresh and not surely_dead) or not _is_at(part, fd):
            return None
        if fcntl is None:
            os.close(fd)
            fd = -1
        if named["kind"] == "part" or not there.st_size:
            part.unlink()
            return None
        stem, extension = os.path.splitext(named["name"])
        place = part.with_name(f"{stem}.interrupted-{named['token'][:8]}{extension}")
        os.rename(part, place)
        return place
    finally:
        if fd >= 0:
            os.close(fd)


def lock(fd: int) -> bool | None:
    """True: the file is ours until it is closed. False: another's. None: there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


@functools.cache
def _machine() -> str:
    """A mark of this run of this machine, the same in all its containers."""
    try:
        mark = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        import platform

        mark = platform.node().encode()
    return hashlib.sha256(mark).hexdigest()[:8]


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _umask() -> int:
    """The process's, without setting it for a moment where the system says it."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("\nUmask:")[2].split()[0], 8)
    except (OSError, IndexError, ValueError):
        with _sweeping:
            mask = os.umask(0o077)
            os.umask(mask)
        return mask


def _sync_folder(folder: Path) -> None:
    """The new name too survives a power cut, where folders can be opened at all."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
