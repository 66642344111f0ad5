"""How tests run the real command: here where they can, in a process of its own where signals and pipes matter."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

import graphs
from rtdenoise.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "rtdenoise"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
DEADLINE_S = 120  # generous: a busy machine must not fail a promise that has nothing to do with speed

_folder = tempfile.TemporaryDirectory(prefix="rtdenoise-tests-")


@cache
def identity_model() -> str:
    """Path of a model that changes nothing: what comes out is the chain around the model."""
    return str(graphs.identity(Path(_folder.name) / "identity.onnx"))


def call(capfd, *argv: object, model: str | None = None) -> tuple[int, str, str]:
    """Run the command here with the identity model; returns exit code, standard output and standard error."""
    capfd.readouterr()
    code = main([*map(str, argv), "--model", model or identity_model()])
    said = capfd.readouterr()
    return code, said.out, said.err


def start(*argv: object, **options) -> subprocess.Popen:
    """Start the command in its own process group with the identity model, with pipes at all three ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    line = [*COMMAND, *map(str, argv), "--model", identity_model()]
    return subprocess.Popen(line, env=ENVIRONMENT, start_new_session=True, **pipes)


def pipe(data: bytes, *argv: object) -> subprocess.CompletedProcess:
    """Send bytes through the command."""
    process = start(*argv)
    out, err = process.communicate(data, timeout=DEADLINE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err.decode())


def wait_for(
    condition, seconds: float = DEADLINE_S, pause_s: float = 0.005, otherwise=lambda: "waited in vain"
) -> None:
    """Return as soon as ``condition()`` is true; fail after the deadline, with what ``otherwise()`` says."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise()
        time.sleep(pause_s)


def parts(folder: Path, size: int = 100_000) -> list[Path]:
    """Outputs under way there that are longer than so many bytes; one that goes while it is looked at is gone."""
    found = []
    for part in [*folder.glob(".*.part"), *folder.glob(".*.rtdenoise-pieces/.*.part")]:
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_size > size:
                found.append(part)
    return found


def interrupt(process: subprocess.Popen, number: int = signal.SIGINT) -> int:
    """Signal the whole process group, as a terminal does on Ctrl-C; returns the exit code."""
    os.killpg(process.pid, number)
    process.communicate(timeout=DEADLINE_S)
    return process.returncode


def voice(samples: int, channels: int = 1, level: float = 0.1, seed: int = 1) -> np.ndarray:
    """Noise of a speech-like level, float32 ``[samples, channels]``."""
    return (level * np.random.default_rng(seed).standard_normal((samples, channels))).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype, **options)
    return path


def endless_wav(path: Path, seconds: int = 40_000) -> Path:
    """Hours of silence that take no room on disk: long enough to be caught in the middle."""
    write(path, np.zeros((1, 1), np.float32))
    size = 44 + 2 * 16_000 * seconds
    with path.open("r+b") as file:
        for offset, value in ((4, size - 8), (40, size - 44)):
            file.seek(offset)
            file.write(value.to_bytes(4, "little"))
        file.truncate(size)
    return path
