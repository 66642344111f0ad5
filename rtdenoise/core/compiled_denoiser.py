"""A Denoiser for streams of short chunks, many of one model: programs step it from the first frame on.

A `Denoiser` waits with them until a sound has proved long, since it takes a tenth of a second to make them. Streams of
one model share what was made, so a server makes them once.
"""

from __future__ import annotations

from typing import Any

from rtdenoise.core.denoiser import Denoiser


class CompiledDenoiser(Denoiser):
    """Filters as a `Denoiser` does, with the same parameters, at a third of the cost where chunks have few hops."""

    _sizes = (8, 4, 2, 1)

    def __init__(self, *settings: Any):
        super().__init__(*settings)
        self._go_on_compiled()

    def reset(self) -> None:
        """As `Denoiser.reset`."""
        with self._turn:
            super().reset()
            self._go_on_compiled()
