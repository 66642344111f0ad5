"""End-to-end latency of live audio, measured from outside, and its breakdown by stage, traced from inside.

Outside: noise goes in at one end of the sound server and is found again at the other; in PipeWire's graph a node behind
both ends hears them in the same cycles, so that is exact to the sample. Inside: the clocks of callbacks
and worker follow the first frame of each hop,

    device in ─▶ ring in ─▶ wake-up ─▶ compute ─▶ algorithm ─▶ ring out ─▶ device out

and both ends of the product are located in the recordings from outside, so that the devices' shares are measured
too and no driver needs to be trusted. What a driver reports is listed beside them.
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
from rtdenoise.live.backends import Backend
from rtdenoise.live.drift import TAPS
from rtdenoise.live.hop import HOLD
from rtdenoise.live.pipewire_library import library
from rtdenoise.live.trace import ACTION, IN_AT, OPENED
from rtdenoise.model.registry import load_model
from rtdenoise_bench.measure import correlation, probes, recordings
from rtdenoise_bench.measure.correlation import RATE, Delay
from rtdenoise_bench.measure.latency_breakdown import LatencyStage, When, latency_breakdown
from rtdenoise_bench.measure.probes import Crossing
from rtdenoise_bench.measure.recordings import Recording
from rtdenoise_bench.measure.times import Punctuality, times
from rtdenoise_bench.testbed import servers
from rtdenoise_bench.testbed.traced_callback import AT, AUDIO_FRAMES, FRAMES, HEARD_AGO, HEARD_IN, IN_FROM, OUT_FROM

NAMES = {"pulse": "PulseAudio", "pipewire": "PipeWire", "jack": "JACK"}
USUAL: dict[str, Backend] = {"pulse": "pulse", "pipewire": "pipewire", "jack": "portaudio"}  # what a session takes
WAYS = {"portaudio": "by PortAudio", "pulse": "as its Pulse client"}
SERVERS = tuple(NAMES)
NEEDS = {
    "pulse": ("pulseaudio", "pactl", "pacat", "parec"),
    "pipewire": ("pipewire", "wireplumber", "pipewire-pulse", "dbus-run-session", "pactl", "pacat", "parec"),
    "jack": ("jackd", "jack_lsp", "jack_connect", "jack_disconnect"),
}
LEAD_S = 1.0  # An idle server plays ahead and must catch up first.


@dataclass(frozen=True)
class Live(Punctuality):
    """One measurement through one sound server.

    ``latency_ms`` is the median from outside, ``low_ms`` to ``high_ms`` 95 % of ``windows``; ``over_time`` are pairs
    of seconds and ms. ``stages`` add up to ``sum_ms``. ``floor_ms`` is what no program with this filter and block
    can go below; ``driver_in_ms`` and ``driver_out_ms`` are what the driver reports for the devices, blocks included;
    ``reported_ms`` is the latency that the product itself reports.
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
    latency_ms: float
    low_ms: float
    high_ms: float
    windows: int
    clean_share: float
    over_time: list[list[float]]
    stages: list[LatencyStage]
    sum_ms: float
    floor_ms: float
    driver_in_ms: float
    driver_out_ms: float
    reported_ms: float
    drift_ppm: float | None
    seconds: float
    dropout_ms: float
    worker: str
    cpu_percent: float
    memory_mb: float
    ready_s: float
    backend: Backend = "portaudio"

    @property
    def name(self) -> str:
        """The server, for people; where there are two ways by it, which of them it was."""
        way = "" if self.backend == USUAL[self.server] else f" {WAYS[self.backend]}"
        return NAMES[self.server] + way

    @property
    def key(self) -> str:
        """The same, for a table or a picture."""
        return f"breakdown-{self.server}-{self.backend}"


