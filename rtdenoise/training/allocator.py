"""Memory that a training takes again and again stays with the process.

A step frees what the next one takes. The C library of Linux gives large pieces back to the system each time and gets
them as empty pages, one fault a page: up to a tenth of a step's time on a CPU. Elsewhere nothing changes.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

# Parameters of mallopt(3) and their values meanwhile: what may lie free at the end of the heap, what more is taken when
# it grows, and from which size on a piece is a mapping of its own, for which glibc allows 32 MiB at most.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
KEPT = {TRIM_THRESHOLD: 2**30, TOP_PAD: 2**26, MMAP_THRESHOLD: 2**25}
USUAL = dict.fromkeys(KEPT, 2**17)  # glibc's own


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what is freed while this holds, for all of the process; afterwards free memory goes back to the system."""
    try:
        library = ctypes.CDLL(None)
        adjust, trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        yield
        return
    for parameter, value in KEPT.items():
        adjust(parameter, value)
    try:
        yield
    finally:
        for parameter, value in USUAL.items():
            adjust(parameter, value)
        trim(0)
