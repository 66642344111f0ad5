"""``--cluster ray://...``: what holds for Dask's clusters holds for Ray's too.

Needs Ray, which is large and which `make test-ray` installs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from archives import FILES, archive, begun, done, ended, family, line_for, listening, whole
from command import ENVIRONMENT, call, start, wait_for

pytest.importorskip("ray", reason="make test-ray")
pytest.importorskip("grpc", reason="make test-ray")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return archive(tmp_path)


@pytest.fixture
def cluster(monkeypatch):
    """Starts clusters of two workers: gives the address and the process of each."""
    for name, value in {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 alone
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "5",
    }.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as stack:

        def begin() -> tuple[str, subprocess.Popen]:
            # Names of sockets are limited to 107 bytes, so it is not below ``tmp_path``.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
            port, agent = free_port(), free_port()
            options = {
                "node-ip-address": "127.0.0.1",
                "port": 0,
                "ray-client-server-port": port,
                "runtime-env-agent-port": agent,
                "min-worker-port": 0,
                "max-worker-port": 0,
                "num-cpus": 2,
                "include-dashboard": "false",
                "object-store-memory": 100 << 20,
                "temp-dir": folder,
            }
            line = [f"{sysconfig.get_path('scripts')}/ray", "start", "--head", "--block"]
            line += [f"--{name}={value}" for name, value in options.items()]
            process = subprocess.Popen(
                line, env=ENVIRONMENT, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=-3
            )
            stack.callback(end, process)
            wait_for(lambda: listens(port))
            wait_for(lambda: answers(port))
            return f"ray://127.0.0.1:{port}", process

        yield begin


def end(process: subprocess.Popen) -> None:
    """As if the machine went down."""
    below = family(process.pid) if process.poll() is None else []
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def answers(port: int) -> bool:
    """Whether a client is let in. The port is open some seconds before Ray can start the server of a client."""
    line = [sys.executable, "-c", f"import ray; ray.init('ray://127.0.0.1:{port}')"]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True).returncode == 0


def at_work(process: subprocess.Popen) -> list[int]:
    """Processes that filter."""
    found = []
    for pid in family(process.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_do"):
                found.append(pid)
    return found


def test_a_cluster_of_this_machine_gives_the_same_bytes_listens_nowhere_else_and_leaves_nothing(tree, capfd):
    (tree / "in/bad.wav").write_text("not a sound")
    process = begun(tree, "ray://local:2")
    below = family(process.pid)
    assert set(listening(below)) == {"127.0.0.1"}
    out, said = process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert f"{FILES} filtered, 1 failed".encode() in said
    assert len(said.splitlines()) == 2, said  # Ray's own words are no business of ours.
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
    assert not os.listdir(tree / "home")
    call(capfd, "--in", tree / "in", "--out", tree / "one")
    for path in (tree / "one").rglob("*.wav"):
        assert (tree / "out" / path.relative_to(tree / "one")).read_bytes() == path.read_bytes()


def test_the_command_is_killed_with_a_cluster_of_its_own_and_the_next_run_goes_on(tree):
    process = begun(tree, "ray://local:2")
    below = family(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
    ended(start(*line_for(tree, "ray://local:2")))
    assert whole(tree)


def test_a_worker_is_killed_and_nothing_is_lost(tree, cluster):
    address, head = cluster()
    process = start(*line_for(tree, address))
    wait_for(lambda: (done(tree) and at_work(head)) or process.poll() is not None)
    for pid in at_work(head)[:1]:
        os.kill(pid, signal.SIGKILL)
    ended(process)
    assert whole(tree)


def test_the_head_is_killed_and_the_next_run_goes_on(tree, cluster):
    address, head = cluster()
    process = begun(tree, address)
    end(head)
    _, said = process.communicate()
    assert process.returncode == 1
    assert b"goes on where it stopped" in said
    assert b"Traceback" not in said
    before = len(done(tree))
    address, _ = cluster()
    assert f"{before} already done" in ended(start(*line_for(tree, address)))
    assert whole(tree, hidden=False)


def test_the_client_is_killed_and_the_next_run_goes_on(tree, cluster):
    address, _ = cluster()
    process = begun(tree, address)
    process.kill()
    process.communicate()
    ended(start(*line_for(tree, address)))
    assert whole(tree)


def test_a_ray_that_is_not_there_is_named(tree, capfd):
    code, _, said = call(capfd, *line_for(tree, "ray://127.0.0.1:9"))
    assert code == 1
    assert "no Ray answers at 127.0.0.1:9" in said
    assert said.count("\n") == 1
