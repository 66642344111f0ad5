"""The report as tables of text, the one source of terminal, Markdown and HTML: names of figures, and how they read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from rtdenoise_bench.measure.live import Live
from rtdenoise_bench.measure.loopback import Loopback
from rtdenoise_bench.measure.matrix import Cell
from rtdenoise_bench.measure.times import PERCENTILES, Times, counted
from rtdenoise_bench.report.report import Report

NONE = "–"


@dataclass(frozen=True)
class Table:
    """``key`` names it for a renderer; the first column holds words, the others figures. ``notes`` stand below."""

    key: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


def headline(report: Report) -> list[tuple[str, str, str]]:
    """The few figures that answer "is it good?": label, figure, what it means."""
    found = []
    for live in report.live:
        meaning = f"end to end, 95 % from {live.low_ms:.1f} to {live.high_ms:.1f}; floor {live.floor_ms:.1f}"
        found.append((live.name, f"{live.latency_ms:.1f} ms", meaning))
    if loop := report.loopback:
        meaning = f"devices out and in; with the filter {loop.latency_ms + loop.filter_ms:.1f} ms"
        found.append(("Round trip", f"{loop.latency_ms:.1f} ms", meaning))
    if e := report.engine:
        name, us = e.hop.tail
        meaning = f"of {e.hop_us / 1000:.3g} ms; {name} {us / 1000:.2f} ms"
        found.append(("One hop", f"{e.hop.median / 1000:.2f} ms", meaning))
    if report.in_real_time:
        late, count = sum(r.misses for r in report.in_real_time), sum(r.completion.count for r in report.in_real_time)
        found.append(("Late hops", f"{late}", f"of {count:,} in real time, in {len(report.in_real_time)} conditions"))
    if report.start:
        found.append(
            (
                "Start",
                f"{report.start.warm_s:.2g} s",
                f"to the first output; {report.start.cold_s:.2g} s on the very first run",
            )
        )
    return found


def tables(report: Report) -> Iterator[Table]:
    """Every table that the report has figures for, in reading order."""
    yield from (_breakdown(live) for live in report.live)
    if report.loopback:
        yield _round_trip(report.loopback)
    if report.engine:
        yield _stages(report)
    if report.in_real_time:
        yield _in_real_time(report)
    if report.matrix:
        yield _matrix(report)
    if report.costs:
        yield _costs(report)
    if report.peers:
        yield _peers(report)
    if report.start or report.noise:
        yield _rest(report)


def us(value: float) -> str:
    """
    >>> us(0.6123), us(17.2), us(2718.28)
    ('0.61', '17.2', '2,718')
    """
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def signed(ms: float) -> str:
    """
    >>> signed(-0.001), signed(1.234)
    ('+0.00', '+1.23')
    """
    return f"{round(ms, 2) + 0.0:+.2f}"


def percentiles(t: Times) -> list[str]:
    return [us(t.percentiles[name]) if name in t.percentiles else NONE for name in PERCENTILES]


def _breakdown(live: Live) -> Table:
    total = live.sum_ms
    rows = [[p.name, f"{p.ms:.2f}", f"{100 * p.ms / total:.1f} %", p.meaning] for p in live.stages]
    rows.append(
        ["sum of the stages", f"{total:.2f}", "", f"{signed(total - live.latency_ms)} from the measured latency"]
    )
    rows.append(
        [
            "measured end-to-end",
            f"{live.latency_ms:.2f}",
            "",
            f"95 % of {live.windows} windows: {live.low_ms:.2f} to {live.high_ms:.2f}",
        ]
    )
    rows.append(["floor", f"{live.floor_ms:.2f}", "", "window minus hop, plus one block: the minimum for this filter"])
    block = f"{live.block_in} in, {live.block_out} out" if live.block_in != live.block_out else f"{live.block_in}"
    drift = f"; clock drift {live.drift_ppm:+.0f} ppm" if live.drift_ppm is not None else ""
    claims = f", the driver {live.driver_in_ms:.1f} ms in and {live.driver_out_ms:.1f} ms out"
    driver = claims if live.backend == "portaudio" else ""
    notes = [
        f"{live.route}; {live.model}, {live.rate} Hz, latency {live.latency}, blocks of {block} frames, "
        f"{live.worker} worker, {live.scheduling} priority{drift}",
        f"{live.seconds:.1f} s: {counted(live.underruns, 'underrun')}; of {counted(live.completion.count, 'hop')} "
        f"{live.misses} late, {live.reused_gains} with reused gains; {100 * live.clean_share:.0f} % of windows clean",
        f"{live.cpu_percent:.0f} % of a core, {live.memory_mb:.0f} MB peak memory, {live.ready_s:.1f} s to start",
        f"the product reports {live.reported_ms:.2f} ms from callback to callback{driver}",
    ]
    if live.server != "jack" and live.backend != "pipewire":
        notes.append(
            "the sum of both devices is exact; its split between them is uncertain by the recorders' lag, about 4 ms"
        )
    return Table(
        live.key,
        f"Latency breakdown: {live.name}",
        ["stage", "ms", "share", "meaning"],
        rows,
        notes,
    )


def _round_trip(loop: Loopback) -> Table:
    spread = f"95 % of {loop.windows} windows: {loop.low_ms:.2f} to {loop.high_ms:.2f}"
    total = loop.latency_ms + loop.filter_ms
    rows = [
        ["devices, output to input", f"{loop.latency_ms:.2f}", spread],
        [
            "filter and its buffer",
            f"{loop.filter_ms:.2f}",
            f"algorithmic latency, blocks of {loop.block} frames, one clock",
        ],
        ["total", f"{total:.2f}", "end-to-end latency with the filter between these devices"],
        [
            "reported by the driver",
            f"{loop.driver_ms:.2f}",
            f"{signed(loop.driver_ms - loop.latency_ms)} from the round trip",
        ],
    ]
    notes = [
        f"{loop.output} -> {loop.input}, {loop.rate} Hz; what came back correlates with what was played: "
        f"{loop.correlation:.2f}",
        "through the air, each metre between loudspeaker and microphone adds 3 ms",
    ]
    return Table("loopback", "Round trip through the devices", ["what", "ms", "details"], rows, notes)


def _stages(report: Report) -> Table:
    e = report.engine
    assert e
    rows = [[s.name, *percentiles(s.times), us(s.times.most), f"{100 * s.share:.2f} %"] for s in e.stages]
    rows.append(["whole hop", *percentiles(e.hop), us(e.hop.most), f"{100 * e.hop.median / e.hop_us:.2f} %"])
    notes = [
        f"{e.model}, {e.rate} Hz, {counted(e.channels, 'channel')}, latency {e.latency}; {e.hop.count:,} hops "
        f"back to back, {e.scheduling} priority, after a warm-up",
        f"{counted(e.misses, 'hop')} took longer than the {e.hop_us / 1000:.3g} ms of a hop; "
        f"real-time factor {e.rtf:.3f}",
        f"medians of rounds differ by {100 * e.noise:.1f} %; reading the clocks adds {e.measuring_us:.2f} us per hop",
    ]
    if e.hop.left_out:
        notes.append(f"left out: {e.hop.left_out}")
    return Table("stages", "Time per hop, us", ["stage", *PERCENTILES, "longest", "share of a hop"], rows, notes)


def _in_real_time(report: Report) -> Table:
    columns = ["condition", "hops", "wake-up p50", *PERCENTILES, "longest", "late", "reused gains", "underruns"]
    rows, left_out = [], ""
    for r in report.in_real_time:
        figures = [f"{r.completion.count:,}", us(r.wake_up.median), *percentiles(r.completion), us(r.completion.most)]
        rows.append([r.condition, *figures, str(r.misses), str(r.reused_gains), str(r.underruns)])
        left_out = r.completion.left_out or left_out
    shown = [i for i, name in enumerate(columns) if name == "condition" or any(row[i] != NONE for row in rows)]
    notes = [
        "a timer simulates the device: a hop in, a hop out, every 4 ms. Wake-up is the time from its callback to the "
        "worker's start; the percentiles are of the time to the finished hop; late is after the next callback",
        f"{report.in_real_time[0].scheduling} priority",
    ]
    if left_out:
        notes.append(f"left out: {left_out}")
    picked = [[row[i] for i in shown] for row in rows]
    return Table("real-time", "In real time, us", [columns[i] for i in shown], picked, notes)


def _matrix(report: Report) -> Table:
    sides = list(dict.fromkeys((c.model, c.latency) for c in report.matrix))
    by_key = {(c.rate, c.channels, c.model, c.latency): c for c in report.matrix}
    rows = []
    for rate, channels in sorted({(c.rate, c.channels) for c in report.matrix}):
        line = [by_key.get((rate, channels, *side)) for side in sides]
        rows.append([f"{rate / 1000:g} kHz x {channels}", *(matrix_text(c) for c in line)])
    columns = ["rate x channels", *(f"{model}, {latency}" for model, latency in sides)]
    latencies = sorted({f"{c.latency} {c.latency_ms:.0f} ms" for c in report.matrix}, reverse=True)
    notes = [
        f"median us per hop and their share of a hop; the algorithmic latency is {', '.join(latencies)} at every rate",
        f"repeated measurements of a cell differ by {100 * max(c.noise for c in report.matrix):.0f} % at most",
    ]
    return Table("matrix", "Models, rates, channels, latency modes", columns, rows, notes)


def matrix_text(cell: Cell | None) -> str:
    return f"{us(cell.hop_us)}  {100 * cell.share:.1f} %" if cell else NONE


def _costs(report: Report) -> Table:
    percent = lambda value: f"{value:.1f} %" if math.isfinite(value) else NONE
    energy = any(c.millijoules is not None for c in report.costs)
    columns = ["model", "hops", "us a call", "warm p50", "warm p99", "cold p50", "cold p99", *["mJ"][: int(energy)]]
    rows = []
    for c in report.costs:
        figures = [percent(value) for value in (c.warm, c.warm_p99, c.cold, c.cold_p99)]
        used = [NONE if c.millijoules is None else f"{c.millijoules:.0f}"][: int(energy)]
        rows.append([c.name, c.way, us(c.call_us), *figures, *used])
    notes = [
        "percent of a core for each second of sound, one thread; a call is the live worker's code with its transforms, "
        "a step the model alone",
        "cold: other data runs through the caches before each call, as other programs do between two sounds",
        f"repeated measurements differ by {100 * max(c.noise for c in report.costs):.0f} % at most",
    ]
    if energy:
        notes.append("mJ of the whole processor for each second of sound, warm")
    return Table("cost", "What a second of sound costs", columns, rows, notes)


def _peers(report: Report) -> Table:
    rows = []
    for p in report.peers:
        latency = f"{p.latency_ms:.2f}" if p.latency_ms is not None else NONE
        rows.append(
            [
                p.name,
                f"{p.rtf:.4f}",
                f"{1 / p.rtf:.0f} x",
                f"{p.core_percent:.1f} %",
                f"{p.start_s:.2f}",
                latency,
                f"{p.correlation:.2f}",
            ]
        )
    notes = [
        f"the whole command on one clip of {report.peers[0].clip_s:.0f} s; start-up is the same on a tenth of "
        "a second, and is left out of the percentage"
    ]
    if any(p.latency_ms is None for p in report.peers):
        notes.append("no latency where the output correlates too little with the clip")
    columns = ["program", "RTF", "speed", "percent of a core", "start-up s", "latency ms", "correlation"]
    return Table("peers", "Other programs on the same clip", columns, rows, notes)


def _rest(report: Report) -> Table:
    rows = []
    if n := report.noise:
        for priority, late in n.wake_up.items():
            name, tail = late.tail
            rows.append(
                [
                    f"wake-up latency of a sleeping thread, {priority} priority",
                    f"{late.median:.0f} us",
                    f"{name} {tail:.0f}, longest {late.most:.0f} us ({late.count:,} times)",
                ]
            )
        lost = f"{100 * n.stolen_share:.2f} % of {n.spun_s:.2g} s lost, at most {n.longest_us:.0f} us at a time"
        rows.append(["stalls of an idle loop", f"{n.stalls}", lost])
        rows.append(["reading the clock", f"{n.reading_ns:.0f} ns", "the resolution of every stage"])
    if s := report.start:
        rows.append(["start to the first output, warm", f"{s.warm_s:.2f} s", "first byte of a pipe, imports included"])
        rows.append(["start, very first run", f"{s.cold_s:.2f} s", "compiles everything first"])
        rows.append(["memory", f"{s.memory_mb:.0f} MB", "peak of the command on a pipe"])
    m = report.machine
    notes = [
        f"{m.line}; {m.memory_gb:.0f} GB, FFT by {m.fft}, load average before {m.load:.2f}"
        + (f", governor {m.governor}" if m.governor else "")
    ]
    return Table("machine", "This machine", ["what", "figure", "details"], rows, notes)
