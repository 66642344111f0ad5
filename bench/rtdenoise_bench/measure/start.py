"""How long the command takes to its first sound, with what was compiled before and without, and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

COMMAND = (sys.executable, "-m", "rtdenoise")
RATE = 16_000


@dataclass(frozen=True)
class Start:
    """Seconds from launch to the first byte of a pipe; ``cold`` compiles everything first, as on the first run ever.
    ``memory_mb`` is the peak of the warm run."""

    warm_s: float
    cold_s: float
    memory_mb: float


def measure(model: str) -> Start:
    """One run with what earlier ones compiled, and one that finds nothing compiled."""
    warm_s, memory_mb = first_byte(model)
    with tempfile.TemporaryDirectory(prefix="rtdenoise-bench-") as folder:
        cold_s, _ = first_byte(model, NUMBA_CACHE_DIR=folder)
    return Start(warm_s, cold_s, memory_mb)


def first_byte(model: str, **environment: str) -> tuple[float, float]:
    """Seconds from launch to the first byte, with half a second of audio in a pipe that stays open; peak MB."""
    command = [*COMMAND, "--in", "-", "--out", "-", "--raw", "s16le", "--rate", str(RATE), "--channels", "1"]
    command += ["--model", model, "--quiet"]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(bytes(RATE))
    process.stdin.flush()
    process.stdout.read(1)
    seconds = time.perf_counter() - began
    process.stdin.close()
    process.stdout.read()
    return seconds, waited_mb(process)[1]


def waited_mb(process: subprocess.Popen) -> tuple[int, float]:
    """Wait for a process; its exit status and its peak resident memory in MB (not a number where unknown)."""
    if not hasattr(os, "wait4"):
        return process.wait(), float("nan")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
