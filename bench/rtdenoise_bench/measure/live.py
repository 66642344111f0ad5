"""The whole way of a sound through live audio, measured from outside, and where on it time goes, told from inside.

Outside: noise goes in at one end of the sound server and is found again at the other. Inside: the clocks of callbacks
and worker follow the first frame of each hop,

    device in ─▶ ring in ─▶ wake-up ─▶ compute ─▶ algorithm ─▶ ring out ─▶ device out

and both ends of the product are found again in the recordings from outside, so that the devices' shares are measured
too and no driver needs to be believed. What a driver claims stands beside.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.geometry import Geometry, Latency
from rtdenoise.live.drift import TAPS
from rtdenoise.live.hop import HOLD
from rtdenoise.live.marks import ACTION, OPENED
from rtdenoise.model.registry import load_model
from rtdenoise_bench.measure import correlation, probes, recordings
from rtdenoise_bench.measure.correlation import RATE, Delay
from rtdenoise_bench.measure.latency_breakdown import Part, When, split
from rtdenoise_bench.measure.probes import Crossing
from rtdenoise_bench.measure.recordings import Recording
from rtdenoise_bench.measure.times import Times, times
from rtdenoise_bench.testbed import servers
from rtdenoise_bench.testbed.traced_callback import AT, AUDIO_FRAMES, FRAMES, HEARD_AGO, HEARD_IN, IN_FROM, OUT_FROM

NAMES = {"pulse": "PulseAudio", "pipewire": "PipeWire", "jack": "JACK"}
SERVERS = tuple(NAMES)
NEEDS = {
    "pulse": ("pulseaudio", "pactl", "pacat", "parec"),
    "pipewire": ("pipewire", "wireplumber", "pipewire-pulse", "dbus-run-session", "pactl", "pacat", "parec"),
    "jack": ("jackd", "jack_lsp", "jack_connect", "jack_disconnect"),
}
LEAD_S = 1.0  # an idle server plays ahead and must come near first


@dataclass(frozen=True)
class Live:
    """One way through one sound server.

    ``delay_ms`` is the median from outside, ``low_ms`` and ``high_ms`` hold 95 % of the ``windows``; ``over_time`` are
    pairs of seconds and ms. ``parts`` add up to ``sum_ms``. ``floor_ms`` is what no program with this filter and block
    can go below; ``claimed_in_ms`` and ``claimed_out_ms`` are what the driver says of the devices, blocks included;
    ``printed_ms`` is what the product says of itself.
    """

    server: str
    route: str
    model: str
    latency: str
    rate: int
    hop: int
    low_saves_ms: float
    block_in: int
    block_out: int
    delay_ms: float
    low_ms: float
    high_ms: float
    windows: int
    clean_share: float
    over_time: list[list[float]]
    parts: list[Part]
    sum_ms: float
    floor_ms: float
    claimed_in_ms: float
    claimed_out_ms: float
    printed_ms: float
    drift_ppm: float | None
    seconds: float
    wake: Times
    answer: Times
    misses: int
    holds: int
    gaps: int
    silent_ms: float
    worker: str
    scheduling: str
    cpu_percent: float
    memory_mb: float
    ready_s: float


def measure(
    server: str,
    model: str,
    seconds: float,
    latency: Latency = "normal",
    blocksize: int | None = None,
    plant_ms: float = 0.0,
) -> Live:
    """Measure one of `SERVERS`; `UsageError` says why one cannot be. ``plant_ms`` adds a delay that only shows from
    outside, to see that it does."""
    with tempfile.TemporaryDirectory(prefix="rtdenoise-bench-") as folder:
        watch = Path(folder) / "watch.npz"
        argv: list[object] = ["--bypass", "--watch", watch, "--latency", latency]
        argv += ["--blocksize", blocksize] if blocksize else []
        argv += ["--plant", plant_ms] if plant_ms else []

        def seen() -> dict[str, np.ndarray]:
            with np.load(watch) as arrays:
                return {name: arrays[name] for name in arrays.files}

        try:
            if server == "jack":
                return _through_jack(model, seconds, argv, latency, seen)
            return _through_pulse(server, model, seconds, argv, latency, seen)
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as e:
            if isinstance(e, RtdenoiseError):
                raise
            raise UsageError(f"{NAMES[server]}: {e}; try again on a machine that is less busy") from e


def _through_pulse(
    server: str, model: str, seconds: float, argv: list[object], latency: Latency, seen: Callable[[], dict]
) -> Live:
    with _pulse_server(server) as (env, sinks, route):
        c = probes.cross_pulse(env, LEAD_S, model, seconds, *argv, sinks=sinks)
    watched = seen()
    delay = recordings.align(c.reference, c.heard, c.began, c.ended)
    return _told(server, route, model, latency, delay, c.stats, watched, *_found_outside(watched, c))


def _through_jack(model: str, seconds: float, argv: list[object], latency: Latency, seen: Callable[[], dict]) -> Live:
    """On JACK the probe and the product are called in one cycle: the server's own delay is what the probe measures
    without the product, and lies before the product's callback."""
    _require("jack")
    with servers.jack() as env:
        delay, stats, _, own_ms = probes.across_jack(env, model, seconds, *argv)
    watched = seen()
    log = watched["log_in"]
    came_in = lambda at, block: log[block, AT] / 1e9 - own_ms / 1000 + (at - log[block, IN_FROM]) / stats["rate"]
    came_out = lambda at, block: log[block, AT] / 1e9 + (at - log[block, OUT_FROM]) / stats["rate"]
    whole = Delay(delay.at_s, delay.ms + own_ms, delay.correlation)
    route = "JACK, a server of our own on its dummy device"
    return _told("jack", route, model, latency, whole, stats, watched, came_in, came_out)


