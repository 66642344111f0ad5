"""What a streaming model is, and the contract that makes one usable: spectrum to spectrum.

Contract, version 1: input ``noisy`` and output ``enhanced`` are float32 ``[batch, frames, bins, 2]`` (re, im; one
batch row a channel; frames dynamic); inputs ``state_*`` start as zeros and come back as outputs ``state_*_next`` of the
same shape. Everything a model wants to see (compression, context, normalisation) lives inside its graph, so nothing
here knows a model by name. Metadata in the file says how the spectra were made, and `rtdenoise.model.contract_file`
checks it before use: a wrong STFT around a right graph is the commonest failure in this field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtdenoise.errors import ModelError
from rtdenoise.geometry import CONTRACT_FRAMING, Framing
from rtdenoise.model.onnx_runtime import first_line
from rtdenoise.native.fft import aligned

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, IOBinding

# Four hops make a window: 16 ms for voices. Longer ones part the tones of music better, and answer later.
HOPS_MS = (4, 8, 16)
MOST_LOOK_AHEAD = 4  # frames
TOPS_HZ = (8_000, 24_000)  # The last bin may mean one of these.


def fixed_metadata(framing: Framing = CONTRACT_FRAMING) -> dict[str, str]:
    """Metadata that every contract model of a framing must state.

    Parameters
    ----------
    framing : Framing, optional
        How the model cuts time.

    Returns
    -------
    dict
        Text by field, as it stands in the file.
    """
    return {
        "contract_version": "1",
        "hop_ms": f"{framing.hop_ms:g}",
        "window_ms": f"{framing.window_ms:g}",
        "window": "hamming-periodic",
        "scaling": "sum",
        "look_ahead_frames": f"{framing.look_ahead}",
    }


def model_bins(framing: Framing) -> tuple[int, ...]:
    """Numbers of bins that a model may have.

    Parameters
    ----------
    framing : Framing
        How the model cuts time.

    Returns
    -------
    tuple of int
        Up to 8 kHz, and up to 24 kHz.
    """
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
    linked : bool
        Whether one filter serves all channels; otherwise each channel is filtered on its own.
    kind : str
        ``"contract"``, or ``"third-party"`` for one that a sidecar describes.
    framing : Framing
        Hop, window and scaling of the spectra, and the frames of look-ahead.
    """

    name: str
    path: Path
    bins: int
    version: str = ""
    parameters: int = 0
    licence: str = "not stated"
    training_data: str = "not stated"
    scores: dict[str, float] = field(default_factory=dict)
    linked: bool = False  # one filter for all channels; otherwise each channel is filtered on its own
    kind: str = "contract"
    framing: Framing = CONTRACT_FRAMING


class ModelStream(Protocol):
    """One running copy of a model with its states: fill the first buffer, step, read the second."""

    def buffers(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the fixed buffers of steps of so many frames.

        Parameters
        ----------
        frames : int
            Frames of a step; different numbers may follow each other freely.

        Returns
        -------
        noisy, enhanced : ndarray
            Input and output.

        Shape
        -----
        Both float32 ``[channels, frames, bins, 2]`` (re, im).
        """
        ...

    def step(self, frames: int) -> None:
        """Run the model once over ``buffers(frames)``, and move its states on.

        Parameters
        ----------
        frames : int
            Frames of the step.

        Raises
        ------
        ModelError
            If the graph fails.
        """
        ...

    def reset(self) -> None:
        """Set all states to zero, as at the start."""
        ...


class ContractStream:
    """A contract model's states, stepped in place over fixed buffers.

    States flip between two sets of buffers, so a step copies and allocates nothing of ours.

    Parameters
    ----------
    session : InferenceSession
        The model, opened.
    bins : int
        Frequencies of a frame.
    channels : int
        Channels, each with states of its own.

    Attributes
    ----------
    channels : int
        As given.
    states : list of dict
        The two sets of states, by input name.
    dimensions, one_frame : dict
        The graph's free dimensions by name: how many channels and, in the second, that a step has one frame.
    """

    def __init__(self, session: InferenceSession, bins: int, channels: int):
        self._session, self._bins, self.channels = session, bins, channels
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
        """As `ModelStream.buffers`."""
        if frames not in self._buffers:
            shape = (self.channels, frames, self._bins, 2)
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
        """As `ModelStream.step`."""
        try:
            self._session.run_with_iobinding(self._bindings[frames][self._phase])
        except Exception as e:  # onnxruntime's exceptions share no public base class
            raise ModelError(f"the model failed while running ({first_line(e)}); try another model") from e
        self._phase = 1 - self._phase

    def settle(self) -> None:
        """Have the states in their first set, and go on from there."""
        if self._phase:
            for a, b in zip(*(states.values() for states in self.states), strict=True):
                a[:] = b
            self._phase = 0

    def reset(self) -> None:
        """As `ModelStream.reset`."""
        for states in self.states:
            for a in states.values():
                a[:] = 0


class Model:
    """A model that may be streamed any number of times.

    Parameters
    ----------
    info : ModelInfo
        What it says of itself.
    stream : callable
        ``stream(channels)`` gives a `ModelStream` with states of its own.
    """

    def __init__(self, info: ModelInfo, stream: Callable[[int], ModelStream]):
        self.info = info
        self.stream = stream

    @property
    def name(self) -> str:
        """What it is called."""
        return self.info.name

    def try_out(self) -> None:
        """Run it over three frames of noise and three of silence.

        Raises
        ------
        ModelError
            If its output is not finite, or it fails.
        """
        stream, rng = self.stream(1), np.random.default_rng(0)
        for level in (0.03, 0.0):
            noisy, enhanced = stream.buffers(3)
            noisy[:] = level * rng.standard_normal(noisy.shape)
            enhanced[:] = np.nan  # an output the graph forgets to write must not pass
            stream.step(3)
            if not np.isfinite(enhanced).all():
                raise ModelError(f"model {self.name}: output is not finite; the file is damaged or badly trained")
