"""The report as one page that needs nothing else: no network, no script, light and dark, desk and phone."""

from __future__ import annotations

from html import escape

from rtdenoise_bench.measure.matrix import Cell
from rtdenoise_bench.report import charts
from rtdenoise_bench.report.report import Report
from rtdenoise_bench.report.tables import Table, headline, tables

STYLE = """
:root { color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #22252b; --muted: #6a6f7a; --line: #e3e1dc;
  --device: #3d6fb4; --ring: #37948a; --wake: #c99320; --compute: #c95f3e; --algorithm: #8b84a8; --limit: #b3364a; }
@media (prefers-color-scheme: dark) { :root {
  --page: #15171b; --card: #1c1f25; --ink: #e7e6e3; --muted: #9a9fab; --line: #33373f;
  --device: #7eaaea; --ring: #62c1b4; --wake: #e2b758; --compute: #ec8c6b; --algorithm: #a9a1c8; --limit: #f0788c; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 8px; font-weight: 650; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; margin: 64px 0 16px; font-weight: 600; }
p { margin: 0 0 8px; }
.muted, .notes { color: var(--muted); font-size: 0.875rem; }
.notes { margin: 12px 0 0; padding: 0; list-style: none; }
.notes li { margin: 4px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 16px; margin: 36px 0 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
.card b { display: block; font-size: 1.75rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
.card span { color: var(--muted); font-size: 0.85rem; }
.card span:last-child { display: block; margin-top: 4px; line-height: 1.4; }
.warnings { margin: 24px 0 0; padding: 14px 18px; list-style: none; border-left: 4px solid var(--wake);
  background: color-mix(in srgb, var(--wake) 10%, var(--page)); border-radius: 0 8px 8px 0; }
.warnings li { margin: 4px 0; }
.advice { margin: 0; padding-left: 20px; }
.advice li { margin: 8px 0; }
figure { margin: 0 0 20px; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
figcaption { color: var(--muted); font-size: 0.875rem; margin: 0 0 12px; }
.narrow { display: none; }
.scroll { overflow-x: auto; max-width: 100%; border: 1px solid var(--line); border-radius: 12px;
  background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 14px; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
th { color: var(--muted); font-weight: 500; border-top: 0; font-size: 0.825rem; }
th:first-child, td:first-child, .words th:last-child, .words td:last-child { text-align: left; }
td:first-child { font-weight: 500; }
.words td:last-child { color: var(--muted); }
tr.total td { border-top: 2px solid var(--line); }
tr.total + tr.total td { border-top-width: 1px; }
.heat td:not(:first-child) { text-align: center;
  background: color-mix(in srgb, var(--compute) var(--heat), var(--card)); }
.heat th:not(:first-child) { text-align: center; }
.heat small { display: block; opacity: 0.75; font-size: 0.8rem; }
code { font: 0.92em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; white-space: nowrap;
  background: color-mix(in srgb, var(--muted) 14%, transparent); padding: 1px 5px; border-radius: 5px; }
@media (max-width: 640px) {
  main { padding: 32px 16px 64px; }
  h1 { font-size: 1.55rem; }
  h2 { margin-top: 48px; }
  .cards { grid-template-columns: 1fr 1fr; gap: 10px; }
  .card { padding: 14px; }
  .card b { font-size: 1.4rem; }
  figure { padding: 14px 10px; }
  th, td { padding: 8px; }
  td:first-child, th:first-child { position: sticky; left: 0; background: var(--card); white-space: normal;
    min-width: 8em; max-width: 10em; }
  .words td:first-child { min-width: 6em; }
  .words td:last-child { white-space: normal; min-width: 9em; }
  .wide { display: none; }
  .narrow { display: block; }
}
"""
HEAT_PERCENT = 45  # The share of colour in the busiest cell.


def page(report: Report) -> str:
    """The whole page."""
    cards = "".join(
        f'<div class="card"><span>{escape(label)}</span><b>{escape(figure)}</b><span>{escape(meaning)}</span></div>'
        for label, figure, meaning in headline(report)
    )
    body = [
        "<h1>rtdenoise latency report</h1>",
        f'<p class="muted">{escape(report.made)}, took {report.took_s:.0f} s<br>{escape(report.machine.line)}</p>',
        f'<div class="cards">{cards}</div>',
        _list("warnings", report.warnings),
    ]
    if report.advice:
        body += ["<h2>What to change</h2>", _list("advice", report.advice)]
    lives = {live.key: live for live in report.live}
    for table in tables(report):
        body.append(f"<h2>{escape(table.title)}</h2>")
        if table.key in lives:
            body.append(_figure(charts.waterfall(lives[table.key]), "each stage begins where the previous one ends"))
        elif table.key == "stages" and report.engine:
            drawn = charts.histograms("stages", charts.engine_rows(report), report.engine.hop_us)
            body.append(_figure(drawn, "duration of each stage, both axes logarithmic, so that single hops show"))
        elif table.key == "real-time" and report.engine:
            drawn = charts.histograms("completion", charts.completion_rows(report), report.engine.hop_us)
            body.append(_figure(drawn, "from the device's callback to the finished hop"))
        body.append(_heat(table, report.matrix) if table.key == "matrix" else _table(table))
        body.append(_list("notes", table.notes))
        if table.key in lives and list(lives)[-1] == table.key:
            body += [
                "<h2>Latency over time</h2>",
                _figure(charts.over_time(report.live), "one dot per window; the band covers 95 %"),
            ]
    if report.left_out:
        body += ["<h2>Left out</h2>", _list("notes", report.left_out)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>rtdenoise latency report, {escape(report.made)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{chr(10).join(part for part in body if part)}</main></body></html>\n"
    )


def _figure(drawing: str, caption: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}</figure>"


def _list(kind: str, lines: list[str]) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{_prose(line)}</li>" for line in lines)}</ul>' if lines else ""


def _prose(line: str) -> str:
    """Text with `code` in backquotes."""
    pieces = escape(line).split("`")
    return "".join(f"<code>{piece}</code>" if k % 2 else piece for k, piece in enumerate(pieces))


def _table(table: Table) -> str:
    words = " words" if table.columns[-1] in ("meaning", "details") else ""
    totals = ("sum of", "measured", "floor", "whole")
    rows = "".join(
        f"<tr{' class=total' if row[0].startswith(totals) else ''}>{_cells('td', row)}</tr>" for row in table.rows
    )
    return (
        f'<div class="scroll"><table class="{words.strip()}"><tr>{_cells("th", table.columns)}</tr>{rows}</table></div>'
    )


def _heat(table: Table, cells: list[Cell]) -> str:
    """The matrix with colour for the share of a hop's time."""
    most = max(c.share for c in cells)
    rows = []
    for row in table.rows:
        drawn = [f"<td>{escape(row[0])}</td>"]
        for text in row[1:]:
            figure, _, share = text.partition("  ")
            heat = HEAT_PERCENT * float(share.rstrip(" %") or 0) / 100 / most
            drawn.append(f'<td style="--heat:{heat:.0f}%">{escape(share)}<small>{escape(figure)} us</small></td>')
        rows.append(f"<tr>{''.join(drawn)}</tr>")
    return (
        f'<div class="scroll"><table class="heat"><tr>{_cells("th", table.columns)}</tr>{"".join(rows)}</table></div>'
    )


def _cells(kind: str, texts: list[str]) -> str:
    return "".join(f"<{kind}>{escape(text)}</{kind}>" for text in texts)
