"""What a package carries so that a first start need not compile it: `python -m rtdenoise.live.prebuilt` makes it.

All that a filter and a live session with usual settings call, as bitcode (`rtdenoise.native.bitcode`), for the system
and the family of processors that this runs on. Elsewhere, and once a source is changed, it is compiled when needed.
"""

from __future__ import annotations

import shutil

import numpy as np

from rtdenoise.core.denoiser import denoise
from rtdenoise.core.hop_denoiser import HopDenoiser
from rtdenoise.live import callback, graph_callback, portaudio, pulse_callback
from rtdenoise.live.ring import Rings
from rtdenoise.live.worker import Worker
from rtdenoise.model.registry import DEFAULT_MODEL, FILE_MODEL
from rtdenoise.native import code_cache, compilation

RATE = 48_000


def ship() -> None:
    """Compile it into the package's folder. What was kept on this machine before must be out of reach."""
    shutil.rmtree(code_cache.SHIPPED, ignore_errors=True)
    compilation.shipping = True
    for model in (DEFAULT_MODEL, FILE_MODEL):
        denoise(np.zeros(RATE, np.float32), RATE, model)
    live = HopDenoiser(DEFAULT_MODEL, RATE)
    Worker(live, Rings(live.geometry.hop, 1, RATE))
    for module in (callback, graph_callback, portaudio, pulse_callback):
        for value in vars(module).values():
            if isinstance(value, compilation.Callback):
                value.address  # noqa: B018


if __name__ == "__main__":
    ship()
