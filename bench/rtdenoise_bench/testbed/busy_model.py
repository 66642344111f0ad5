"""A test model under the contract: it changes nothing, and takes as long as one likes while its input is loud."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from rtdenoise.model.contract import fixed_metadata
from rtdenoise.model.registry import load_model

BINS, SIZE = 129, 128
LOUD = 0.005  # From this largest spectral value on the model carries its burden.


def write(path: Path, loops: int = 0) -> Path:
    """Write a model that returns its input after ``loops`` matrix products a call (only while it is loud)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node, info = helper.make_node, helper.make_tensor_value_info
    shape: list = ["batch", "frames", BINS, 2]
    body = helper.make_graph(
        [node("MatMul", ["carried", "matrix"], ["next"]), node("Identity", ["go"], ["again"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("carried", 1, [SIZE, SIZE])],
        [info("again", TensorProto.BOOL, []), info("next", 1, [SIZE, SIZE])],
    )
    nodes = [
        node("Abs", ["noisy"], ["magnitude"]),
        node("ReduceMax", ["magnitude"], ["peak"], keepdims=0),
        node("Greater", ["peak", "threshold"], ["loud"]),
        node("Cast", ["loud"], ["loud_number"], to=TensorProto.INT64),
        node("Mul", ["loud_number", "loops"], ["trips"]),
        node("Loop", ["trips", "true", "matrix"], ["worked"], body=body),
        node("ReduceMax", ["worked"], ["worked_peak"], keepdims=0),
        node("Mul", ["worked_peak", "zero"], ["nothing"]),
        node("Add", ["noisy", "nothing"], ["enhanced"]),
    ]
    constants = {
        "threshold": np.float32(LOUD),
        "loops": np.int64(loops),
        "true": np.array(True),
        "zero": np.float32(0),
        "matrix": np.eye(SIZE, dtype=np.float32),
    }
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "burden", [info("noisy", 1, shape)], [info("enhanced", 1, shape)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (fixed_metadata() | {"bins": str(BINS), "name": "burden"}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, str(path))
    return path


def write_slow(path: Path, step_ms: float) -> Path:
    """A burden of ``step_ms`` a call on this machine, and more while it is busy."""
    trial = 50
    stream = load_model(write(path, trial)).stream(1)
    noisy, _ = stream.buffers(1)
    noisy[:] = 2 * LOUD
    times = []
    for _ in range(20):
        began = time.perf_counter()
        stream.step(1)
        times.append(time.perf_counter() - began)
    quickest_s = min(times)  # what this machine can do; other programs only add to it
    return write(path, round(trial * step_ms / 1000 / quickest_s))
