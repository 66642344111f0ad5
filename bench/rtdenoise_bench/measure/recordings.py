"""Recordings of a sound server's sources with the arrival time of each piece, and how one lies behind another."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtdenoise.errors import RtdenoiseError
from rtdenoise_bench.measure.correlation import RATE, Delay, correlate

CREEP_S = 4.0  # A server's clock is smoothed over this time.
# Pieces that are all so much later than those before, for so long, have lost samples among them: a hole, no creeping.
HOLE_MS, HOLE_S = 1.0, 0.25


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

    @property
    def so_far(self) -> np.ndarray:
        """float32 ``[samples]`` that came until now."""
        content = b"".join(self._pieces)
        return np.frombuffer(content[: len(content) // 4 * 4], "<f4")

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
        and how a server's clock creeps (a null sink of PulseAudio does, by up to some hundred ppm). Where a stalled
        machine made the recording lose samples, time steps on at once."""
        holes = self._holes()
        bounds = [0, *holes, len(self.late)]
        parts = [self._smoothed(first, last) for first, last in itertools.pairwise(bounds)]
        part, clock = np.searchsorted(self.ends[holes - 1], index, side="right"), np.empty(len(index))
        for k, (ends, late) in enumerate(parts):
            clock[part == k] = np.interp(index[part == k], ends, late)
        return clock

    @property
    def _per_piece_s(self) -> float:
        return max(1.0, float(np.median(np.diff(self.ends)))) / RATE

    def _holes(self) -> np.ndarray:
        """Indices of the pieces before which samples were lost, int64 ``[holes]``."""
        near = max(1, round(HOLE_S / self._per_piece_s))
        if len(self.late) <= near:
            return np.zeros(0, np.int64)
        earliest = np.lib.stride_tricks.sliding_window_view(np.pad(self.late, (near, 0), "edge"), near).min(1)
        before, after = earliest[: len(earliest) - near], earliest[near:]
        holes, first = [], 0
        # A hole is seen for `near` pieces, and told once.
        for k in np.flatnonzero(after - before > HOLE_MS / 1000).tolist():
            if k > first and after[k] - self.late[max(first, k - near) : k].min() > HOLE_MS / 1000:
                holes.append(k)
                first = k
        return np.array(holes, np.int64)

    def _smoothed(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the pieces from ``first`` to before ``last``, which lost nothing: some of their ``ends``, and there the
        time minus index / RATE."""
        late = self.late[first:last]
        half = max(1, int(min(CREEP_S / self._per_piece_s, len(late) / 3) / 2))
        centres = np.arange(0, len(late), max(1, half // 4))
        earliest = [np.percentile(late[max(0, c - half) : c + half + 1], 5) for c in centres]
        steady = np.convolve(np.pad(earliest, 4, "edge"), np.full(9, 1 / 9), "valid")
        return self.ends[first + centres], steady


@contextlib.contextmanager
def pulse_playing(
    env: dict[str, str], sink: str, samples: np.ndarray, latency_ms: int = 20, times: int = 1
) -> Iterator[None]:
    """Play float32 ``[samples]`` or ``[samples, channels]`` on a sink while this holds, so many times at most."""
    argv = ["pacat", "-p", "--raw", "-d", sink, "--format=float32le", f"--rate={RATE}"]
    argv += [f"--channels={samples[0].size}", f"--latency-msec={latency_ms}"]
    with tempfile.NamedTemporaryFile(prefix="rtd-") as f:
        f.write(samples.astype("<f4").tobytes())
        f.flush()
        with subprocess.Popen(["cat", *times * [f.name]], stdout=subprocess.PIPE) as given:
            process = subprocess.Popen(argv, env=env, stdin=given.stdout)
            assert given.stdout
            given.stdout.close()  # Only the player holds it, so `cat` ends with the player.
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


def example_clips() -> tuple[np.ndarray, np.ndarray]:
    """``(noisy, clean)`` of the source tree's example at `RATE`, float32 ``[samples]``."""
    import soundfile
    from scipy.signal import resample_poly

    folder = Path(__file__).resolve().parents[3] / "examples"
    if not folder.is_dir():
        raise RtdenoiseError("the example clips are in the source tree only; run the measurement there")
    clips = [soundfile.read(folder / name) for name in ("noisy.wav", "clean.wav")]
    noisy, clean = (resample_poly(x, RATE, rate).astype(np.float32) for x, rate in clips)
    return noisy, clean
