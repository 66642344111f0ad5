"""A measurement is judged unless the host stood still meanwhile, which a thread above all others sees."""

from __future__ import annotations

import subprocess
import time
from types import SimpleNamespace

import pytest

from live.test_one_core import granted
from rtdenoise_bench.measure.clock import Witness
from running import wait_until
from witnessed import witnessed

STALL_S = 0.05


def test_a_witness_is_late_where_all_stands_still_and_only_there():
    if not granted():
        pytest.skip("no real-time priority here")
    with Witness() as witness:
        wait_until(lambda: witness.late_ms)
        time.sleep(1)
    calm_ms = witness.late_ms
    with Witness() as witness:
        wait_until(lambda: witness.late_ms)
        code = f"for k in 1 2 3 4 5 6 7 8; do kill -STOP $PPID; sleep {STALL_S}; kill -CONT $PPID; sleep 0.01; done"
        subprocess.run(["sh", "-c", code], check=True)
    assert witness.late_ms > 1000 * STALL_S / 2 > calm_ms


@pytest.mark.parametrize(
    ("marked", "late_ms", "outcome"),
    [(True, 9.0, "Skipped"), (True, 0.2, "AssertionError"), (False, 9.0, "AssertionError")],
)
def test_only_a_failed_measurement_on_a_host_that_stalled_is_not_judged(monkeypatch, marked, late_ms, outcome):
    monkeypatch.setattr(Witness, "late_ms", late_ms)
    call = witnessed(SimpleNamespace(get_closest_marker=lambda name: marked or None))
    next(call)
    with pytest.raises(BaseException, match="9 < 8") as raised:
        call.throw(AssertionError("9 < 8"))
    assert type(raised.value).__name__ == outcome
