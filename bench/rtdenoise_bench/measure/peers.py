"""Other programs on the same clip: their speed and the latency of their output."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from rtdenoise.errors import UsageError
from rtdenoise_bench.testbed.harness import syllables

CLIP_S, CLIP_RATE = 20.0, 48_000
START_CLIP_S = 0.1  # What this little takes is the start.
OWN = "rtdenoise"
MOST_LATE_S = 0.5
FOUND = 0.3  # From this correlation of output and clip on the delay is meaningful.


@dataclass(frozen=True)
class Peer:
    """``rtf`` is the command's time over the clip's length, start-up and file included; ``core_percent`` the processor
    time of all its threads for each second of sound, start-up left out; ``latency_ms`` how much later than the clip
    the output is (None where the ``correlation`` with the clip is too low)."""

    name: str
    rtf: float
    core_percent: float
    start_s: float
    latency_ms: float | None
    correlation: float
    clip_s: float


def parse(text: str) -> tuple[str, str]:
    """``name=cmd {in} {out}``; `UsageError` if it is not of that form."""
    name, equals, command = text.partition("=")
    if not (name.strip() and equals and "{in}" in command and "{out}" in command):
        raise UsageError(f"--peer {text!r}: give name='command {{in}} {{out}}', which reads one WAV and writes another")
    return name.strip(), command


def measure(peers: list[tuple[str, str]], model: str, clip: Path | None = None) -> list[Peer]:
    """Run the product and each peer on one clip; a synthetic voice in noise if none is given."""
    own = f"{shlex.quote(sys.executable)} -m rtdenoise --in {{in}} --out {{out}} --model {shlex.quote(model)} --quiet"
    with tempfile.TemporaryDirectory(prefix="rtdenoise-bench-") as folder:
        if clip is None:
            clip = Path(folder) / "clip.wav"
            _write_clip(clip)
        short = Path(folder) / "short.wav"
        samples, rate = _read(clip)
        soundfile.write(short, samples[: round(START_CLIP_S * rate)], rate)
        others = [_measure(name, command, clip, short, Path(folder)) for name, command in peers]
        return [_measure(OWN, own, clip, short, Path(folder)), *others]


def _write_clip(path: Path) -> None:
    """Noise bursts over a voice: repeats nowhere, so that only one delay fits."""
    voice = syllables(CLIP_RATE, 1, CLIP_S)[:, 0]
    envelope = np.repeat(np.random.default_rng(1).uniform(0, 1, round(CLIP_S * 10)), CLIP_RATE // 10)
    soundfile.write(path, voice * envelope[: len(voice)], CLIP_RATE, "PCM_16")


def _measure(name: str, command: str, clip: Path, short: Path, folder: Path) -> Peer:
    out = folder / "out.wav"
    start_s, start_cpu_s = _run(name, command, short, out)
    took_s, cpu_s = _run(name, command, clip, out)
    (x, rate), (y, out_rate) = _read(clip), _read(out)
    if out_rate != rate:
        raise UsageError(f"{name}: the output has {out_rate} Hz, the clip {rate} Hz; use a command that keeps the rate")
    late, correlation = delay_samples(x, y, round(MOST_LATE_S * rate))
    clip_s = len(x) / rate
    core_percent = 100 * (cpu_s - start_cpu_s) / (clip_s - START_CLIP_S)
    return Peer(
        name,
        took_s / clip_s,
        core_percent,
        start_s,
        1000 * late / rate if correlation >= FOUND else None,
        correlation,
        clip_s,
    )


def delay_samples(x: np.ndarray, y: np.ndarray, most: int) -> tuple[float, float]:
    """How many samples ``y`` is later than ``x`` (to a fraction, by a parabola), and their correlation there.

    >>> x = np.random.default_rng(0).standard_normal(1000)
    >>> delay_samples(x, np.concatenate([np.zeros(37), x]), 100)[0]
    37.0
    """
    n = 1 << (len(x) + len(y)).bit_length()
    c = np.fft.irfft(np.fft.rfft(y, n) * np.conj(np.fft.rfft(x, n)), n)
    lags = np.concatenate([c[-most:], c[: most + 1]])
    k = int(np.argmax(lags))
    part = 0.0
    if 0 < k < len(lags) - 1:
        before, at, after = lags[k - 1 : k + 2]
        part = 0.5 * (before - after) / (before - 2 * at + after)
    scale = np.linalg.norm(x) * np.linalg.norm(y) + 1e-12
    return float(round(k - most + part, 2)) + 0.0, float(lags[k] / scale)


def _run(name: str, command: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds by the clock, and of processor time (0 on Windows, which does not count that of children)."""
    target.unlink(missing_ok=True)
    line = [re.sub(r"\{(in|out)\}", lambda m: str(source if m[1] == "in" else target), w) for w in shlex.split(command)]
    began, before = time.perf_counter(), os.times()
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
    except OSError as e:
        raise UsageError(f"{name}: {line[0]} does not start ({e.strerror}); check the command") from e
    seconds = time.perf_counter() - began
    if done.returncode or not target.exists():
        message = (done.stderr.strip().splitlines() or ["it wrote no output"])[-1]
        raise UsageError(f"{name}: the command failed ({message[:200]})")
    after = os.times()
    own = before.children_user + before.children_system
    return seconds, after.children_user + after.children_system - own


def _read(path: Path) -> tuple[np.ndarray, int]:
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as e:
        raise UsageError(f"{path}: not readable as sound; give a WAV or FLAC file") from e
    return samples[:, 0], rate
