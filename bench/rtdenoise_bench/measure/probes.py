"""The product run between two ends of a sound server, and recorded from outside: noise in, recordings of both ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtdenoise_bench.measure.correlation import RATE, Delay, correlate, noise
from rtdenoise_bench.measure.graph_probe import AT_NS, FIRST, POSITION
from rtdenoise_bench.measure.recordings import Recorder, Recording, align, pulse_playing
from rtdenoise_bench.testbed.servers import wait_for_jack_connection

SETTLE_S = 2.5  # A session sizes its buffer in its first second.
START_S = 40.0  # The command, and who records it, may take this long to start or to end on a busy machine.


def _by_parec(env: dict[str, str], seconds: float) -> np.ndarray:
    recorder = Recorder(env, "rtdenoise_microphone")
    time.sleep(seconds)
    return recorder.stop().samples


def through_virtual_mic(
    env: dict[str, str],
    noisy: np.ndarray,
    *argv: object,
    record: Callable[[dict[str, str], float], np.ndarray] = _by_parec,
) -> np.ndarray:
    """What another program records from the virtual microphone while ``noisy`` is played to the command's input, again
    and again: as many samples as one round has. ``record(env, seconds)`` is that program."""
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
            return record(env, seconds + 0.5)[-len(noisy) :]
        finally:
            process.terminate()  # a shell's background jobs ignore SIGINT
            process.communicate(timeout=START_S)


def import_path() -> dict[str, str]:
    """What lets a process find this package and the product, installed or not."""
    bench = Path(__file__).resolve().parents[2]
    return {"PYTHONPATH": f"{bench.parent}:{bench}"}


@contextlib.contextmanager
def product(env: dict[str, str], *argv: object) -> Iterator[subprocess.Popen]:
    """``python -m rtdenoise_bench.testbed.subject ARGV`` while this holds; its last line is its statistics, as JSON."""
    env = env | import_path()
    line = [sys.executable, "-m", "rtdenoise_bench.testbed.subject", *map(str, argv)]
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
    out, _ = process.communicate("\n", timeout=START_S)
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

    def delay(self) -> Delay:
        """How late the product let the source be heard while it was settled."""
        return align(self.reference, self.heard, self.began, self.ended)


def cross_pulse(
    env: dict[str, str],
    lead_s: float | None,
    model: object,
    seconds: float,
    *argv: object,
    during: Callable | None = None,
    sinks: tuple[str, str] = ("A", "B"),
    exported: dict[str, str] | None = None,
) -> Crossing:
    """Record what plays on one sink and what the product makes of it on another; ``during(product)`` runs halfway.

    The probes run from ``lead_s`` before the product starts, which alone sees ``exported`` in its environment; with
    None from when it runs, for a node of PipeWire's graph: that gives both sinks one clock, and a recording would have
    to learn a new one.
    """
    source, target = sinks
    with contextlib.ExitStack() as stack:

        def record() -> list[Recorder]:
            stack.enter_context(pulse_playing(env, source, noise((lead_s or 0) + seconds + 20)))
            return [Recorder(env, f"{sink}.monitor") for sink in (target, source)]

        recorders = [] if lead_s is None else record()
        time.sleep(lead_s or 0)
        running = stack.enter_context(product(env | (exported or {}), f"{source}.monitor", target, model, *argv))
        heard, reference = recorders or record()
        began = time.monotonic() + SETTLE_S
        time.sleep(SETTLE_S + seconds / 2)
        if during:
            during(running)
        done = time.monotonic()
        time.sleep(seconds / 2)
        ended = time.monotonic()
        time.sleep(0.5)  # What was heard by then is on its way.
        recordings = reference.stop(), heard.stop()
        return Crossing(*recordings, began, done, ended - 0.3, finish(running))


class GraphProbe:
    """A node of PipeWire's graph that records two others in the same cycles, while the context holds."""

    def __init__(self, env: dict[str, str], reference: str, heard: str):
        self._line = [sys.executable, "-m", "rtdenoise_bench.measure.graph_probe"]
        self._env, self._names = env | import_path(), (reference, heard)

    def __enter__(self) -> GraphProbe:
        self._folder = tempfile.TemporaryDirectory(prefix="rtd-")
        self._file = f"{self._folder.name}/cycles.npz"
        line = [*self._line, self._file, *self._names]
        self._process = subprocess.Popen(line, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        if self._process.stdout.readline().strip() != "recording":
            self.__exit__()
            raise RuntimeError("the probe did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def stop(self, window_s: float = 0.1) -> tuple[Delay, int]:
        """The delay since it began, and how many cycles the graph lost meanwhile, as heard behind both nodes."""
        self._process.communicate("\n", timeout=START_S)
        with np.load(self._file) as arrays:
            sound, cycles = arrays["sound"].astype(np.float64), arrays["cycles"]
        window = int(window_s * RATE)
        starts = np.arange(window, len(sound) - window, window)  # What the first one repeats was before the recording.
        ms, correlation = correlate(sound[:, 0], sound[:, 1], starts, window)
        row = np.searchsorted(cycles[:, FIRST], starts, "right") - 1
        at_s = cycles[row, AT_NS] / 1e9 + (starts - cycles[row, FIRST]) / RATE
        skipped = np.diff(cycles[:, POSITION]) - np.diff(cycles[:, FIRST])
        return Delay(at_s, ms, correlation), int(np.sum(skipped > 0))


@dataclass(frozen=True)
class GraphCrossing:
    """The ``delay`` to the sample from ``began`` to ``ended``; how many cycles were ``lost`` to a node behind the
    product; when the disturbance was ``done``; the product's statistics."""

    delay: Delay
    lost: int
    done: float
    stats: dict


def across_graph(
    env: dict[str, str],
    model: object,
    seconds: float,
    *argv: object,
    during: Callable | None = None,
    sinks: tuple[str, str] = ("A", "B"),
) -> GraphCrossing:
    """What the product makes of one sink's sound on another, as a node in PipeWire's graph hears both.

    ``during(product)`` runs halfway.
    """
    source, target = sinks
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(product(env, f"{source}.monitor", target, model, *argv))
        stack.enter_context(pulse_playing(env, source, noise(seconds + 30)))
        time.sleep(SETTLE_S)
        probe = stack.enter_context(GraphProbe(env, source, target))
        time.sleep(seconds / 2)
        if during:
            during(running)
        done = time.monotonic()
        time.sleep(seconds / 2)
        delay, lost = probe.stop()
        return GraphCrossing(delay, lost, done, finish(running))


def across_jack(
    env: dict[str, str], model: object, seconds: float, *argv: object, during: Callable | None = None
) -> tuple[Delay, dict, float, float]:
    """Delay through the product as a JACK client, its statistics, when ``during(product)`` returned, and JACK's own
    delay in ms, which is taken off: what the probe measures without the product."""

    def probe(length: float, *ports: str) -> subprocess.Popen:
        line = [sys.executable, "-m", "rtdenoise_bench.measure.jack_probe", str(length), *ports]
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
