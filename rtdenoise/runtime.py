"""ONNX Runtime: the one place that loads it, and how a session is opened.

From version 1.29 on it writes an identifier of the machine and a data base of events into the home folder, and a
running session looks for its vendor's collector. Audio is nobody's business: `ORT_DISABLE_TELEMETRY` is set before it
is loaded, in whatever program this package is part of, unless that program or its user has set it already.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rtdenoise.errors import ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SESSION_CONFIG = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}


@cache
def onnxruntime() -> ModuleType:
    """The package of that name, which reports nothing to anybody."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # stays: child processes and the C library read it too
    import onnxruntime

    return onnxruntime


def open_session(path: Path) -> InferenceSession:
    """One thread that sleeps when idle: real-time audio shares the machine, and a 4 ms hop fits in one core."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for key, value in SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's exceptions share no public base class
        raise ModelError(f"{path}: not a model that onnxruntime can read ({first_line(e)}); get the file again") from e


def first_line(error: Exception) -> str:
    """What an exception of a library says, as far as one line holds it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
