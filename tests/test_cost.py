"""`rtdenoise-bench cost` times what it says: every call runs the model, and other makes are stepped beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtdenoise.errors import UsageError
from rtdenoise.live import ring
from rtdenoise_bench.cli import main
from rtdenoise_bench.measure import cost
from rtdenoise_bench.testbed import busy_model
from rtdenoise_bench.testbed.harness import Harness

pytestmark = pytest.mark.slow

RATE, HOP_MS, STEP_MS = 16_000, 4.0, 16.0
CALLS = [f"{hops} a call" for hops in cost.HOPS]


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> str:
    """A model whose step takes much longer than all else, for one frame as for several."""
    return str(busy_model.write(tmp_path_factory.mktemp("cost") / "busy.onnx", 10))


@pytest.fixture(scope="module")
def measured(busy) -> tuple[list[cost.Cost], np.ndarray]:
    """What was found, and the control block of the worker that was measured."""
    made = []

    class Kept(Harness):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self.control)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "Harness", Kept)
        patch.setattr(cost, "SWEEPS", 3)
        found = cost.measure(RATE, [busy], [cost.parse_step(f"other={busy}@{STEP_MS}")])
    return found, made[0]


def test_every_call_runs_the_model_whatever_it_takes(measured):
    found, control = measured
    assert [c.way for c in found] == [*CALLS, cost.FILE, cost.STEP]
    assert control[ring.REUSED_GAINS] == 0
    calls = 3 * (cost.WARM_UP_CALLS + cost.CALLS + cost.COLD_CALLS)
    assert control[ring.HOPS] == calls * sum(cost.HOPS)


def test_percentages_are_of_the_sound_that_a_call_takes(measured):
    found, _ = measured
    sound_ms = [*(hops * HOP_MS for hops in cost.HOPS), 1000 * cost.FILE_S, STEP_MS]
    for c, ms in zip(found, sound_ms, strict=True):
        assert c.warm == pytest.approx(100 * c.call_us / 1000 / ms)


def test_several_hops_a_call_share_a_step(measured):
    """The step is nearly all of the work here, so four hops a call cost about a quarter."""
    one, _, _, four, _, step = measured[0]
    assert four.warm < 0.6 * one.warm
    assert 0.3 < step.call_us / one.call_us < 3


def test_a_trained_model_outside_the_package_is_timed_by_its_path(monkeypatch, capsys):
    monkeypatch.setattr(cost, "SWEEPS", 1)
    model = Path(__file__).resolve().parents[1] / "experiments" / "models" / "crced.onnx"
    assert main(["cost", "--model", str(model), "--rate", str(RATE)]) == 0
    said = capsys.readouterr().out
    assert all(way in said for way in CALLS)


@pytest.mark.parametrize("text", ["", "a", "a=b.onnx", "a=b.onnx@", "=b.onnx@16", "a=b.onnx@0", "a=b.onnx@x", "a=@16"])
def test_a_step_is_named_with_its_file_and_its_sound(text):
    with pytest.raises(UsageError, match=r"give NAME=FILE\.onnx@MS"):
        cost.parse_step(text)


@pytest.mark.parametrize(
    ("what", "said"), [("/nowhere.onnx@16", "no such file"), (f"{__file__}@16", "not an ONNX model")]
)
def test_a_step_that_cannot_be_taken_is_named(busy, capsys, what, said):
    assert main(["cost", "--model", busy, "--step", f"other={what}", "--quiet"]) != 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("by", "code"), [(1.0, 0), (1.5, 1)])
def test_compare_finds_a_model_that_costs_more(measured, tmp_path, capsys, by, code):
    from rtdenoise_bench.report.machine import look
    from rtdenoise_bench.report.report import Report, to_json

    report = json.loads(to_json(Report("2026-01-01 12:00", 1.0, look(), costs=measured[0])))
    for name, factor in (("before", 1.0), ("after", by)):
        costs = [c | {"noise": 0.01, "warm": factor * c["warm"]} for c in report["costs"]]
        (tmp_path / name).write_text(json.dumps(report | {"costs": costs}), encoding="utf-8")
    assert main(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == code
    assert (f"{measured[0][0].name}, 1 a call: a second of sound, warm" in capsys.readouterr().err) == bool(code)
