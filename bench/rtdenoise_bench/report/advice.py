"""Advice computed from the measurements: every line says what a change would gain, or why none is needed."""

from __future__ import annotations

import math
from math import gcd

from rtdenoise_bench.measure.live import Live
from rtdenoise_bench.measure.stages import NOISY
from rtdenoise_bench.measure.times import counted
from rtdenoise_bench.report.report import Report

HEAVY = 0.5  # From this 99th percentile on, as a share of a hop, a lighter model is worth its loss of quality.
BLOCKS = (64, 128, 256, 512)
SPARE = 2.0  # A block must last this many times the slowest usual completion.
CREDIBLE_MS = 2.0  # A driver whose report differs from the measurement by more should not be trusted.


def advise(report: Report) -> list[str]:
    """Lines for a person, the largest gain first."""
    lines: list[tuple[float, str]] = []
    for live in report.live:
        lines += [*_block(live, report), *_driver(live)]
    lines += _latency_mode(report.live)
    lines += _model(report)
    lines += _priority(report)
    lines += _in_time(report)
    return [text for _, text in sorted(lines, key=lambda line: -line[0])]


def warn(report: Report) -> list[str]:
    """What makes figures doubtful."""
    found = []
    if report.engine and report.engine.noise > NOISY:
        found.append(
            f"noisy machine: rounds of the same work differ by {100 * report.engine.noise:.0f} % "
            f"({_range_us(report.engine.round_medians_us)}); quit other programs and repeat before you compare"
        )
    if report.noise and report.noise.stolen_share > 0.01:
        found.append(
            f"an idle loop lost {100 * report.noise.stolen_share:.1f} % of its time, "
            f"up to {report.noise.longest_us / 1000:.1f} ms at a time: a virtual machine, or other real-time programs"
        )
    if report.machine.load > report.machine.cores:
        found.append(
            f"{report.machine.load:.1f} programs competed for {report.machine.cores} cores before the report began; "
            "latencies of live audio include their effect"
        )
    for live in report.live:
        apart = abs(live.sum_ms - live.latency_ms)
        if apart > max(1.0, 0.05 * live.latency_ms):
            found.append(
                f"{live.name}: the sum of the stages differs from the measured latency by {apart:.1f} ms; "
                "trust the latter"
            )
    return found


def _range_us(medians: list[float]) -> str:
    return f"{min(medians):.0f} to {max(medians):.0f} us per hop"


def _latency_mode(lives: list[Live]) -> list[tuple[float, str]]:
    if not lives:
        return []
    saved, low = lives[0].low_saves_ms, lives[0].latency == "low"
    other = [f"{w.name} {w.latency_ms + (saved if low else -saved):.1f} instead of {w.latency_ms:.1f}" for w in lives]
    if low:
        return [(0.03, f"`--latency low` is on; `--latency normal` adds {saved:.1f} ms: {', '.join(other)} ms")]
    return [
        (
            saved,
            f"`--latency low` saves {saved:.1f} ms: {', '.join(other)} ms; the same model, a shorter synthesis window",
        )
    ]


def _block(live: Live, report: Report) -> list[tuple[float, str]]:
    """Another block size, where the user can choose it: what it would gain, against the completion latency here."""
    if live.server != "jack":
        return []
    frame_ms, hop, now = 1000 / live.rate, live.hop, live.block_out
    latency_ms = {
        b: (2 * b + hop - gcd(b, hop)) * frame_ms for b in {*BLOCKS, now}
    }  # a block in, and the ring's reserve
    slowest = max([r.completion for r in report.in_real_time] + [live.completion], key=lambda t: t.count)
    percentile, us = slowest.tail
    late_ms = us / 1000
    said = (
        f"hops complete in {late_ms:.2f} ms here ({percentile} of {slowest.count:,}; longest {slowest.most / 1000:.2f})"
    )
    best = next((b for b in BLOCKS if b * frame_ms > SPARE * late_ms), BLOCKS[-1])
    lasts = f"a block of {best} lasts {best * frame_ms:.2f} ms"
    if best < now:
        won = latency_ms[now] - latency_ms[best]
        return [(won, f"JACK: `jackd -p {best}` saves {won:.1f} ms over {now} frames; {said}, {lasts}")]
    if best > now:
        return [
            (
                0.5,
                f"JACK: `jackd -p {best}` would be safer, at a cost of {latency_ms[best] - latency_ms[now]:.1f} ms; "
                f"{said}, {lasts}",
            )
        ]
    return [(0.1, f"JACK: keep blocks of {now} frames; {said}, {lasts}")]


def _driver(live: Live) -> list[tuple[float, str]]:
    """Where the driver's report differs from what was measured."""
    if live.server == "jack" or live.backend != "portaudio":
        return []
    measured = sum(p.ms for p in live.stages if p.name.startswith("device"))
    reported = live.driver_in_ms + live.driver_out_ms
    if abs(reported - measured) <= CREDIBLE_MS:
        return []
    text = f"{live.name}: the driver reports {reported:.1f} ms for the devices, measured were {measured:.1f}"
    return [(0.2, f"{text}; set lip sync by the measured {live.latency_ms:.1f} ms")]


def _model(report: Report) -> list[tuple[float, str]]:
    """Whether a lighter model is worth it."""
    if not (e := report.engine):
        return []
    name, us = e.hop.tail
    share, alike = us / e.hop_us, (e.rate, e.channels, e.latency)
    others = [c for c in report.matrix if (c.rate, c.channels, c.latency) == alike and c.hop_us < e.hop.median]
    lighter = min((c for c in others if c.model != e.model), key=lambda c: c.hop_us, default=None)
    text = f"a hop takes {100 * share:.0f} % of {e.hop_us / 1000:.3g} ms ({name})"
    instead = (
        f"`--model {lighter.model}` takes {lighter.hop_us:.0f} us instead of {e.hop.median:.0f}" if lighter else ""
    )
    if share > HEAVY and lighter:
        return [(2.0, f"{text}: {instead}")]
    return [(0.05, f"keep {e.model}: {text}" + (f"; {instead}, which saves no latency" if lighter else ""))]


def _priority(report: Report) -> list[tuple[float, str]]:
    """What real-time priority does, or would do."""
    if not report.noise:
        return []
    late = {k: f"{t.median:.0f} us late (at most {t.most:.0f})" for k, t in report.noise.wake_up.items()}
    if "fifo" not in late:
        return [
            (3.0, f"allow real-time priority (`rtdenoise doctor` says how): threads wake up {v}") for v in late.values()
        ]
    return [
        (0.01, f"keep real-time priority: with it a thread wakes up {late['fifo']}, without it {late.get('normal')}")
    ]


def _in_time(report: Report) -> list[tuple[float, str]]:
    """How much more buffer would have covered the late hops."""
    lines = []
    hop_us = report.engine.hop_us if report.engine else 0.0
    for r in (r for r in report.in_real_time if r.misses):
        besides = f"{r.reused_gains} reused gains, {counted(r.underruns, 'underrun')}"
        late = f"{r.misses} of {r.completion.count:,} hops were late ({besides})"
        more_ms = math.ceil((r.completion.most - hop_us) / 1000)
        spare = f"a `--fixed-latency` {more_ms} ms above the reported latency would have covered"
        lines.append(
            (1.0, f"in real time, {r.condition}: {late}; {spare} the longest, {r.completion.most / 1000:.1f} ms")
        )
    return lines
