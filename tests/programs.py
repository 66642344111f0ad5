"""Programs that play and record beside what is tested, and where the sound server has them."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from command import wait_for
from rtdenoise_bench.measure.correlation import LEVEL
from running import output_of


def pactl(env, *argv: str) -> str:
    return output_of(env, "pactl", *argv).strip()


def playing(env) -> dict[str, str]:
    """Where each program plays, as the server says."""
    return _places(env, "sink-inputs", "sinks")


def recording(env) -> dict[str, str]:
    """What each program records."""
    return _places(env, "source-outputs", "sources")


def _places(env, streams: str, ends: str) -> dict[str, str]:
    found = {}
    names = {line.split()[0]: line.split()[1] for line in pactl(env, "list", "short", ends).splitlines()}
    for stream in pactl(env, "list", streams).split("\n\n"):
        name = re.search(r'application\.name = "(.*)"', stream)
        if name and name[1] != "rtdenoise":
            found[name[1]] = names.get(re.search(r"(?:Sink|Source): (\d+)", stream)[1], "")
    return found


@contextmanager
def desk(env) -> Iterator[None]:
    """A microphone "desk"; PipeWire does not let a program that records a monitor go anywhere else."""
    module = pactl(env, "load-module", "module-remap-source", "master=B.monitor", "source_name=desk").strip()
    try:
        yield
    finally:
        pactl(env, "unload-module", module)


@contextmanager
def program(env, name: str, *argv: str) -> Iterator[None]:
    """A program of this name that plays noise, or records with ``--record``."""
    raw = ["--raw", "--rate=48000", "--channels=1", "--format=float32le", f"--client-name={name}"]
    sound = (LEVEL * np.random.default_rng(1).standard_normal(48_000 * 60)).astype(np.float32).tobytes()
    process = subprocess.Popen(["pacat", *raw, *argv], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    places = recording if "--record" in argv else playing
    if places is playing:
        threading.Thread(target=_feed, args=(process, sound), daemon=True).start()
    try:
        wait_for(lambda: places(env).get(name))
        yield
    finally:
        process.kill()
        process.wait()


def _feed(process: subprocess.Popen, sound: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it has ended
        process.stdin.write(sound)
