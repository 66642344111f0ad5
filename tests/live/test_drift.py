"""Two clocks: the resampler is transparent, and the steering holds the delay without wobbling the pitch."""

from __future__ import annotations

import numpy as np
import pytest

from rtdenoise.live import drift, ring
from rtdenoise.live.drift import TAPS, Drift
from rtdenoise.live.ring import Rings

HOP, RATE = 192, 48_000
PPM = 1e-6


def resampled(x: np.ndarray, ratio: float) -> np.ndarray:
    """A whole mono signal through the streaming resampler."""
    state, memory, head = Drift(HOP, 1), np.zeros((4 * HOP, 1), np.float32), 0
    state.state[drift.RATIO] = ratio
    out = []
    for at in range(0, len(x) - HOP + 1, HOP):
        count = drift.resample(x[at : at + HOP, None].astype(np.float32), state.arguments, memory, head)
        out.append(memory[np.arange(head, head + count) % len(memory), 0])
        head += count
    return np.concatenate(out)


def test_ratio_one_copies(rng):
    x = rng.standard_normal(50 * HOP).astype(np.float32)
    np.testing.assert_array_equal(resampled(x, 1.0)[TAPS // 2 :], x[: -TAPS // 2])


@pytest.mark.parametrize("ppm", [-300, 300, 1000])
@pytest.mark.parametrize("hz", [440, 5_000, 15_000])
def test_a_tone_stays_a_pure_tone_of_the_right_pitch(hz, ppm):
    ratio = 1 + ppm * PPM
    x = 0.5 * np.sin(2 * np.pi * hz * np.arange(RATE * 2) / RATE)
    y = resampled(x, ratio)[TAPS:].astype(float)
    n = np.arange(len(y))
    basis = np.stack([f(2 * np.pi * hz / ratio * n / RATE) for f in (np.sin, np.cos)], 1)
    fit, *_ = np.linalg.lstsq(basis, y, rcond=None)
    rest = y - basis @ fit
    assert np.hypot(*fit) == pytest.approx(0.5, rel=0.01)
    assert 20 * np.log10(np.std(rest) / np.std(y)) < -75


def simulate(ppm: float, seconds: float, burst: int = 480, seed: int = 0, lose_at: float | None = None) -> np.ndarray:
    """A microphone that delivers bursts and an output whose clock is ``ppm`` fast; both callbacks late at random.

    Returns ``[time, delay in frames, ratio - 1]`` a hop, after the calibration.
    """
    rng, rings, state = np.random.default_rng(seed), Rings(HOP, 1, RATE), Drift(HOP, 1)
    c, block = rings.control, 64
    c[ring.SPLIT], c[ring.RESERVE], c[ring.CAPACITY] = 1, 192, 256 * HOP
    drift.restart(c, state.arguments)
    c[ring.OUT_HEAD] = 2000
    next_in, next_out, rows = 0.0, 0.0, []
    silence = np.zeros((HOP, 1), np.float32)
    while max(next_in, next_out) < seconds:
        if next_out < next_in:
            c[ring.OUT_TIME] = int(1e9 * (next_out + abs(rng.normal(0, 2e-4))))
            cut = int(c[ring.CUT_WANTED] - c[ring.CUT_DONE])
            c[ring.CUT_DONE] += cut
            slack = c[ring.OUT_HEAD] - c[ring.OUT_TAIL] - block - cut
            if c[ring.SLACK_ROUND] != c[ring.SLACK_ROUND_WANTED]:
                c[ring.SLACK_ROUND] = c[ring.SLACK_ROUND_WANTED]
                c[ring.SLACK] = slack
            c[ring.SLACK] = min(c[ring.SLACK], slack)
            c[ring.OUT_TAIL] += block + cut
            next_out += block / RATE / (1 + ppm * PPM)
            continue
        c[ring.IN_TIME] = int(1e9 * (next_in + abs(rng.normal(0, 2e-4))))
        c[ring.IN_HEAD] += burst
        if lose_at is not None and next_in > lose_at:
            c[ring.IN_HEAD] -= 2000 // HOP * HOP
            lose_at = None
        next_in += burst / RATE
        while c[ring.IN_HEAD] - c[ring.IN_TAIL] >= HOP:
            c[ring.IN_TAIL] += HOP
            c[ring.OUT_HEAD] += drift.resample(silence, state.arguments, rings.played, int(c[ring.OUT_HEAD]))
            drift.steer(c, state.arguments, rings.played)
            if c[ring.TARGET]:
                fill = c[ring.OUT_HEAD] - c[ring.OUT_TAIL]
                rows.append((next_in, state.delay, state.state[drift.RATIO] - 1, c[ring.TARGET], fill))
    return np.array(rows)


@pytest.mark.parametrize("ppm", [-300, 0, 300])
def test_delay_is_held_over_five_minutes_of_drift(ppm):
    rows = simulate(ppm, 300)
    at, delay, ratio, target, fill = rows[rows[:, 0] > rows[0, 0] + 0.2].T  # the first cut is done
    assert len(np.unique(target)) == 1
    assert np.abs(delay - target).max() < 0.0015 * RATE  # 1.5 ms, and that only while it learns
    assert fill.min() > 0.5 * np.median(fill)
    assert fill.max() < 1.5 * np.median(fill)
    late = at > 100
    assert np.abs(delay - target)[late].max() < 0.0003 * RATE
    assert np.mean(ratio[late]) == pytest.approx(ppm * PPM, abs=3 * PPM)
    assert np.abs(ratio[late] - ppm * PPM).max() < 10 * PPM  # wobble of the pitch


def test_frames_that_a_device_lost_are_replaced_at_once():
    at, delay, _, target, fill = simulate(0, 20, lose_at=10.0).T
    settled = at > 11
    assert np.abs(delay - target)[settled].max() < 0.001 * RATE
    assert fill[settled].mean() == pytest.approx(fill[(at > 5) & (at < 10)].mean(), abs=100)


def test_a_buffer_that_cannot_be_sized_yet_is_measured_anew_and_nothing_else_is_written():
    """A busy machine: more lies ready than the smoothed delay knows of. Then no target makes sense, and none is set,
    window after window; what was measured stays within its memory. Once figures agree, the buffer is sized."""
    rings, state, rounds = Rings(HOP, 1, RATE), Drift(HOP, 1), 3 * drift.CALIBRATION_ROUNDS
    memory = np.full(len(state.state) + 2 * rounds, 12.5)
    memory[: len(state.state)] = state.state
    _, history, table = state.arguments
    arguments = memory[: len(state.state)], history, table
    c = rings.control
    c[ring.SPLIT], c[ring.RESERVE] = 1, 240

    def window(ready: int) -> None:
        c[ring.SLACK], c[ring.OUT_HEAD] = ready, c[ring.OUT_TAIL] + 600
        c[ring.CUT_DONE] = c[ring.CUT_WANTED]
        for _ in range(drift.WINDOW_HOPS):
            c[ring.OUT_TAIL] += HOP
            c[ring.OUT_HEAD] += HOP
            c[ring.IN_HEAD] += HOP
            c[ring.IN_TAIL] += HOP
            drift.steer(c, arguments, rings.played)

    for _ in range(rounds):
        window(40_000)
    assert (memory[len(state.state) :] == 12.5).all()
    assert c[ring.TARGET] == 0
    for _ in range(2 * drift.CALIBRATION_ROUNDS):
        window(500)
    assert (memory[len(state.state) :] == 12.5).all()
    assert c[ring.TARGET] == pytest.approx(600 - 500 + 240, abs=2)
