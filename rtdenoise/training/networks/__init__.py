"""Networks by name. Each maps complex spectra to enhanced ones, causally, and can be evaluated at every n-th frame."""

from __future__ import annotations

import difflib
from typing import Any

import torch
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


def load_weights(net: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give ``net`` the weights of a checkpoint of its shape, of any precision.

    A checkpoint from before the network grew may lack its ``zero_init_modules``, which give zero until they are
    trained: the network then does what it did. Raises UsageError for one of another shape.
    """
    own = net.state_dict()
    silent = {k for k in own if k.split(".")[0] in getattr(net, "zero_init_modules", ())}
    strange = (set(own) - silent - set(weights)) | (set(weights) - set(own))
    strange = strange or {k for k, v in weights.items() if v.shape != own[k].shape}
    if strange:
        raise UsageError(
            f"the checkpoint is of another network or other options ({min(strange)} does not fit); start from one that "
            "was trained with this recipe's"
        )
    net.load_state_dict({**own, **weights})
