"""Loudness to a target, measured as EBU R 128 does: two passes, and no peak above -1 dBTP.

    filtered samples ─▶ spool ─▶ one gain, and a limiter if peaks need it ─▶ sink
                    └▶ meter ┘

FFmpeg's `ebur128` and `alimiter`, by PyAV, measure and limit. The first pass goes into a file without a name, so
memory stays constant and nothing is left behind. Owns the choice of gain and of the limiter's ceiling; knows nothing
of formats.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from rtdenoise.errors import AudioFileError, RtdenoiseError
from rtdenoise.io.media import LAYOUTS, OLDEST_AV, import_av
from rtdenoise.io.pipes import is_stream

CEILING_DBTP = -1.0  # EBU R 128: the highest true peak of what is sent
MOST_GAIN_DB = 36.0  # What needs more is hardly more than noise; it is also as much as the limiter can give.
_SILENT_LUFS = -69.9  # The meter shows -70 where not one block of 400 ms is above its absolute gate.
_NEAR_LU = 0.1  # EBU Tech 3341 asks no more of a meter.
_ROUNDS = 8  # The limiter makes a sound quieter, and what lies between samples may exceed it: found by trying.
_LEAST_SLOPE = 0.2  # LU a dB; a steeper step would overshoot
_MARGIN_DB = 0.4  # The limiter holds samples; between them speech rises by less than this, mostly.
_PEAK_STEP = 0.0005  # The meter rounds a peak by so much.
_TAIL_S = 0.2  # Silence that has the meter take in the last part of a tenth of a second.


class _Sink(Protocol):
    def write(self, samples: np.ndarray) -> None: ...


class Levelled:
    """A sink that holds all samples back until `play` writes them to ``sink`` at the loudness that was asked for.

    ``layout`` is FFmpeg's name of the channels' places, since those behind a listener count more. ``beside`` is the
    output: samples wait on its disk.
    """

    def __init__(
        self, sink: _Sink, name: str, rate: int, channels: int, layout: str | None, target_lufs: float, beside: str
    ):
        self._sink, self._name, self._target_lufs, self._beside = sink, name, target_lufs, beside
        self._rate, self._channels, self._layout = rate, channels, layout or LAYOUTS[channels]
        self._meter = _Chain(rate, channels, self._layout)
        self._spool = self._opened()
        self.warnings: list[str] = []
        self.lufs: float | None = None

    def _opened(self) -> Any:
        """On the output's own disk, which must have room for it anyway; a pipe has none."""
        folder = None if is_stream(self._beside) else os.path.dirname(os.path.realpath(self._beside))
        try:
            return tempfile.TemporaryFile(dir=folder)
        except OSError as problem:
            raise self._told(problem) from problem

    def write(self, samples: np.ndarray) -> None:
        """Take in float32 ``[samples, channels]``."""
        self._meter.push(samples)
        try:
            self._spool.write(np.ascontiguousarray(samples, np.float32).tobytes())
        except OSError as problem:
            raise self._told(problem) from problem

    def play(self) -> Iterator[int]:
        """Write all to the sink, once everything is in; yields the count of samples, block by block."""
        self._meter.end()
        gain_db, chain = self._chosen()
        gain = np.float32(10 ** (gain_db / 20))
        for block in self._blocks():
            if chain is None:
                self._sink.write(block * gain if gain_db else block)
            else:
                self._sink.write(chain.push(block) * gain)
            yield len(block)
        if chain is not None:
            self._sink.write(chain.end() * gain)

    def _chosen(self) -> tuple[float, _Chain | None]:
        """The gain in dB, and the limiter that the sound must pass before it."""
        before, peak = self._meter.lufs, self._meter.peak
        if before <= _SILENT_LUFS:
            self.warnings.append(
                f"{self._name} is silent, or shorter than 0.4 s: its loudness cannot be measured and stays as it is"
            )
            return 0.0, None
        gain_db = self._target_lufs - before
        if gain_db > MOST_GAIN_DB:
            self.warnings.append(
                f"{self._name} is so quiet ({before:.1f} LUFS) that {self._target_lufs:g} LUFS would be mostly noise; "
                f"raised by {MOST_GAIN_DB:g} dB"
            )
            gain_db = MOST_GAIN_DB
        self.lufs = round(before + gain_db, 2)
        if _db(peak + _PEAK_STEP) + gain_db <= CEILING_DBTP:
            return gain_db, None
        return self._limited(self.lufs, gain_db)

    def _limited(self, wanted_lufs: float, gain_db: float) -> tuple[float, _Chain]:
        """Gain and ceiling of a limiter behind which loudness and true peak are right, by trying."""
        ceiling_db, slope = CEILING_DBTP - _MARGIN_DB, 1.0
        tried: tuple[float, float] | None = None
        for turn in range(_ROUNDS):
            chain = _Chain(self._rate, self._channels, self._layout, gain_db, ceiling_db)
            for block in self._blocks():
                chain.push(block)
            chain.end()
            over_db = _db(chain.peak + _PEAK_STEP) - CEILING_DBTP
            short_lu = wanted_lufs - chain.lufs
            stuck = gain_db == MOST_GAIN_DB and short_lu > 0
            if (over_db <= 0 and (stuck or abs(short_lu) <= _NEAR_LU)) or turn == _ROUNDS - 1:
                break
            if tried and gain_db != tried[0]:  # The harder it limits, the less a gain helps.
                slope = min(1.0, max(_LEAST_SLOPE, (chain.lufs - tried[1]) / (gain_db - tried[0])))
            tried = gain_db, chain.lufs
            ceiling_db -= max(0.0, over_db)
            gain_db = min(MOST_GAIN_DB, gain_db + short_lu / slope)
        lowered_db = max(0.0, over_db)  # Whatever happens, the peak is right.
        self.lufs = round(chain.lufs - lowered_db, 2)
        if wanted_lufs - self.lufs > 2 * _NEAR_LU:
            self.warnings.append(
                f"{self._name}: its peaks allow {self.lufs:.1f} LUFS, not {wanted_lufs:g}, at {CEILING_DBTP:g} dBTP"
            )
        return -lowered_db, _Chain(self._rate, self._channels, self._layout, gain_db, ceiling_db)

    def _blocks(self) -> Iterator[np.ndarray]:
        size = 4 * self._channels * self._rate
        try:
            self._spool.seek(0)
            while data := self._spool.read(size):
                yield np.frombuffer(data, np.float32).reshape(-1, self._channels)
        except OSError as problem:
            raise self._told(problem) from problem

    def _told(self, problem: OSError) -> AudioFileError:
        what = "free some space" if problem.errno == errno.ENOSPC else "choose another place"
        return AudioFileError(f"cannot keep samples beside {self._beside}: {problem.strerror}; {what}")

    def __enter__(self) -> Levelled:
        return self

    def __exit__(self, *problem: object) -> None:
        self._spool.close()


