"""Pictures of the report as SVG that takes its colours from the page around it, in two widths: a desk's and a phone's.

Drawn by matplotlib in colours that stand for roles; each is then replaced by a CSS variable of that role, so one
drawing suits light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise_bench.measure.live import Live
from rtdenoise_bench.measure.times import Times, edges_us
from rtdenoise_bench.report.report import Report

try:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as e:
    raise UsageError("--html needs matplotlib; install it: `pip install 'rtdenoise[plot]'`") from e

WIDE_PX, NARROW_PX = 920, 350
ROLES = {  # what is drawn in which colour, and the CSS variable that takes its place
    "ink": "#010001",
    "muted": "#020002",
    "line": "#030003",
    "device": "#040004",
    "ring": "#050005",
    "wake": "#060006",
    "compute": "#070007",
    "algorithm": "#080008",
    "limit": "#090009",
}
STAGE_ROLES = ("device", "ring", "wake", "compute", "algorithm", "ring", "device")
FONT_PX = 12.5
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": FONT_PX,
    "axes.edgecolor": ROLES["line"],
    "axes.labelcolor": ROLES["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.color": ROLES["ink"],
    "xtick.color": ROLES["line"],
    "ytick.color": ROLES["line"],
    "xtick.labelcolor": ROLES["muted"],
    "ytick.labelcolor": ROLES["ink"],
    "grid.color": ROLES["line"],
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def waterfall(live: Live) -> str:
    """Each stage from where the one before it ends; the measured latency with its 95 %, and the floor."""

    def draw(width_px: int) -> Figure:
        stages = live.stages
        names = [p.name for p in stages] + ["measured", "floor"]
        with _figure(width_px, 34 * len(names) + 44) as figure:
            axes = figure.subplots()
            start, most = 0.0, max(live.high_ms, live.sum_ms)
            for k, part in enumerate(stages):
                axes.barh(k, part.ms, left=start, height=0.62, color=ROLES[STAGE_ROLES[k]])
                if k + 1 < len(stages):
                    axes.plot([start + part.ms] * 2, [k - 0.31, k + 1.31], color=ROLES["line"], lw=0.8, zorder=0)
                start += part.ms
                axes.text(start + 0.012 * most, k, f"{part.ms:.2f}", va="center", color=ROLES["ink"])
            row = len(stages)
            axes.barh(row, live.latency_ms, height=0.3, color=ROLES["ink"])
            axes.plot([live.low_ms, live.high_ms], [row, row], color=ROLES["limit"], lw=3, solid_capstyle="butt")
            axes.text(live.high_ms + 0.012 * most, row, f"{live.latency_ms:.2f}", va="center", fontweight="bold")
            axes.barh(row + 1, live.floor_ms, height=0.3, color=ROLES["muted"])
            axes.text(live.floor_ms + 0.012 * most, row + 1, f"{live.floor_ms:.2f}", va="center")
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.set_xlim(0, most * (1.1 if width_px == WIDE_PX else 1.2))
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(6 if width_px == WIDE_PX else 4))
            axes.set_xlabel("ms")
            axes.grid(axis="x")
        return figure

    return _both(live.key, draw, f"{live.name}: latency by stage, ms")


def histograms(key: str, rows: list[tuple[str, Times, str]], limit_us: float) -> str:
    """One histogram above the other on a common log axis; counts are drawn on a log scale so that single hops show."""

    def draw(width_px: int) -> Figure:
        edges = edges_us()
        filled = [np.flatnonzero(t.histogram) for _, t, _ in rows if t.count]
        low = edges[max(0, min(f[0] for f in filled) - 1)]
        high = max(edges[min(len(edges) - 1, max(f[-1] for f in filled) + 2)], 1.5 * limit_us)
        with _figure(width_px, 58 * len(rows) + 44) as figure:
            plots = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
            for axes, (name, t, role) in zip(plots, rows, strict=True):
                counts = np.array(t.histogram, float)
                axes.stairs(np.log10(1 + 9 * counts), edges, fill=True, color=ROLES[role])
                axes.set_xscale("log")
                axes.set_xlim(low, high)
                axes.set_ylim(0, 1.75 * max(1.0, np.log10(1 + 9 * counts.max())))
                axes.set_yticks([])
                axes.axvline(limit_us, color=ROLES["limit"], lw=1.2, ls=(0, (3, 3)))
                axes.text(0, 0.97, name, transform=axes.transAxes, va="top", color=ROLES["ink"])
                axes.tick_params(axis="x", which="both", length=0)
                axes.grid(axis="x")
            last = plots[-1]
            subs = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
            last.xaxis.set_major_locator(LogLocator(10, subs))
            last.xaxis.set_major_formatter(FuncFormatter(_duration))
            last.xaxis.set_minor_formatter(NullFormatter())
            last.set_xlabel("dashed: the time a hop lasts")
        return figure

    return _both(key, draw, "histograms of durations, logarithmic in both directions")


def over_time(lives: list[Live]) -> str:
    """Latency of each window, one server above the other, each on its own scale of at least a millisecond."""

    def draw(width_px: int) -> Figure:
        with _figure(width_px, 135 * len(lives) + 30) as figure:
            plots = figure.subplots(len(lives), 1, sharex=True, squeeze=False)[:, 0]
            for axes, live in zip(plots, lives, strict=True):
                t, ms = np.array(live.over_time).T
                half = max(0.5, 0.6 * float(np.ptp(ms)))
                axes.set_ylim(live.latency_ms - half, live.latency_ms + half)
                axes.axhspan(live.low_ms, live.high_ms, color=ROLES["device"], alpha=0.15, lw=0)
                axes.plot(t, ms, ".-", color=ROLES["device"], lw=1, ms=4)
                axes.set_title(f"{live.name}, ms", loc="left", fontsize=FONT_PX, color=ROLES["ink"])
                axes.yaxis.set_major_locator(MaxNLocator(3))
                axes.tick_params(length=0, labelcolor=ROLES["muted"])
                axes.grid()
            plots[-1].set_xlabel("s")
        return figure

    return _both("over-time", draw, "latency over time")


def _duration(us: float, _position: int) -> str:
    """
    >>> _duration(0.1, 0), _duration(10, 0), _duration(1000, 0)
    ('0.1 us', '10 us', '1 ms')
    """
    return f"{us:g} us" if us < 1000 else f"{us / 1000:g} ms"


@contextmanager
def _figure(width_px: int, height_px: float):
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width_px / 72, height_px / 72), dpi=72, layout="constrained")


def _both(key: str, draw: Callable[[int], Figure], label: str) -> str:
    """The drawing for wide and for narrow screens; the page's style shows one of them."""
    drawn = (
        (name, _svg(draw(width), f"{key}-{name}", label)) for name, width in (("wide", WIDE_PX), ("narrow", NARROW_PX))
    )
    return "".join(f'<div class="{name}">{svg}</div>' for name, svg in drawn)


def _svg(figure: Figure, salt: str, label: str) -> str:
    out = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    size: Any = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    size = f'viewBox="0 0 {size[1]} {size[2]}" role="img" aria-label="{label}"'
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size}>'
    svg = head + svg[svg.index(">") + 1 :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{salt}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{salt}-", svg)
    for role, colour in ROLES.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg


def engine_rows(report: Report) -> list[tuple[str, Times, str]]:
    """What `histograms` draws of the engine."""
    assert report.engine
    roles = ("ring", "algorithm", "compute", "algorithm", "ring")
    rows = [(s.name, s.times, role) for s, role in zip(report.engine.stages, roles, strict=True)]
    return [*rows, ("whole hop", report.engine.hop, "ink")]


def completion_rows(report: Report) -> list[tuple[str, Times, str]]:
    """What it draws of hops in real time."""
    return [(f"completion, {r.condition}", r.completion, "compute") for r in report.in_real_time]
