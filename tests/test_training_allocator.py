"""While a training runs, memory that it frees stays with the process, and goes back to the system afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from command import ROOT

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library can be told")

# A process of its own, since it is told about all of its memory. Pieces that torch takes are of such sizes.
FAULTS = """
import resource, sys
import numpy as np
from rtdenoise.training.allocator import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        pieces = [np.ones(bytes_ // 8) for bytes_ in (200_000, 3_000_000, 20_000_000, 1_000_000)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

first = resident()
with kept_memory():
    faults()
    kept = faults()
    held = resident() - first
left = resident() - first
faults()
print(kept, faults(), held, left)
"""


def test_what_is_freed_is_taken_again_without_a_fault_and_given_back_at_the_end():
    line = [sys.executable, "-c", FAULTS]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    kept, usual, held, left = map(int, done.stdout.split())
    assert usual > 20 * max(kept, 100)
    assert held > 20_000_000 // 4096
    assert left < held / 4
