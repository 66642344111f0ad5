"""A session that the real command runs: what it prints, what of its sound it loses, what memory it takes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from command import DEADLINE_S, ROOT, wait_for


@contextlib.contextmanager
def running(env: dict[str, str], line: list[str]) -> Iterator[subprocess.Popen]:
    """A session that prints a record a second; it ends in order with the block."""
    with subprocess.Popen(line, env=env | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE_S)


def record(process: subprocess.Popen, until: Callable[[dict], object]) -> dict:
    """The first record of which this is true."""
    end = time.monotonic() + DEADLINE_S
    while not until(stats := json.loads(process.stdout.readline())):
        assert time.monotonic() < end, stats
    return stats


def wait_until(condition: Callable[[], object], otherwise: Callable[[], str] = lambda: "waited in vain") -> None:
    """As `command.wait_for`, for what takes a process to look at."""
    wait_for(condition, pause_s=0.05, otherwise=otherwise)


def output_of(env: dict[str, str], *line: str) -> str:
    """What a command prints that does its work; what it complains of is in the failure otherwise."""
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def lost(status: Callable[[], dict], seconds: float) -> tuple[float, float]:
    """The share of the time that was dropout or reused gains, and the latency, by a session's status."""
    before = status()
    time.sleep(seconds)
    after = status()
    ms = after["dropout_ms"] - before["dropout_ms"] + 4 * (after["reused_gains"] - before["reused_gains"])
    return ms / 1000 / seconds, after["measured_latency_ms"]


@contextlib.contextmanager
def hammering(threads: list[threading.Thread], ending: threading.Event) -> Iterator[None]:
    """With these at work. They end with the block, or they would hammer the sessions of all later tests."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def memory_bytes(pid: int) -> int:
    """What a process has in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
