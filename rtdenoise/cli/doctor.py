"""The command `rtdenoise doctor`: checks every part of the audio set-up, and says in a line each what to fix."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from rtdenoise import console
from rtdenoise.errors import RtdenoiseError

if TYPE_CHECKING:
    from rtdenoise.model.contract import ModelStream

T = TypeVar("T")
# A model step that takes more of a hop than this leaves no room for stalls, which are then heard.
COMFORTABLE_SHARE = 0.5
# The trial ends at whichever comes first, so that a slow model does not hold a core at real-time priority for long.
TRIAL_STEPS, TRIAL_S = 250, 2.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    subject : str
        What was checked.
    ok : bool
        False where live audio suffers or fails.
    text : str
        What there is, or what to do.
    """

    subject: str
    ok: bool
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="model to time (default: the default model)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per finding")


def run(args: argparse.Namespace) -> int:
    """Returns 0 if all is well, 1 if something needs fixing."""
    bad = 0
    for finding in examine(args.model):
        bad += not finding.ok
        if args.json:
            console.print_json(asdict(finding), sys.stdout)
        else:
            print(f"{'ok  ' if finding.ok else 'FIX '} {finding.subject:<13} {finding.text}", flush=True)
    return int(bad > 0)


def examine(model: str | None = None) -> Iterator[Finding]:
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "PortAudio": _portaudio,
        "devices": _devices,
        "sound server": _server,
        "priority": _priority,
        "model": lambda: _model(model),
    }
    for subject, check in checks.items():
        try:
            yield Finding(subject, *check())
        except RtdenoiseError as e:
            yield Finding(subject, False, str(e))


def _portaudio() -> tuple[bool, str]:
    from rtdenoise.live.portaudio import portaudio

    sd = portaudio()
    hosts = ", ".join(h["name"] for h in sd.query_hostapis())
    return bool(hosts), f"{sd.get_portaudio_version()[1].split(',')[0]} with {hosts or 'no host API'}"


def _devices() -> tuple[bool, str]:
    from rtdenoise.live.backends import find_route
    from rtdenoise.live.devices import find_device

    source, target = find_device(None, "input"), find_device(None, "output")
    route = find_route(source, target)
    ends = f"mic is {source.label}; speakers are {target.label}"
    return True, f"{ends}; both run at {route.rate} Hz, by {route.backend}"


def _server() -> tuple[bool, str]:
    from rtdenoise.live import own_modules, pulse
    from rtdenoise.live.server import connection

    if sys.platform != "linux":
        return True, "none needed on this system"
    server, endpoints = pulse.endpoints()
    if not server:
        return (
            False,
            "neither PulseAudio nor PipeWire responds, so no virtual microphone; start one, or use JACK or hardware",
        )
    with connection() as client:
        if client is not None and own_modules.left(client):
            return (
                False,
                f"{server}: a killed session left a virtual device; `rtdenoise apps` clears up",
            )
    return True, f"{server} with {len(endpoints)} sources and sinks; a virtual microphone can be created"


def _priority() -> tuple[bool, str]:
    granted, _ = _as_worker(lambda: None)
    if granted == "fifo" or sys.platform != "linux":
        return True, f"audio threads run with {granted} priority"
    advice = "allow real-time priority (`@audio - rtprio 95` in /etc/security/limits.d, and be in group audio)"
    return False, f"audio threads get {granted} priority: a busy machine causes dropouts; {advice}"


def _as_worker(work: Callable[[], T]) -> tuple[str, T]:
    """Run ``work`` with the priority that a session's worker gets here; says which that is. Its errors come through."""
    from concurrent.futures import ThreadPoolExecutor

    from rtdenoise.live import realtime

    def run() -> tuple[str, T]:
        return realtime.elevate(threading.get_native_id(), realtime.WORKER_PRIORITY), work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def _model(name: str | None) -> tuple[bool, str]:
    import numpy as np

    from rtdenoise.model.native_session import native_steps_available
    from rtdenoise.model.registry import DEFAULT_MODEL, load_model

    began = time.perf_counter()
    model = load_model(name or DEFAULT_MODEL)
    loaded_s = time.perf_counter() - began
    stream = model.stream(1)
    noisy, _ = stream.buffers(1)
    noisy[:] = 0.01 * np.random.default_rng(0).standard_normal(noisy.shape)
    usual, worst = np.percentile(_as_worker(lambda: _step_times_ms(stream))[1], [50, 99])
    hop_ms = model.info.framing.hop_ms
    how = "without the GIL" if native_steps_available(stream) else "on a Python thread that other threads can delay"
    text = f"{model.name}: {usual:.2f} ms per step, p99 {worst:.2f} of {hop_ms:g} ms, {how}; loaded in {loaded_s:.2f} s"
    fault = what_is_slow(float(usual), float(worst), hop_ms)
    return fault is None, text if fault is None else f"{text}: {fault}"


def _step_times_ms(stream: ModelStream) -> list[float]:
    times_ms: list[float] = []
    until = time.perf_counter() + TRIAL_S
    while len(times_ms) < TRIAL_STEPS and time.perf_counter() < until:
        began = time.perf_counter()
        stream.step(1)
        times_ms.append(1000 * (time.perf_counter() - began))
    return times_ms


def what_is_slow(usual_ms: float, worst_ms: float, hop_ms: float) -> str | None:
    """Why a model that takes so long a step, mostly and in the slowest of a hundred, is not fit to run live here.

    >>> what_is_slow(0.8, 1.5, 4)
    >>> what_is_slow(0.8, 4.5, 4)
    'some steps outlast a hop, so gains are reused; close other programs, or use a smaller model (`rtdenoise models`)'
    """
    if usual_ms > COMFORTABLE_SHARE * hop_ms:
        return "too slow for this machine; use a smaller model (`rtdenoise models`)"
    if worst_ms > hop_ms:
        return (
            "some steps outlast a hop, so gains are reused; close other programs, or use a smaller model "
            "(`rtdenoise models`)"
        )
    return None
