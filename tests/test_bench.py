"""The bench's exact rows hold on any machine, and it can find what it claims to measure."""

import json
import time

import numpy as np
import pytest

from rtdenoise.errors import UsageError
from rtdenoise_bench.cli import COMMANDS, DEFAULT_COMMAND, main
from rtdenoise_bench.measure import exactness
from rtdenoise_bench.measure.correlation import RATE
from rtdenoise_bench.measure.recordings import Recording
from rtdenoise_bench.report.readme import refreshed
from rtdenoise_bench.report.table import at_least, at_most

pytestmark = pytest.mark.slow


def test_exactness_is_json_with_the_machine_and_every_exact_row_holds(capsys):
    main(["exactness", "--hops", "200", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]
    exact = [r for r in report["rows"] if "own work" not in r["what"] and "step of one frame" not in r["what"]]
    assert len(exact) >= 4
    assert all(r["ok"] for r in exact), exact


def test_a_planted_wrong_delay_is_found(monkeypatch):
    monkeypatch.setattr(exactness.Denoiser, "latency_samples", property(lambda d: d.geometry.latency_samples() + 1))
    assert not exactness.delay().ok


def test_a_planted_error_is_found(monkeypatch):
    monkeypatch.setattr(exactness.PassThrough, "step", lambda self, frames: None)
    assert not exactness.exactness()[0].ok


def test_a_planted_stall_shows_in_the_times():
    count = iter(range(10**6))
    times = exactness.times_us(lambda: time.sleep(0.002) if next(count) % 10 == 0 else None, 200)
    assert np.sum(times > 1_900) == pytest.approx(20, abs=2)


@pytest.mark.parametrize("holes", [(), (5, 400, 410, 1500)])
def test_the_clock_of_a_recording_steps_where_samples_were_lost_and_creeps_elsewhere(holes):
    piece, pieces = 128, 2000
    index = np.arange(piece * pieces)
    right = 0.02 + 1e-4 * index / RATE
    for k in holes:
        right[k * piece :] += piece / RATE
    ends = piece * np.arange(1, pieces + 1)
    late = right[ends - 1] + np.random.default_rng(1).exponential(2e-4, pieces)
    late[900:905] += np.linspace(0.05, 0.01, 5)  # A reader that was held up lost nothing.
    wrong_ms = 1000 * (Recording(index, ends, late).clock(index) - right)
    assert np.abs(wrong_ms).max() < 0.3  # a hole is 2.7


def test_rows_say_when_they_miss():
    assert at_most("a", 2, 1, "ms").ok is False
    assert at_least("a", 2, 1, "x").ok is True


def test_readme_tables_come_from_commands_of_this_project_only():
    from rtdenoise_bench.report.readme import SECTION

    section = "<!-- $ rtdenoise-bench latency -->\nold\n<!-- end -->"
    match = SECTION.match(section)
    assert match
    fresh = refreshed(match, "")
    assert "16.00 ms" in fresh
    assert "old" not in fresh
    assert refreshed(match, "other") == section
    foreign = SECTION.match("<!-- $ rm -rf x -->\n<!-- end -->")
    assert foreign
    with pytest.raises(UsageError, match="not a command"):
        refreshed(foreign, "")


@pytest.mark.parametrize("part", COMMANDS)
def test_every_part_explains_itself(part, capsys):
    with pytest.raises(SystemExit) as end:
        main([part, "--help"])
    assert end.value.code == 0
    assert COMMANDS[part][1][:30] in " ".join(capsys.readouterr().out.split())


def test_without_a_part_comes_the_report(capsys):
    with pytest.raises(SystemExit):
        main(["--peer"])
    assert f"rtdenoise-bench {DEFAULT_COMMAND}" in capsys.readouterr().err
    assert main(["--peer", "nonsense"]) == 2
