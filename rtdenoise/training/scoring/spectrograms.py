"""Spectrograms of pairs before and after, as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

from rtdenoise.io.atomic import replacing
from rtdenoise.training.scoring.pair_scores import Filter, Pair


def plot(pairs: list[Pair], systems: Mapping[str, Filter], path: Path) -> None:
    """Spectrograms of clean, noisy and every output, one above the other, a column for each pair, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = ["clean", "noisy", *systems]
    size = (10 if len(pairs) == 1 else 3.4 * len(pairs), 2.2 * len(rows))
    figure, grid = pyplot.subplots(
        len(rows), len(pairs), figsize=size, sharex="col", squeeze=False, constrained_layout=True
    )
    colours = pyplot.get_cmap("magma", 20)  # few, so that a picture of noise is no large file
    for pair, column in zip(pairs, grid.T, strict=True):
        (x, rate), (c, _) = (sf.read(p, dtype="float32", always_2d=True) for p in (pair.noisy, pair.clean))
        sounds = [c[:, 0], x[:, 0], *(run(x[:, 0], rate) for run in systems.values())]
        dither = 1e-9 * np.random.default_rng(0).standard_normal(len(x))  # digital silence has no logarithm
        for axis, title, sound in zip(column, rows, sounds, strict=True):
            look = {"NFFT": 1024, "noverlap": 512, "vmin": -140, "vmax": -30, "cmap": colours}
            axis.specgram(sound + dither[: len(sound)], Fs=rate, interpolation="nearest", **look)
            axis.set_title(f"{pair.name}\n{title}" if title == "clean" else title, fontsize="small")
        column[-1].set(xlabel="time (s)")
    for axis in grid[:, 0]:
        axis.set(ylabel="frequency (Hz)")
    with replacing(path) as file:
        figure.savefig(file, dpi=90, format=path.suffix[1:] or None)
    pyplot.close(figure)
