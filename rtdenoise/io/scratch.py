"""Folders for what is under way on this machine: they go with their process, or after it if it was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtdenoise.io.atomic import lock

_LOCK = "lock"  # in each of them, held while its process lives


@contextmanager
def scratch(prefix: str) -> Iterator[str]:
    """A folder whose name begins so, which goes with the block; those of killed processes go too."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), left.open("rb+") as file:
            if lock(file.fileno()):
                shutil.rmtree(left.parent, ignore_errors=True)
    while True:
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as home:
            place = os.path.join(home, _LOCK)
            with open(place, "wb") as held:
                if lock(held.fileno()) is False or not os.path.exists(place):
                    continue  # It was swept between its birth and its lock.
                yield home
                return
