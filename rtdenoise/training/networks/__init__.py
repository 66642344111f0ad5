"""Networks by name. Each maps complex spectra to enhanced ones, causally, and can be evaluated at every n-th frame."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from rtdenoise.errors import UsageError
from rtdenoise.training.networks.crced import CRCED
from rtdenoise.training.networks.masker import Masker
from rtdenoise.training.networks.unet import UNet

NETWORKS: dict[str, type[nn.Module]] = {"crced": CRCED, "masker": Masker, "unet": UNet}


def build(name: str, options: dict[str, Any]) -> Any:
    """A fresh network; ``options`` are its constructor's arguments."""
    if name not in NETWORKS:
        raise UsageError(f"no network {name!r}; did you mean {difflib.get_close_matches(name, NETWORKS, 1, 0.0)[0]!r}?")
    return NETWORKS[name](**options)