def _found_outside(watched: dict[str, np.ndarray], c: Crossing) -> tuple[When, When]:
    """When a frame of the captured timeline sounded at the source, and when one of the played timeline was heard."""
    captured, first_in = _recording(watched["log_in"], IN_FROM, watched["audio_in"])
    played, first_out = _recording(watched["log_out"], OUT_FROM, watched["audio_out"])
    here, there, _, correlation = recordings.match(c.reference, captured, c.began, c.ended)
    good = correlation > correlation.PLACED
    heard, source, _, correlation = recordings.match(played, c.heard, c.began, c.ended)
    right = correlation > correlation.PLACED
    if not (good.any() and right.any()):
        raise UsageError("the product's own ends are not found in the recordings; is the machine overloaded?")

    def came_in(at: np.ndarray, _block: np.ndarray) -> np.ndarray:
        index = at - first_in + np.interp(at - first_in, here[good], (there - here)[good])
        return index / RATE + c.reference.clock(index)

    def came_out(at: np.ndarray, _block: np.ndarray) -> np.ndarray:
        index = at - first_out + np.interp(at - first_out, source[right], (heard - source)[right])
        return index / RATE + c.heard.clock(index)

    return came_in, came_out


def _recording(log: np.ndarray, position: int, audio: np.ndarray) -> tuple[Recording, int]:
    """What the callbacks moved as a recording with their times, and the frame that it begins with."""
    newest = int(log[-1, position] + log[-1, FRAMES])
    first = max(int(log[0, position]), newest - AUDIO_FRAMES)
    log = log[log[:, position] >= first]
    ends = log[:, position] + log[:, FRAMES] - first
    samples = audio[np.arange(first, newest) % AUDIO_FRAMES]
    return Recording(samples, ends, log[:, AT] / 1e9 - ends / RATE), first


def _require(server: str) -> None:
    if reason := servers.missing(*NEEDS[server]):
        raise UsageError(reason)


