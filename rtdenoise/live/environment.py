"""Variables of the environment by which C libraries are told what to do, changed while they look at them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_changing = threading.Lock()  # The environment belongs to the whole process.


@contextmanager
def changed(values: Mapping[str, str | None]) -> Iterator[None]:
    """With these values while this holds, None for none; one at a time. Afterwards all are as before."""
    with _changing:
        before = {name: os.environ.get(name) for name in values}
        try:
            _set(values)
            yield
        finally:
            _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
