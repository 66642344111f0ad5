"""Two devices, two clocks: a resampler of variable ratio, and the steering that keeps the delay at its target.

    captured frames ─▶ worker ─▶ resample by `ratio` ─▶ played frames
                                     ▲
    delay between the two callbacks ─┴─ PI controller (slow, so that pitch does not wobble)

The delay is measured, not guessed: frames waiting in both rings plus the time between the last callback of each side.
Bursts and late callbacks cancel out of that sum. What no small ratio can mend (a device that lost or hoarded audio) is
repaired at once by skipping with a cross-fade or by inserting silence. This resampler runs inside the worker, without
the GIL; a library's would need it in the audio path. At ratio 1 it copies samples exactly.
"""

from __future__ import annotations

import numpy as np

from rtdenoise.live import ring
from rtdenoise.native.fft import Bundle, inline, jit
from rtdenoise.native.intrinsics import load_acquire, store_release

# This kernel is flat to 0.85 of Nyquist and keeps images below -80 dB.
TAPS, PHASES, BETA = 32, 256, 9.0
# The slots of the steering state.
RATIO, INTEGRAL, DELAY, SEEN, SPEED, POSITION, SUM, ASTRAY, TAIL, ROUNDS, FIRST_ROUND = range(11)
WINDOW_HOPS = 25  # A window of the steering lasts 100 ms.
CALIBRATION_ROUNDS = 10  # The buffer is sized in the first second after start, in this many windows.
SETTLED_ROUNDS = 2  # The first windows are ignored: a server delivers irregularly while a stream starts.
FASTEST, SLOWEST = 0.25, 0.05  # The loop's bandwidth in rad/s just after start, and in the long run.
SLOW_DOWN = 0.9946  # Per window: the bandwidth falls from the first to the second in half a minute.
DAMPING = 1.0
LARGEST_OFFSET = 2e-3  # A clock that is off by more than 2000 ppm is broken.
LARGEST_SURPRISE_MS = 1.0  # One window may add at most this to the measured delay.
# No drift causes such an error so soon; seen twice, it means that a device lost or hoarded audio.
JUMP_MS, ASTRAY_WINDOWS = 1.5, 2