class _Chain:
    """Samples through FFmpeg's filters: the meter, before it a limiter if ``ceiling_db`` is given."""

    def __init__(
        self, rate: int, channels: int, layout: str, gain_db: float = 0.0, ceiling_db: float | None = None
    ) -> None:
        av = import_av()
        self._av, self._rate, self._channels, self._layout, self._at = av, rate, channels, layout, 0
        self.lufs, self.peak = -70.0, 0.0
        self._done = 0
        self._whole: int | None = None  # The silence behind the whole counts for the peak alone.
        graph = av.filter.Graph()
        graph.threads = 1
        base = Fraction(1, rate)
        chain = [graph.add_abuffer(format="flt", sample_rate=rate, layout=layout, time_base=base)]
        if ceiling_db is not None:
            settings = f"level_in={10 ** (gain_db / 20)}:limit={10 ** (ceiling_db / 20)}:level=0:latency=1"
            chain.append(graph.add("alimiter", f"{settings}:attack=5:release=50"))
        chain.append(graph.add("ebur128", "peak=true:metadata=1"))
        chain.append(graph.add("aformat", "sample_fmts=flt"))
        chain.append(graph.add("abuffersink"))
        for before, after in pairwise(chain):
            before.link_to(after)
        graph.configure()
        self._graph = graph

    def push(self, samples: np.ndarray) -> np.ndarray:
        """What has come out by now, float32 ``[samples, channels]``."""
        if not len(samples):
            return self._pulled()
        packed = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._at, Fraction(1, self._rate)
        self._graph.push(frame)
        self._at += len(samples)
        return self._pulled()

    def end(self) -> np.ndarray:
        """The rest. The meter's figures are whole then."""
        self._whole, length = self._at, round(_TAIL_S * self._rate)
        out = self.push(np.zeros((length, self._channels), np.float32))
        self._graph.push(None)
        rest = np.concatenate([out, self._pulled()])
        return rest[: len(rest) - length]

    def _pulled(self) -> np.ndarray:
        out = []
        while True:
            try:
                frame = self._graph.pull()
            except (self._av.BlockingIOError, self._av.EOFError):
                break
            out.append(frame.to_ndarray().reshape(-1, self._channels))
            self._done += frame.samples
            if "lavfi.r128.I" in frame.metadata:
                if self._whole is None or self._done <= self._whole:
                    self.lufs = float(frame.metadata["lavfi.r128.I"])
                self.peak = float(frame.metadata["lavfi.r128.true_peak"])
        return np.concatenate(out) if out else np.empty((0, self._channels), np.float32)


def _db(peak: float) -> float:
    return float(20 * np.log10(max(peak, 1e-10)))


def check_available() -> None:
    """RtdenoiseError if the meter is not installed."""
    try:
        import_av()
    except ImportError as missing:
        raise RtdenoiseError(
            f"--loudness needs PyAV {OLDEST_AV} or later, on Python 3.11 or later; install it with: "
            "pip install 'rtdenoise[media]'"
        ) from missing
