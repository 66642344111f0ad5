"""Under overload the model is skipped before it makes a gap: when a step would come too late, and, after steps that
outlast the buffer, for longer and longer, until it is fast again."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.live import hop, ring
from rtdenoise.live.drift import Drift
from rtdenoise.live.hop_loop import stopwatch
from rtdenoise.live.ring import HISTOGRAM_BINS, Rings

RATE, HOP, BLOCK = 48_000, 192, 256
HOP_NS = 4_000_000


@pytest.fixture
def waiting(plain):
    """What `open_hops` takes, with one hop in the ring and a player that needs a block soon; and its control."""
    denoiser, rings = HopDenoiser(plain, RATE), Rings(HOP, 1, RATE)
    c = rings.control
    c[ring.ANCHOR] = c[ring.ANCHORED] = c[ring.PRIMED] = 1
    c[ring.IN_BLOCK] = c[ring.OUT_BLOCK] = BLOCK
    c[ring.IN_HEAD] = HOP
    c[ring.CLOCK] = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value  # leaves the time as it is, 0
    rest = np.ones((1, plain.info.bins), np.float32), np.zeros((4 * HOP, 1), np.float32), np.zeros(2)
    shared = c, rings.captured, rings.played, rings.recorded
    yield (hop.HopBuffers(*shared, denoiser.hop_arguments, Drift(HOP, 1).arguments, *rest), 4), c
    del denoiser  # its buffers are used by their addresses until here


@pytest.mark.parametrize(("step_ns", "action"), [(HOP_NS, hop.HOLD), (HOP_NS // 4, hop.RUN), (0, hop.RUN)])
def test_a_step_that_would_come_too_late_is_not_begun(waiting, step_ns, action):
    """The player's next block, 5.3 ms after its last, needs two hops: steps of 4 ms take too long, of 1 ms do not."""
    arguments, c = waiting
    c[ring.STEP_NS], c[ring.OUT_TIME] = step_ns, stopwatch(c)
    assert hop.open_hops(*arguments) == (action, 1)


def test_a_step_with_time_enough_is_begun_however_slow(waiting):
    """What the player needs next lies ready."""
    arguments, c = waiting
    c[ring.STEP_NS], c[ring.OUT_TIME], c[ring.OUT_HEAD] = 10 * HOP_NS, stopwatch(c), BLOCK
    assert hop.open_hops(*arguments) == (hop.RUN, 1)


def test_steps_that_outlast_the_buffer_are_tried_ever_more_seldom_and_at_least_once_a_second():
    c, times = Rings(HOP, 1, RATE).control, np.zeros(HISTOGRAM_BINS, np.int64)
    pauses = []
    for _ in range(10):
        hop.judge_step(c, HOP, 1, 10 * HOP_NS, times)
        pauses.append(int(c[ring.HOLDING]))
    assert pauses[:3] == [1, 3, 7]
    assert pauses == sorted(pauses)
    assert 200 <= pauses[-1] <= RATE / HOP * 1.1  # about a second of hops
    hop.judge_step(c, HOP, 1, HOP_NS // 4, times)  # fast again
    hop.judge_step(c, HOP, 1, 10 * HOP_NS, times)
    assert c[ring.HOLDING] == 1


def test_hops_of_a_pause_hold_the_gains(waiting):
    arguments, c = waiting
    c[ring.HOLDING], c[ring.OUT_HEAD] = 2, BLOCK
    actions = []
    for _ in range(3):
        actions.append(hop.open_hops(*arguments))
        c[ring.IN_TAIL] = c[ring.IN_HEAD]
        c[ring.IN_HEAD] += HOP
    assert actions == [(hop.HOLD, 1), (hop.HOLD, 1), (hop.RUN, 1)]
