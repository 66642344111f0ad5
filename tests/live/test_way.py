"""The report's live measurement finds a planted delay, and its stages add up to what is measured from outside."""

from __future__ import annotations

import pytest

from rtdenoise_bench import live, servers

PLANTED_MS, FRAMES = 7.3, 350  # as many frames as fit, 7.29 ms


@pytest.mark.parametrize(("server", "within_ms"), [("jack", 0.1), ("pulse", 1.0)])
def test_a_planted_delay_is_found_and_all_else_adds_up(server, within_ms, plain_path):
    """What is planted behind the product's back shows from outside only: the stages lack exactly so much."""
    if reason := servers.missing(*live.NEEDS[server]):
        pytest.skip(reason)
    way = live.measure(server, str(plain_path), 2.5, plant_ms=PLANTED_MS)
    assert way.delay_ms - way.sum_ms == pytest.approx(1000 * FRAMES / way.rate, abs=within_ms)
    assert way.low_ms <= way.delay_ms <= way.high_ms
    assert [p.name for p in way.parts] == list(live.WAY)
    assert all(p.ms > -0.5 for p in way.parts)
    assert way.answer.count > 200
