"""Scores of a network in training, on pairs mixed from the clips kept out of training: to choose, never to report."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from rtdenoise.geometry import Geometry
from rtdenoise.training import metrics
from rtdenoise.training.data.mixer import Banks
from rtdenoise.training.data.tape_mixer import mixer_for
from rtdenoise.training.recipe import Recipe
from rtdenoise.training.spectra import to_spectra, to_waves

PAIRS, SECONDS, SEED = 30, 4.0, 2024
SNRS_DB = (-2.5, 2.5, 7.5, 12.5, 17.5)
QUIET_MIX: dict[str, Any] = {
    "noise_only": 0,
    "clean_only": 0,
    "band_limited": 0,
    "clipped": 0,
    "coded": 0,
    "speed": 0,
    "pauses": 0,
}


class Validation:
    """A fixed set of development pairs with recorded noises, SNRs spread as a test set spreads them."""

    def __init__(self, banks: Banks, recipe: Recipe):
        self.rate, self.pairs = recipe.data.rate, []
        for k in range(PAIRS):
            snr_db = SNRS_DB[k % len(SNRS_DB)]
            config = replace(recipe.mix, snr_db=(snr_db, snr_db), synthetic={}, **QUIET_MIX)
            self.pairs.append(mixer_for(banks, SECONDS, SEED, config, part="dev").pair(k)[:2])

    def scores(self, net: Any) -> dict[str, float]:
        """Means over the pairs, and ``mark``, the one number to choose by. PESQ and ESTOI count where installed."""
        device = next(net.parameters()).device
        rows = []
        for noisy, target in self.pairs:
            with torch.no_grad():
                channels = torch.from_numpy(np.atleast_2d(noisy)).to(device)
                spectra = net(to_spectra(channels, self.rate, net.framing))
                late = Geometry(self.rate, net.framing).hop * net.framing.look_ahead
                out = to_waves(spectra, self.rate, net.framing)[:, late:].cpu().numpy()
            rows.append(self._score(*(x[..., : out.shape[1]].ravel() for x in (target, noisy, out))))
        means = {k: round(float(np.mean([row[k] for row in rows])), 4) for k in rows[0]}
        mark = (
            means.get("pesq", 0) + 2 * means.get("estoi", 0) + 0.05 * means["si_sdr_db"] - means.get("high_lsd_db", 0)
        )
        return means | {"mark": round(mark, 4)}

    def _score(self, target: np.ndarray, noisy: np.ndarray, out: np.ndarray) -> dict[str, float]:
        sdr_db = metrics.si_sdr_db(target, out)
        row = {"si_sdr_db": sdr_db, "gain_db": sdr_db - metrics.si_sdr_db(target, noisy)}
        if self.rate == 48000:
            row["high_lsd_db"] = metrics.hf_lsd_db(target, out)
        if self.rate == metrics.RATE and find_spec("pystoi"):
            row["estoi"] = metrics.estoi(target, out)
        if self.rate == metrics.RATE and find_spec("pesq"):
            row["pesq"] = metrics.pesq_wide(target, out)
        return row
