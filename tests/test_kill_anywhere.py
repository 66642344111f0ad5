"""Kill -9 at any moment leaves no half file under its final name, nothing after the next start, and no hang.

A few moments of each kind; ``python tests/stress/kill_anywhere.py`` tries hundreds, live audio and training too.
"""

import sys

import pytest

from stress import kill_anywhere

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for the processes"),
]


@pytest.mark.parametrize("kind", ["file", "folder", "pipe"])
def test_killed_at_random_moments(kind):
    with kill_anywhere.rounds(kind, seed=1) as rounds:
        for _ in range(2):
            rounds.kill()
    assert rounds.faults == []
