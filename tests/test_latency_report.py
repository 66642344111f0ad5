"""The latency report finds what is planted, hides nothing for want of samples, and reads the same in every form."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import xml.etree.ElementTree as Xml

import numpy as np
import pytest

from rtdenoise.errors import UsageError
from rtdenoise.geometry import Geometry
from rtdenoise.live import trace
from rtdenoise.model.registry import load_model
from rtdenoise_bench.cli import main
from rtdenoise_bench.commands import Command
from rtdenoise_bench.measure import latency_breakdown, peers, stages
from rtdenoise_bench.measure.clock import Noise
from rtdenoise_bench.measure.cost import FILE, Cost
from rtdenoise_bench.measure.latency_breakdown import LatencyStage
from rtdenoise_bench.measure.live import Live
from rtdenoise_bench.measure.matrix import Cell
from rtdenoise_bench.measure.stages import Rounds, in_real_time, measuring_us
from rtdenoise_bench.measure.start import Start
from rtdenoise_bench.measure.times import times
from rtdenoise_bench.report import html, markdown
from rtdenoise_bench.report.advice import advise, warn
from rtdenoise_bench.report.machine import look
from rtdenoise_bench.report.report import Report, load, to_json
from rtdenoise_bench.report.tables import us
from rtdenoise_bench.testbed import busy_model, traced_callback
from rtdenoise_bench.testbed.fault_injection import STALLED, stalls
from rtdenoise_bench.testbed.harness import Harness

pytestmark = pytest.mark.slow

HOP_US = 4000.0


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A model that changes nothing."""
    return load_model(busy_model.write(tmp_path_factory.mktemp("bench") / "plain.onnx"))


def test_a_planted_stall_shows_in_the_tail_and_is_counted(plain):
    with Rounds(Harness(plain)) as rounds:
        with stalls(rounds.harness.worker.hop_arguments[-1], every=100, stall_ms=6) as plan:
            rounds.take(20)
            planted = int(plan[:, STALLED].sum())
        engine = rounds.result()
    assert 90 <= planted <= 100  # a hop after a stall may reuse gains instead
    assert engine.misses == pytest.approx(planted, rel=0.05)
    assert engine.hop.percentiles["p99.9"] > 6000
    assert engine.hop.percentiles["p50"] < 1000
    assert engine.stages[2].times.percentiles["p99.9"] > 6000  # where it was planted
    assert engine.stages[1].times.percentiles["p99"] < 1000


def test_a_planted_stall_makes_hops_late_in_real_time(plain):
    with Harness(plain) as harness, stalls(harness.worker.hop_arguments[-1], every=25, stall_ms=6) as plan:
        seen = in_real_time(harness, "alone", 1.0)
        planted = int(plan[:, STALLED].sum())
    assert planted >= 8
    assert planted <= seen.misses <= planted + 5  # a busy machine adds some of its own
    assert seen.completion.most > 6000
    assert seen.underruns >= planted


@pytest.mark.steady
def test_reading_the_clocks_costs_next_to_nothing(plain):
    with Harness(plain) as harness:
        # Two tenths of a microsecond are within the noise of a report's hundred rounds, which may turn the sign.
        assert 0 < measuring_us(harness, rounds=1000) < HOP_US / 1000


def test_stages_are_those_of_the_real_worker(plain):
    """Their sum is the whole hop, and every hop is in them."""
    with Rounds(Harness(plain)) as rounds:
        rounds.take(2)
        engine = rounds.result()
    assert engine.hop.count == 2 * stages.ROUND_HOPS
    assert sum(s.times.mean for s in engine.stages) == pytest.approx(engine.hop.mean)
    assert all(s.times.median > 0 for s in engine.stages)


def test_a_percentile_without_enough_samples_is_left_out_with_the_reason():
    t = times(np.arange(500))
    assert list(t.percentiles) == ["p50", "p90"]
    assert t.left_out == "p99 needs 1,000 samples, p99.9 needs 10,000 samples; there are 500"
    assert sum(t.histogram) == 500


