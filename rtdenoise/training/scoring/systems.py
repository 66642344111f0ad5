"""What `evaluate` can score: a model by name or file, a checkpoint of a training, or any command.

Owns how a system is named on the command line and run on a sound. A system is plain data until it is first run, so it
travels to other processes.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from rtdenoise.core.denoiser import denoise
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.geometry import Latency
from rtdenoise.model.contract import Model
from rtdenoise.model.registry import load_model

LOW = "@low"  # Appended to a model's name, it means --latency low.
CHECKPOINT = ".pt"


@dataclass(frozen=True)
class System:
    """A function of ``(samples, rate)``: ``[samples]`` or ``[samples, channels]`` in, the same shape out, aligned."""

    name: str
    source: str  # a model's name or path, or a command
    latency: Latency = "normal"

    def __call__(self, x: np.ndarray, rate: int) -> np.ndarray:
        if _is_command(self.source):
            return _run_command(self.source, x, rate)
        return denoise(x, rate, model=_loaded(self.source), latency=self.latency)


def unfiltered(x: np.ndarray, rate: int) -> np.ndarray:
    """The system that others are measured against: what comes in."""
    return x


def open_systems(texts: list[str], folder: Path) -> dict[str, System]:
    """Systems by name, each loaded once so that a wrong one fails here; checkpoints are exported into ``folder``. Files
    that state the same name are called by their own."""
    systems: dict[str, System] = {}
    for text in texts:
        system = open_system(text, folder)
        if system.name in systems:
            system = System(Path(text.removesuffix(LOW)).stem + LOW * text.endswith(LOW), system.source, system.latency)
        if system.name in systems:
            raise UsageError(f"two systems are called {system.name}; rename one of the files, or name each once")
        systems[system.name] = system
    return systems


def open_system(text: str, folder: Path) -> System:
    """A model (name or file), a checkpoint, each with ``@low`` behind it in the 8 ms mode, or ``name=command {in}
    {out}``."""
    name, is_command, command = text.partition("=")
    if is_command:
        if not _is_command(command):
            raise UsageError(f"the command of {name!r} must contain {{in}} and {{out}}, as in 'sox=sox {{in}} {{out}}'")
        if Path(name).name != name or name in (".", ".."):
            raise UsageError(f"{name!r} would write to another folder; give the command a plain name")
        return System(name, command)
    source = text.removesuffix(LOW)
    low = text != source
    if source.endswith(CHECKPOINT):
        name, source = _export(Path(source), folder)
    else:
        name = _loaded(source).name
    return System(name + LOW * low, source, "low" if low else "normal")


def _export(checkpoint: Path, folder: Path) -> tuple[str, str]:
    """Name and model of a checkpoint. Trainings name theirs alike, so the folder's name stands before the file's."""
    from rtdenoise.training.onnx_export.export import export_checkpoint

    path = checkpoint.absolute()
    name = f"{path.parent.name}-{path.stem}"
    target = folder / f"{name}.onnx"
    if not target.exists():
        target.write_bytes(export_checkpoint(checkpoint, {"name": name, "version": "1"}).SerializeToString())
    return name, str(target)


@lru_cache(maxsize=8)
def _loaded(source: str) -> Model:
    return load_model(source)


def _is_command(source: str) -> bool:
    return "{in}" in source and "{out}" in source


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
