"""The report on a terminal: tables, and the latency breakdown as bars."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from rtdenoise_bench.measure.live import Live
from rtdenoise_bench.report.report import Report
from rtdenoise_bench.report.tables import Table, headline, tables

BAR_CELLS = 40
COLOURS = ("blue", "cyan", "yellow", "magenta", "bright_black", "cyan", "blue")
WIDE_COLUMNS = 120  # Bars need at least this width.
PIPE_COLUMNS = 140  # In a file or a pipe nothing need fit into 80 columns.


def show(report: Report, console: Console) -> None:
    """Print all of it."""
    console.print(f"[bold]rtdenoise latency report[/]  {report.made}, took {report.took_s:.0f} s")
    console.print(Text(report.machine.line, style="dim"))
    console.print()
    for label, figure, meaning in headline(report):
        console.print(Text.assemble((f"{label:>11}  ", "dim"), (f"{figure:>9}", "bold green"), f"  {meaning}"))
    for text in report.warnings:
        console.print(Text(f"! {text}", style="yellow"))
    measurements = iter(report.live)
    for table in tables(report):
        _print(table, console, next(measurements) if table.key.startswith("breakdown-") else None)
    _list("What to change", report.advice, console)
    _list("Left out", report.left_out, console)


def _print(table: Table, console: Console, live: Live | None) -> None:
    console.print()
    console.print(Text(table.title, style="bold"))
    drawn = RichTable(box=SIMPLE_HEAD, header_style="dim", pad_edge=False)
    last_is_text = table.columns[-1] in ("meaning", "details")
    bars = live if console.width >= WIDE_COLUMNS else None
    for k, name in enumerate(table.columns):
        text = k == 0 or (last_is_text and k == len(table.columns) - 1)
        drawn.add_column(name, justify="left" if text else "right", no_wrap=not text)
    if bars:
        drawn.add_column("")
    for k, row in enumerate(table.rows):
        drawn.add_row(*row, *([_bar(bars, k)] if bars else []))
    console.print(drawn)
    for note in table.notes:
        console.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))


def _bar(live: Live, k: int) -> Text:
    """A stage from where the stages before it end."""
    if k >= len(live.stages):
        return Text()
    before, ms = sum(p.ms for p in live.stages[:k]), live.stages[k].ms
    scale = BAR_CELLS / live.sum_ms
    first, last = round(before * scale), round((before + ms) * scale)
    return Text(" " * first) + Text("█" * (last - first) or "▏", style=COLOURS[k])


def _list(title: str, lines: list[str], console: Console) -> None:
    if not lines:
        return
    console.print()
    console.print(Text(title, style="bold"))
    for line in lines:
        console.print(Padding(Text(f"· {line}"), (0, 0, 0, 2)))
