"""A cluster as an executor: Dask's, on machines that see the same files, or on this one.

    this process ──▶ scheduler ──▶ workers: each filters files and puts them in place
         ▲                             │
         └────── outcomes ◀────────────┘

Owns the extra `cluster`, which is loaded here. Dask does the scheduling; what a file is and when it is whole is not
its business. Nothing listens on a network: a cluster on this machine talks over 127.0.0.1.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rtdenoise import __version__
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.executors import Futures

PATIENCE_S = 30  # for a scheduler to answer, and for its first worker
_LATE = "distributed.http.proxy"  # is loaded with the first cluster, and advertises then
_MOST_WORKERS = 1_000


@contextmanager
def connected(address: str) -> Iterator[Futures]:
    """The workers at ``dask://HOST:PORT``, or ``dask://local:N`` of this machine alone, which end with the block.

    UsageError for an address without sense; RtdenoiseError if nobody answers, or with another version of rtdenoise.
    """
    host, port = _parts(address)
    try:
        import distributed
    except ImportError as missing:
        raise RtdenoiseError("--cluster needs Dask; install it with: pip install 'rtdenoise[cluster]'") from missing
    with _in_silence():
        yield from _connected(distributed, host, port, address)


def _connected(distributed: Any, host: str, port: int, address: str) -> Iterator[Futures]:
    if host == "local":
        with tempfile.TemporaryDirectory(prefix="rtdenoise-dask-", ignore_cleanup_errors=True) as folder:
            cluster = distributed.LocalCluster(
                n_workers=port,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                local_directory=folder,
                memory_limit=0,  # Memory is constant anyway.
                silence_logs=False,  # Its own way would outlast the block.
            )
            with cluster, distributed.Client(cluster, set_as_default=False) as client:
                yield _futures(client, address)
        return
    try:
        client = distributed.Client(f"tcp://{host}:{port}", timeout=PATIENCE_S, set_as_default=False)
    except OSError as problem:
        raise RtdenoiseError(
            f"no Dask scheduler answers at {host}:{port}; start one (dask scheduler) or check the address"
        ) from problem
    with client:
        yield _futures(client, address)


@contextmanager
def _in_silence() -> Iterator[None]:
    """What Dask has to say comes as tracebacks; what matters of it is said in one line here."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    loggers = [logging.getLogger(name) for name in {*names, _LATE}]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


def _parts(address: str) -> tuple[str, int]:
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    limit = _MOST_WORKERS if host == "local" else 65_535
    known = scheme == "dask" and host and port.isascii() and port.isdecimal() and 1 <= int(port) <= limit
    if not known:
        raise UsageError(f"cluster {address!r} is neither dask://HOST:PORT nor dask://local:N")
    return host, int(port)


def _futures(client: Any, address: str) -> Futures:
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError as problem:
        raise RtdenoiseError(f"{address} has no workers; start some (dask worker HOST:PORT)") from problem
    try:
        versions = set(client.run(version).values())
    except Exception as problem:  # A worker without rtdenoise cannot even read the question.
        raise RtdenoiseError(
            f"the workers of {address} do without rtdenoise ({type(problem).__name__}); install {__version__} there"
        ) from problem
    if versions != {__version__}:
        found = ", ".join(sorted(versions))
        raise RtdenoiseError(f"the workers of {address} have rtdenoise {found}; install {__version__} everywhere")
    workers = sum(client.nthreads().values())
    return Futures(client.get_executor(pure=False), 2 * max(1, workers), lambda: client.status != "running")


def version() -> str:
    """Which rtdenoise a worker has."""
    return __version__
