"""Reading a model file that keeps the contract: its metadata and its tensors are checked before anything is run.

Every refusal is a `ModelError` that names the file, the first field or tensor that does not fit, and what to do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtdenoise.errors import ModelError, RtdenoiseError
from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.model.contract import (
    HOPS_MS,
    MOST_LOOK_AHEAD,
    ContractStream,
    Model,
    ModelInfo,
    fixed_metadata,
    model_bins,
)
from rtdenoise.model.onnx_runtime import first_line, printable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LONGEST_NAME = 100
LONGEST_TEXTS = {"version": 200, "licence": 200, "training_data": 2000}  # The last lists many collections.
LARGEST_STATE_BYTES = 1 << 26  # This is a bound for one channel; ours have some kilobytes.


def contract_model(path: Path, session: InferenceSession) -> Model:
    """Check a contract file and make a model of it, not yet run.

    Parameters
    ----------
    path : Path
        The file, for messages and for sessions of its own.
    session : InferenceSession
        The file, opened.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        For the first field or tensor that does not fit.
    """
    info = read_info(path, session)
    _check_signature(info, session)
    return Model(info, lambda channels: ContractStream(session, info.bins, channels))


def read_info(path: Path, session: InferenceSession) -> ModelInfo:
    """Read what a contract model says of itself.

    Parameters
    ----------
    path, session
        As for `contract_model`.

    Returns
    -------
    ModelInfo

    Raises
    ------
    ModelError
        For the first field of its metadata that does not match.
    """
    meta = session.get_modelmeta().custom_metadata_map
    hops_ms = {f"{hop_ms}": hop_ms for hop_ms in HOPS_MS}
    looks_ahead = {f"{frames}": frames for frames in range(MOST_LOOK_AHEAD + 1)}
    framing = Framing(
        hops_ms.get(meta.get("hop_ms", ""), CONTRACT_FRAMING.hop_ms),
        look_ahead=looks_ahead.get(meta.get("look_ahead_frames", ""), CONTRACT_FRAMING.look_ahead),
    )
    several = {"hop_ms": hops_ms, "look_ahead_frames": looks_ahead}
    for key, expected in fixed_metadata(framing).items():
        if meta.get(key) != expected:
            found = repr(meta[key]) if key in meta else "missing"
            wanted = " or ".join(map(repr, several.get(key, [expected])))
            raise ModelError(
                f"{path.name}: metadata field {key} is {found}, this version needs {wanted}; "
                f"export it with `rtdenoise export`, or describe a third-party model in {path.stem}.toml"
            )
    try:
        bins, parameters = int(meta["bins"]), int(meta.get("parameters", 0))
        scores = json.loads(meta.get("scores", "{}") or "{}")
        if parameters < 0 or not all(math.isfinite(value) for value in scores.values()):
            raise ValueError("out of range")
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        what = f"metadata field bins, parameters or scores is missing or invalid ({first_line(e)})"
        raise ModelError(f"{path.name}: {what}") from e
    if bins not in model_bins(framing):
        raise ModelError(f"{path.name}: metadata field bins is {bins}, this version supports {model_bins(framing)}")
    texts: Any = {k: printable(meta[k], longest) for k, longest in LONGEST_TEXTS.items() if k in meta}
    linked = meta.get("linked") == "1"
    name = plain_name(meta.get("name", path.stem), path)
    return ModelInfo(name, path, bins, parameters=parameters, scores=scores, linked=linked, framing=framing, **texts)


def plain_name(name: object, path: Path) -> str:
    """Let a model's name pass that may become part of a file's name and of a line on a screen.

    Parameters
    ----------
    name : object
        What the file states.
    path : Path
        The file, for the message.

    Returns
    -------
    str
        The name as it is.

    Raises
    ------
    ModelError
        For any other.
    """
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ModelError(f"{path.name}: its name is no line of up to {LONGEST_NAME} printable characters")
    if name.startswith(".") or set(name) & set("/\\:"):
        raise ModelError(f"{path.name}: its name {name!r} would be another folder's or a hidden file's; rename it")
    return name


def check_state(name: str, shape: Sequence[object], path: Path) -> None:
    """Refuse a state that cannot be held.

    Parameters
    ----------
    name : str
        The state's input.
    shape : sequence
        Its sizes without the channels, as the graph declares them.
    path : Path
        The file, for the message.

    Raises
    ------
    ModelError
        Unless all sizes are fixed and sensible.
    """
    sizes = [d for d in shape if isinstance(d, int)]
    if len(sizes) != len(shape) or min(sizes, default=1) < 1 or 4 * math.prod(sizes) > LARGEST_STATE_BYTES:
        raise ModelError(f"{path.name}: state {name!r} has shape {list(shape)}, not fixed sizes of a sensible number")


def _check_signature(info: ModelInfo, session: InferenceSession) -> None:
    """Tensor names, types and shapes as the contract wants them; `ModelError` names the first that is not."""

    def refuse(what: str) -> RtdenoiseError:
        return ModelError(f"{info.path.name}: {what}; export it with `rtdenoise export`")

    inputs = {i.name: i for i in session.get_inputs()}
    outputs = {o.name: o for o in session.get_outputs()}
    for side, tensors, name in (("input", inputs, "noisy"), ("output", outputs, "enhanced")):
        if name not in tensors:
            raise refuse(f"{side} {name!r} is missing")
        if not _fits(tensors[name].shape, (None, None, info.bins, 2)):
            raise refuse(f"{side} {name!r} has shape {tensors[name].shape}, not [batch, frames, {info.bins}, 2]")
    states = [n for n in inputs if n != "noisy"]
    for name in (n for n in states if not n.startswith("state_")):
        raise refuse(f"input {name!r} is neither 'noisy' nor 'state_*'")
    expected = ["enhanced", *(f"{n}_next" for n in states)]
    if list(outputs) != expected:
        raise refuse(f"outputs are {list(outputs)}, not {expected}")
    for name, tensor in (inputs | outputs).items():
        if tensor.type != "tensor(float)":
            raise refuse(f"{name!r} is {tensor.type}, not tensor(float)")
    for name in states:
        batch, *fixed = inputs[name].shape
        if isinstance(batch, int) or not fixed or not all(isinstance(d, int) for d in fixed):
            raise refuse(f"state {name!r} has shape {inputs[name].shape}, not [batch, fixed, ...]")
        check_state(name, fixed, info.path)


def _fits(shape: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether a declared shape allows the wanted one; None wants a dynamic dimension."""
    same = (not isinstance(d, int) or d == w for d, w in zip(shape, wanted, strict=False))
    return len(shape) == len(wanted) and all(same)
