"""Delay and dropouts of a running product, measured from outside: noise in, recordings of both ends, cross-
correlation."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtdenoise.errors import RtdenoiseError
from rtdenoise_bench.servers import wait_for_jack_connection

RATE = 48_000
LEVEL = 0.15  # RMS
SETTLE_S = 2.5  # a session sizes its buffer in its first second
START_S = 6.0  # what the command may take to start on a busy machine
CLEAN = 0.97  # correlation of a window that holds the whole signal and nothing else
SPEECH_SHARE = 0.03  # of the loudest window's energy, from which on a window holds speech
LIKE = 0.6  # correlation from which on a window of speech tells its own place
PLACED = 0.5  # correlation from which on a window's delay means something
CREEP_S = 4.0  # over which a server's clock is smoothed
LOOK_BACK_S, LOOK_AHEAD_S = 1.2, 0.02  # delays that can be seen; negative ones tell how well two clocks were aligned


@dataclass(frozen=True)
class Delay:
    """Delay over time: ``at_s`` (monotonic clock), ``ms`` and ``correlation`` of each window, float64 ``[windows]``."""

    at_s: np.ndarray
    ms: np.ndarray
    correlation: np.ndarray

    @property
    def placed(self) -> np.ndarray:
        return self.ms[self.correlation > PLACED]

    @property
    def median_ms(self) -> float:
        return float(np.median(self.placed)) if len(self.placed) else float("nan")

    @property
    def clean_share(self) -> float:
        return float(np.mean(self.correlation > CLEAN)) if len(self.correlation) else 0.0

    def after(self, at_s: float) -> Delay:
        keep = self.at_s >= at_s
        return Delay(self.at_s[keep], self.ms[keep], self.correlation[keep])

    def summary(self) -> str:
        low, high = (self.placed.min(), self.placed.max()) if len(self.placed) else (float("nan"),) * 2
        return f"{self.median_ms:.2f} ms ({low:.2f} to {high:.2f}), {100 * self.clean_share:.0f} % of windows clean"


def correlate(
    reference: np.ndarray,
    heard: np.ndarray,
    starts: np.ndarray,
    window: int,
    rate: int = RATE,
    sought: np.ndarray | None = None,
) -> tuple:
    """For windows of ``heard`` at ``starts``: how many ms later they are than in ``reference``, and the correlation.

    ``sought``: places in ``reference`` that mean no delay; None: the same as ``starts``.
    """
    back, ahead = int(LOOK_BACK_S * rate), int(LOOK_AHEAD_S * rate)
    delays, correlations = [], []
    for start, place in zip(starts, starts if sought is None else sought, strict=True):
        first = max(0, place - back)
        segment, past = heard[start : start + window], reference[first : max(0, place + window + ahead)]
        energy = np.linalg.norm(segment)
        if len(segment) < window or len(past) < window or energy < 1e-3 * window**0.5:
            delays.append(np.nan)
            correlations.append(0.0)
            continue
        n = 1 << (len(past) + window - 1).bit_length()
        c = np.fft.irfft(np.fft.rfft(past, n) * np.conj(np.fft.rfft(segment, n)), n)[: len(past) - window + 1]
        k = int(np.argmax(c))
        delays.append(1000 * (place - first - k) / rate)
        correlations.append(float(c[k] / energy / (np.linalg.norm(past[k : k + window]) + 1e-9)))
    return np.array(delays), np.array(correlations)


def noise(seconds: float, seed: int = 1) -> np.ndarray:
    """float32 ``[samples]``, up to 3 kHz, so that a delay of half a sample costs no correlation."""
    x = np.random.default_rng(seed).standard_normal(int(RATE * seconds))
    spectrum = np.fft.rfft(x)
    spectrum /= np.sqrt(1 + (np.fft.rfftfreq(len(x), 1 / RATE) / 3000) ** 16)
    x = np.fft.irfft(spectrum, len(x))
    return (LEVEL * np.clip(x / x.std(), -4, 4)).astype(np.float32)


class Recorder:
    """`parec` on a source, with the arrival time of each piece."""

    def __init__(self, env: dict[str, str], source: str, latency_ms: int = 4):
        argv = ["parec", "--raw", "-d", source, "--format=float32le", f"--rate={RATE}", "--channels=1"]
        argv += [f"--latency-msec={latency_ms}"]
        self._process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, bufsize=0)
        self._times: list[float] = []
        self._pieces: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        while piece := os.read(self._process.stdout.fileno(), 65_536):
            self._times.append(time.monotonic())
            self._pieces.append(piece)

    def stop(self) -> Recording:
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        ends = np.cumsum([len(p) // 4 for p in self._pieces])
        late = np.array(self._times) - ends / RATE
        return Recording(np.frombuffer(b"".join(self._pieces), "<f4"), ends, late)


@dataclass(frozen=True)
class Recording:
    """``samples`` and, for the last sample of each piece, its index and arrival time less index / RATE."""

    samples: np.ndarray
    ends: np.ndarray
    late: np.ndarray

    def clock(self, index: np.ndarray) -> np.ndarray:
        """Time minus index / RATE of samples. Pieces arrive late, never early: the earliest of some seconds tell it,
        and how a server's clock creeps (a null sink of PulseAudio does, by up to some hundred ppm)."""
        per_piece = max(1.0, float(np.median(np.diff(self.ends)))) / RATE
        half = max(1, int(min(CREEP_S / per_piece, len(self.late) / 3) / 2))
        centres = np.arange(0, len(self.late), max(1, half // 4))
        earliest = [np.percentile(self.late[max(0, c - half) : c + half + 1], 5) for c in centres]
        steady = np.convolve(np.pad(earliest, 4, "edge"), np.full(9, 1 / 9), "valid")
        return np.interp(index, self.ends[centres], steady)


@contextlib.contextmanager
def pulse_playing(env: dict[str, str], sink: str, samples: np.ndarray, latency_ms: int = 20) -> Iterator[None]:
    """Play float32 samples on a sink while this holds."""
    argv = ["pacat", "-p", "--raw", "-d", sink, "--format=float32le", f"--rate={RATE}", "--channels=1"]
    with tempfile.NamedTemporaryFile(prefix="rtd-") as f:
        f.write(samples.astype("<f4").tobytes())
        f.flush()
        process = subprocess.Popen([*argv, f"--latency-msec={latency_ms}", f.name], env=env)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def match(reference: Recording, heard: Recording, began: float, ended: float, window_s: float = 0.1) -> tuple:
    """Windows of one recording from time ``began`` to ``ended``, found again in another.

    Returns the windows' first samples in ``heard``, the same in ``reference`` (fractions where it was not found, which
    the correlation tells), the times at which they were heard, and correlations.
    """
    a, b, window = reference.samples, heard.samples, int(window_s * RATE)
    offset = float(np.median(heard.late) - np.median(reference.late)) * RATE  # about, for the reference's clock
    starts = np.arange(0, len(b) - window, window)
    at_s = starts / RATE + heard.clock(starts)
    starts, at_s = starts[(at_s > began) & (at_s < ended)], at_s[(at_s > began) & (at_s < ended)]
    # Clocks may creep against each other by half a second in half an hour, so the same age is found for each window.
    sought = np.rint((at_s - reference.clock(starts + offset)) * RATE).astype(np.int64)
    ms, correlation = correlate(a, b, starts, window, sought=sought)
    return starts, sought - np.nan_to_num(ms) * RATE / 1000, at_s, np.where(np.isnan(ms), 0, correlation)


def align(reference: Recording, heard: Recording, began: float, ended: float, window_s: float = 0.1) -> Delay:
    """Delay of one recording against another from time ``began`` to ``ended``."""
    _, source, at_s, correlation = match(reference, heard, began, ended, window_s)
    ms = 1000 * (at_s - source / RATE - reference.clock(source))
    return Delay(at_s, np.where(correlation > 0, ms, np.nan), correlation)


def si_sdr_db(clean: np.ndarray, heard: np.ndarray, window: int = RATE // 4, creep: int = 48) -> float:
    """How like ``heard`` is to ``clean``, wherever in it it begins: scale-invariant signal-to-distortion ratio in dB,
    median of the windows with speech.

    Two clocks and a host that stalls lie between, so windows are placed one by one, the surest first, then each within
    ``creep`` samples of its neighbour's place or, if it is not there, anew. Below 2 kHz, where half a sample of shift
    does no harm.
    """
    from scipy.signal import butter, fftconvolve, sosfiltfilt

    low = butter(6, 2000, fs=RATE, output="sos")
    clean, heard = sosfiltfilt(low, clean), sosfiltfilt(low, heard)
    windows = heard[: len(heard) // window * window].reshape(-1, window)
    sums = np.concatenate([[0.0], np.cumsum(clean**2)])
    energy = sums[window:] - sums[:-window] + 1e-9

    def place(piece: np.ndarray, first: int, last: int) -> tuple[int, float]:
        """Where between two places the clean signal is most like a piece, and how much."""
        first = max(0, first)
        where = clean[first : last + window]
        if len(where) < window:
            return first, 0.0
        c = fftconvolve(where, piece[::-1], "valid")
        c /= np.sqrt(energy[first:][: len(c)]) * np.linalg.norm(piece) + 1e-9
        return first + int(np.argmax(c)), float(np.max(c))

    def anywhere(k: int) -> tuple[int, float]:
        """Where window ``k`` is, so that the others find room before and after it."""
        return place(windows[k], k * window, len(clean) - (len(windows) - k) * window)

    loudest = np.argsort(np.sum(windows**2, 1))[-8:]
    surest = max(loudest, key=lambda k: anywhere(k)[1])
    places = {surest: anywhere(surest)[0]}
    onwards, back = range(surest + 1, len(windows)), range(surest - 1, -1, -1)
    for k, neighbour in [*((k, k - 1) for k in onwards), *((k, k + 1) for k in back)]:
        expected = places[neighbour] + (k - neighbour) * window
        for reach in (creep, RATE // 4):
            at, likeness = place(windows[k], expected - reach, expected + reach)
            if likeness > LIKE:
                break
        places[k] = at if likeness > LIKE else expected
    ratios = []
    for k, at in places.items():
        target = clean[at : at + window]
        if len(target) == window and energy[at] > SPEECH_SHARE * energy.max():
            target = target * (target @ windows[k]) / (target @ target)
            ratios.append(10 * np.log10((target @ target) / np.sum((windows[k] - target) ** 2)))
    return float(np.median(ratios))


def example_clips() -> tuple[np.ndarray, np.ndarray]:
    """``(noisy, clean)`` of the source tree's example at `RATE`, float32 ``[samples]``."""
    import soundfile
    from scipy.signal import resample_poly

    folder = Path(__file__).resolve().parents[2] / "examples"
    if not folder.is_dir():
        raise RtdenoiseError("the example clips are in the source tree only; run the measurement there")
    clips = [soundfile.read(folder / name) for name in ("noisy.wav", "clean.wav")]
    noisy, clean = (resample_poly(x, RATE, rate).astype(np.float32) for x, rate in clips)
    return noisy, clean


def through_virtual_mic(env: dict[str, str], noisy: np.ndarray, *argv: object) -> np.ndarray:
    """What another program records from the virtual microphone while ``noisy`` is played to the command's input, again
    and again: as many samples as one round has."""
    seconds = len(noisy) / RATE
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "virtual-mic", "--json", *map(str, argv)]
    rounds = 2 + int((START_S + 2 * SETTLE_S) / seconds) + 1
    with pulse_playing(env, "A", np.tile(noisy, rounds)):
        process = subprocess.Popen(line, env=env | import_path(), stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            if "running" not in process.stdout.readline():
                raise RuntimeError("the product did not start")
            time.sleep(SETTLE_S)
            recorder = Recorder(env, "rtdenoise_microphone")
            time.sleep(seconds + 0.5)
            return recorder.stop().samples[-len(noisy) :]
        finally:
            process.terminate()  # a shell's background jobs ignore SIGINT
            process.communicate(timeout=30)


def import_path() -> dict[str, str]:
    """What lets a process find this package and the product, installed or not."""
    bench = Path(__file__).resolve().parents[1]
    return {"PYTHONPATH": f"{bench.parent}:{bench}"}


@contextlib.contextmanager
def product(env: dict[str, str], *argv: object) -> Iterator[subprocess.Popen]:
    """``python -m rtdenoise_bench.product ARGV`` while this holds; its last line is its statistics, as JSON."""
    env = env | import_path()
    line = [sys.executable, "-m", "rtdenoise_bench.product", *map(str, argv)]
    process = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if process.stdout.readline().strip() != "running":
            raise RuntimeError("the product did not start")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def finish(process: subprocess.Popen) -> dict:
    """End a product in order; returns its statistics."""
    out, _ = process.communicate("\n", timeout=30)
    return json.loads(out.strip().splitlines()[-1])


@dataclass(frozen=True)
class Crossing:
    """Both ends of a sound server recorded while the product ran between: from ``began`` to ``ended`` it was settled,
    ``done`` is when the caller's disturbance was over."""

    reference: Recording
    heard: Recording
    began: float
    done: float
    ended: float
    stats: dict


def cross_pulse(
    env: dict[str, str],
    lead_s: float,
    model: object,
    seconds: float,
    *argv: object,
    during: Callable | None = None,
    sinks: tuple[str, str] = ("A", "B"),
    exported: dict[str, str] | None = None,
) -> Crossing:
    """Record what plays on one sink and what the product makes of it on another; ``during(product)`` runs halfway.

    The probes run ``lead_s`` before the product starts, which alone sees ``exported`` in its environment.
    """
    source, target = sinks
    with pulse_playing(env, source, noise(lead_s + seconds + 20)):
        heard, reference = Recorder(env, f"{target}.monitor"), Recorder(env, f"{source}.monitor")
        time.sleep(lead_s)
        with product(env | (exported or {}), f"{source}.monitor", target, model, *argv) as running:
            began = time.monotonic() + SETTLE_S
            time.sleep(SETTLE_S + seconds / 2)
            if during:
                during(running)
            done = time.monotonic()
            time.sleep(seconds / 2)
            ended = time.monotonic()
            stats = finish(running)
        time.sleep(0.5)
        return Crossing(reference.stop(), heard.stop(), began, done, ended - 0.3, stats)


def across_pulse(
    env: dict[str, str],
    lead_s: float,
    model: object,
    seconds: float,
    *argv: object,
    during: Callable | None = None,
    exported: dict[str, str] | None = None,
) -> tuple[Delay, dict, float]:
    """Delay from sink A to sink B with the product between, its statistics, and when ``during(product)`` returned."""
    c = cross_pulse(env, lead_s, model, seconds, *argv, during=during, exported=exported)
    return align(c.reference, c.heard, c.began, c.ended), c.stats, c.done


def across_jack(
    env: dict[str, str], model: object, seconds: float, *argv: object, during: Callable | None = None
) -> tuple[Delay, dict, float, float]:
    """Delay through the product as a JACK client, its statistics, when ``during(product)`` returned, and JACK's own
    delay in ms, which is taken off: what the probe measures without the product."""

    def probe(length: float, *ports: str) -> subprocess.Popen:
        line = [sys.executable, "-m", "rtdenoise_bench.jack_probe", str(length), *ports]
        return subprocess.Popen(line, env=env | import_path(), stdout=subprocess.PIPE, text=True)

    def read(process: subprocess.Popen) -> np.ndarray:
        return np.array(json.loads(process.communicate()[0])).T

    alone = probe(2)  # while the product starts, which keeps a busy machine from a good part of it
    with product(env, "system", "system", model, *argv) as running:
        own_frames = np.nanmedian(read(alone)[1])
        probing = probe(seconds, "rtdenoise:in_0", "rtdenoise:out_0")
        if during:
            wait_for_jack_connection(env, "probe:out_0", "rtdenoise:in_0")
            time.sleep(1 + seconds / 2)
            during(running)
        done = time.monotonic()
        at, frames, correlation = read(probing)
        delay = Delay(at, 1000 * (frames - own_frames) / RATE, correlation)
        return delay, finish(running), done, 1000 * own_frames / RATE
