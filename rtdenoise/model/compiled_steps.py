"""A contract model stepped by compiled code of ours (`rtdenoise.native.tensor_kernels`): a fraction of the usual cost.

Every model goes through ONNX Runtime first, which says whether it is one at all. Then its graph is walked once for each
number of frames of a step, which gives programs that share weights and states. They must give the same numbers, or
ONNX Runtime steps the model (`rtdenoise.model.native_session`), as it does where an operator is not known here.
"""

from __future__ import annotations

import logging

import numpy as np

from rtdenoise.model.contract import ContractStream, Model
from rtdenoise.model.graph_file import read_graph
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
from rtdenoise.model.program import Program, Unsupported, Weights
from rtdenoise.model.weights import single_file
from rtdenoise.native import tensor_kernels as kernels

TRIED_LEVELS = 3e-2, 1e-4  # Of the noise by which programs are compared; each for a step of every number of frames.
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
        self._programs = _programs(model, stream, most_frames)
        self.arguments = np.zeros((most_frames, PHASE + 1), np.int64)
        for row, program in zip(self.arguments, self._programs, strict=True):
            row[RUN] = int(kernels.run.address or 0)
            row[[SESSION, INPUT_NAMES, COUNT, OUTPUT_NAMES]] = program.arguments()
        self._compare(model, stream, most_frames)

    def _compare(self, model: Model, stream: ContractStream, most_frames: int) -> None:
        """Raise `Unsupported` unless both ways give the same numbers. Leaves the stream as it begins."""
        judge, random = model.stream(stream.channels), np.random.default_rng(0)
        for level in TRIED_LEVELS:
            for frames in range(1, most_frames + 1):
                (noisy, enhanced), (same, wanted) = stream.buffers(frames), judge.buffers(frames)
                noisy[:] = same[:] = level * random.standard_normal(noisy.shape)
                judge.step(frames)
                self._programs[frames - 1].run()
                loudest = max(np.abs(noisy).max(), np.abs(wanted).max())
                if not np.abs(enhanced - wanted).max() <= TOLERANCE * loudest:
                    raise Unsupported("it gives other numbers than ONNX Runtime")
        stream.reset()

    def close(self) -> None:
        """Nothing is held that would need it."""

    def failure(self, status: int) -> str:
        """A step of this kind does not fail."""
        return f"status {status}"


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


def _programs(model: Model, stream: ContractStream, most_frames: int) -> list[Program]:
    content = single_file(model.info.path)
    if content is None:
        raise Unsupported("weights lie in other files")
    graph, weights, states = read_graph(content), Weights(), stream.states[0]
    made = []
    for frames in range(1, most_frames + 1):
        program = Program(weights)
        noisy, enhanced = stream.buffers(frames)
        # Lines of real parts and lines of imaginary ones are quicker to work on.
        apart = program.new(*noisy.shape[:2], 2, noisy.shape[2])
        program.copy(apart.swapaxes(2, 3), noisy)
        given = {"noisy": Tensor(apart.swapaxes(2, 3)), **{name: Tensor(a) for name, a in states.items()}}
        found = Walk(program).run(graph, given)
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
        made.append(program)
    return made
