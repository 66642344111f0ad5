"""A contract model stepped through ONNX Runtime's C interface, so that compiled code can run it without the GIL.

The onnxruntime wheel (1.20 and later) carries its C library beside the Python extension. ctypes builds sessions and
prepared sets of arguments once; from then on a step of one or several frames is one call by address (`step`), and
states flip between two buffers. Outputs equal those of `onnxruntime.InferenceSession` bit for bit.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rtdenoise.errors import ModelError
from rtdenoise.model.contract import ContractStream, Model, ModelStream
from rtdenoise.model.onnx_runtime import SESSION_CONFIG, onnxruntime
from rtdenoise.model.weights import single_file
from rtdenoise.native.fft import inline
from rtdenoise.native.intrinsics import call8

Table: TypeAlias = ctypes.Array[Any]  # of addresses or of C strings

API_VERSION = 17  # the oldest table that has all we call; the table only ever grows at its end
FUNCTIONS = {  # positions in OrtApi, fixed upstream by static asserts
    "GetErrorMessage": 2,
    "CreateEnv": 3,
    "CreateSession": 7,
    "CreateSessionFromArray": 8,
    "Run": 9,
    "CreateSessionOptions": 10,
    "SetIntraOpNumThreads": 24,
    "SetInterOpNumThreads": 25,
    "CreateTensorWithDataAsOrtValue": 49,
    "CreateCpuMemoryInfo": 69,
    "ReleaseEnv": 92,
    "ReleaseStatus": 93,
    "ReleaseMemoryInfo": 94,
    "ReleaseSession": 95,
    "ReleaseValue": 96,
    "ReleaseSessionOptions": 100,
    "AddFreeDimensionOverrideByName": 124,
    "AddSessionConfigEntry": 130,
}
FLOAT32, ARENA_ALLOCATOR, DEFAULT_MEMORY, LOG_NOTHING_BUT_FATAL = 1, 1, 0, 4
RUN, SESSION, INPUT_NAMES, OUTPUT_NAMES, COUNT, INPUTS, OUTPUTS, PHASE = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    9,
)  # columns of `arguments`


@inline
def step(arguments: np.ndarray, frames: int) -> int:
    """Step the model once, from compiled code.

    Parameters
    ----------
    arguments : ndarray
        `NativeSteps.arguments`.
    frames : int
        Frames of the step.

    Returns
    -------
    int
        0, or the address of an OrtStatus: then stop calling, and see `NativeSteps.failure`.
    """
    phase = arguments[0, PHASE]
    arguments[0, PHASE] = 1 - phase
    a = arguments[frames - 1]
    count, inputs, outputs = a[COUNT], a[INPUTS + phase], a[OUTPUTS + phase]
    return int(call8(a[RUN], (a[SESSION], 0, a[INPUT_NAMES], inputs, count, a[OUTPUT_NAMES], count, outputs)))


@cache
def _library() -> tuple[ctypes.CDLL, Table] | None:
    """The C library of the installed onnxruntime and its table of functions, or None."""
    for home in map(Path, onnxruntime().__path__):
        for pattern in ("libonnxruntime.so*", "libonnxruntime.*dylib", "onnxruntime.dll"):
            for path in sorted((home / "capi").glob(pattern)):
                try:
                    library = ctypes.CDLL(str(path.resolve()))
                    library.OrtGetApiBase.restype = ctypes.POINTER(ctypes.c_void_p)
                    base = library.OrtGetApiBase()
                except (OSError, AttributeError):
                    continue
                table = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(base[0])(API_VERSION)
                if table:
                    return library, (ctypes.c_void_p * (max(FUNCTIONS.values()) + 1)).from_address(table)
    return None


def native_steps_available(stream: ModelStream) -> bool:
    """Whether `NativeSteps` can run this model here.

    Parameters
    ----------
    stream : ModelStream
        The model, running.

    Returns
    -------
    bool
    """
    return ctypes.sizeof(ctypes.c_void_p) == 8 and isinstance(stream, ContractStream) and _library() is not None


class NativeSteps:
    """Steps of a running `ContractStream`, on its own buffers and states.

    Parameters
    ----------
    model : Model
        Whose file is opened once more, through the C library.
    stream : ContractStream
        Its stream.
    most_frames : int, optional
        Most frames of a step.

    Attributes
    ----------
    arguments : ndarray
        What the compiled `step` takes, a row for each number of frames; which of the two sets of states is next is in
        the first row, for all.
    close : callable
        Releases session, tensors and library handles, as the end of an object that is dropped does: only when no thread
        can still be inside a step.

    Shape
    -----
    ``arguments`` int64 ``[most_frames, columns]``.

    Raises
    ------
    ModelError
        If ONNX Runtime refuses.
    """

    def __init__(self, model: Model, stream: ContractStream, most_frames: int = 1):
        found = _library()
        if found is None:
            raise ModelError("this onnxruntime has no C library to call; install onnxruntime 1.20 or later")
        self._library, self._table = found
        self._owned: list[tuple[str, ctypes.c_void_p]] = []
        self.close = weakref.finalize(self, _release_all, self._table, self._owned)
        self.close.atexit = False  # the system takes it back then, and a thread may still be inside a step
        self._memory = self._new("CreateCpuMemoryInfo", ARENA_ALLOCATOR, DEFAULT_MEMORY, release="ReleaseMemoryInfo")
        state_names = list(stream.states[0])
        states = [[self._tensor(a) for a in side.values()] for side in stream.states]
        inputs, outputs = ["noisy", *state_names], ["enhanced", *(f"{name}_next" for name in state_names)]
        count = len(inputs)
        names: list[Table] = [(ctypes.c_char_p * count)(*(n.encode() for n in s)) for s in (inputs, outputs)]
        # A session for one frame only folds what depends on shapes, a tenth of a step; the other one takes any number.
        sessions = [self._open(model.info.path, stream.one_frame)]
        if most_frames > 1:
            sessions.append(self._open(model.info.path, stream.dimensions))
        self._kept: list[object] = [names, stream]
        self.arguments = np.zeros((most_frames, PHASE + 1), np.int64)
        for frames in range(1, most_frames + 1):
            noisy, enhanced = (self._tensor(a) for a in stream.buffers(frames))
            sets = [[noisy, *states[0]], [noisy, *states[1]], [enhanced, *states[1]], [enhanced, *states[0]]]
            pointers: list[Table] = [(ctypes.c_void_p * count)(*(v.value for v in values)) for values in sets]
            self._kept.append(pointers)
            session, address = sessions[frames > 1].value, [ctypes.addressof(a) for a in (*names, *pointers)]
            run = self._table[FUNCTIONS["Run"]]
            self.arguments[frames - 1] = [run, session, *address[:2], count, *address[2:], 0]

    def _open(self, path: Path, dimensions: dict[str, int]) -> ctypes.c_void_p:
        """A session whose graph has these values for free dimensions of that name."""
        env = self._new("CreateEnv", LOG_NOTHING_BUT_FATAL, b"rtdenoise", release="ReleaseEnv")
        options = self._new("CreateSessionOptions", release="ReleaseSessionOptions")
        self._call("SetIntraOpNumThreads", options, 1)  # one thread: a step stays on the caller, at its priority
        self._call("SetInterOpNumThreads", options, 1)
        for key, value in SESSION_CONFIG.items():
            self._call("AddSessionConfigEntry", options, key.encode(), value.encode())
        for name, size in dimensions.items():
            self._call("AddFreeDimensionOverrideByName", options, name.encode(), size)
        model = single_file(path)
        if model is None:
            text: Any = ctypes.c_wchar_p(str(path)) if sys.platform == "win32" else ctypes.c_char_p(os.fsencode(path))
            address = ctypes.cast(text, ctypes.c_void_p)
            return self._new("CreateSession", env, address, options, release="ReleaseSession")
        return self._new("CreateSessionFromArray", env, model, len(model), options, release="ReleaseSession")

    def _call(self, name: str, *args: object) -> None:
        """Every argument fills one 64-bit register or stack slot, so ``void *`` suits them all."""
        call = ctypes.CFUNCTYPE(ctypes.c_void_p, *[ctypes.c_void_p] * len(args))(self._table[FUNCTIONS[name]])
        status = call(*args)
        if status:
            raise ModelError(f"onnxruntime refuses the model ({self.failure(status)}); try another model")

    def failure(self, status: int) -> str:
        """What an OrtStatus says; frees it.

        Parameters
        ----------
        status : int
            Its address, which a step returned.

        Returns
        -------
        str
            One line.
        """
        text = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(self._table[FUNCTIONS["GetErrorMessage"]])(status)
        message = (text or b"unknown").decode(errors="replace").splitlines()[0][:200]
        _release(self._table, "ReleaseStatus", ctypes.c_void_p(status))
        return message

    def _new(self, name: str, *args: object, release: str) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        self._call(name, *args, ctypes.byref(made))
        self._owned.append((release, made))
        return made

    def _tensor(self, a: np.ndarray) -> ctypes.c_void_p:
        shape = (ctypes.c_int64 * a.ndim)(*a.shape)
        tensor = "CreateTensorWithDataAsOrtValue"
        return self._new(tensor, self._memory, a.ctypes.data, a.nbytes, shape, a.ndim, FLOAT32, release="ReleaseValue")


def _release(table: Table, name: str, handle: ctypes.c_void_p) -> None:
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(table[FUNCTIONS[name]])(handle)


def _release_all(table: Table, owned: list[tuple[str, ctypes.c_void_p]]) -> None:
    while owned:
        _release(table, *owned.pop())
