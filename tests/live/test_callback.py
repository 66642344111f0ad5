"""The callback copies, fades into gaps and out of them, holds full scale, and counts."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from live.conftest import Feeder
from rtdenoise.live import ring
from rtdenoise.live.hop_loop import stopwatch
from rtdenoise.live.ring import Rings

BLOCK, HOP, RATE = 256, 192, 48_000


@pytest.fixture
def rings() -> Rings:
    r = Rings(HOP, 1, RATE)
    r.control[ring.PRIMED] = 1
    return r


def test_what_is_heard_lies_in_the_ring_in_order_and_around_its_end(rings, rng):
    feed, blocks = Feeder(rings, BLOCK), rng.standard_normal((300, BLOCK)).astype(np.float32)
    for block in blocks:
        feed(block)
    everything, capacity = blocks.ravel(), len(rings.captured)
    head = int(rings.control[ring.IN_HEAD])
    assert head == everything.size > capacity
    places = np.arange(head - capacity, head)
    np.testing.assert_array_equal(rings.captured[places % capacity, 0], everything[places])


def test_what_the_worker_wrote_is_played_in_order(rings, rng):
    written = np.clip(0.3 * rng.standard_normal(4 * BLOCK), -1, 1).astype(np.float32)
    rings.played[: len(written), 0] = written
    rings.control[ring.OUT_HEAD] = len(written)
    rings.control[ring.FADE] = ring.FADE_FRAMES
    played = np.concatenate([Feeder(rings, BLOCK)(np.zeros(BLOCK)) for _ in range(4)])
    np.testing.assert_array_equal(played[:, 0], written)
    assert rings.control[ring.UNDERRUNS] == 0


def test_a_gap_is_a_fall_and_a_rise_and_never_a_click(rings):
    rings.played[:] = 0.5
    feed, out = Feeder(rings, BLOCK), []
    rings.control[ring.OUT_HEAD] = 3 * BLOCK
    out += [feed(np.zeros(BLOCK)) for _ in range(6)]  # three blocks of sound, three of nothing
    rings.control[ring.OUT_HEAD] = 9 * BLOCK
    out += [feed(np.zeros(BLOCK)) for _ in range(3)]
    y = np.concatenate(out)[:, 0]
    assert np.abs(np.diff(y)).max() < 0.05
    assert y[5 * BLOCK] == pytest.approx(0, abs=1e-3)
    assert y[-1] == 0.5
    assert rings.control[ring.UNDERRUNS] == 3
    assert rings.control[ring.DROPOUT_FRAMES] == 3 * BLOCK


def test_what_comes_too_late_stays_unheard_and_the_delay_stays(rings):
    """The timeline rule: after a gap, playing goes on at the place where it would have been without one."""
    capacity = len(rings.played)
    rings.played[:, 0] = np.arange(capacity) / capacity
    feed = Feeder(rings, BLOCK)
    for head in (BLOCK, BLOCK, BLOCK, 5 * BLOCK):  # the worker stalls for two blocks, then catches up
        rings.control[ring.OUT_HEAD] = head
        y = feed(np.zeros(BLOCK))
    assert y[-1, 0] == np.float32((4 * BLOCK - 1) / capacity)


def test_a_cut_skips_with_a_cross_fade(rings):
    capacity = len(rings.played)
    rings.played[:, 0] = np.arange(capacity) / capacity
    rings.control[ring.OUT_HEAD], rings.control[ring.FADE] = 20 * BLOCK, ring.FADE_FRAMES
    rings.control[ring.CUT_WANTED] = 1000
    y = Feeder(rings, BLOCK)(np.zeros(BLOCK))[:, 0]
    assert y[0] < 2 * 1000 / BLOCK / capacity
    assert y[-1] == pytest.approx((BLOCK - 1 + 1000) / capacity, rel=1e-5)
    assert rings.control[ring.OUT_TAIL] == BLOCK + 1000
    assert rings.control[ring.CUT_DONE] == 1000


def test_output_is_held_at_full_scale(rings):
    rings.played[:] = 3
    rings.control[ring.OUT_HEAD] = 10 * BLOCK
    feed = Feeder(rings, BLOCK)
    feed(np.zeros(BLOCK))
    assert feed(np.zeros(BLOCK)).max() == 1


def test_a_mono_signal_goes_to_both_sides():
    rings = Rings(HOP, 1, RATE, capture_channels=1, play_channels=2)
    rings.played[:] = 0.25
    rings.control[ring.OUT_HEAD], rings.control[ring.FADE] = 4 * BLOCK, ring.FADE_FRAMES
    assert (Feeder(rings, BLOCK, channels=2)(np.zeros(BLOCK)) == 0.25).all()


def test_xruns_that_the_device_reports_are_counted(rings):
    from rtdenoise.live.callback import duplex_callback

    buffer = np.zeros((2, BLOCK), np.float32)
    for flags in (0b0010, 0b0100, 0):
        duplex_callback.ctypes(buffer[0].ctypes.data, buffer[1].ctypes.data, BLOCK, None, flags, rings.address)
    assert (rings.control[ring.IN_XRUNS], rings.control[ring.OUT_XRUNS]) == (1, 1)


@pytest.mark.parametrize("hz", [3_579_545, 10_000_000, 24_000_000])
@pytest.mark.parametrize("days", [0.5, 400])
def test_a_counter_of_any_speed_is_read_in_nanoseconds(rings, hz, days):
    """Windows' performance counter says its speed; after a year of uptime nothing overflows."""
    ticks = round(days * 86_400 * hz) + 7

    @ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))
    def counter(place):
        place[0] = ticks
        return 1

    rings.control[ring.CLOCK] = ctypes.cast(counter, ctypes.c_void_p).value
    rings.control[ring.CLOCK_ID], rings.control[ring.CLOCK_HZ] = -1, hz
    assert stopwatch(rings.control) == ticks * 1_000_000_000 // hz


def test_a_cut_is_done_only_once_the_tail_shows_it(rings):
    """Nobody may see a cut as done beside the tail of before it: the two differ by the cut at every moment but one."""
    rings.control[ring.OUT_HEAD] = 20 * BLOCK
    feed = Feeder(rings, BLOCK)
    seen = []
    end = threading.Event()

    def look():
        while not end.is_set():
            done = ring.read(rings.control, ring.CUT_DONE)
            tail = ring.read(rings.control, ring.OUT_TAIL)
            seen.append((int(done), int(tail)))

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(3000):
        rings.control[ring.OUT_HEAD] += 1000 + BLOCK
        rings.control[ring.CUT_WANTED] += 1000
        feed(np.zeros(BLOCK))
    end.set()
    watcher.join()
    assert all(tail >= done + done // 1000 * BLOCK for done, tail in seen)


@pytest.mark.parametrize(("gather", "wanted"), [(0, [2, 3, 5, 6, 8, 9]), (1, [2, 3, 5, 6, 8, 9]), (4, [6, 8, 9])])
def test_the_worker_is_woken_only_for_what_it_waits_for(rings, gather, wanted):
    """Blocks of 128 frames at hops of 192. Nobody takes any here, so once there is enough each hop wakes it."""
    woken, at = [], rings.control
    post = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * 3)(lambda *_: woken.append(at[ring.IN_HEAD] // 128) or 0)
    rings.control[ring.POST] = ctypes.cast(post, ctypes.c_void_p).value
    rings.control[ring.GATHER] = gather
    feed = Feeder(rings, 128)
    for _ in range(9):
        feed(np.zeros(128))
    assert woken == wanted
