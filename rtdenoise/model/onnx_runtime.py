"""ONNX Runtime: the one place that loads it, and how a session is opened.

From version 1.29 on it writes an identifier of the machine and a data base of events into the home folder, and a
running session looks for its vendor's collector. Audio is nobody's business: `ORT_DISABLE_TELEMETRY` is set before it
is loaded, in whatever program this package is part of, unless that program or its user has set it already.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rtdenoise import signals
from rtdenoise.errors import ModelError
from rtdenoise.model.weights import single_file

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SESSION_CONFIG = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}


@cache
def onnxruntime() -> ModuleType:
    """The package of that name, which reports nothing to anybody."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # stays: child processes and the C library read it too
    with signals.held():  # it makes an ImportError of an interrupt
        return import_module("onnxruntime")


def open_session(path: Path) -> InferenceSession:
    """A session on a model file and, if it says so, on weights that lie beside it; `ModelError` if it cannot be one.

    One thread that sleeps when idle: real-time audio shares the machine, and a 4 ms hop fits in one core.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for key, value in SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    content = single_file(path)
    try:
        source = str(path) if content is None else content
        # Its second attempt is the same again, and tells standard output, where the sound may go.
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except Exception as e:  # onnxruntime's exceptions share no public base class
        raise ModelError(f"{path}: not a model that onnxruntime can read ({first_line(e)}); get the file again") from e


def first_line(error: Exception) -> str:
    """What an exception of a library says, as far as one line holds it."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0])


def printable(text: str, longest: int = 200) -> str:
    """Text from a stranger's file, for a message: nothing in it can move a cursor or fill a screen."""
    return "".join(c if c.isprintable() else "?" for c in text[:longest])
