"""How many sessions of `rtdenoise serve` one core carries in real time, and what strangers cost them.

The server runs alone on one core. Clients in this process send chunks at the pace of sound, each session at a time of
its own within a chunk, and never wait for answers. The answer time is from sending a chunk to receiving as many
samples; the algorithm's delay comes on top, since the samples in an answer are older by it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rtdenoise.arguments import count, number
from rtdenoise.errors import RtdenoiseError
from rtdenoise.model.registry import DEFAULT_MODEL, find_model
from rtdenoise_bench.measure.start import COMMAND
from rtdenoise_bench.measure.times import Times, times
from rtdenoise_bench.report.table import Row, at_least, at_most, show

LIMIT_MS, LEAST_SESSIONS = 8.0, 8
FIRST, STEP, MOST = 8, 2, 200  # sessions that are tried
BESIDE = 4  # sessions beside strangers
GUESTS = 2  # places that strangers may take beside the sessions
WARM_S = 1.0
RATES_HZ = (8_000, 16_000, 48_000)


@dataclass(frozen=True)
class Load:
    """What so many sessions felt: answer times, share of the core, and chunks whose answer never came."""

    sessions: int
    answers: Times
    core: float
    missing: int
    late: float  # share of the chunks that the clients themselves sent more than 2 ms late

    @property
    def p99_ms(self) -> float:
        return self.answers.percentiles.get("p99", self.answers.most) / 1000

    @property
    def row(self) -> str:
        return f"answer p50 {self.answers.median / 1000:.1f} ms, p99 {self.p99_ms:.1f} ms, {self.core:.0%} of the core"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="model to measure (default %(default)s)")
    add("--rate", type=count(8_000, 192_000), action="append", help=f"rates in Hz (default {RATES_HZ})")
    add("--chunk-ms", type=number(1, 1_000, "ms"), default=20, help="length of a chunk (default %(default)s)")
    add("--seconds", type=number(1, 3_600, "seconds"), default=10, help="of each number of sessions (default 10)")
    add("--sessions", type=count(1, MOST), help="only so many (default: more and more, until they are too many)")
    add("--strangers", type=count(0, 1_000), default=200, help="connections that misbehave at once (default 200)")
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    find_model(args.model)
    rows = []
    for rate in args.rate or RATES_HZ:
        rows += capacity(args.model, rate, args.chunk_ms, args.seconds, args.sessions)
    if args.strangers:
        rows += beside_strangers(args.model, args.chunk_ms, args.seconds, args.sessions or BESIDE, args.strangers)
    return show(rows, args.json)


def capacity(model: str, rate: int, chunk_ms: float, seconds: float, sessions: int | None) -> list[Row]:
    """The most sessions with a p99 within the limit; each number on a server that already runs."""
    rows, most = [], 0
    what = f"{rate / 1000:g} kHz, chunks of {chunk_ms:g} ms"
    with server(model, MOST) as (port, process):
        for n in [sessions] if sessions else range(FIRST, MOST + 1, STEP):
            load = asyncio.run(_load(port, process, n, rate, chunk_ms, seconds))
            rows.append(Row(f"{what}, {n} sessions", load.row))
            if load.p99_ms > LIMIT_MS or load.missing or load.late > 0.01:
                break
            most = n
    return [*rows, at_least(f"{what}: sessions a core with p99 <= {LIMIT_MS:g} ms", most, LEAST_SESSIONS, "")]


def beside_strangers(model: str, chunk_ms: float, seconds: float, sessions: int, others: int) -> list[Row]:
    """The same sessions without and with a crowd of clients that misbehave, some of which take a place."""
    with server(model, sessions + GUESTS) as (port, process):
        alone = asyncio.run(_load(port, process, sessions, 16_000, chunk_ms, seconds))
        beside = asyncio.run(_load(port, process, sessions, 16_000, chunk_ms, seconds, others))
    return [
        Row(f"{sessions} sessions alone", alone.row),
        Row(f"{sessions} sessions beside {others} strangers", beside.row),
        at_most("answers that never came beside them", beside.missing, 0, ""),
    ]


@contextmanager
def server(model: str, places: int) -> Iterator[tuple[int, subprocess.Popen]]:
    """A server on one core, the clients on the others."""
    line = [*COMMAND, "serve", "--port", "0", "--connections", str(places), "--model", model]
    process = _on_one_core(line)
    assert process.stderr is not None
    try:
        said = process.stderr.readline().decode()
        found = re.search(r":(\d+)/", said)
        if found is None:
            raise RtdenoiseError(f"the server did not start: {said.strip()}")
        yield int(found[1]), process
    finally:
        process.terminate()
        process.wait()


def _on_one_core(line: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if not hasattr(os, "sched_setaffinity"):
        return subprocess.Popen(line, stderr=subprocess.PIPE, env=environment)
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(everything)})  # the child inherits it
    try:
        process = subprocess.Popen(line, stderr=subprocess.PIPE, env=environment)
    finally:
        os.sched_setaffinity(0, everything - {max(everything)} or everything)
    return process


@contextmanager
def _crowd(port: int, count: int) -> Iterator[None]:
    """Strangers in a process of their own, which leaves the processor to the clients that measure."""
    if not count:
        yield
        return
    line = [sys.executable, "-m", "rtdenoise_bench.testbed.strangers", str(port), str(count)]
    process = subprocess.Popen(["nice", *line] if shutil.which("nice") else line)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


async def _load(port, process, sessions: int, rate: int, chunk_ms: float, seconds: float, others: int = 0) -> Load:
    import aiohttp

    url = f"ws://127.0.0.1:{port}/v1/stream"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        start = time.perf_counter() + WARM_S
        clients = [_Client(url, rate, chunk_ms / 1000, start + k / sessions * chunk_ms / 1000) for k in range(sessions)]
        jobs = asyncio.gather(*(client.run(http, seconds) for client in clients))
        await asyncio.sleep(2 * WARM_S)
        began, used = time.perf_counter(), _cpu_s(process.pid)
        with _crowd(port, others):
            await asyncio.sleep(seconds - WARM_S)
            core = (_cpu_s(process.pid) - used) / (time.perf_counter() - began)
            await jobs
    answers = np.concatenate([client.answers_s for client in clients])
    late = float(np.mean(np.concatenate([client.late_s for client in clients]) > 0.002))
    return Load(sessions, times(1e6 * answers), core, sum(client.missing for client in clients), late)


class _Client:
    """One session in real time; what it measures after the first second counts."""

    def __init__(self, url: str, rate: int, chunk_s: float, start: float):
        self._url, self._rate, self._chunk_s, self._start = url, rate, chunk_s, start
        self._sent: list[float] = []
        self.answers_s: list[float] = []
        self.late_s: list[float] = []

    @property
    def missing(self) -> int:
        return len(self._sent) - len(self.answers_s)

    async def run(self, http, seconds: float) -> None:
        samples = round(self._chunk_s * self._rate)
        noise = np.random.default_rng(0).normal(0, 1000, samples).astype("<i2").tobytes()
        async with http.ws_connect(self._url) as socket:
            await socket.send_json({"type": "hello", "protocol": 1, "rate": self._rate})
            await socket.receive_json()
            reading = asyncio.create_task(self._read(socket))
            for k in range(round(seconds / self._chunk_s)):
                due = self._start + k * self._chunk_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                self._sent.append(time.perf_counter())
                self.late_s.append(self._sent[-1] - due)
                await socket.send_bytes(noise)
            await asyncio.wait([reading], timeout=2)
            reading.cancel()
        skip = round(WARM_S / self._chunk_s)
        del self.answers_s[:skip], self._sent[:skip], self.late_s[:skip]

    async def _read(self, socket) -> None:
        async for _ in socket:
            self.answers_s.append(time.perf_counter() - self._sent[len(self.answers_s)])


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far; not a number where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
