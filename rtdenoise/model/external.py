"""Third-party streaming ONNX models, through one adapter and a small sidecar file, without code per model.

Beside ``NAME.onnx`` stands ``NAME.toml``:

    name = "published-16k"           # shown to users
    licence = "MIT"
    rate = 16000                     # Hz the STFT below was made for
    window_samples = 512
    hop_samples = 256
    window = "sqrt-hann"             # hamming | hann | sqrt-hann, periodic, for analysis
    input = "mix"
    output = "enh"
    layout = ["batch", "bins", "frames", "parts"]    # order of the spectrum's axes; parts = re, im

    [states]                         # input name = output name; shapes come from the graph, zeros at start
    conv_cache = "conv_cache_out"

Other rates than the model's own keep its window in milliseconds and feed the same bins; spectra are scaled to what an
unscaled FFT gives at the model's rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtdenoise.errors import ModelError, UsageError
from rtdenoise.geometry import WINDOW_SHAPES, Framing
from rtdenoise.model.contract import MOST_LOOK_AHEAD, Model, ModelInfo
from rtdenoise.model.contract_file import check_state, plain_name
from rtdenoise.model.onnx_runtime import first_line, printable
from rtdenoise.native.fft import aligned
from rtdenoise.toml_dataclass import read_table

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

AXES = ("batch", "frames", "bins", "parts")  # the contract's order
RATES_HZ = 1_000, 1_000_000
SHORTEST_HOP_MS, LONGEST_WINDOW_MS = 0.5, 1_000  # from a hop of four samples at 8 kHz
REQUIRED = {"rate": int, "window_samples": int, "hop_samples": int, "window": str, "input": str, "output": str}


@dataclass(frozen=True)
class Sidecar:
    """The checked content of ``NAME.toml``."""

    name: str
    licence: str
    framing: Framing
    bins: int
    input: str
    output: str
    layout: tuple[str, ...]
    states: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Sidecar:
        """Raises `ModelError` naming the field that is missing or wrong."""
        try:
            raw = read_table(path)
        except (OSError, UsageError) as e:
            raise ModelError(f"{path}: not a readable sidecar ({first_line(e)})") from e
        for key, kind in REQUIRED.items():
            if type(raw.get(key)) is not kind:  # a bool is an int to isinstance
                raise ModelError(f"{path.name}: field {key} is missing or no {kind.__name__}")
        window, hop, rate, states = raw["window_samples"], raw["hop_samples"], raw["rate"], raw.get("states", {})
        if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
            raise ModelError(f"{path.name}: field rate is {rate}, not a rate from {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
        if hop < 1 or window % hop or window // hop < 2:
            raise ModelError(f"{path.name}: window_samples must be a multiple (2 or more) of hop_samples")
        if not 1000 * hop / rate >= SHORTEST_HOP_MS or 1000 * window / rate > LONGEST_WINDOW_MS or window % 2:
            limits = f"hops of {SHORTEST_HOP_MS} ms or more, windows of up to {LONGEST_WINDOW_MS} ms and an even length"
            raise ModelError(f"{path.name}: window_samples {window}, hop_samples {hop}: only {limits} can be streamed")
        if raw["window"] not in WINDOW_SHAPES:
            raise ModelError(f"{path.name}: field window is {raw['window']!r}; known: {', '.join(WINDOW_SHAPES)}")
        layout = raw.get("layout", list(AXES))
        if not isinstance(layout, list) or sorted(map(str, layout)) != sorted(AXES):
            raise ModelError(f"{path.name}: field layout must order {', '.join(AXES)}")
        if not (isinstance(states, dict) and all(isinstance(v, str) for v in states.values())):
            raise ModelError(f"{path.name}: field states must map input names to output names")
        if raw["input"] in states or len({raw["output"], *states.values()}) <= len(states):
            raise ModelError(f"{path.name}: input, output and states name a tensor twice")
        look_ahead = raw.get("look_ahead_frames", 0)
        if type(look_ahead) is not int or not 0 <= look_ahead <= MOST_LOOK_AHEAD:
            raise ModelError(f"{path.name}: field look_ahead_frames is {look_ahead!r}, not 0 to {MOST_LOOK_AHEAD}")
        framing = Framing(1000 * hop / rate, window // hop, raw["window"], rate, look_ahead)
        name, licence = plain_name(raw.get("name", path.stem), path), printable(str(raw.get("licence", "not stated")))
        return cls(name, licence, framing, window // 2 + 1, raw["input"], raw["output"], tuple(layout), states)


def has_sidecar(path: Path, metadata: Mapping[str, str]) -> bool:
    """Whether the table beside a model describes it: not if the model keeps the contract, and not if nothing in it
    speaks of tensors, as in a recipe that happens to have the same name."""
    table = path.with_suffix(".toml")
    if "contract_version" in metadata or not table.is_file():
        return False
    try:
        return bool({*REQUIRED, "states", "layout"} & set(read_table(table)))
    except (OSError, UsageError):
        return True  # said when it is read


class ForeignStream:
    """As `contract.ContractStream`, for a graph of any axis order that takes one channel and one frame a call."""

    def __init__(self, session: InferenceSession, sidecar: Sidecar, channels: int):
        self._session, self._sidecar = session, sidecar
        axes = [AXES.index(a) for a in sidecar.layout]
        one_frame = (1, 1, sidecar.bins, 2)
        shape = [one_frame[a] for a in axes]
        self._in, self._out = aligned(*shape), aligned(*shape)
        back = np.argsort(axes)
        self._in_view, self._out_view = self._in.transpose(back), self._out.transpose(back)
        shapes = {i.name: i.shape for i in session.get_inputs() if i.name in sidecar.states}
        self._states = [[{k: aligned(*s) for k, s in shapes.items()} for _ in range(2)] for _ in range(channels)]
        self._bindings = [[self._bind(states, phase) for phase in range(2)] for states in self._states]
        self._buffers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._phase = 0

    def _bind(self, states: list[dict[str, np.ndarray]], phase: int) -> IOBinding:
        binding, sidecar = self._session.io_binding(), self._sidecar
        inputs = {sidecar.input: self._in} | states[phase]
        outputs = {sidecar.output: self._out} | {sidecar.states[k]: v for k, v in states[1 - phase].items()}
        for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, a in arrays.items():
                bind(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
        return binding

    def buffers(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        if frames not in self._buffers:
            shape = (len(self._states), frames, self._sidecar.bins, 2)
            self._buffers[frames] = aligned(*shape), aligned(*shape)
        return self._buffers[frames]

    def step(self, frames: int) -> None:
        noisy, enhanced = self._buffers[frames]
        for frame in range(frames):
            for channel, bindings in enumerate(self._bindings):
                self._in_view[0, 0] = noisy[channel, frame]
                try:
                    self._session.run_with_iobinding(bindings[self._phase])
                except Exception as e:  # onnxruntime's exceptions share no public base class
                    raise ModelError(f"model {self._sidecar.name} failed while running ({first_line(e)})") from e
                enhanced[channel, frame] = self._out_view[0, 0]
            self._phase = 1 - self._phase

    def reset(self) -> None:
        for state in (s for states in self._states for s in states):
            for a in state.values():
                a[:] = 0


def third_party_model(path: Path, session: InferenceSession) -> Model:
    """The model behind ``path`` with the sidecar beside it; `ModelError` if the two do not fit together."""
    sidecar = Sidecar.read(path.with_suffix(".toml"))
    inputs = {i.name: i for i in session.get_inputs()}
    outputs = {o.name for o in session.get_outputs()}
    wanted = {sidecar.input, *sidecar.states}
    if wanted != set(inputs) or not {sidecar.output, *sidecar.states.values()} <= outputs:
        tensors = f"inputs {sorted(inputs)} and outputs {sorted(outputs)}"
        raise ModelError(f"{path.stem}.toml does not fit {path.name}: the graph has {tensors}")
    for name, tensor in inputs.items():
        if tensor.type != "tensor(float)":
            raise ModelError(f"{path.name}: input {name!r} is {tensor.type}, not tensor(float)")
    for name in sidecar.states:
        check_state(name, inputs[name].shape, path)
    info = ModelInfo(
        sidecar.name, path, sidecar.bins, licence=sidecar.licence, kind="third-party", framing=sidecar.framing
    )
    return Model(info, lambda channels: ForeignStream(session, sidecar, channels))
