"""What to change, computed from what was measured: every line says what it would win, or why nothing need change."""

from __future__ import annotations

import math
from math import gcd

from rtdenoise_bench.measure.live import NAMES, Live
from rtdenoise_bench.measure.stages import NOISY
from rtdenoise_bench.measure.times import counted
from rtdenoise_bench.report.report import Report

HEAVY = 0.5  # share of a hop's time that its 99th percentile may take before a lighter model is worth its quality
BLOCKS = (64, 128, 256, 512)
SPARE = 2.0  # times the slow answers that a block must last
CREDIBLE_MS = 2.0  # a driver whose word differs by more from what was measured is not to be believed


def advise(report: Report) -> list[str]:
    """Lines for a person, the largest win first."""
    lines: list[tuple[float, str]] = []
    for live in report.live:
        lines += [*_block(live, report), *_claims(live)]
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
            f"a loop that did nothing lost {100 * report.noise.stolen_share:.1f} % of its time, "
            f"{report.noise.longest_us / 1000:.1f} ms at once: a virtual machine or real-time programs beside this one"
        )
    if report.machine.load > report.machine.cores:
        found.append(
            f"{report.machine.load:.1f} programs wanted one of {report.machine.cores} cores before the report began; "
            "delays of live audio include their disturbance"
        )
    for live in report.live:
        apart = abs(live.sum_ms - live.delay_ms)
        if apart > max(1.0, 0.05 * live.delay_ms):
            found.append(
                f"{NAMES[live.server]}: the stages add up to {apart:.1f} ms off the measured delay; believe the latter"
            )
    return found


def _range_us(medians: list[float]) -> str:
    return f"{min(medians):.0f} to {max(medians):.0f} us a hop"


def _latency_mode(lives: list[Live]) -> list[tuple[float, str]]:
    if not lives:
        return []
    saved, low = lives[0].low_saves_ms, lives[0].latency == "low"
    other = [
        f"{NAMES[w.server]} {w.delay_ms + (saved if low else -saved):.1f} instead of {w.delay_ms:.1f}" for w in lives
    ]
    if low:
        return [(0.03, f"`--latency low` is on; `--latency normal` takes {saved:.1f} ms more: {', '.join(other)} ms")]
    return [
        (saved, f"`--latency low` takes {saved:.1f} ms off: {', '.join(other)} ms; the same model, a coarser window")
    ]


def _block(live: Live, report: Report) -> list[tuple[float, str]]:
    """Another block size, where it is the user's to choose: what it would win, against how late answers come here."""
    if live.server != "jack":
        return []
    frame_ms, hop, now = 1000 / live.rate, live.hop, live.block_out
    way_ms = {b: (2 * b + hop - gcd(b, hop)) * frame_ms for b in {*BLOCKS, now}}  # a block in, and the ring's reserve
    slowest = max([r.answer for r in report.in_real_time] + [live.answer], key=lambda t: t.count)
    percentile, us = slowest.tail
    late_ms = us / 1000
    said = f"answers take {late_ms:.2f} ms here ({percentile} of {slowest.count:,}; longest {slowest.most / 1000:.2f})"
    best = next((b for b in BLOCKS if b * frame_ms > SPARE * late_ms), BLOCKS[-1])
    lasts = f"a block of {best} lasts {best * frame_ms:.2f}"
    if best < now:
        won = way_ms[now] - way_ms[best]
        return [(won, f"JACK: `jackd -p {best}` takes {won:.1f} ms off what {now} frames need; {said}, {lasts}")]
    if best > now:
        return [
            (0.5, f"JACK: `jackd -p {best}` would be safer, for {way_ms[best] - way_ms[now]:.1f} ms; {said}, {lasts}")
        ]
    return [(0.1, f"JACK: keep blocks of {now} frames; {said}, {lasts}")]


def _claims(live: Live) -> list[tuple[float, str]]:
    """Where the driver's word differs from what was measured."""
    if live.server == "jack":
        return []
    seen = sum(p.ms for p in live.parts if p.name.startswith("device"))
    claimed = live.claimed_in_ms + live.claimed_out_ms
    if abs(claimed - seen) <= CREDIBLE_MS:
        return []
    text = f"{NAMES[live.server]}: the driver claims {claimed:.1f} ms for the devices, they took {seen:.1f}"
    return [(0.2, f"{text}; set lip sync by the measured {live.delay_ms:.1f} ms")]


def _model(report: Report) -> list[tuple[float, str]]:
    """Whether a lighter model is worth it."""
    if not (e := report.engine):
        return []
    name, us = e.hop.tail
    share, alike = us / e.hop_us, (e.rate, e.channels, e.latency)
    others = [c for c in report.matrix if (c.rate, c.channels, c.latency) == alike and c.hop_us < e.hop.median]
    lighter = min((c for c in others if c.model != e.model), key=lambda c: c.hop_us, default=None)
    text = f"a hop takes {100 * share:.0f} % of its {e.hop_us / 1000:.3g} ms ({name})"
    instead = (
        f"`--model {lighter.model}` takes {lighter.hop_us:.0f} instead of {e.hop.median:.0f} us" if lighter else ""
    )
    if share > HEAVY and lighter:
        return [(2.0, f"{text}: {instead}")]
    return [(0.05, f"keep {e.model}: {text}" + (f"; {instead}, which wins no delay" if lighter else ""))]


def _priority(report: Report) -> list[tuple[float, str]]:
    """What real-time priority does, or would do."""
    if not report.noise:
        return []
    late = {k: f"{t.median:.0f} us late (longest {t.most:.0f})" for k, t in report.noise.wake.items()}
    if "fifo" not in late:
        return [
            (3.0, f"allow real-time priority (`rtdenoise doctor` says how): threads wake {v}") for v in late.values()
        ]
    return [(0.01, f"keep real-time priority: with it a thread wakes {late['fifo']}, without it {late.get('normal')}")]


def _in_time(report: Report) -> list[tuple[float, str]]:
    """How much more buffer would have covered the late hops."""
    lines = []
    hop_us = report.engine.hop_us if report.engine else 0.0
    for r in (r for r in report.in_real_time if r.misses):
        late = f"{r.misses} of {r.answer.count:,} hops came late ({r.holds} held, {counted(r.gaps, 'gap')})"
        more_ms = math.ceil((r.answer.most - hop_us) / 1000)
        spare = f"a `--budget` of {more_ms} ms above the printed delay would have covered"
        lines.append((1.0, f"in real time, {r.condition}: {late}; {spare} the longest, {r.answer.most / 1000:.1f} ms"))
    return lines
