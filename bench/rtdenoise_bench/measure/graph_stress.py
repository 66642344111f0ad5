"""Rows of `rtdenoise-bench stress` in PipeWire's graph, where a node behind both ends hears the latency."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rtdenoise import console
from rtdenoise_bench.measure import probes
from rtdenoise_bench.measure.correlation import Delay
from rtdenoise_bench.report.table import Row, at_most
from rtdenoise_bench.testbed import servers

GRAPH, PORTAUDIO = ("--backend", "pipewire"), ("--backend", "portaudio")
MOST_MS = {"normal": 26.0, "low": 18.0}
STEADY_MS, LEAST_STEADY = 0.1, 0.95
CYCLES = 64, 128, 256, 1024
PARTS = 4  # Eight measurements, each of which starts the product and two probes, shall take a minute and a half in all.
MOST_ASLEEP_PERCENT, ASLEEP_S = 1.0, 20.0


def through_graph(
    model: object, seconds: float, *argv: object, during: Callable | None = None
) -> tuple[Delay, dict, float]:
    """Delay A to B with the product between as a node, its statistics, and when ``during(product)`` was done."""
    with servers.pipewire() as env:
        crossing = probes.across_graph(env, model, seconds, *argv, *GRAPH, during=during)
    return crossing.delay, crossing.stats, crossing.done


def pipewire(args: argparse.Namespace) -> list[Row]:
    """Both ways by one server, heard by the same node."""
    rows = []
    with servers.pipewire() as env:
        for mode, most_ms in MOST_MS.items():
            for backend in GRAPH, PORTAUDIO:
                c = probes.across_graph(env, args.plain, args.seconds, "--latency", mode, *backend)
                near = np.abs(c.delay.placed - c.delay.median_ms) <= STEADY_MS
                steady = float(np.mean(near)) if len(near) else 0.0
                what = f"PipeWire null to null, {args.seconds:.0f} s, {mode} latency, {backend[1]}: end to end"
                besides = f"{100 * steady:.1f} % within {STEADY_MS:g} ms; {c.stats['dropout_ms']:.0f} ms of dropout"
                limit, ok = "", None
                if backend == GRAPH:
                    limit, ok = f"<= {most_ms:g} ms, +-{STEADY_MS:g} ms", steady > LEAST_STEADY
                    ok = bool(ok and c.delay.median_ms <= most_ms)
                rows.append(Row(what, f"{c.delay.summary()}; {besides}", limit, ok))
    return rows


def cycles(args: argparse.Namespace) -> list[Row]:
    """Lost cycles of the graph with the filter in it, against the same node that only copies."""
    rows, seconds = [], args.seconds / PARTS
    with servers.pipewire() as env:
        for frames in CYCLES:
            console.say(f"cycles of {frames} frames ...")
            with _forced(env, frames):
                alone = probes.across_graph(env, args.plain, seconds, *GRAPH, "--pass-through")
                filtered = probes.across_graph(env, args.plain, seconds, *GRAPH)
            measured = f"{filtered.lost}; {alone.lost} with a node that only copies; {filtered.delay.summary()}"
            what = f"PipeWire, cycles of {frames} frames, {seconds:.0f} s: lost cycles"
            rows.append(Row(what, measured, "no more", filtered.lost <= alone.lost))
    return rows


@contextlib.contextmanager
def _forced(env: dict[str, str], frames: int) -> Iterator[None]:
    def force(value: int) -> None:
        argv = ["pw-metadata", "-n", "settings", "0", "clock.force-quantum", str(value)]
        subprocess.run(argv, env=env, capture_output=True, check=True)

    force(frames)
    try:
        yield
    finally:
        force(0)


def asleep(args: argparse.Namespace) -> list[Row]:
    """Processor time of a virtual microphone that nobody records."""
    line = [sys.executable, "-m", "rtdenoise", "--in", "A.monitor", "--out", "virtual-mic", "--json", "--model"]
    with servers.pipewire() as env:
        process = subprocess.Popen(
            [*line, str(args.plain)], env=env | probes.import_path(), stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout
            while '"asleep": true' not in process.stdout.readline():
                pass
            began_s, before_s = time.monotonic(), _used_s(process.pid)
            time.sleep(ASLEEP_S)
            percent = 100 * (_used_s(process.pid) - before_s) / (time.monotonic() - began_s)
        finally:
            process.terminate()
            process.communicate(timeout=30)
    what = f"PipeWire, virtual microphone that nobody records, {ASLEEP_S:.0f} s: CPU"
    return [at_most(what, percent, MOST_ASLEEP_PERCENT, "% of a core")]


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


ROWS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"pipewire": pipewire, "cycles": cycles, "asleep": asleep}
