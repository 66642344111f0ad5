"""Ray's clusters as executors: one that runs somewhere, or one of this machine alone.

Owns the extra `ray`, which is loaded here, and the words by which Ray is told to keep to 127.0.0.1 and to report
nothing to anybody. It belongs into the command's own process: Ray knows one cluster a process.
"""

from __future__ import annotations

import concurrent.futures
import os
import secrets
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.executors import Joined
from rtdenoise.io.scratch import scratch

LOGGERS = ("ray",)
_LOOPBACK = "127.0.0.1"
# Ray holds results in shared memory. Ours are small; this is about the least that it takes.
_STORE_BYTES = 100 << 20
_NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def loaded(alone: bool) -> Iterator[None]:
    """Ray reads its variables when it is loaded, and its processes inherit them. RtdenoiseError if it is not there."""
    with _variables(_NO_REPORTS | (_alone() if alone else {})):
        try:
            import ray  # noqa: F401
        except ImportError as missing:
            raise RtdenoiseError("ray:// needs Ray; install it with: pip install 'rtdenoise[ray]'") from missing
        yield


def _alone() -> dict[str, str]:
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # On every system this means: 127.0.0.1 alone.
        "RAY_gcs_server_port_wait_time_s": "120",  # Its own 20 are too few on a busy machine.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # or Ray would leave one in the user's home
    }


@contextmanager
def _variables(own: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def local(workers: int) -> Iterator[Joined]:
    """So many processes here, which end with the block."""
    with scratch("rtdenoise-ray-") as folder:
        options = {"include_dashboard": False, "object_store_memory": _STORE_BYTES, "_temp_dir": folder}
        with _begun("a Ray cluster does not start here", num_cpus=workers, **options) as (cluster, there):
            if there.address_info["node_ip_address"] != _LOOPBACK:
                raise RtdenoiseError(
                    "this Ray would listen on the network; take dask://local:N, or another version of Ray"
                )
            yield cluster


@contextmanager
def joined(host: str, port: int) -> Iterator[Joined]:
    """The workers of a Ray Client server. RtdenoiseError if it does not answer, or has none."""
    address = f"ray://{host}:{port}"
    with _begun(f"no Ray answers at {host}:{port}", address=address) as (cluster, _):
        if not cluster.workers:
            raise RtdenoiseError(f"{address} has no workers; start some (ray start --address=...)")
        yield cluster


@contextmanager
def _begun(what_fails: str, **options: Any) -> Iterator[tuple[Joined, Any]]:
    """Ray in this process, which handles its signals itself all the same."""
    import ray

    ending = signal.getsignal(signal.SIGTERM)
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # What they say is in the error too.
                there = ray.init(**options, log_to_driver=False, configure_logging=False)
        except Exception as problem:  # of many kinds: its own, grpc's, the system's
            why = f"{problem}".strip().partition("\n")[0] or type(problem).__name__
            raise RtdenoiseError(f"{what_fails}: {why}") from problem
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ending)
        yield _cluster(ray), there
    finally:
        ray.shutdown()


def _cluster(ray: Any) -> Joined:
    return Joined(
        _Executor(ray),
        int(ray.cluster_resources().get("CPU", 0)),
        lambda function: _asked(ray, function),
        lambda: not ray.is_initialized(),
    )


def _asked(ray: Any, function: Callable[[], Any]) -> list[Any]:
    """What each machine answers."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    remote = ray.remote(num_cpus=0)(function)
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    return list(ray.get([remote.options(scheduling_strategy=place).remote() for place in there]))


class _Executor(concurrent.futures.Executor):
    """Calls as Ray's tasks, one processor each."""

    def __init__(self, ray: Any):
        self._ray = ray
        self._do = ray.remote(num_cpus=1)(_do)

    def submit(
        self, function: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> concurrent.futures.Future[Any]:
        reference = self._do.remote(function, arguments, options)
        future: concurrent.futures.Future[Any] = reference.future()
        future.add_done_callback(lambda done: self._cancel(reference) if done.cancelled() else None)
        return future

    def _cancel(self, reference: Any) -> None:
        with suppress(Exception):  # A cluster that is lost does it no more anyway.
            self._ray.cancel(reference)


def _do(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return function(*arguments, **options)