def measure(
    server: str,
    model: str,
    seconds: float,
    latency: Latency = "normal",
    blocksize: int | None = None,
    injected_ms: float = 0.0,
    backend: Backend | None = None,
) -> Live:
    """Measure one of `SERVERS`; `UsageError` says why one cannot be.

    ``backend`` None is what a session takes by itself. ``injected_ms`` adds a delay that only shows from outside, which
    checks the measurement itself.
    """
    if backend == "pipewire" and server != "pipewire":
        raise UsageError(f"{NAMES[server]} has no graph of PipeWire's; use --backend portaudio, or --server pipewire")
    with tempfile.TemporaryDirectory(prefix="rtdenoise-bench-") as folder:
        path = Path(folder) / "trace.npz"
        argv: list[object] = ["--bypass", "--trace", path, "--latency", latency]
        argv += ["--blocksize", blocksize] if blocksize else []
        argv += ["--inject-delay", injected_ms] if injected_ms else []

        def load_trace() -> dict[str, np.ndarray]:
            with np.load(path) as arrays:
                return {name: arrays[name] for name in arrays.files}

        try:
            if server == "jack":
                return _through_jack(model, seconds, argv, latency, load_trace)
            if server == "pipewire" and backend in (None, "pipewire") and (backend or library()):
                return _through_graph(model, seconds, argv, latency, load_trace)
            return _through_pulse(server, backend or "pulse", model, seconds, argv, latency, load_trace)
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as e:
            if isinstance(e, RtdenoiseError):
                raise
            raise UsageError(f"{NAMES[server]}: {e}; try again while the machine is less busy") from e


def _through_pulse(
    server: str,
    backend: Backend,
    model: str,
    seconds: float,
    argv: list[object],
    latency: Latency,
    load_trace: Callable[[], dict],
) -> Live:
    argv = [*argv, "--backend", backend]
    with _pulse_server(server) as (env, sinks, route):
        c = probes.cross_pulse(env, LEAD_S, model, seconds, *argv, sinks=sinks)
    traced = load_trace()
    delay = recordings.align(c.reference, c.heard, c.began, c.ended)
    route += f", {WAYS[backend]}"
    return _summary(server, route, model, latency, delay, c.stats, traced, *_found_outside(traced, c))


def _through_graph(
    model: str, seconds: float, argv: list[object], latency: Latency, load_trace: Callable[[], dict]
) -> Live:
    """In the graph all nodes are called in one cycle, so neither end adds a delay: a frame of a cycle is as late as the
    cycle, and what it waits within that is the same on both sides."""
    with _pulse_server("pipewire") as (env, sinks, route):
        c = probes.across_graph(env, model, seconds, *argv, "--backend", "pipewire", sinks=sinks)
    traced = load_trace()
    log = traced["log_in"]
    within = lambda at, block, column: (at - log[block, column]) / c.stats["rate"]
    first = traced["trace"][:, IN_AT]
    block = np.clip(np.searchsorted(log[:, IN_FROM], first, "right") - 1, 0, None)
    usual_s = float(np.mean(within(first, block, IN_FROM)))
    came_in = lambda at, block: log[block, AT] / 1e9 + within(at, block, IN_FROM) - usual_s
    came_out = lambda at, block: log[block, AT] / 1e9 + within(at, block, OUT_FROM) - usual_s
    route = f"{route}, as a node of its graph"
    return _summary("pipewire", route, model, latency, c.delay, c.stats, traced, came_in, came_out)


def _through_jack(
    model: str, seconds: float, argv: list[object], latency: Latency, load_trace: Callable[[], dict]
) -> Live:
    """On JACK the probe and the product are called in one cycle: the server's own delay is what the probe measures
    without the product, and lies before the product's callback."""
    _require("jack")
    with servers.jack() as env:
        delay, stats, _, own_ms = probes.across_jack(env, model, seconds, *argv)
    traced = load_trace()
    log = traced["log_in"]
    came_in = lambda at, block: log[block, AT] / 1e9 - own_ms / 1000 + (at - log[block, IN_FROM]) / stats["rate"]
    came_out = lambda at, block: log[block, AT] / 1e9 + (at - log[block, OUT_FROM]) / stats["rate"]
    whole = Delay(delay.at_s, delay.ms + own_ms, delay.correlation)
    route = "JACK, a private server on its dummy device"
    return _summary("jack", route, model, latency, whole, stats, traced, came_in, came_out)


