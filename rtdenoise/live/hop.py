"""What happens with each hop, as compiled code: read and analyse, decide, blend, synthesise, hand on.

    captured ring ─▶ open_hops ─▶ RUN, HOLD or PASS ─▶ (model step) ─▶ close_hops ─▶ played ring, recorded ring

Sound servers deliver blocks of one to several hops. Those that lie ready go through the model in one step, which costs
less than a step for each: every step reads all the weights.

Under overload the model is skipped and its last gains are held, which costs 2 % of a step: when frames pile up, when
a hop would not be done when it is needed, and, after a step that outlasted the whole buffer, for a growing number of
hops. A model with look-ahead then first answers for frames that lie before the gap; their place is filled with held
gains too. Knows no thread and no model; both are `rtdenoise.live.worker`'s.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rtdenoise.core.frames import begin, finish
from rtdenoise.core.stft import HOP
from rtdenoise.live import ring
from rtdenoise.live.drift import move, resample, restart, steer
from rtdenoise.live.ring import count_duration, now_ns
from rtdenoise.live.trace import ACTION, BLENDED, IN_AT, OUT_AT, WRITTEN, record, record_time, repeat_times
from rtdenoise.native.fft import Bundle, inline, jit
from rtdenoise.native.intrinsics import load_acquire, store_release

# What to do with a hop: there is none, step the model, reuse its last gains, or pass the input.
NOTHING, RUN, HOLD, PASS = range(4)
MOST_PATIENCE = 255  # A model that is far too slow is tried again after this many hops, about a second.
FORGETTING = 64  # After each hop with reused gains a slow model is expected to be faster by one part in this many.
GAIN_MEMORY = np.float32(0.5)  # Per hop: reused gains are those of the last 8 ms or so.
LEVEL_MEMORY = 0.9  # Per hop: the meters are smoothed over about 40 ms.
IN_POWER, OUT_POWER = range(2)  # The slots of the meters, which hold smoothed mean squares.


class HopBuffers(NamedTuple):
    """The memory that hops are worked on in, as one argument of compiled code.

    Attributes
    ----------
    control, captured, played, recorded : ndarray
        The control block and the rings (`rtdenoise.live.ring.Rings`).
    denoise : tuple
        The filter's own memory (`rtdenoise.core.hop_denoiser.HopDenoiser.hop_arguments`).
    drift : tuple
        The resampler's memory (`rtdenoise.live.drift.Drift.arguments`).
    gains : ndarray
        Smoothed gain of each bin, which stands in for a model that is skipped.
    y : ndarray
        Output of the hops at hand.
    meters : ndarray
        Smoothed mean squares of input and output.

    Shape
    -----
    ``gains`` float32 ``[channels, bins]``, ``y`` float32 ``[hops * hop, channels]``, ``meters`` float64 ``[2]``; the
    rings float32 ``[frames, channels]``.
    """

    control: np.ndarray
    captured: np.ndarray
    played: np.ndarray
    recorded: np.ndarray
    denoise: Bundle
    drift: Bundle
    gains: np.ndarray
    y: np.ndarray
    meters: np.ndarray


@jit
def anchor(control: np.ndarray, hop: int, drift: Bundle, played: np.ndarray) -> bool:
    """Tie the two timelines together when streams (re)start; false while a device is not yet running."""
    wanted = load_acquire(control, ring.ANCHOR)
    if control[ring.ANCHORED] == wanted:
        return True
    head = load_acquire(control, ring.IN_HEAD)
    waiting = head - control[ring.IN_TAIL]
    if control[ring.SPLIT]:
        control[ring.IN_TAIL] += waiting // hop * hop  # Nothing that was captured before is of use.
        if control[ring.IN_TIME] == 0 or control[ring.OUT_TIME] == 0:
            return False
        start = load_acquire(control, ring.OUT_TAIL) + control[ring.PREFILL]
        restart(control, drift)
    elif control[ring.FILE_END] == ring.FILE_IN:  # After a dropout a file continues where it was.
        if control[ring.OUT_TIME] == 0:
            return False
        start = load_acquire(control, ring.OUT_TAIL) + control[ring.PREFILL]
    else:
        # Both sides advance in one callback, always by the same count. Before a callback of b frames the worker has had
        # all earlier ones; what it then still holds back is less than it waits for, in steps of gcd(b, hop).
        if control[ring.PREFILL] == 0:
            control[ring.SIZED_FOR] = block = control[ring.IN_BLOCK]
            b, rest = block, hop
            while rest:
                b, rest = rest, b % rest
            gathered = hop * max(1, control[ring.GATHER])
            control[ring.PREFILL] = max(block + gathered - b + control[ring.RESERVE], control[ring.WANTED])
        start = control[ring.IN_TAIL] + control[ring.PREFILL]
        move(control, played, max(0, start - control[ring.OUT_HEAD]))  # Between lies what was played a second ago.
    store_release(control, ring.OUT_HEAD, start)
    control[ring.ANCHORED] = wanted
    store_release(control, ring.PRIMED, 1)
    return True


@jit
def open_hops(buffers: HopBuffers, most: int) -> tuple[int, int]:
    """Take the hops that lie ready, up to ``most``, as far as the model's input; returns what to do with them and how
    many there are. More than one only where the model runs. `close_hops` moves on in the captured ring."""
    control, captured, drift = buffers.control, buffers.captured, buffers.drift
    full, noisy, _, _, _, _, stft, _ = buffers.denoise
    hop, capacity = stft[0][HOP], captured.shape[0]
    if not anchor(control, hop, drift, buffers.played):
        return NOTHING, 0
    head, tail = load_acquire(control, ring.IN_HEAD), control[ring.IN_TAIL]
    if head - tail > capacity // 2:  # After so long a stall the ring may have overflowed: skip it.
        skip = (head - tail) // hop * hop
        control[ring.SKIPPED_FRAMES] += skip
        if not control[ring.SPLIT]:
            store_release(control, ring.OUT_HEAD, control[ring.OUT_HEAD] + skip)
        tail += skip
        control[ring.IN_TAIL] = tail
    gathered = hop * max(1, control[ring.GATHER])
    if head - tail < gathered:
        return NOTHING, 0
    first = tail % capacity
    action, count = RUN, min(most, min(head - tail, capacity - first) // hop)
    if control[ring.STATUS] != 0:
        action = PASS
    elif control[ring.HOLDING] > 0:
        control[ring.HOLDING] -= 1
        action = HOLD
    else:
        behind = head - tail - gathered >= max(
            control[ring.IN_BLOCK], max(control[ring.PREFILL], control[ring.TARGET]) // 2
        )
        if behind or too_late(control, hop, count):
            control[ring.STEP_NS] -= control[ring.STEP_NS] // FORGETTING  # The model will be tried again.
            action = HOLD
    if action != RUN:
        count = 1
    begin(captured, first, count, full, noisy[count - 1], stft)
    return action, count


@inline
def too_late(control: np.ndarray, hop: int, count: int) -> bool:
    """Whether model steps, the next one of ``count`` hops, would not be done when the next play callback needs what is
    still to come."""
    played_to = load_acquire(control, ring.OUT_TAIL)
    needed = played_to + control[ring.OUT_BLOCK] - control[ring.OUT_HEAD]
    if needed <= 0:
        return False
    due_ns = control[ring.OUT_TIME] + control[ring.OUT_BLOCK] * 1_000_000_000 // control[ring.RATE]
    steps = max(1, (needed + hop - 1) // hop - (count - 1))
    done_ns = now_ns(control, ring.WORKER_SCRATCH) + steps * control[ring.STEP_NS]
    return bool(done_ns > due_ns and control[ring.STEP_NS] > 0)


@jit
def judge_step(control: np.ndarray, hop: int, count: int, took_ns: int, times: np.ndarray) -> None:
    """Note the time of a model step of ``count`` hops, in the histogram as time a hop; a step that outlasted the buffer
    is not tried again for a while."""
    for _ in range(count):
        count_duration(times, took_ns // count)
    usual, hop_ns = control[ring.STEP_NS], hop * 1_000_000_000 // control[ring.RATE]
    if took_ns > usual:  # Trust a slow step soon, but not a single stall of the machine.
        control[ring.STEP_NS] = usual + (min(took_ns, 2 * usual + hop_ns // 4) - usual) // 2
    else:
        control[ring.STEP_NS] = usual + (took_ns - usual) // 8
    frames = took_ns * 1e-9 * control[ring.RATE]
    if frames > max(hop, max(control[ring.PREFILL], control[ring.TARGET])):
        control[ring.PATIENCE] = min(2 * control[ring.PATIENCE] + 1, MOST_PATIENCE)
        control[ring.HOLDING] = control[ring.PATIENCE]
    elif frames < count * hop:
        control[ring.PATIENCE] = 0


@jit
def remember_gains(full: np.ndarray, enhanced: np.ndarray, f: int, gains: np.ndarray) -> None:
    for c in range(gains.shape[0]):
        for k in range(min(full.shape[2], gains.shape[1])):
            before = full[c, f, k, 0] ** 2 + full[c, f, k, 1] ** 2
            after = enhanced[c, f, k, 0] ** 2 + enhanced[c, f, k, 1] ** 2
            gain = np.float32(1)
            if after < before:  # This is false too where the model's output is NaN.
                gain = np.sqrt(after / before)
            gains[c, k] += GAIN_MEMORY * (gain - gains[c, k])


@jit
def reuse_gains(full: np.ndarray, enhanced: np.ndarray, f: int, gains: np.ndarray) -> None:
    for c in range(gains.shape[0]):
        for k in range(min(full.shape[2], gains.shape[1])):
            enhanced[c, f, k, 0] = full[c, f, k, 0] * gains[c, k]
            enhanced[c, f, k, 1] = full[c, f, k, 1] * gains[c, k]


@jit
def pass_input(full: np.ndarray, enhanced: np.ndarray, f: int) -> None:
    """By single values: an assignment of slices can fail, and compiling the words it would say takes seconds."""
    for c in range(full.shape[0]):
        for k in range(min(full.shape[2], enhanced.shape[2])):
            enhanced[c, f, k, 0] = full[c, f, k, 0]
            enhanced[c, f, k, 1] = full[c, f, k, 1]


@jit
def close_hops(buffers: HopBuffers, action: int, count: int, trace: np.ndarray | None) -> None:
    """Finish the hops that `open_hops` began and hand them to the play callback and to the recording, one by one."""
    control, gains, y = buffers.control, buffers.gains, buffers.y
    full, _, all_enhanced, mix, cut, top_gain, stft, istft = buffers.denoise
    enhanced, hop, look_ahead = all_enhanced[count - 1], stft[0][HOP], stft[6].shape[1]
    if action == RUN:
        for f in range(count):
            if control[ring.STALE] > 0:
                control[ring.STALE] -= 1
                reuse_gains(full, enhanced, f, gains)
            else:
                remember_gains(full, enhanced, f, gains)
    else:
        control[ring.STALE] = look_ahead
        if action == HOLD:
            control[ring.REUSED_GAINS] += 1
            reuse_gains(full, enhanced, 0, gains)
        else:
            pass_input(full, enhanced, 0)
    control[ring.FAULTS] += finish(full, enhanced, count, mix, cut, top_gain, y, 0, count * hop, istft)
    for f in range(count):
        if f:
            repeat_times(trace, control)
        measure_input(control, buffers.captured, hop, buffers.meters)
        record_time(trace, control, BLENDED)
        mute(control, y[f * hop : (f + 1) * hop])
        hand_on(buffers, y[f * hop : (f + 1) * hop], action, trace)


@jit
def mute(control: np.ndarray, y: np.ndarray) -> None:
    """Silence a hop of output while MUTED says so; in between lies a fade with the slope of a cosine."""
    fade = ring.MUTE_HOPS * y.shape[0]
    done, step = control[ring.MUTE_FADE], 1 if load_acquire(control, ring.MUTED) else -1
    if done == 0 and step < 0:
        return
    for i in range(y.shape[0]):
        done = min(max(done + step, 0), fade)
        gain = np.float32(0)
        if done < fade:
            gain = np.float32(0.5 + 0.5 * np.cos(np.pi * done / fade))
        for c in range(y.shape[1]):
            y[i, c] *= gain
    control[ring.MUTE_FADE] = done


@jit
def hand_on(buffers: HopBuffers, y: np.ndarray, action: int, trace: np.ndarray | None) -> None:
    """Give one hop of output to the recording and to the play callback, and count it."""
    control, played, recorded = buffers.control, buffers.played, buffers.recorded
    drift, meters = buffers.drift, buffers.meters
    hop, channels = y.shape
    power = 0.0
    for i in range(hop):
        for c in range(channels):
            power += y[i, c] * y[i, c]
    meters[OUT_POWER] += (1 - LEVEL_MEMORY) * (power / y.size - meters[OUT_POWER])

    if recorded.shape[0] > 0:
        first = control[ring.RECORDED_HEAD] % recorded.shape[0]
        for i in range(hop):
            for c in range(channels):
                recorded[first + i, c] = y[i, c]
        store_release(control, ring.RECORDED_HEAD, control[ring.RECORDED_HEAD] + hop)

    store_release(control, ring.IN_TAIL, control[ring.IN_TAIL] + hop)
    head, capacity = control[ring.OUT_HEAD], played.shape[0]
    if control[ring.FILE_END] == ring.FILE_OUT:
        control[ring.OUT_HEAD] = head + hop
    elif head - load_acquire(control, ring.OUT_TAIL) > capacity - 2 * hop:  # Nobody plays, so keep the newest second.
        control[ring.SKIPPED_FRAMES] += hop
    elif control[ring.SPLIT]:
        store_release(control, ring.OUT_HEAD, head + resample(y, drift, played, head))
    else:
        for i in range(hop):
            for c in range(channels):
                played[(head + i) % capacity, c] = y[i, c]
        store_release(control, ring.OUT_HEAD, head + hop)
    if control[ring.SPLIT]:
        steer(control, drift, played)
    control[ring.OFFSET] = control[ring.OUT_HEAD] - control[ring.IN_TAIL]
    record(trace, control, IN_AT, control[ring.IN_TAIL] - hop)
    record(trace, control, OUT_AT, head)
    record(trace, control, ACTION, action)
    record_time(trace, control, WRITTEN)
    control[ring.HOPS] += 1


@jit
def measure_input(control: np.ndarray, captured: np.ndarray, hop: int, meters: np.ndarray) -> None:
    """Level of the hop at hand, the first in the captured ring."""
    first, power = control[ring.IN_TAIL] % captured.shape[0], 0.0
    for i in range(hop):
        for c in range(captured.shape[1]):
            v = captured[first + i, c]
            power += v * v
    if np.isfinite(power):
        meters[IN_POWER] += (1 - LEVEL_MEMORY) * (power / (hop * captured.shape[1]) - meters[IN_POWER])
