"""What a streaming model is, and the contract that makes one usable: spectrum to spectrum.

Contract, version 1: input ``noisy`` and output ``enhanced`` are float32 ``[batch, frames, bins, 2]`` (re, im; one
batch row a channel; frames dynamic); inputs ``state_*`` start as zeros and come back as outputs ``state_*_next`` of the
same shape. Everything a model wants to see (compression, context, normalisation) lives inside its graph, so nothing
here knows a model by name. Metadata in the file says how the spectra were made and is checked before use: a wrong STFT
around a right graph is the commonest failure in this field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rtdenoise.errors import ModelError, RtdenoiseError
from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.model.onnx_runtime import first_line, printable
from rtdenoise.native.fft import aligned

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

HOPS_MS = (
    4,
    8,
    16,
)  # four make a window: 16 ms for voices; longer ones part the tones of music better, and answer later
LONGEST_NAME = 100
LARGEST_STATE_BYTES = 1 << 26  # of one channel; ours have some kilobytes
TOPS_HZ = (8_000, 24_000)  # what the last bin may mean


def fixed_metadata(framing: Framing = CONTRACT_FRAMING) -> dict[str, str]:
    """What every contract model of this framing says of itself."""
    return {
        "contract_version": "1",
        "hop_ms": f"{framing.hop_ms:g}",
        "window_ms": f"{framing.window_ms:g}",
        "window": "hamming-periodic",
        "scaling": "sum",
        "look_ahead_frames": "0",
    }


def model_bins(framing: Framing) -> tuple[int, ...]:
    """How many bins a model may have: up to 8 kHz, or up to 24 kHz."""
    return tuple(round(hz * framing.window_ms / 1000) + 1 for hz in TOPS_HZ)


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself.

    Attributes
    ----------
    name, version : str
        What it is called, and which training it is.
    path : Path
        The ONNX file.
    bins : int
        Frequencies of a frame that it filters: 129 reach 8 kHz, 385 reach 24 kHz, at a hop of 4 ms.
    parameters : int
        How many trained values it has.
    licence, training_data : str
        As its maker states them.
    scores : dict
        Measured scores by name.
    look_ahead_frames : int
        Frames of look-ahead, 0 for models under the contract.
    linked : bool
        Whether one filter serves all channels; otherwise each channel is filtered on its own.
    kind : str
        ``"contract"``, or ``"third-party"`` for one that a sidecar describes.
    framing : Framing
        Hop, window and scaling of the spectra.
    """

    name: str
    path: Path
    bins: int
    version: str = ""
    parameters: int = 0
    licence: str = "not stated"
    training_data: str = "not stated"
    scores: dict[str, float] = field(default_factory=dict)
    look_ahead_frames: int = 0
    linked: bool = False  # one filter for all channels; otherwise each channel is filtered on its own
    kind: str = "contract"
    framing: Framing = CONTRACT_FRAMING


class ModelStream(Protocol):
    """One running copy of a model with its states; see `ContractStream`."""

    def buffers(self, frames: int) -> tuple[np.ndarray, np.ndarray]: ...
    def step(self, frames: int) -> None: ...
    def reset(self) -> None: ...


