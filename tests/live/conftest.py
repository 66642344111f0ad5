"""Fixtures of the live tests: sound servers of our own on null devices, and a model whose weight can be set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtdenoise.live.ring import Rings
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import load_model
from rtdenoise.native import code_cache
from rtdenoise_bench.testbed import busy_model, servers
from rtdenoise_bench.testbed.harness import Harness

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def plain_path(tmp_path_factory) -> Path:
    """A model that changes nothing."""
    return busy_model.write(tmp_path_factory.mktemp("live") / "plain.onnx")


@pytest.fixture(scope="session")
def plain(plain_path) -> Model:
    return load_model(plain_path)


@pytest.fixture(scope="session", autouse=True)
def compiled(plain, tmp_path_factory) -> None:
    """Of several processes, one compiles what live audio needs, and the others wait instead of doing it once more."""
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path_factory.getbasetemp().parent / "compiling", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with Harness(plain):
            pass


@pytest.fixture
def nearly_compiled(tmp_path, monkeypatch) -> str:
    """A cache of what was compiled before, but for the worker's loop: seconds of compiling, not half a minute."""
    rooms = [ROOT / "rtdenoise" / name for name in ("native", "core", "model", "live")]
    places = [code_cache._place(room) for room in rooms]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    place_now = code_cache._place.__wrapped__  # what this process uses itself stays where it is
    for room, place in zip(rooms, places, strict=True):
        for path in place.glob(f"*{code_cache.SUFFIX}"):
            shutil.copy(path, place_now(room))
    for path in tmp_path.rglob("hop_loop.hop_loop-*"):
        path.unlink()
    return str(tmp_path)


@pytest.fixture(scope="module")
def pulse_env() -> Iterator[dict[str, str]]:
    """A PulseAudio server with null sinks A and B."""
    if reason := servers.missing("pulseaudio", "pactl", "pacat", "parec"):
        pytest.skip(reason)
    with servers.pulseaudio() as env:
        yield env


@pytest.fixture(scope="module")
def pipewire_env() -> Iterator[dict[str, str]]:
    """PipeWire with its PulseAudio face and null sinks A and B."""
    if reason := servers.missing("pipewire", "wireplumber", "pipewire-pulse", "dbus-run-session", "pactl", "parec"):
        pytest.skip(reason)
    with servers.pipewire() as env:
        yield env


@pytest.fixture(scope="module")
def jack_env() -> Iterator[dict[str, str]]:
    """A JACK server on its dummy back end, 256 frames at 48 kHz."""
    if reason := servers.missing("jackd", "jack_lsp", "jack_connect"):
        pytest.skip(reason)
    with servers.jack() as env:
        yield env


class Feeder:
    """Calls a duplex callback as PortAudio would, on numpy buffers."""

    def __init__(self, rings: Rings, block: int, channels: int = 1):
        from rtdenoise.live.callback import duplex_callback

        self._call, self._rings, self._block, self._channels = duplex_callback.ctypes, rings, block, channels

    def __call__(self, heard: np.ndarray) -> np.ndarray:
        played = np.full((self._block, self._channels), np.nan, np.float32)
        heard = np.ascontiguousarray(heard, np.float32)
        self._call(heard.ctypes.data, played.ctypes.data, self._block, None, 0, self._rings.address)
        return played
