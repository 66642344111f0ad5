"""How weights lie in memory: in panels of 32 columns, which `rtdenoise.native.vector_products` reads.

Panels hold float32, or half precision where that is exact: half the memory to read, and the processor widens it for
nothing.
"""

from __future__ import annotations

import numpy as np

LANES, VECTORS = 16, 2
PANEL = LANES * VECTORS  # columns
HALF_STEP = (
    2.0**-24
)  # The smallest step of half precision, which tiny values are rounded to: less than float32 sums lose.


def packed(weight: np.ndarray) -> tuple[np.ndarray, bool]:
    """Lay out a weight ``[inner, columns]`` in panels; and whether they are in half precision."""
    inner, columns = weight.shape
    panels = -(-columns // PANEL)
    filled = np.zeros((inner, panels * PANEL), np.float32)
    filled[:, :columns] = weight
    with np.errstate(over="ignore", invalid="ignore"):
        exact = bool(np.abs(weight.astype(np.float16).astype(np.float32) - weight).max(initial=0) <= HALF_STEP / 2)
    laid = filled.reshape(inner, panels, PANEL).swapaxes(0, 1)
    return laid.astype(np.float16 if exact else np.float32), exact
