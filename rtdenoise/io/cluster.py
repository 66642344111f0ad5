"""A cluster as an executor, by its address, on machines that see the same files, or on this one.

    this process ──▶ scheduler ──▶ workers: each filters files and puts them in place
         ▲                             │
         └────── outcomes ◀────────────┘

An engine does the scheduling, Dask or Ray; what a file is and when it is whole is not its business. Owns what an
address means, and that all workers have this version.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rtdenoise import __version__
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io import dask_cluster, ray_cluster
from rtdenoise.io.executors import Futures, Joined

_ENGINES = {"dask": dask_cluster, "ray": ray_cluster}
_MOST_WORKERS = 1_000


@contextmanager
def connected(address: str) -> Iterator[Futures]:
    """The workers at ``dask://HOST:PORT`` or ``ray://HOST:PORT``, or N of this machine alone, which end with the block
    (``dask://local:N``).

    UsageError for an address without sense; RtdenoiseError if nobody answers, or with another version of rtdenoise.
    """
    scheme, host, port = _parts(address)
    engine = _ENGINES[scheme]
    with (
        engine.loaded(alone=host == "local"),
        _silent(engine.LOGGERS),
        engine.local(port) if host == "local" else engine.joined(host, port) as cluster,
    ):
        _check(cluster, address)
        yield Futures(cluster.executor, 2 * max(1, cluster.workers), cluster.is_lost)


@contextmanager
def _silent(names: Sequence[str]) -> Iterator[None]:
    """What engines have to say comes as tracebacks; what matters of it is said in one line here."""
    below = tuple(f"{name}." for name in names)
    found = [
        logging.getLogger(n) for n in {*names, *(n for n in logging.root.manager.loggerDict if n.startswith(below))}
    ]
    before = [logger.disabled for logger in found]
    for logger in found:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(found, before, strict=True):
            logger.disabled = was


def _parts(address: str) -> tuple[str, str, int]:
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    limit = _MOST_WORKERS if host == "local" else 65_535
    known = scheme in _ENGINES and host and port.isascii() and port.isdecimal() and 1 <= int(port) <= limit
    if not known:
        raise UsageError(f"cluster {address!r} is neither dask://HOST:PORT nor ray://HOST:PORT, nor dask://local:N")
    return scheme, host, int(port)


def _check(cluster: Joined, address: str) -> None:
    try:
        versions = set(cluster.ask(version))
    except Exception as problem:  # A worker without rtdenoise cannot even read the question.
        raise RtdenoiseError(
            f"the workers of {address} do without rtdenoise ({type(problem).__name__}); install {__version__} there"
        ) from problem
    if versions != {__version__}:
        found = ", ".join(sorted(versions))
        raise RtdenoiseError(f"the workers of {address} have rtdenoise {found}; install {__version__} everywhere")


def version() -> str:
    """Which rtdenoise a worker has."""
    return __version__
