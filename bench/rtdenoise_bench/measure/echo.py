"""Rows of `rtdenoise-bench stress` for loudspeakers without headphones: how much of a far voice comes back, and how
much of a near voice stays while both speak; what the server's canceller does, what the filter does, and both.

The far voice plays on one null sink, which the microphone, another one's monitor, hears 6 dB quieter. First it speaks
alone, then the near voice as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.signal import resample_poly, stft

from rtdenoise import denoise
from rtdenoise.model.registry import DEFAULT_MODEL
from rtdenoise_bench.measure import probes, recordings
from rtdenoise_bench.measure.correlation import RATE
from rtdenoise_bench.report.table import Row
from rtdenoise_bench.testbed import servers

LOUDSPEAKERS, MICROPHONE = "A", "B"
SOURCES = (f"{MICROPHONE}.monitor", "rtdenoise-echo-source", "rtdenoise_microphone")
ECHO_DB, LEAST_DB, MOST_LOST_DB = -6.0, 20.0, 2.0
ALONE_S, BOTH_S = 12.0, 9.5
ADAPTS_S, MARGIN_S = 6.0, 0.3  # Attenuation is judged by what comes after so long, and ends before the near voice.
FRAME, CREEP = 1024, 960  # samples
WINDOW_S = 0.5  # of which the latency is the median
NOISE_LIKE_HZ = 3500, 8000  # where what a voice does is mostly breath: s, f, t
NEAR_ABOVE_FAR = 10.0  # in power: where the near voice is so much louder, what comes out is it


@contextlib.contextmanager
def room(env: dict[str, str]) -> Iterator[None]:
    """What the loudspeakers play is heard at the microphone."""

    def pactl(*argv: str) -> str:
        return subprocess.run(["pactl", *argv], env=env, capture_output=True, text=True, check=True).stdout.strip()

    pactl("set-default-sink", LOUDSPEAKERS)
    ends = f"source={LOUDSPEAKERS}.monitor", f"sink={MICROPHONE}", "source_dont_move=1", "sink_dont_move=1"
    module = pactl("load-module", "module-loopback", *ends, "latency_msec=10")
    try:
        stream = pactl("list", "short", "sink-inputs").splitlines()[-1].split()[0]
        pactl("set-sink-input-volume", stream, f"{ECHO_DB}dB")
        yield
    finally:
        pactl("unload-module", module)


def voices() -> tuple[np.ndarray, np.ndarray]:
    """A near voice, and a far one for as long as both speak, which is lower and says the same backwards."""
    near = np.tile(recordings.example_clips()[1], 4)
    return near[: int(BOTH_S * RATE)], np.tile(resample_poly(near[::-1], 5, 4), 2).astype(np.float32)


def heard(env: dict[str, str], model: str) -> tuple[list[np.ndarray], float | None, float]:
    """The microphone, behind the canceller, and behind the filter as well; how much the canceller adds, in ms, as the
    product found and printed it, and as these recordings have it."""
    near, far = voices()
    ends = ["--in", SOURCES[0], "--out", "virtual-mic", "--echo-cancel", "--json", "--model", model]
    line = [sys.executable, "-m", "rtdenoise", *ends]
    with (
        room(env),
        subprocess.Popen(line, env=env | probes.import_path(), stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stdout
            with recordings.pulse_playing(env, MICROPHONE, near, times=10):  # By what it hears the latency is found.
                while '"running"' not in (said := process.stdout.readline()):
                    assert process.poll() is None, "the product did not start"
            with recordings.pulse_playing(env, LOUDSPEAKERS, far):
                time.sleep(1)
                recorders = [recordings.Recorder(env, source) for source in SOURCES]
                time.sleep(ALONE_S)
                both = time.monotonic()
                with recordings.pulse_playing(env, MICROPHONE, near):
                    time.sleep(BOTH_S + 2)
            taken = [recorder.stop() for recorder in recorders]
            delay = recordings.align(taken[0], taken[1], both, both + BOTH_S, WINDOW_S)
            return [each.samples for each in taken], json.loads(said)["echo_cancel_ms"], delay.median_ms
        finally:
            process.terminate()
            process.communicate(timeout=30)


def echo(args: argparse.Namespace) -> list[Row]:
    near, rows = voices()[0], []
    model = args.model or DEFAULT_MODEL
    kept_alone = kept_db(near, denoise(near, RATE, model))
    for name in ("pulseaudio", "pipewire"):
        if servers.missing(name):
            continue
        with getattr(servers, name)() as env:
            (microphone, *stages), printed_ms, added_ms = heard(env, model)
        began = lag(near, microphone)
        alone = slice(began - int(ADAPTS_S * RATE), began - int(MARGIN_S * RATE))
        both = microphone[began : began + len(near)]
        filtered = kept_db(near, denoise(both, RATE, model))
        for stage, sound in zip(("canceller", "canceller and filter"), stages, strict=True):
            shift = lag(microphone, sound)
            left, right = alone.start + shift, alone.stop + shift
            down_db = level_db(microphone[alone]) - level_db(sound[left:right])
            out = sound[began + shift : began + shift + len(near)]
            whole, breath = kept_db(near[: len(out)], out)
            loud = dominated_db(near[: len(out)], both[: len(out)], out)
            besides = f"near voice {whole:+.1f} dB ({breath:+.1f} where noise-like, {loud:+.1f} where it is the louder)"
            limit, ok = "", None
            if sound is stages[-1]:
                limit = f">= {LEAST_DB:g} dB, near voice >= -{MOST_LOST_DB:g} dB"
                ok = bool(down_db >= LEAST_DB and whole >= -MOST_LOST_DB)
            rows.append(Row(f"{name}, echo behind {stage}", f"{down_db:.1f} dB down; {besides}", limit, ok))
        printed = "unknown" if printed_ms is None else f"{printed_ms:.1f} ms"
        measured = f"{printed} as the product prints it; {added_ms:.1f} ms between two recordings"
        rows.append(Row(f"{name}, latency that the canceller adds", measured))
        of = "near voice {:+.1f} dB ({:+.1f} where noise-like)".format
        besides = f"while both speak; {of(*kept_alone)} alone"
        rows.append(Row(f"{name}, the filter without a canceller", f"{of(*filtered)} {besides}"))
    return rows


def level_db(x: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-12))


def lag(reference: np.ndarray, x: np.ndarray) -> int:
    """At which sample of ``x`` the ``reference`` begins."""
    length = len(reference) + len(x)
    cross = np.fft.irfft(np.conj(np.fft.rfft(reference, length)) * np.fft.rfft(x, length), length)
    best = int(np.argmax(np.abs(cross)))
    return best - length if best > length // 2 else best


def kept_db(near: np.ndarray, out: np.ndarray) -> tuple[float, float]:
    """How much of the near voice is in ``out``: its projection there, over the whole passage, in each bin of
    frequency, which phases that a filter bank turns do not lower; and the same of what is noise-like.

    Each second is laid on the voice by itself, since the clocks of two sinks creep against each other.
    """
    near, out = _together(near, out)
    power, of_near = np.zeros(FRAME // 2 + 1), np.zeros(FRAME // 2 + 1)
    for begin in range(0, len(near) - RATE + 1, RATE):
        voice, nearby = near[begin : begin + RATE], out[max(0, begin - CREEP) : begin + RATE + CREEP]
        x, y = (stft(sound, RATE, nperseg=FRAME)[2] for sound in _together(voice, nearby))
        loud = np.sum(np.square(np.abs(x)), axis=1)
        power += loud
        of_near += np.square(np.abs(np.sum(y * np.conj(x), axis=1))) / (loud + 1e-20)
    low, high = (round(hz * FRAME / RATE) for hz in NOISE_LIKE_HZ)
    whole, breath = (
        10 * float(np.log10(of_near[bins].sum() / power[bins].sum())) for bins in (slice(None), slice(low, high))
    )
    return whole, breath


def dominated_db(near: np.ndarray, both: np.ndarray, out: np.ndarray) -> float:
    """The level of ``out`` against the microphone where that hears the near voice alone, or nearly so."""
    both, out = _together(both, out)
    alone, mixed, result = (stft(s, RATE, nperseg=FRAME)[2] for s in (near, both, out))
    alone, mixed, result = (s[:, : min(alone.shape[1], mixed.shape[1])] for s in (alone, mixed, result))
    near_only = np.square(np.abs(alone)) > NEAR_ABOVE_FAR * np.square(np.abs(mixed - alone))
    return 10 * float(np.log10(np.square(np.abs(result))[near_only].sum() / np.square(np.abs(mixed))[near_only].sum()))


def _together(reference: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``reference``, and the part of ``x`` that lies at it."""
    shift = lag(reference, x)
    x = np.pad(x, (max(0, -shift), len(reference)))[max(0, shift) :]
    return reference, x[: len(reference)]


ROWS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"echo": echo}
