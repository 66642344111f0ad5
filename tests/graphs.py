"""Small ONNX graphs for tests: an identity under the contract, broken relatives of it, and a foreign layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.model.contract import fixed_metadata, model_bins

FLOAT = TensorProto.FLOAT


def save(path: Path, nodes, inputs, outputs, metadata=None, initializers=()) -> Path:
    """Write a graph; inputs and outputs are ``{name: shape}``."""
    values = [[helper.make_tensor_value_info(n, FLOAT, s) for n, s in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "test", *values, [numpy_helper.from_array(v, k) for k, v in initializers])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, str(path))
    return path


def spectrum(bins: int) -> list:
    return ["batch", "frames", bins, 2]


def contract(bins: int, framing: Framing = CONTRACT_FRAMING) -> dict[str, str]:
    return fixed_metadata(framing) | {"bins": str(bins), "name": "test", "version": "1", "parameters": "0"}


def identity(path: Path, bins: int = 385, claims: dict[str, str] | None = None) -> Path:
    """enhanced = noisy; ``claims`` replace metadata fields."""
    nodes = [helper.make_node("Identity", ["noisy"], ["enhanced"])]
    return save(path, nodes, {"noisy": spectrum(bins)}, {"enhanced": spectrum(bins)}, contract(bins) | (claims or {}))


def gain(path: Path, factor: float, bins: int = 129) -> Path:
    """enhanced = factor * noisy."""
    nodes = [helper.make_node("Mul", ["noisy", "factor"], ["enhanced"])]
    constants = [("factor", np.float32(factor))]
    return save(path, nodes, {"noisy": spectrum(bins)}, {"enhanced": spectrum(bins)}, contract(bins), constants)


def late_identity(path: Path, hop_ms: float = 4.0, look_ahead: int = 1, top: int = 1) -> Path:
    """enhanced = noisy ``look_ahead`` frames before, and says so; to 8 kHz (``top`` 0) or 24 kHz (1)."""
    framing = Framing(hop_ms, look_ahead=look_ahead)
    return delay(path, look_ahead, model_bins(framing)[top], framing)


def delay(path: Path, frames: int = 3, bins: int = 129, framing: Framing = CONTRACT_FRAMING) -> Path:
    """enhanced = noisy, ``frames`` frames later: a model with a state."""
    ends = [("start", np.array([frames])), ("far", np.array([2**40])), ("zero", np.array([0]))]
    ends += [("back", np.array([-frames])), ("axis", np.array([1]))]
    nodes = [
        helper.make_node("Concat", ["state_past", "noisy"], ["all"], axis=1),
        helper.make_node("Slice", ["all", "zero", "back", "axis"], ["enhanced"]),
        helper.make_node("Slice", ["all", "back", "far", "axis"], ["state_past_next"]),
    ]
    past = ["batch", frames, bins, 2]
    inputs = {"noisy": spectrum(bins), "state_past": past}
    outputs = {"enhanced": spectrum(bins), "state_past_next": past}
    return save(path, nodes, inputs, outputs, contract(bins, framing), ends)


FOREIGN_SIDECAR = """\
name = "published-16k"
licence = "MIT"
rate = 16000
window_samples = 512
hop_samples = 256
window = "sqrt-hann"
input = "mix"
output = "enh"
layout = ["batch", "bins", "frames", "parts"]

[states]
conv_cache = "conv_cache_out"
tra_cache = "tra_cache_out"
inter_cache = "inter_cache_out"
"""


def foreign(path: Path, bins: int = 257) -> Path:
    """A layout in use by published 16 kHz models: ``mix`` [1, F, 1, 2], several caches; here enh = the frame before.

    ``conv_cache`` holds that frame, ``tra_cache`` counts frames, ``inter_cache`` passes through.
    """
    nodes = [
        helper.make_node("Identity", ["conv_cache"], ["enh"]),
        helper.make_node("Identity", ["mix"], ["conv_cache_out"]),
        helper.make_node("Add", ["tra_cache", "one"], ["tra_cache_out"]),
        helper.make_node("Identity", ["inter_cache"], ["inter_cache_out"]),
    ]
    inputs = {"mix": [1, bins, 1, 2], "conv_cache": [1, bins, 1, 2], "tra_cache": [2, 3], "inter_cache": [1, 4]}
    outputs = {"enh" if k == "mix" else f"{k}_out": v for k, v in inputs.items()}
    save(path, nodes, inputs, outputs, initializers=[("one", np.float32(1))])
    path.with_suffix(".toml").write_text(FOREIGN_SIDECAR, encoding="utf-8")
    return path
