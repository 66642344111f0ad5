"""The report as Markdown, for pasting into a ticket."""

from __future__ import annotations

from rtdenoise_bench.report.report import Report
from rtdenoise_bench.report.tables import Table, headline, tables


def page(report: Report) -> str:
    """All of it, in the order of the terminal."""
    lines = ["# rtdenoise latency report", "", f"{report.made}, took {report.took_s:.0f} s  ", report.machine.line, ""]
    lines += [f"- {label}: **{figure}** {meaning}" for label, figure, meaning in headline(report)]
    lines += _list("Warnings", report.warnings)
    for table in tables(report):
        lines += ["", f"## {table.title}", "", *_lines(table)]
    lines += _list("What to change", report.advice)
    lines += _list("Left out", report.left_out)
    return "\n".join(lines) + "\n"


def part(report: Report) -> str:
    """The tables alone, for a page that has headings of its own."""
    lines = [report.machine.line]
    for table in tables(report):
        lines += ["", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(table: Table) -> list[str]:
    right = ["---:" for _ in table.columns[1:]]
    rows = [_row(table.columns), _row(["---", *right]), *map(_row, table.rows)]
    return [*rows, "", *(f"{note}  " for note in table.notes)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _list(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {line}" for line in lines)] if lines else []