def device(rate: int, block: int, frames: int, column: int, late_ns: int) -> np.ndarray:
    """The log of a callback that comes once a block."""
    k = np.arange(frames // block)
    log = np.zeros((len(k), traced_callback.COLUMNS), np.int64)
    log[:, traced_callback.AT] = (k + 1) * block * 1_000_000_000 // rate + late_ns
    log[:, column], log[:, traced_callback.FRAMES] = k * block, block
    return log


def test_the_latency_breakdown_of_a_hop_adds_up_to_what_was_built():
    """A made-up device of known delays: 2 ms until a block is there, 3 ms until one is heard, 20 ms of ring."""
    rate, block, hop, second = 48_000, 256, 192, 48_000
    came_in = device(rate, block, second, traced_callback.IN_FROM, 2_000_000)
    came_out = device(rate, block, second, traced_callback.OUT_FROM, 20_000_000 - 3_000_000)
    at = np.arange(hop, second // 2, hop)
    complete = came_in[(at + hop - 1) // block, traced_callback.AT]
    rows = np.zeros((len(at), 8), np.int64)
    rows[:, trace.IN_AT] = rows[:, trace.OUT_AT] = at
    rows[:, trace.OPENED], rows[:, trace.WRITTEN] = complete + 100_000, complete + 500_000
    sounded = lambda frame, _block: frame / rate
    heard = lambda frame, row: (
        came_out[row, traced_callback.AT] / 1e9 + 3e-3 + (frame - came_out[row, traced_callback.OUT_FROM]) / rate
    )
    breakdown, wake_up_ms, completion_ms = latency_breakdown.latency_breakdown(
        came_in, came_out, rows, hop, 12.0, sounded, heard
    )
    by_name = {p.name: p.ms for p in breakdown}
    assert sum(by_name.values()) == pytest.approx(1000 * block / rate + 20 + 12)
    assert by_name["wake-up"] == pytest.approx(0.1)
    assert by_name["compute"] == pytest.approx(0.4)
    assert by_name["algorithm"] == 12
    np.testing.assert_allclose(wake_up_ms, 0.1)
    np.testing.assert_allclose(completion_ms, 0.5)


@pytest.fixture
def report() -> Report:
    """Every part filled, with figures that are easy to reason about."""
    spread = times(np.linspace(200, 400, 12_000))
    engine = stages.Engine(
        model="unet",
        rate=48_000,
        channels=1,
        latency="normal",
        hop_us=HOP_US,
        stages=[stages.Stage(name, spread, spread.median / HOP_US) for name in stages.STAGES],
        hop=spread,
        misses=0,
        rtf=0.075,
        measuring_us=0.4,
        scheduling="fifo",
        round_medians_us=[300.0, 301.0],
        noise=0.01,
    )
    alone = stages.InRealTime(times(np.full(1000, 30.0)), times(np.full(1000, 600.0)), 2, 1, 1, "fifo", "alone", 4.0)
    through_jack = Live(
        server="jack",
        route="JACK",
        model="unet",
        latency="normal",
        rate=48_000,
        hop=192,
        low_saves_ms=8.0,
        block_in=256,
        block_out=256,
        latency_ms=25.0,
        low_ms=24.9,
        high_ms=25.1,
        windows=20,
        clean_share=1.0,
        over_time=[[0.0, 25.0], [0.1, 24.9], [0.2, 25.1]],
        stages=[
            LatencyStage(name, ms, "")
            for name, ms in zip(latency_breakdown.STAGES, (3, 3, 0.2, 0.5, 12, 4.3, 2), strict=True)
        ],
        sum_ms=25.0,
        floor_ms=17.3,
        driver_in_ms=5.0,
        driver_out_ms=5.0,
        reported_ms=20.0,
        drift_ppm=None,
        seconds=2.0,
        wake_up=alone.wake_up,
        completion=alone.completion,
        misses=0,
        reused_gains=0,
        underruns=0,
        dropout_ms=0.0,
        worker="native",
        scheduling="fifo",
        cpu_percent=10.0,
        memory_mb=200.0,
        ready_s=1.0,
    )
    cells = [
        Cell(model, rate, 1, latency, us, us - 10, us / HOP_US, latency_ms, 0.02)
        for model, us in (("unet", 300.0), ("small", 200.0))
        for rate in (16_000, 48_000)
        for latency, latency_ms in (("normal", 16.0), ("low", 8.0))
    ]
    noise = Noise(30.0, 0.25, 0, 0.0, 0.0, {"fifo": times(np.full(200, 30.0)), "normal": times(np.full(200, 80.0))})
    return Report(
        made="2026-01-01 12:00",
        took_s=30.0,
        machine=dataclasses.replace(look(), load=0.1),
        noise=noise,
        start=Start(0.7, 3.3, 180.0),
        engine=engine,
        in_real_time=[alone],
        matrix=cells,
        costs=[
            Cost("unet", "1 a call", 8.0, 11.0, 14.0, 20.0, 320.0, 0.02, 150.0),
            Cost("unet", FILE, 2.5, math.nan, math.nan, math.nan, 100_000.0, 0.02, None),
        ],
        live=[through_jack],
        peers=[
            peers.Peer("other", 0.02, 1.9, 0.1, 10.0, 0.9, 20.0),
            peers.Peer("unlike", 0.02, 1.9, 0.1, None, 0.1, 20.0),
        ],
        left_out=["end to end, pulse: not installed: pactl (make system)"],
    )


def test_a_report_comes_back_from_its_file_unchanged(report, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(to_json(report), encoding="utf-8")
    assert load(path) == report
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match="format None"):
        load(path)


def slower(report: Report, by: float, **engine) -> Report:
    hop = times(by * np.linspace(200, 400, 12_000))
    return dataclasses.replace(report, engine=dataclasses.replace(report.engine, hop=hop, **engine))


@pytest.mark.parametrize(
    ("by", "noise", "code"), [(1.0, 0.01, 0), (1.08, 0.01, 0), (1.3, 0.01, 1), (1.3, 0.4, 0), (0.7, 0.01, 0)]
)
def test_compare_fails_on_what_is_slower_beyond_noise_and_threshold(report, tmp_path, capsys, by, noise, code):
    for name, r in (("a", report), ("b", slower(report, by, noise=noise))):
        (tmp_path / f"{name}.json").write_text(to_json(r), encoding="utf-8")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == code
    said = capsys.readouterr()
    assert f"{by:.3f}" in said.out
    assert ("slower by more than 10 %: unet 48000 Hz x 1 normal: whole hop" in said.err) == bool(code)


def test_compare_says_when_nothing_can_be_compared(report, tmp_path, capsys):
    bare = dataclasses.replace(report, engine=None, matrix=[], live=[], costs=[])
    for name, r in (("a", report), ("b", bare)):
        (tmp_path / f"{name}.json").write_text(to_json(r), encoding="utf-8")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "no figure in common" in capsys.readouterr().err


def test_advice_follows_the_figures(report):
    """JACK at 256 frames with answers of 0.6 ms: smaller blocks fit; a slow machine needs larger ones."""
    said = "\n".join(advise(report))
    assert "`--latency low` saves 8.0 ms: JACK 17.0 instead of 25.0" in said
    assert "`jackd -p 64` saves 8.0 ms" in said
    assert "keep unet: a hop takes 10 % of 4 ms (p99.9)" in said
    assert "2 of 1,000 hops were late (1 reused gains, 1 underrun)" in said
    late = dataclasses.replace(report.in_real_time[0], completion=times(np.full(2000, 3000.0)))
    said = "\n".join(advise(dataclasses.replace(slower(report, 8), in_real_time=[late])))
    assert "`jackd -p 512` would be safer" in said
    assert "`--model small` takes 200 us instead of" in said
    assert "keep unet" not in said


def test_doubtful_figures_are_called_so(report):
    assert warn(report) == []
    noisy = dataclasses.replace(report, engine=dataclasses.replace(report.engine, noise=0.2))
    assert "noisy machine: rounds of the same work differ by 20 %" in warn(noisy)[0]
    off = dataclasses.replace(report, live=[dataclasses.replace(report.live[0], sum_ms=20.0)])
    assert "differs from the measured latency by 5.0 ms" in warn(off)[0]


def test_the_page_needs_nothing_but_itself(report):
    page = html.page(dataclasses.replace(report, advice=advise(report), warnings=["a <doubt>"]))
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"|@import|url\((?!#)', page.replace("xlink:href", "href"))
    assert "a &lt;doubt&gt;" in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"#0[1-9]000[1-9]\b", page)  # every colour of a picture is the page's
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 2 * 4  # breakdown, over time, stages, completion; each for a desk and for a phone
    for picture in pictures:
        Xml.fromstring(picture)


def test_markdown_tables_are_whole(report):
    page = markdown.page(dataclasses.replace(report, advice=advise(report)))
    blocks = [b.splitlines() for b in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)]
    assert len(blocks) == 7
    for lines in blocks:
        assert {line.count("|") for line in lines} == {lines[0].count("|")}
    alone = markdown.part(report)
    assert "#" not in alone
    assert all("\n".join(lines) in alone for lines in blocks)


def test_html_without_matplotlib_names_the_extra(monkeypatch, capsys, tmp_path):
    for name in [
        m for m in sys.modules if m.startswith(("rtdenoise_bench.report.charts", "rtdenoise_bench.report.html"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("rtdenoise_bench.report.html")
    monkeypatch.delattr("rtdenoise_bench.report.charts")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["models", "--html", str(tmp_path / "r.html")]) == 2
    assert "rtdenoise[plot]" in capsys.readouterr().err


PEER = """
import sys, numpy as np, soundfile
x, rate = soundfile.read(sys.argv[1], dtype="float32")
soundfile.write(sys.argv[2], np.concatenate([np.zeros(350, np.float32), x])[: len(x)], rate)
"""


def test_a_peers_delay_is_found(tmp_path):
    script = tmp_path / "peer.py"
    script.write_text(PEER, encoding="utf-8")
    own, other = peers.measure([peers.parse(f"late={sys.executable} {script} {{in}} {{out}}")], "unet")
    assert own.name == "rtdenoise"
    assert own.latency_ms == pytest.approx(0, abs=0.5)  # files come out aligned
    assert other.latency_ms == pytest.approx(1000 * 350 / 48_000, abs=0.01)
    assert 0 < other.rtf < 1


def test_a_peer_that_fails_is_named(tmp_path):
    with pytest.raises(UsageError, match="name='command"):
        peers.parse("nothing")
    with pytest.raises(UsageError, match="broken: the command failed"):
        peers.measure([peers.parse(f"broken={sys.executable} -c pass {{in}} {{out}}")], "unet")


def test_a_short_report_is_measured_printed_and_written(tmp_path, capsys):
    import argparse

    command = Command(("noise", "engine", "real time"))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    files = {kind: tmp_path / f"r.{kind}" for kind in ("json", "md", "html")}
    line = ["--rounds", "2", "--real-time", "0.2", "--model", "unet"]
    assert command.run(parser.parse_args([*line, *(a for k, p in files.items() for a in (f"--{k}", str(p)))])) == 0
    printed = capsys.readouterr().out
    r = load(files["json"])
    assert r.engine.hop.count == 1000
    assert [x.condition for x in r.in_real_time] == ["alone", "a core kept busy", "the GIL held by C calls"]
    assert r.noise.wake_up
    median = us(r.engine.hop.median)
    for text in (printed, files["md"].read_text(encoding="utf-8"), files["html"].read_text(encoding="utf-8")):
        assert "whole hop" in text
        assert median in text
    assert json.loads(files["json"].read_text(encoding="utf-8"))["format"] == 2
    assert Geometry(r.engine.rate).hop == 192