class ContractStream:
    """A model's states, stepped in place over fixed buffers.

    ``noisy, enhanced = stream.buffers(frames)`` are float32 ``[channels, frames, bins, 2]``; fill the first, call
    ``step(frames)``, read the second. States flip between two sets of buffers, so a step copies and allocates nothing
    of ours. Different ``frames`` may follow each other freely. ``states`` are the two sets, by input name;
    ``dimensions`` gives the graph's free dimensions by name: how many channels and, in ``one_frame``, that a step has
    one frame.
    """

    def __init__(self, session: InferenceSession, bins: int, channels: int):
        self._session, self._bins, self._channels = session, bins, channels
        states = [i for i in session.get_inputs() if i.name != "noisy"]
        free = next(i.shape for i in session.get_inputs() if i.name == "noisy")[:2]
        channel, frame = ({n: v} if isinstance(n, str) else {} for n, v in zip(free, (channels, 1), strict=True))
        self.dimensions, self.one_frame = channel, channel | frame
        shapes = {i.name: (channels, *i.shape[1:]) for i in states}
        self.states = [{name: aligned(*shape) for name, shape in shapes.items()} for _ in range(2)]
        self._buffers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._bindings: dict[int, tuple[IOBinding, IOBinding]] = {}
        self._phase = 0

    def buffers(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        if frames not in self._buffers:
            shape = (self._channels, frames, self._bins, 2)
            self._buffers[frames] = aligned(*shape), aligned(*shape)
            self._bindings[frames] = self._bind(frames, 0), self._bind(frames, 1)
        return self._buffers[frames]

    def _bind(self, frames: int, phase: int) -> IOBinding:
        noisy, enhanced = self._buffers[frames]
        binding = self._session.io_binding()
        inputs = {"noisy": noisy} | self.states[phase]
        outputs = {"enhanced": enhanced} | {f"{k}_next": v for k, v in self.states[1 - phase].items()}
        for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, a in arrays.items():
                bind(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
        return binding

    def step(self, frames: int) -> None:
        """Run the model once over ``buffers(frames)``. Raises `ModelError` if the graph fails."""
        try:
            self._session.run_with_iobinding(self._bindings[frames][self._phase])
        except Exception as e:  # onnxruntime's exceptions share no public base class
            raise ModelError(f"the model failed while running ({first_line(e)}); try another model") from e
        self._phase = 1 - self._phase

    def reset(self) -> None:
        for states in self.states:
            for a in states.values():
                a[:] = 0


class Model:
    """A model that may be streamed any number of times, each ``stream(channels)`` with states of its own."""

    def __init__(self, info: ModelInfo, stream: Callable[[int], ModelStream]):
        self.info = info
        self.stream = stream

    @property
    def name(self) -> str:
        return self.info.name

    def try_out(self) -> None:
        """Three frames of noise and three of silence: finite, or `ModelError`."""
        stream, rng = self.stream(1), np.random.default_rng(0)
        for level in (0.03, 0.0):
            noisy, enhanced = stream.buffers(3)
            noisy[:] = level * rng.standard_normal(noisy.shape)
            enhanced[:] = np.nan  # an output the graph forgets to write must not pass
            stream.step(3)
            if not np.isfinite(enhanced).all():
                raise ModelError(f"model {self.name}: output is not finite; the file is damaged or badly trained")


def contract_model(path: Path, session: InferenceSession) -> Model:
    """The model in a contract file; `ModelError` names the first field or tensor that does not fit."""
    info = read_info(path, session)
    _check_signature(info, session)
    return Model(info, lambda channels: ContractStream(session, info.bins, channels))


def read_info(path: Path, session: InferenceSession) -> ModelInfo:
    """Metadata of a contract model; `ModelError` names the first field that does not match."""
    meta = session.get_modelmeta().custom_metadata_map
    framings = {f"{hop_ms}": Framing(hop_ms) for hop_ms in HOPS_MS}
    framing = framings.get(meta.get("hop_ms", ""), CONTRACT_FRAMING)
    for key, expected in fixed_metadata(framing).items():
        if meta.get(key) != expected:
            found = repr(meta[key]) if key in meta else "missing"
            wanted = " or ".join(map(repr, framings)) if key == "hop_ms" else repr(expected)
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
    texts: Any = {k: printable(meta[k]) for k in ("version", "licence", "training_data") if k in meta}
    linked = meta.get("linked") == "1"
    name = plain_name(meta.get("name", path.stem), path)
    return ModelInfo(name, path, bins, parameters=parameters, scores=scores, linked=linked, framing=framing, **texts)


def plain_name(name: object, path: Path) -> str:
    """A model's name that may become part of a file's name and of a line on a screen; `ModelError` for any other."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ModelError(f"{path.name}: its name is no line of up to {LONGEST_NAME} printable characters")
    if name.startswith(".") or set(name) & set("/\\:"):
        raise ModelError(f"{path.name}: its name {name!r} would be another folder's or a hidden file's; rename it")
    return name


def check_state(name: str, shape: Sequence[object], path: Path) -> None:
    """`ModelError` unless this is the shape of a state that we can hold."""
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
