"""A contract model stepped by compiled code of ours (`rtdenoise.native.tensor_kernels`): a fraction of the usual cost.

Every model goes through ONNX Runtime first, which says whether it is one at all. Then its graph is walked once for each
number of frames of a step, which gives programs that share weights and states. They must give the same numbers, or
ONNX Runtime steps the model (`rtdenoise.model.native_session`), as it does where an operator is not known here.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence

import numpy as np

from rtdenoise.model.contract import ContractStream, Model, ModelStream
from rtdenoise.model.graph_file import Graph, read_graph
from rtdenoise.model.native_session import (
    COUNT,
    INPUT_NAMES,
    OUTPUT_NAMES,
    PHASE,
    RUN,
    SESSION,
    NativeSteps,
)
from rtdenoise.model.operators import Tensor, Walk
from rtdenoise.model.placement import PlacedProgram
from rtdenoise.model.program import Program, Unsupported, Weights
from rtdenoise.model.weights import single_file
from rtdenoise.native import tensor_kernels as kernels

TRIED_LEVELS = 3e-2, 1e-4, 3e-2  # Of the noise by which programs are compared, step by step.
# Of the loudest bin, of input or output: rounding makes a thirtieth of it, another meaning of an operator far more.
TOLERANCE = 1e-3


class CompiledSteps:
    """Steps of a running `ContractStream`, on its own buffers and its first set of states.

    Parameters
    ----------
    model : Model
        Whose file is read once more.
    stream : ContractStream
        Its stream.
    most_frames : int, optional
        Most frames of a step.

    Attributes
    ----------
    arguments : ndarray
        What the compiled `rtdenoise.model.native_session.step` takes, a row for each number of frames.

    Raises
    ------
    Unsupported
        If the graph has what programs cannot do, or gives other numbers than ONNX Runtime.
    """

    def __init__(self, model: Model, stream: ContractStream, most_frames: int = 1):
        programs = _programs_of(model)
        self._programs = [programs.on(stream, frames) for frames in range(1, most_frames + 1)]
        self.arguments = np.zeros((most_frames, PHASE + 1), np.int64)
        for row, program in zip(self.arguments, self._programs, strict=True):
            row[RUN] = kernels.run.address
            row[[SESSION, INPUT_NAMES, COUNT, OUTPUT_NAMES]] = program.arguments()

    def close(self) -> None:
        """Nothing is held that would need it."""

    def failure(self, status: int) -> str:
        """A step of this kind does not fail."""
        return f"status {status}"


class CompiledStream:
    """A `ModelStream` that goes on by programs where a `ContractStream` stands.

    Parameters
    ----------
    model : Model
        Its model.
    stream : ContractStream
        Nobody else steps it from then on.
    sizes : sequence of int
        Numbers of frames that a step may have.

    Raises
    ------
    Unsupported
        As for `CompiledSteps`.
    """

    def __init__(self, model: Model, stream: ContractStream, sizes: Sequence[int]):
        self._programs = {frames: _programs_of(model).on(stream, frames) for frames in sizes}
        self._stream = stream

    def taking_over(self) -> CompiledStream:
        """This, going on where the stream stands now."""
        self._stream.settle()
        return self

    def buffers(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """As `ModelStream.buffers`."""
        return self._stream.buffers(frames)

    def step(self, frames: int) -> None:
        """As `ModelStream.step`."""
        self._programs[frames].run()

    def reset(self) -> None:
        """As `ModelStream.reset`."""
        self._stream.reset()


class _Programs:
    """A model's programs by channels and frames, each made and compared once; streams get copies."""

    def __init__(self, model: Model):
        self._path, self._open = model.info.path, model.stream
        self._turn = threading.Lock()
        self._graph: Graph | None = None
        self._weights = Weights()
        self._streams: dict[int, ContractStream] = {}
        self._made: dict[tuple[int, int], PlacedProgram] = {}
        self._refused: str | None = None  # not the exception, whose traceback would keep sessions alive

    def on(self, stream: ContractStream, frames: int) -> PlacedProgram:
        """Steps of so many frames for a stream, on its first set of states."""
        key = stream.channels, frames
        with self._turn:
            if self._refused is not None:
                raise Unsupported(self._refused)
            if key not in self._made:
                try:
                    self._make(*key)
                except Exception as reason:  # A stranger's graph may be anything.
                    self._refused = str(reason)
                    raise
            return self._made[key].on(_arrays(self._streams[stream.channels], frames), _arrays(stream, frames))

    def _make(self, channels: int, frames: int) -> None:
        if channels not in self._streams:
            self._streams[channels] = self._new(channels)
        program = self._program(self._streams[channels], frames)
        self._compare(program, self._streams[channels], frames)
        self._made[channels, frames] = program

    def _new(self, channels: int) -> ContractStream:
        stream = self._open(channels)
        if not isinstance(stream, ContractStream):
            raise Unsupported("a model that keeps another contract")
        return stream

    def _program(self, stream: ContractStream, frames: int) -> PlacedProgram:
        if self._graph is None:
            content = single_file(self._path)
            if content is None:
                raise Unsupported("weights lie in other files")
            self._graph = read_graph(content)
        program, states = Program(self._weights), stream.states[0]
        noisy, enhanced = stream.buffers(frames)
        # Lines of real parts and lines of imaginary ones are quicker to work on.
        apart = program.new(*noisy.shape[:2], 2, noisy.shape[2])
        program.copy(apart.swapaxes(2, 3), noisy)
        given = {"noisy": Tensor(apart.swapaxes(2, 3)), **{name: Tensor(a) for name, a in states.items()}}
        found = Walk(program).run(self._graph, given)
        results = {name: found[name].array for name in ("enhanced", *(f"{state}_next" for state in states))}
        for name, a in results.items():  # States change after all that may still look at them has been done.
            if any(np.may_share_memory(a, state) for state in states.values()):
                results[name] = program.new(*a.shape)
                program.copy(results[name], a)
        program.copy(enhanced, results.pop("enhanced"))
        for state, a in zip(states.values(), results.values(), strict=True):
            if a.shape != state.shape:
                raise Unsupported("a state that changes its shape")
            program.copy(state, a)
        return program.placed()

    def _compare(self, program: PlacedProgram, stream: ContractStream, frames: int) -> None:
        """Raise `Unsupported` unless it gives ONNX Runtime's numbers, beginning in silence."""
        judge, random = self._new(stream.channels), np.random.default_rng(0)
        stream.reset()
        (noisy, enhanced), (same, wanted) = stream.buffers(frames), judge.buffers(frames)
        for level in TRIED_LEVELS:
            noisy[:] = same[:] = level * random.standard_normal(noisy.shape)
            judge.step(frames)
            program.run()
            loudest = max(np.abs(noisy).max(), np.abs(wanted).max())
            if not np.abs(enhanced - wanted).max() <= TOLERANCE * loudest:
                raise Unsupported("it gives other numbers than ONNX Runtime")


