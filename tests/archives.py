"""An archive that clusters filter in tests: how it is asked for, what of it is done, who works on it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from command import ENVIRONMENT, start, voice, wait_for, write

FILES = 24


def archive(folder: Path) -> Path:
    """A folder with `FILES` recordings below ``in``."""
    for k in range(FILES):
        write(folder / f"in/{k % 3}/{k:02}.wav", voice(160_000, seed=1), 16_000)
    return folder


def spawn(processes, folder, *argv) -> subprocess.Popen:
    line = [sys.executable, "-m", "distributed.cli.dask_" + argv[0], *argv[1:]]
    environment = ENVIRONMENT | {"DASK_TEMPORARY_DIRECTORY": str(folder)}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    processes.append(process)
    return process


def a_cluster(processes, folder, workers: int = 2):
    """Address, scheduler and workers, each a process of its own."""
    told = folder / f"scheduler-{len(processes)}.json"
    listening = "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)
    scheduler = spawn(processes, folder, "scheduler", *listening)
    wait_for(lambda: told.exists() and told.stat().st_size)
    address = json.loads(told.read_text())["address"]
    return address.replace("tcp", "dask"), scheduler, [a_worker(processes, folder, address) for _ in range(workers)]


def a_worker(processes, folder, address: str) -> subprocess.Popen:
    options = "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "5", "--host", "127.0.0.1"
    return spawn(processes, folder, "worker", address, *options)


def line_for(tree, address: str, *options: object):
    return "--in", tree / "in", "--out", tree / "out", "--cluster", address, *options


def begun(tree, address: str) -> subprocess.Popen:
    """The command at work on it: the first file is done."""
    process = start(*line_for(tree, address))
    wait_for(lambda: done(tree) or process.poll() is not None)
    assert done(tree), process.communicate()[1]
    return process


def ended(process: subprocess.Popen) -> str:
    """What a command said that has done all its work."""
    _, said = process.communicate()
    assert process.returncode == 0, said
    return said.decode()


def done(tree) -> list[Path]:
    return [path for path in (tree / "out").rglob("*") if path.is_file() and path.suffix == ".wav"]


def whole(tree, hidden: bool = True) -> bool:
    """Whether all is there, in full size, and nothing else."""
    sizes = {p.relative_to(tree / "in"): p.stat().st_size for p in (tree / "in").rglob("*.wav")}
    files = [path for path in (tree / "out").rglob("*") if path.is_file() and (hidden or path.name[0] != ".")]
    return {path.relative_to(tree / "out"): path.stat().st_size for path in files} == sizes


def family(pid: int) -> list[int]:
    """A process and all below it."""
    below: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            below += map(int, tasks.read_text().split())
    return [pid, *(each for child in below for each in family(child))]


def listening(processes: list[int]) -> list[str]:
    """Addresses at which these processes wait for connections; one that has ended meanwhile waits no more."""
    owned = set()
    for pid in processes:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                owned.add(os.readlink(descriptor))
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [address_of(row[1]) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in owned]


def address_of(place: str) -> str:
    """An address as /proc/net writes it: words of 32 bits in the machine's order."""
    words = place.partition(":")[0]
    raw = b"".join(bytes.fromhex(words[k : k + 8])[::-1] for k in range(0, len(words), 8))
    text = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return text.removeprefix("::ffff:")
