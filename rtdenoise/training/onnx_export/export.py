"""``rtdenoise export``: a checkpoint becomes an ONNX model under the contract, checked against its torch twin.

Owns the metadata and the checks. A model that differs from torch, or that gives other numbers frame by frame than in
one call, is never written.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from rtdenoise.arguments import number
from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.atomic import replacing
from rtdenoise.model.contract import fixed_metadata
from rtdenoise.model.onnx_runtime import onnxruntime
from rtdenoise.training.onnx_export.graph import streaming_model
from rtdenoise.training.trainer import network_of

TOLERANCE = 1e-4  # Relative to the loudest input bin so far, since float32 sums run in another order.
CHECK_FRAMES = 60
# The scores that are kept in the file.
HEADLINE = {"pesq_wb": "PESQ-WB", "estoi": "ESTOI", "si_sdr": "SI-SDR dB", "covl": "COVL"}


def export(net: Any, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
    """The network as a contract model, checked."""
    net.eval()
    round_weights(net)
    graph = import_module(f"rtdenoise.training.onnx_export.{name}_graph")
    fixed = fixed_metadata(net.framing) | {
        "bins": str(net.bins),
        "name": name,
        "parameters": str(sum(p.numel() for p in net.parameters())),
        "linked": "1" if getattr(net, "linked", False) else "0",
    }
    model = streaming_model(partial(graph.describe, net), net.bins, graph.states(net), fixed | metadata)
    check(model, net)
    return model


def round_weights(net: torch.nn.Module) -> None:
    """Round matrices and kernels in place to the 11 significant bits of half precision.

    They stay float32, so a step costs the same, but the 13 zero bits of each let a wheel pack the file to about 60 % of
    its size. Vectors (biases, norms, means) are few and keep all their bits.
    """
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim > 1:
                bits = weight.view(torch.int32)
                bits.add_(0x1000).bitwise_and_(-0x2000)


def export_checkpoint(path: Path, metadata: dict[str, str], keep_input: float = 0.0) -> onnx.ModelProto:
    """The network of a training's checkpoint as a contract model, checked; it leaves ``keep_input`` of its input."""
    name, net = network_of(path)
    if keep_input:
        net.keep_input(keep_input)
    return export(net, name, metadata)


def check(model: onnx.ModelProto, net: Any) -> None:
    """Equal to torch over many frames, over two channels, and one frame a call; or an error."""
    random = np.random.default_rng(0)
    level = 10 ** random.uniform(-5, -1, (2, CHECK_FRAMES, 1, 1))
    noisy = (random.standard_normal((2, CHECK_FRAMES, net.bins, 2)) * level).astype(np.float32)
    with torch.no_grad():
        expected = torch.view_as_real(net(torch.view_as_complex(torch.from_numpy(noisy)))).numpy()
    session = onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    states = {i.name: np.zeros((2, *i.shape[1:]), np.float32) for i in session.get_inputs()[1:]}
    together = session.run(None, {"noisy": noisy, **states})[0]
    single = []
    for k in range(CHECK_FRAMES):
        out, *following = session.run(None, {"noisy": noisy[:, k : k + 1], **states})
        states = dict(zip(states, following, strict=True))
        single.append(out)
    scale = np.maximum.accumulate(np.abs(noisy).max(axis=(2, 3), keepdims=True), axis=1)
    for what, got in (("torch", together), ("one frame a call", np.concatenate(single, 1))):
        error = float((np.abs(got - expected) / scale).max())
        if not error <= TOLERANCE:
            raise RtdenoiseError(
                f"the exported graph differs from {what} by {error:.1e} of the input; it was not written"
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="best.pt or last.pt of a training")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL.onnx")
    parser.add_argument("--name", help="name of the model, for its metadata (default: the network's)")
    parser.add_argument("--version", default="1", help="version of the model, for its metadata")
    parser.add_argument("--licence", default="not stated", help="licence of the weights")
    parser.add_argument("--training-data", default="not stated", help="one line naming the sources")
    parser.add_argument(
        "--keep-input", type=number(0, 1), default=0.0, metavar="SHARE", help="blend in this share of the input"
    )
    parser.add_argument("--scores", type=Path, metavar="JSON", help="scores as written by `rtdenoise evaluate`")


def run(args: argparse.Namespace) -> int:
    metadata = {"version": args.version, "licence": args.licence, "training_data": args.training_data}
    if args.name:
        metadata["name"] = args.name
    if args.scores:
        metadata["scores"] = json.dumps(headline(json.loads(args.scores.read_text())))
    model = export_checkpoint(args.checkpoint, metadata, args.keep_input)
    try:
        with replacing(args.out) as file:
            file.write(model.SerializeToString())
    except OSError as error:
        raise RtdenoiseError(f"cannot write {args.out}: {error.strerror}; choose another --out") from error
    print(f"{args.out}: {part_size(args.out)} MB, equal to torch, one frame a call equal to many")
    return 0


def headline(result: dict[str, Any]) -> dict[str, float]:
    """The scores that the file itself states: of speech, or with ``--tape`` of music by the SNR of its tape."""
    if "mean" in result:
        return {title: round(result["mean"][key], 4) for key, title in HEADLINE.items()}
    tapes = {snr: row for snr, row in result.items() if "si_sdr_db_in" in row}
    return {f"SI-SDR dB at {snr} dB": round(row["si_sdr_db"], 1) for snr, row in tapes.items()}


def part_size(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 2)
