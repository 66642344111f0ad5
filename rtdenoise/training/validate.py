"""Scores of a network in training, on pairs mixed from the clips kept out of training: to choose, never to report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from rtdenoise.training.mix import Banks, Mixer
from rtdenoise.training.recipe import Recipe
from rtdenoise.training.spectra import to_spectra, to_waves

PAIRS, SECONDS, SEED = 30, 4.0, 2024
SNRS_DB = (-2.5, 2.5, 7.5, 12.5, 17.5)


class Validation:
    """A fixed set of development pairs: no band limits or clipping, SNRs spread as a test set spreads them."""

    def __init__(self, banks: Banks, recipe: Recipe):
        self.rate, self.pairs = recipe.data.rate, []
        for k in range(PAIRS):
            snr = SNRS_DB[k % len(SNRS_DB)]
            chances = replace(
                recipe.chances,
                snr_db=(snr, snr),
                noise_only=0,
                clean_only=0,
                band_limited=0,
                clipped=0,
                speed=0,
                pauses=0,
                synthetic={},
            )
            noisy, target, _ = Mixer(banks, SECONDS, SEED, chances, dev=True).pair(k)
            self.pairs.append((noisy, target))

    def scores(self, net: nn.Module) -> dict[str, float]:
        """Means over the pairs: SI-SDR and its gain in dB, ESTOI, PESQ, and ``mark``, the one number to choose by."""
        from rtdenoise.training.metrics import estoi, pesq_wide, si_sdr_db

        device = next(net.parameters()).device
        rows = []
        for noisy, target in self.pairs:
            with torch.no_grad():
                spectra = to_spectra(torch.from_numpy(noisy)[None].to(device), self.rate)
                out = to_waves(net(spectra), self.rate)[0].cpu().numpy()
            n = len(out)
            rows.append(
                (
                    si_sdr_db(target[:n], out),
                    si_sdr_db(target[:n], noisy[:n]),
                    estoi(target[:n], out),
                    pesq_wide(target[:n], out),
                )
            )
        sdr, before, intelligible, quality = np.mean(rows, 0)
        mark = quality + 2 * intelligible + 0.05 * sdr
        values = {"si_sdr_db": sdr, "gain_db": sdr - before, "estoi": intelligible, "pesq": quality, "mark": mark}
        return {k: round(float(v), 4) for k, v in values.items()}
