"""`rtdenoise doctor` calls a model fit only if it keeps up with the hops, also in its slowest steps."""

from __future__ import annotations

import pytest

from rtdenoise.cli import doctor
from rtdenoise_bench.testbed import busy_model


@pytest.mark.parametrize(
    ("usual_ms", "worst_ms", "hop_ms", "fault"),
    [
        (0.8, 1.5, 4, None),
        (1.9, 3.9, 4, None),
        (2.1, 2.2, 4, "too slow for this machine"),
        (0.8, 4.1, 4, "some steps outlast a hop"),
        (2.1, 4.1, 8, None),  # a model whose hop is longer has more time
        (0.8, 9.0, 8, "some steps outlast a hop"),
    ],
)
def test_a_model_is_judged_by_its_usual_and_its_slowest_steps(usual_ms, worst_ms, hop_ms, fault):
    said = doctor.what_is_slow(usual_ms, worst_ms, hop_ms)
    assert said is None if fault is None else fault in said


def test_a_model_that_is_too_slow_is_to_be_fixed(tmp_path):
    fine, text = doctor._model(str(busy_model.write(tmp_path / "slow.onnx", 5_000)))
    assert not fine
    assert text.endswith("too slow for this machine; use a smaller model (`rtdenoise models`)")