def _arrays(stream: ContractStream, frames: int) -> list[np.ndarray]:
    return [*stream.buffers(frames), *stream.states[0].values()]


_known: weakref.WeakKeyDictionary[Model, _Programs] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _programs_of(model: Model) -> _Programs:
    with _making:
        if model not in _known:
            _known[model] = _Programs(model)
        return _known[model]


def native_steps(model: Model, stream: ContractStream, most_frames: int = 1) -> CompiledSteps | NativeSteps:
    """What steps a running model from compiled code: our own programs, else ONNX Runtime.

    Parameters
    ----------
    model, stream, most_frames
        As for `CompiledSteps`.

    Returns
    -------
    CompiledSteps or NativeSteps

    Raises
    ------
    ModelError
        If ONNX Runtime refuses.
    """
    try:
        return CompiledSteps(model, stream, most_frames)
    except Exception as reason:  # A stranger's graph may be anything; whether it is valid is for ONNX Runtime to say.
        logging.getLogger(__name__).info("model %s is stepped by ONNX Runtime (%s)", model.name, reason)
        stream.reset()
        return NativeSteps(model, stream, most_frames)


def compiled_stream(model: Model, stream: ModelStream, sizes: Sequence[int]) -> CompiledStream | None:
    """A stream that may take over, or None where ONNX Runtime is needed.

    Parameters
    ----------
    model, stream, sizes
        As for `CompiledStream`.

    Returns
    -------
    CompiledStream or None
    """
    if not isinstance(stream, ContractStream) or "step" in vars(stream):  # A step of somebody else's is to run.
        return None
    try:
        return CompiledStream(model, stream, sizes)
    except Exception as reason:  # as above
        logging.getLogger(__name__).info("model %s is stepped by ONNX Runtime (%s)", model.name, reason)
        return None
