"""Streams of our own on a PulseAudio server: what the callbacks do with what the library lends, and what is left."""

from __future__ import annotations

import ctypes as C
import sys

import numpy as np
import pytest

from command import ROOT
from programs import pactl
from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import pulse_callback, ring
from rtdenoise.live.backends import find_route
from rtdenoise.live.devices import Device, file_end
from rtdenoise.live.pulse_callback import PulseMemory, read_callback, underflow_callback, write_callback
from rtdenoise.live.ring import Rings
from rtdenoise_bench.measure import correlation, probes, recordings
from running import output_of, record, running, wait_until

LEAD_S = 0.5
HOP, CHANNELS, LOOP, STREAM = 192, 2, 55, 77
PORTAUDIO = ("--backend", "portaudio")
LEND = C.CFUNCTYPE(C.c_int, C.c_int64, C.POINTER(C.c_void_p), C.POINTER(C.c_size_t))
GIVE = C.CFUNCTYPE(C.c_int, C.c_int64, C.c_void_p, C.c_size_t)


class Library:
    """Stands for libpulse: lends the ``pieces`` one by one, None for a hole of `HOLE` frames, and notes what comes
    back. For a playback a piece is the memory of so many frames that may be written."""

    HOLE = 2500

    def __init__(self, *pieces: np.ndarray | None):
        self.pieces, self.given = list(pieces), []
        self.asked: list[int] = []

        def lend(stream: int, place, size) -> int:
            assert stream == STREAM
            self.asked.append(size[0])
            piece = self.pieces[0] if self.pieces else np.zeros((0, CHANNELS), np.float32)
            place[0] = None if piece is None or not len(piece) else piece.ctypes.data
            size[0] = self.HOLE * 4 * CHANNELS if piece is None else piece.nbytes
            return 0

        def give(stream: int, place: int | None, size: int) -> int:
            assert stream == STREAM
            self.given.append((self.pieces.pop(0), size // (4 * CHANNELS)))
            return 0

        self._functions = LEND(lend), GIVE(give)

    def lent_to(self, memory: PulseMemory) -> PulseMemory:
        for slot, function in zip((pulse_callback.TAKE, pulse_callback.GIVE), self._functions, strict=True):
            memory.state[slot] = C.cast(function, C.c_void_p).value
        return memory


@pytest.fixture
def rings() -> Rings:
    pytest.importorskip("pulsectl")
    return Rings(HOP, CHANNELS, 48_000)


def memory(kind, rings: Rings, library: Library, most_frames: int = 480) -> PulseMemory:
    try:
        return library.lent_to(PulseMemory(kind, rings, LOOP, STREAM, most_frames))
    except DeviceError as e:
        pytest.skip(str(e))


def some(frames: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, CHANNELS)).astype(np.float32)


def test_what_was_recorded_goes_into_the_ring_and_a_hole_is_silence(rings):
    first, last = some(300), some(200, 2)
    library = Library(first, None, last)
    given = memory("input", rings, library)
    read_callback.ctypes(STREAM, first.nbytes, given.address)
    heard = rings.captured[: 300 + Library.HOLE + 200]
    assert ring.read(rings.control, ring.IN_HEAD) == len(heard)
    np.testing.assert_array_equal(heard, np.concatenate([first, np.zeros((Library.HOLE, CHANNELS)), last]))
    assert len(library.given) == 3
    assert rings.control[ring.IN_XRUNS] == 1


def test_nothing_lent_is_nothing_given_back(rings):
    library = Library()
    given = memory("input", rings, library)
    read_callback.ctypes(STREAM, 0, given.address)
    assert (library.given, ring.read(rings.control, ring.IN_HEAD)) == ([], 0)


def test_what_is_asked_for_is_written_in_pieces(rings):
    """A server that stood still asks for all that it missed: the worker must not take that for its usual appetite."""
    sound = some(1_000)
    rings.played[:1_000] = sound
    rings.control[[ring.OUT_HEAD, ring.PRIMED]] = 1_000, 1
    rings.control[ring.FADE] = ring.FADE_FRAMES
    library = Library(*(np.full((480, CHANNELS), np.nan, np.float32) for _ in range(3)))
    given = memory("output", rings, library)
    write_callback.ctypes(STREAM, 1_000 * 4 * CHANNELS, given.address)
    frames = [n for _, n in library.given]
    assert frames == [480, 480, 40]
    np.testing.assert_array_equal(np.concatenate([piece[:n] for piece, n in library.given]), sound)
    assert rings.control[ring.OUT_BLOCK] == 480
    assert library.asked[-1] == 40 * 4 * CHANNELS


def test_a_library_that_lends_nothing_ends_the_callback(rings):
    library = Library()
    given = memory("output", rings, library)
    write_callback.ctypes(STREAM, 4_096, given.address)
    assert (library.given, ring.read(rings.control, ring.OUT_TAIL)) == ([], 0)


def test_an_underflow_is_counted_once(rings):
    library = Library(some(100), some(100))
    given = memory("output", rings, library, 100)
    underflow_callback.ctypes(STREAM, given.address)
    write_callback.ctypes(STREAM, 200 * 4 * CHANNELS, given.address)
    assert rings.control[ring.OUT_XRUNS] == 1
    assert rings.control[ring.IN_XRUNS] == 0


def test_they_are_for_devices_of_a_server_alone():
    card = Device(0, "a card", "ALSA", 1, 2, 48_000, 0)
    with pytest.raises(UsageError, match="a card, ALSA is not a device of a sound server; use --backend portaudio"):
        find_route(card, file_end("a.wav", 48_000, 1), wanted="pulse")


def line(plain_path, *argv: str) -> list[str]:
    return [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "B", "--model", str(plain_path), *argv]


def test_they_carry_a_session_by_default_and_leave_nothing(pulse_env, plain_path):
    with running(pulse_env, line(plain_path, "--json")) as process:
        stats = record(process, lambda s: s["latency_ms"])
        listed = pactl(pulse_env, "list", "sink-inputs")
    assert stats["backend"] == "pulse"
    assert "rtdenoise" in listed
    wait_until(lambda: "rtdenoise" not in pactl(pulse_env, "list", "sink-inputs"))


def test_four_channels_keep_their_places(pulse_env, plain_path):
    with running(pulse_env, line(plain_path, "--json", "--channels", "4")) as process:
        record(process, lambda s: s["latency_ms"])
        assert "front-left,front-right,rear-left,rear-right" in pactl(pulse_env, "list", "sink-inputs")


@pytest.mark.steady
def test_the_delay_is_less_than_portaudios(pulse_env, plain_path):
    ours, its = (
        probes.cross_pulse(pulse_env, LEAD_S, plain_path, 2, *argv).delay().median_ms for argv in ((), PORTAUDIO)
    )
    assert ours < its


# A process of its own: what PortAudio knows of servers is the whole process's. Linux lists a thread for a moment after
# it was joined, so the last count is the least that is seen before a deadline; a thread that stays is in all of them.
TWICE = """
import os, sys, time
from rtdenoise import LiveDenoiser
threads = lambda: len(os.listdir("/proc/self/task"))
for _ in range(2):  # The first loads what stays.
    before = threads()
    with LiveDenoiser("A.monitor", "B", model=sys.argv[1]) as live:
        print(live.stats().backend, threads() > before)
until = time.monotonic() + 10
while (left := threads() - before) and time.monotonic() < until:
    time.sleep(0.005)
print(left)
"""


def test_threads_end_with_the_session(pulse_env, plain_path):
    env = pulse_env | {"PYTHONPATH": str(ROOT)}
    with recordings.pulse_playing(pulse_env, "A", correlation.noise(30)):
        printed = output_of(env, sys.executable, "-c", TWICE, str(plain_path))
    assert printed.split() == ["pulse", "True", "pulse", "True", "0"]
