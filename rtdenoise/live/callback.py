"""PortAudio callbacks as machine code: they copy, count and post a semaphore, and never touch Python.

A callback written in Python drops audio whenever any thread holds the GIL. These are numba ``cfunc``s over the memory
of `rtdenoise.live.ring`: no lock, no allocation, no system call but the semaphore's post.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rtdenoise.live import ring
from rtdenoise.live.ring import Rings, count_duration, now_ns
from rtdenoise.native import compilation
from rtdenoise.native.compilation import carray
from rtdenoise.native.fft import inline
from rtdenoise.native.intrinsics import call3, load_acquire, pointer, store_release

if TYPE_CHECKING:
    import sounddevice as sd

Kind = Literal["duplex", "input", "output"]
Address: TypeAlias = Any  # A C pointer, which exists in compiled code only.
INPUT_FLAGS, OUTPUT_FLAGS = 0b0011, 0b1100  # PortAudio's under- and overflow bits
CONTINUE = 0  # paContinue
FADE_STEP = np.float32(1 / ring.FADE_FRAMES)
# Per frame: a dropout begins with a fall of 1.5 ms from the last sample instead of a click.
DECAY = np.float32(0.94)


@inline
def capture(control: np.ndarray, source: Address, frames: int) -> int:
    """Copy ``frames`` device frames at address ``source`` into the captured ring."""
    began = now_ns(control, ring.CAPTURE_SCRATCH)
    channels, device_channels = control[ring.CHANNELS], control[ring.CAPTURE_CHANNELS]
    capacity, head = control[ring.CAPACITY], control[ring.IN_HEAD]
    heard = carray(source, (frames, device_channels), np.float32)
    memory = carray(pointer(control[ring.CAPTURED]), (capacity, channels), np.float32)
    at = head % capacity
    for i in range(frames):
        for c in range(channels):
            memory[at, c] = heard[i, c % device_channels]
        at += 1
        if at == capacity:
            at = 0
    control[ring.IN_TIME] = began
    control[ring.IN_BLOCK] = max(control[ring.IN_BLOCK], frames)
    store_release(control, ring.IN_HEAD, head + frames)
    return began


@inline
def control_of(user: Address, slot: int) -> np.ndarray:
    """The control block that a callback was given. The first call notes in ``slot`` which thread calls, so that it can
    be given priority; later ones only look."""
    control: np.ndarray = carray(user, (ring.SLOTS,), np.int64)
    if control[slot] == 0 and control[ring.THREAD_ID] != 0:
        store_release(control, slot, call3(control[ring.THREAD_ID], (0, 0, 0)) & 0x7FFFFFFF)
    return control


@inline
def count_time(control: np.ndarray, times: int, took_ns: int) -> None:
    """Count how long a callback took in the histogram whose address is in slot ``times``."""
    count_duration(carray(pointer(control[times]), (ring.HISTOGRAM_BINS,), np.int64), took_ns)


@inline
def wake_worker(control: np.ndarray, frames: int) -> None:
    """When the last ``frames`` completed a hop, and it has all that it waits for; last of all, since the worker may
    take this core at once."""
    head, hop = control[ring.IN_HEAD], control[ring.HOP]
    gathered = hop * max(1, control[ring.GATHER])
    if head // hop != (head - frames) // hop and head - load_acquire(control, ring.IN_TAIL) >= gathered:
        call3(control[ring.POST], (control[ring.SEMAPHORE], 1, 0))


@inline
def play(control: np.ndarray, target: Address, frames: int) -> int:
    """Write the next ``frames`` frames of the played ring to address ``target``, and a fade where there are none."""
    began = now_ns(control, ring.PLAY_SCRATCH)
    channels, device_channels = control[ring.CHANNELS], control[ring.PLAY_CHANNELS]
    capacity, tail = control[ring.CAPACITY], control[ring.OUT_TAIL]
    wanted_round = load_acquire(control, ring.SLACK_ROUND_WANTED)
    cut = load_acquire(control, ring.CUT_WANTED) - control[ring.CUT_DONE]
    head = load_acquire(control, ring.OUT_HEAD)
    heard = carray(target, (frames, device_channels), np.float32)
    memory = carray(pointer(control[ring.PLAYED]), (capacity, channels), np.float32)
    last = carray(pointer(control[ring.LAST_FRAME]), (channels,), np.float32)

    if cut > 0 and head - tail < cut + frames:
        cut = 0  # What is to be skipped, or what follows it, has not been written yet.
    ready = min(max(head - tail - cut, 0), frames)
    fade = control[ring.FADE]
    for i in range(frames):
        mix = np.float32(i + 1) / np.float32(frames)
        fade = min(fade + 1, ring.FADE_FRAMES) if i < ready else 0
        level = np.float32(fade) * FADE_STEP
        at = (tail + i) % capacity
        skipped_to = (tail + i + cut) % capacity
        for c in range(channels):
            if i < ready:
                value = memory[at, c]
                if cut > 0:
                    value += mix * (memory[skipped_to, c] - value)
                last[c] = value * level
            else:
                last[c] *= DECAY
        for c in range(device_channels):
            heard[i, c] = min(max(last[c % channels], np.float32(-1)), np.float32(1))
    control[ring.FADE] = fade

    slack = head - tail - cut - frames
    if control[ring.SLACK_ROUND] != wanted_round:
        control[ring.SLACK_ROUND] = wanted_round
        control[ring.SLACK] = slack
    control[ring.SLACK] = min(control[ring.SLACK], slack)
    control[ring.HEARD_FRAMES] += ready
    if ready < frames and load_acquire(control, ring.PRIMED):
        control[ring.UNDERRUNS] += 1
        control[ring.DROPOUT_FRAMES] += frames - ready
    control[ring.OUT_TIME] = began
    control[ring.OUT_BLOCK] = max(control[ring.OUT_BLOCK], frames)
    store_release(control, ring.OUT_TAIL, tail + cut + frames)
    # This comes last, so that whoever sees it sees the new tail too.
    store_release(control, ring.CUT_DONE, control[ring.CUT_DONE] + cut)
    return began


ULONG = f"uint{8 * ctypes.sizeof(ctypes.c_ulong)}"  # 64 bits, on Windows 32
SIGNATURE = f"intc(voidptr, voidptr, {ULONG}, voidptr, {ULONG}, voidptr)"
# Frames come as C's unsigned long, whose sums with signed numbers would be floats: hence np.int64 in each callback.
native = compilation.callback(SIGNATURE, error_model="numpy")


@native
def input_callback(source: Address, target: Address, frames: int, times: Address, flags: int, user: Address) -> int:
    control = control_of(user, ring.CAPTURE_THREAD)
    control[ring.IN_XRUNS] += (flags & INPUT_FLAGS) != 0
    count = int(np.int64(frames))
    began = capture(control, source, count)
    count_time(control, ring.CAPTURE_TIMES, now_ns(control, ring.CAPTURE_SCRATCH) - began)
    wake_worker(control, count)
    return CONTINUE


@native
def output_callback(source: Address, target: Address, frames: int, times: Address, flags: int, user: Address) -> int:
    control = control_of(user, ring.PLAY_THREAD)
    control[ring.OUT_XRUNS] += (flags & OUTPUT_FLAGS) != 0
    began = play(control, target, int(np.int64(frames)))
    count_time(control, ring.PLAY_TIMES, now_ns(control, ring.PLAY_SCRATCH) - began)
    return CONTINUE


@native
def duplex_callback(source: Address, target: Address, frames: int, times: Address, flags: int, user: Address) -> int:
    control = control_of(user, ring.PLAY_THREAD)
    control[ring.IN_XRUNS] += (flags & INPUT_FLAGS) != 0
    control[ring.OUT_XRUNS] += (flags & OUTPUT_FLAGS) != 0
    count = int(np.int64(frames))
    began = capture(control, source, count)
    play(control, target, count)
    count_time(control, ring.PLAY_TIMES, now_ns(control, ring.PLAY_SCRATCH) - began)
    wake_worker(control, count)
    return CONTINUE


CALLBACKS = {"duplex": duplex_callback, "input": input_callback, "output": output_callback}


def entry(kind: Kind, rings: Rings) -> tuple[int, int]:
    """The address of a callback over ``rings``, and the user data it is to be given."""
    return CALLBACKS[kind].address, rings.address


def open_stream(kind: Kind, rings: Rings, **settings: Any) -> sd._StreamBase:
    """A PortAudio stream over ``rings``; ``settings`` are sounddevice's (device, samplerate, channels, ...).

    sounddevice's public classes only take Python callbacks; its base class takes any.
    """
    import sounddevice as sd

    address, user = entry(kind, rings)
    return sd._StreamBase(
        kind=kind,
        dtype="float32",
        wrap_callback=None,
        callback=sd._ffi.cast("PaStreamCallback*", address),
        userdata=sd._ffi.cast("void*", user),
        **settings,
    )