@contextlib.contextmanager
def _pulse_server(server: str) -> Iterator[tuple[dict[str, str], tuple[str, str], str]]:
    """The user's own server with two null sinks added while this holds, or one of ours; environment, sinks, name."""
    running = running_server()
    if running and ("pipewire" in running.lower()) == (server == "pipewire"):
        name = f"rtdenoise_bench_{uuid.uuid4().hex[:6]}"
        sinks, modules = (f"{name}_in", f"{name}_out"), []
        try:
            for sink in sinks:
                line = ["pactl", "load-module", "module-null-sink", f"sink_name={sink}", f"rate={RATE}", "channels=1"]
                modules.append(subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip())
            yield dict(os.environ), sinks, f"{running}, as it runs here, between two null sinks"
        except subprocess.CalledProcessError as e:
            raise UsageError(f"{running} gives no null sink ({e.stderr.strip()})") from e
        finally:
            for module in modules:
                subprocess.run(["pactl", "unload-module", module], capture_output=True, check=False)
        return
    _require(server)
    start = {"pulse": servers.pulseaudio, "pipewire": servers.pipewire}[server]
    with start() as env:
        yield env, ("A", "B"), f"{NAMES[server]}, a server of our own, between two null sinks"


def running_server() -> str | None:
    """Name of the PulseAudio or PipeWire server that answers in this environment, or None."""
    if servers.missing("pactl", "pacat", "parec"):
        return None
    answer = subprocess.run(["pactl", "info"], capture_output=True, text=True, check=False)
    lines = (line.partition(":") for line in answer.stdout.splitlines())
    return next((value.strip() for key, _, value in lines if key == "Server Name"), None)


def _told(
    server: str,
    route: str,
    model: str,
    latency: Latency,
    delay: Delay,
    stats: dict,
    watched: dict[str, np.ndarray],
    came_in: When,
    came_out: When,
) -> Live:
    """Both views of one measurement."""
    if not len(delay.placed):
        raise UsageError(f"{route}: the probe signal did not come through; is the server overloaded?")
    low, high = np.percentile(delay.placed, (2.5, 97.5))
    began, ended = float(delay.at_s[0]), float(delay.at_s[-1])
    log_in, log_out, marks = watched["log_in"], watched["log_out"], watched["marks"]
    marks = marks[(marks[:, OPENED] > began * 1e9) & (marks[:, OPENED] < ended * 1e9)]
    geometry = Geometry(stats["rate"], load_model(model).info.framing)
    filter_ms = geometry.latency_ms(latency) - 1000 * geometry.hop / geometry.rate
    filter_ms += 1000 * TAPS / 2 / geometry.rate if watched["split"] else 0
    parts, wake_ms, answer_ms = split(log_in, log_out, marks, geometry.hop, filter_ms, came_in, came_out)
    claims = [float(np.mean(log[:, column])) / 1e6 for log, column in ((log_in, HEARD_AGO), (log_out, HEARD_IN))]
    block = max(stats["block_in"], stats["block_out"])
    placed = delay.correlation > correlation.PLACED
    return Live(
        server=server,
        route=route,
        model=stats["model"],
        latency=latency,
        rate=stats["rate"],
        hop=geometry.hop,
        low_saves_ms=geometry.latency_ms("normal") - geometry.latency_ms("low"),
        block_in=stats["block_in"],
        block_out=stats["block_out"],
        delay_ms=delay.median_ms,
        low_ms=float(low),
        high_ms=float(high),
        windows=len(delay.placed),
        clean_share=delay.clean_share,
        over_time=[[float(t - began), float(ms)] for t, ms in zip(delay.at_s[placed], delay.ms[placed], strict=True)],
        parts=parts,
        sum_ms=sum(p.ms for p in parts),
        floor_ms=1000 * (geometry.latency_samples(latency) - geometry.hop + block) / geometry.rate,
        claimed_in_ms=claims[0],
        claimed_out_ms=claims[1],
        printed_ms=stats["budget_ms"],
        drift_ppm=stats["drift_ppm"],
        seconds=ended - began,
        wake=times(1000 * wake_ms),
        answer=times(1000 * answer_ms),
        misses=int(np.sum(answer_ms > 1000 * geometry.hop / geometry.rate)),
        holds=int(np.sum(marks[:, ACTION] == HOLD)),
        gaps=stats["underruns"] - stats["settled_underruns"],
        silent_ms=stats["silent_ms"],
        worker=stats["worker"],
        scheduling=stats["scheduling"],
        cpu_percent=stats["cpu_percent"],
        memory_mb=stats["peak_kb"] / 1024,
        ready_s=stats["ready_s"],
    )
