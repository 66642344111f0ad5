"""What is scored: a model as users run it, or any command, as a function of samples and rate."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.geometry import Latency

LOW = "@low"  # behind a model: --latency low
Filter = Callable[[np.ndarray, int], np.ndarray]


def open_system(text: str) -> tuple[str, Filter]:
    """A model (name or file; with ``@low`` behind it in the 8 ms mode) or ``name=command {in} {out}`` as a name and a
    function of ``(samples, rate)``."""
    name, is_command, command = text.partition("=")
    if is_command:
        if "{in}" not in command or "{out}" not in command:
            raise UsageError(f"the command of {name!r} must hold {{in}} and {{out}}, as in 'sox=sox {{in}} {{out}}'")
        return name, lambda x, rate: _run_command(command, x, rate)
    from rtdenoise.denoiser import denoise
    from rtdenoise.model import load_model

    loaded = load_model(text.removesuffix(LOW))
    latency: Latency = "low" if text.endswith(LOW) else "normal"
    name = loaded.name + LOW if latency == "low" else loaded.name
    return name, lambda x, rate: denoise(x, rate, model=loaded, latency=latency)


def _run_command(command: str, x: np.ndarray, rate: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.wav", Path(folder) / "out.wav"
        sf.write(source, x, rate, subtype="FLOAT")
        words = [w.replace("{in}", str(source)).replace("{out}", str(target)) for w in shlex.split(command)]
        try:
            subprocess.run(words, check=True, capture_output=True, text=True)
            out, out_rate = sf.read(target, dtype="float32", always_2d=True)
        except (OSError, subprocess.CalledProcessError, sf.SoundFileError) as error:
            detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
            raise RtdenoiseError(f"the command failed: {' '.join(detail)}; try it by hand: {command}") from error
    out = out if x.ndim == 2 else out[:, 0]
    out = out if out_rate == rate else soxr.resample(out, out_rate, rate)
    missing = max(0, len(x) - len(out))
    return np.pad(out, [(0, missing)] + [(0, 0)] * (x.ndim - 1))[: len(x)]
