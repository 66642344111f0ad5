"""Makes a report: runs the measurements in order and shows their progress."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.geometry import Latency
from rtdenoise.live.backends import Backend
from rtdenoise_bench.measure import clock, cost, live, loopback, matrix, peers, start
from rtdenoise_bench.measure.stages import Engine, InRealTime, Rounds, in_real_time
from rtdenoise_bench.report import machine
from rtdenoise_bench.report.advice import advise, warn
from rtdenoise_bench.report.report import Report
from rtdenoise_bench.testbed import servers
from rtdenoise_bench.testbed.harness import Harness
from rtdenoise_bench.testbed.stressors import ALONE, CONDITIONS

T = TypeVar("T")
NOISE_S = 1.0
LIVE_S = 2.5
REAL_TIME_S = 4.1  # This is long enough for p99.
ROUNDS = 20  # A round has 500 hops, so these suffice for p99.9.
EXPECTED_S = {"noise": 1, "engine": 2, "real time": 3, "matrix": 5, "cost": 10, "start": 5, "live": 11, "peers": 5}


@dataclass(frozen=True)
class Request:
    """What to measure: ``sections`` of `EXPECTED_S`, and how. ``servers`` None: those of a default report; ``backends``
    None: what a session takes there by itself. ``devices``: input and output of a loopback, instead of servers."""

    sections: tuple[str, ...]
    model: str
    latency: Latency = "normal"
    rate: int = 48_000
    channels: int = 1
    rounds: int = ROUNDS
    real_time_s: float = REAL_TIME_S
    live_s: float = LIVE_S
    models: list[str] | None = None
    steps: list[tuple[str, Path, float]] = field(default_factory=list)
    matrix_rates: tuple[int, ...] = matrix.RATES_HZ
    blocksize: int | None = None
    servers: tuple[str, ...] | None = None
    backends: tuple[Backend | None, ...] = (None,)
    devices: tuple[str, str] | None = None
    peers: list[tuple[str, str]] = field(default_factory=list)
    clip: Path | None = None


def take(request: Request, console: Console) -> Report:
    """Measure what was requested; what cannot be measured is listed with the reason.

    The stages are measured in two halves, at the beginning and at the end, so that a machine that changes its pace in
    between is noticed. Raises `UsageError` if nothing at all could be measured.
    """
    began, here = time.monotonic(), machine.look()
    places = list(product(request.servers or (() if request.devices else _affordable()), request.backends))
    with _Steps(request, len(places), console) as steps:
        noise = steps.take("noise", "timer noise", lambda: clock.measure(NOISE_S))
        rounds = steps.take("engine", "getting ready (the first run on a machine compiles)", lambda: _rounds(request))
        half = request.rounds // 2
        if rounds:
            steps.take("engine", "stages of a hop", lambda: rounds.take(request.rounds - half))
        paced = [steps.take("real time", f"in real time, {c}", partial(_in_real_time, request, c)) for c in CONDITIONS]
        ways = [
            steps.take("live", f"end to end, {' by '.join(filter(None, place))}", partial(_live, request, *place))
            for place in places
        ]
        round_trip = (
            steps.take("live", "round trip", partial(_round_trip, request, request.devices))
            if request.devices
            else None
        )
        started = steps.take("start", "start-up", lambda: start.measure(request.model))
        cells = steps.take("matrix", "models, rates, channels", lambda: matrix.cells(request.matrix_rates))
        costs = steps.take(
            "cost",
            "cost of a second of sound",
            lambda: cost.measure(request.rate, request.models, request.steps),
        )
        others = steps.take(
            "peers", "other programs", lambda: peers.measure(request.peers, request.model, request.clip)
        )
        engine = steps.take("engine", "stages of a hop, again", partial(_rest, rounds, half)) if rounds else None
    report = Report(
        made=time.strftime("%Y-%m-%d %H:%M"),
        took_s=time.monotonic() - began,
        machine=here,
        noise=noise,
        start=started,
        engine=engine,
        in_real_time=[p for p in paced if p],
        matrix=cells or [],
        costs=costs or [],
        live=[w for w in ways if w],
        loopback=round_trip,
        peers=others or [],
        left_out=steps.left_out,
    )
    if not (noise or engine or report.live or round_trip or cells or costs or others):
        raise UsageError("; ".join(steps.left_out) or "no section was requested")
    return dataclasses.replace(report, advice=advise(report), warnings=warn(report))


def _affordable() -> tuple[str, ...]:
    """The sound server that answers here (else PulseAudio, else PipeWire, on null devices), and JACK."""
    running = live.running_server()
    if running:
        bridge = "pipewire" if "pipewire" in running.lower() else "pulse"
    else:
        bridge = "pipewire" if servers.missing(*live.NEEDS["pulse"]) else "pulse"
    return bridge, "jack"


def _rounds(request: Request) -> Rounds:
    return Rounds(Harness(request.model, request.rate, request.channels, request.latency))


def _rest(rounds: Rounds, count: int) -> Engine:
    with rounds:
        rounds.take(count)
        return rounds.result()


def _in_real_time(request: Request, condition: str) -> InRealTime:
    with Harness(request.model, request.rate, request.channels, request.latency) as harness:
        return in_real_time(harness, condition, request.real_time_s if condition == ALONE else request.real_time_s / 2)


def _live(request: Request, server: str, backend: Backend | None) -> live.Live:
    settings = request.model, request.live_s, request.latency, request.blocksize
    return live.measure(server, *settings, backend=backend)


def _round_trip(request: Request, devices: tuple[str, str]) -> loopback.Loopback:
    return loopback.measure(*devices, request.live_s, request.latency, request.blocksize)


class _Steps:
    """Runs one measurement after the other under a progress bar on standard error; lists those that cannot be made."""

    def __init__(self, request: Request, places: int, console: Console):
        self.left_out: list[str] = []
        self._sections = request.sections
        counts = {"engine": 2, "real time": len(CONDITIONS), "live": places}
        total = sum(EXPECTED_S[p] * counts.get(p, 1) for p in request.sections)
        columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> _Steps:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def take(self, section: str, text: str, work: Callable[[], T]) -> T | None:
        if section not in self._sections:
            return None
        self._bar.update(self._task, description=text)
        try:
            return work()
        except RtdenoiseError as e:
            self.left_out.append(f"{text}: {e}")
            return None
        finally:
            self._bar.advance(self._task, EXPECTED_S[section])