def kernel_table() -> np.ndarray:
    """float32 ``[PHASES + 1, TAPS]``: Kaiser-windowed sinc, row p shifted by p / PHASES of a sample, of sum one."""
    shift = np.arange(PHASES + 1)[:, None] / PHASES
    t = np.arange(TAPS)[None, :] - (TAPS // 2 - 1) - shift
    window = np.i0(BETA * np.sqrt(np.clip(1 - (t / (TAPS // 2)) ** 2, 0, 1))) / np.i0(BETA)
    table = np.sinc(t) * window
    return np.asarray(table / table.sum(1, keepdims=True), np.float32)


class Drift:
    """Kernel, history and steering state of one stream; ``arguments`` is what compiled code takes.

    Shape: history float32 ``[channels, TAPS + hop]``, state float64 ``[FIRST_ROUND + CALIBRATION_ROUNDS]``.
    """

    def __init__(self, hop: int, channels: int):
        self.state = np.zeros(FIRST_ROUND + CALIBRATION_ROUNDS)
        self.history = np.zeros((channels, TAPS + hop), np.float32)
        self.arguments = (self.state, self.history, kernel_table())
        self.state[RATIO], self.state[POSITION], self.state[SPEED] = 1.0, TAPS // 2, FASTEST

    @property
    def delay(self) -> float:
        """Frames from the input's callback to the output's, smoothed."""
        return float(self.state[DELAY])

    @property
    def ppm(self) -> float:
        """How much faster the output's clock runs than the input's, in parts per million, as the loop has learnt."""
        return 1e6 * float(self.state[INTEGRAL])


@jit
def resample(x: np.ndarray, drift: Bundle, memory: np.ndarray, head: int) -> int:
    """Append ``x`` ``[hop, channels]``, at ``state[RATIO]`` output frames an input frame, to a ring from ``head`` on.

    Returns the count written: the hop, give or take one. Delay: half the taps.
    """
    state, history, table = drift
    channels, length = history.shape
    hop, capacity = x.shape[0], memory.shape[0]
    advance = 1.0 / state[RATIO]
    position, count = state[POSITION], 0
    for c in range(channels):
        for i in range(length - hop):
            history[c, i] = history[c, i + hop]
        for i in range(hop):
            history[c, length - hop + i] = x[i, c]
    while int(position) + TAPS // 2 < length:
        first = int(position)
        phase = (position - first) * PHASES
        row = int(phase)
        share = np.float32(phase - row)
        at = (head + count) % capacity
        for c in range(channels):
            a = b = np.float32(0)
            for k in range(TAPS):
                v = history[c, first - TAPS // 2 + 1 + k]
                a += v * table[row, k]
                b += v * table[row + 1, k]
            memory[at, c] = a + share * (b - a)
        count += 1
        position += advance
    state[POSITION] = position - hop
    return count


@inline
def measured_delay(control: np.ndarray) -> float:
    """Frames between the newest captured and the next played, as the two callbacks' clocks tell.

    A callback that runs meanwhile may have written its time and not yet its position: then this one reading is off by a
    block. A window's mean takes that, and what it may add is limited (`LARGEST_SURPRISE_MS`).
    """
    head = load_acquire(control, ring.IN_HEAD)
    tail = load_acquire(control, ring.OUT_TAIL)
    between = control[ring.OUT_TIME] - control[ring.IN_TIME]
    waiting = head - control[ring.IN_TAIL] + control[ring.OUT_HEAD] - tail
    return float(waiting + between * 1e-9 * control[ring.RATE])


@inline
def move(control: np.ndarray, memory: np.ndarray, frames: int) -> None:
    """Change the delay at once: positive inserts silence before the next hop, negative asks the player to skip."""
    if frames > 0:
        head = control[ring.OUT_HEAD]
        for i in range(min(frames, memory.shape[0])):
            for c in range(memory.shape[1]):
                memory[(head + i) % memory.shape[0], c] = 0
        store_release(control, ring.OUT_HEAD, head + frames)
    else:
        store_release(control, ring.CUT_WANTED, control[ring.CUT_WANTED] - frames)


@jit
def restart(control: np.ndarray, drift: Bundle) -> None:
    """Forget what was measured (the clocks' difference stays known) and size the buffer anew."""
    state = drift[0]
    state[DELAY] = state[SEEN] = state[ROUNDS] = state[ASTRAY] = 0
    state[SPEED], state[RATIO] = FASTEST, 1.0 + state[INTEGRAL]
    control[ring.TARGET] = control[ring.WINDOW_HOPS] = 0


@inline
def calibrate(control: np.ndarray, drift: Bundle, memory: np.ndarray) -> None:
    """After each of the first windows note the player's smallest reserve; then give back what was never needed."""
    state = drift[0]
    rounds, delay = int(state[ROUNDS]), int(state[DELAY])
    if control[ring.FIXED_TARGET] > 0:
        control[ring.TARGET] = control[ring.FIXED_TARGET]
        move(control, memory, control[ring.TARGET] - delay)
    else:
        state[FIRST_ROUND + rounds] = control[ring.SLACK]
        store_release(control, ring.SLACK_ROUND_WANTED, control[ring.SLACK_ROUND_WANTED] + 1)
        state[ROUNDS] = rounds + 1
        if rounds + 1 == SETTLED_ROUNDS:
            state[SEEN] = 0  # Only what follows counts.
        if rounds + 1 < CALIBRATION_ROUNDS:
            return
        least, second = state[FIRST_ROUND + SETTLED_ROUNDS], 1e9  # One stall must not size the buffer.
        for k in range(SETTLED_ROUNDS + 1, CALIBRATION_ROUNDS):
            v = state[FIRST_ROUND + k]
            if v < least:
                least, second = v, least
            else:
                second = min(second, v)
        change = max(control[ring.RESERVE] - int(second), control[ring.WANTED] - delay)
        if (
            delay + change < control[ring.RESERVE]
        ):  # More was ready than was under way: it has changed, so measure again.
            state[SEEN] = state[ROUNDS] = 0
            return
        control[ring.TARGET] = delay + change
        move(control, memory, change)
    state[DELAY] = control[ring.TARGET]


@jit
def steer(control: np.ndarray, drift: Bundle, memory: np.ndarray) -> None:
    """Once a hop measure the delay; once a window set the ratio, or jump where steering would take too long."""
    if control[ring.CUT_WANTED] != load_acquire(control, ring.CUT_DONE):
        control[ring.WINDOW_HOPS] = 0
        return
    state, delay = drift[0], measured_delay(control)
    if control[ring.WINDOW_HOPS] == 0:
        state[SUM] = 0.0
    state[SUM] += delay
    control[ring.WINDOW_HOPS] += 1
    if control[ring.WINDOW_HOPS] < WINDOW_HOPS:
        return

    # A window's mean is free of the sawtooth that bursts draw; a window with a stall in it may lie, but not by much.
    control[ring.WINDOW_HOPS] = 0
    tail = load_acquire(control, ring.OUT_TAIL)
    stands, state[TAIL] = tail == state[TAIL], tail
    rate, target, speed = control[ring.RATE], control[ring.TARGET], state[SPEED]
    if stands:  # The output takes nothing yet, or no longer, so there is no delay to measure.
        state[SEEN] = state[ROUNDS] = 0
        if target == 0:  # Let nothing accumulate meanwhile.
            store_release(control, ring.OUT_HEAD, tail + control[ring.PREFILL])
        return
    window_s = WINDOW_HOPS * (drift[1].shape[1] - TAPS) / rate
    state[SEEN] += 1
    if state[SEEN] == 1:
        state[DELAY] = state[SUM] / WINDOW_HOPS
    surprise, most = state[SUM] / WINDOW_HOPS - state[DELAY], LARGEST_SURPRISE_MS * 1e-3 * rate
    # At first the mean of all windows, then a pole well above the loop's.
    share = max(4 * speed * window_s, 1 / state[SEEN])
    state[DELAY] += share * min(max(surprise, -most), most)
    if target == 0:
        calibrate(control, drift, memory)
        return
    mean = int(state[SUM] / WINDOW_HOPS)
    state[ASTRAY] = state[ASTRAY] + 1 if abs(mean - target) > JUMP_MS * 1e-3 * rate else 0
    if state[ASTRAY] == ASTRAY_WINDOWS:
        control[ring.RESYNCS] += 1
        move(control, memory, target - mean)
        state[DELAY], state[ASTRAY] = target, 0
        return
    error = state[DELAY] - target
    state[INTEGRAL] -= speed * speed / rate * error * window_s
    state[INTEGRAL] = min(max(state[INTEGRAL], -LARGEST_OFFSET), LARGEST_OFFSET)
    change = state[INTEGRAL] - 2 * DAMPING * speed / rate * error
    state[RATIO] = 1 + min(max(change, -LARGEST_OFFSET), LARGEST_OFFSET)
    state[SPEED] = max(SLOWEST, speed * SLOW_DOWN)
