"""Dask's clusters as executors: one that runs somewhere, or one of this machine alone.

Owns the extra `cluster`, which is loaded here. Nothing listens on a network: a cluster of this machine talks over
127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.executors import Joined
from rtdenoise.io.scratch import scratch

PATIENCE_S = 30  # for a scheduler to answer, and for its first worker
# By default a cluster samples the stacks of its workers a hundred times a second, ticks fifty times and looks at the
# system twice, for pages that nobody sees here. With two workers that takes a tenth of a core.
CALM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
# The last one is loaded with the first cluster, and advertises then.
LOGGERS = "distributed", "tornado", "distributed.http.proxy"


@contextmanager
def loaded(alone: bool) -> Iterator[None]:
    """RtdenoiseError if it is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError as missing:
        raise RtdenoiseError("dask:// needs Dask; install it with: pip install 'rtdenoise[cluster]'") from missing
    yield


@contextmanager
def local(workers: int) -> Iterator[Joined]:
    """So many processes here, which end with the block."""
    import dask
    import distributed

    with (
        dask.config.set(CALM),
        scratch("rtdenoise-dask-") as folder,
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # Another cluster may have the usual port.
            local_directory=folder,
            memory_limit=0,  # Memory is constant anyway.
            silence_logs=False,  # Its own way would outlast the block.
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield _cluster(client)


@contextmanager
def joined(host: str, port: int) -> Iterator[Joined]:
    """The workers of a scheduler. RtdenoiseError if it does not answer, or has none."""
    import distributed

    try:
        client = distributed.Client(f"tcp://{host}:{port}", timeout=PATIENCE_S, set_as_default=False)
    except OSError as problem:
        raise RtdenoiseError(
            f"no Dask scheduler answers at {host}:{port}; start one (dask scheduler) or check the address"
        ) from problem
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError as problem:
            raise RtdenoiseError(
                f"dask://{host}:{port} has no workers; start some (dask worker {host}:{port})"
            ) from problem
        yield _cluster(client)


def _cluster(client: Any) -> Joined:
    return Joined(
        client.get_executor(pure=False),
        sum(client.nthreads().values()),
        lambda function: client.run(function).values(),
        lambda: client.status != "running",
    )