def _found_outside(traced: dict[str, np.ndarray], c: Crossing) -> tuple[When, When]:
    """When a frame of the captured timeline sounded at the source, and when one of the played timeline was heard."""
    captured, first_in = _recording(traced["log_in"], IN_FROM, traced["audio_in"])
    played, first_out = _recording(traced["log_out"], OUT_FROM, traced["audio_out"])
    here, there, _, similarity = recordings.match(c.reference, captured, c.began, c.ended)
    good = similarity > correlation.PLACED
    heard, source, _, similarity = recordings.match(played, c.heard, c.began, c.ended)
    right = similarity > correlation.PLACED
    if not (good.any() and right.any()):
        raise UsageError(
            "the product's own input and output were not found in the recordings; is the machine overloaded?"
        )

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
            yield dict(os.environ), sinks, f"{running}, the server that runs here, between two null sinks"
        except subprocess.CalledProcessError as e:
            raise UsageError(f"{running} refuses a null sink ({e.stderr.strip()})") from e
        finally:
            for module in modules:
                subprocess.run(["pactl", "unload-module", module], capture_output=True, check=False)
        return
    _require(server)
    start = {"pulse": servers.pulseaudio, "pipewire": servers.pipewire}[server]
    with start() as env:
        yield env, ("A", "B"), f"{NAMES[server]}, a private server, between two null sinks"


def running_server() -> str | None:
    """Name of the PulseAudio or PipeWire server that answers in this environment, or None."""
    if servers.missing("pactl", "pacat", "parec"):
        return None
    answer = subprocess.run(["pactl", "info"], capture_output=True, text=True, check=False)
    lines = (line.partition(":") for line in answer.stdout.splitlines())
    return next((value.strip() for key, _, value in lines if key == "Server Name"), None)


def _summary(
    server: str,
    route: str,
    model: str,
    latency: Latency,
    delay: Delay,
    stats: dict,
    traced: dict[str, np.ndarray],
    came_in: When,
    came_out: When,
) -> Live:
    """The measurement from outside and its breakdown from inside, as one record."""
    if not len(delay.placed):
        raise UsageError(f"{route}: the probe signal did not come through; is the server overloaded?")
    low, high = np.percentile(delay.placed, (2.5, 97.5))
    began, ended = float(delay.at_s[0]), float(delay.at_s[-1])
    log_in, log_out, trace = traced["log_in"], traced["log_out"], traced["trace"]
    trace = trace[(trace[:, OPENED] > began * 1e9) & (trace[:, OPENED] < ended * 1e9)]
    geometry = Geometry(stats["rate"], load_model(model).info.framing)
    filter_ms = geometry.latency_ms(latency) - 1000 * geometry.hop / geometry.rate
    filter_ms += 1000 * TAPS / 2 / geometry.rate if traced["split"] else 0
    stages, wake_up_ms, completion_ms = latency_breakdown(
        log_in, log_out, trace, geometry.hop, filter_ms, came_in, came_out
    )
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
        latency_ms=delay.median_ms,
        low_ms=float(low),
        high_ms=float(high),
        windows=len(delay.placed),
        clean_share=delay.clean_share,
        over_time=[[float(t - began), float(ms)] for t, ms in zip(delay.at_s[placed], delay.ms[placed], strict=True)],
        stages=stages,
        sum_ms=sum(p.ms for p in stages),
        floor_ms=1000 * (geometry.latency_samples(latency) - geometry.hop + block) / geometry.rate,
        driver_in_ms=claims[0],
        driver_out_ms=claims[1],
        reported_ms=stats["latency_ms"],
        drift_ppm=stats["drift_ppm"],
        seconds=ended - began,
        wake_up=times(1000 * wake_up_ms),
        completion=times(1000 * completion_ms),
        misses=int(np.sum(completion_ms > 1000 * geometry.hop / geometry.rate)),
        reused_gains=int(np.sum(trace[:, ACTION] == HOLD)),
        underruns=stats["underruns"] - stats["settled_underruns"],
        dropout_ms=stats["dropout_ms"],
        worker=stats["worker"],
        scheduling=stats["scheduling"],
        cpu_percent=stats["cpu_percent"],
        memory_mb=stats["peak_kb"] / 1024,
        ready_s=stats["ready_s"],
        backend=stats["backend"],
    )
