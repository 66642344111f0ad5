"""rtdenoise: a real-time streaming noise filter for speech and music.

>>> import numpy as np, rtdenoise
>>> clean = rtdenoise.denoise(np.zeros(16_000, np.float32), rate=16_000)  # a whole array, sample-aligned
>>> stream = rtdenoise.Denoiser(rate=48_000)  # or a stream, in chunks of any length
>>> stream.process(np.zeros(480, np.float32)).shape, stream.latency_ms
((480,), 16.0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from rtdenoise.core.async_denoiser import AsyncDenoiser
    from rtdenoise.core.denoiser import Denoiser, denoise
    from rtdenoise.errors import AudioFileError, DeviceError, ModelError, RtdenoiseError, UsageError
    from rtdenoise.io.files import denoise_file, denoise_folder
    from rtdenoise.io.jobs import FileOutcome
    from rtdenoise.io.pipeline import FileReport
    from rtdenoise.live.devices import Device, list_devices
    from rtdenoise.live.session import LiveDenoiser
    from rtdenoise.live.stats import Stats
    from rtdenoise.model.contract import ModelInfo
    from rtdenoise.model.registry import list_models

# Loaded on first use: `rtdenoise --help` must not wait for numba and onnxruntime.
_HOMES = {
    "Denoiser": "core.denoiser",
    "AsyncDenoiser": "core.async_denoiser",
    "denoise": "core.denoiser",
    "denoise_file": "io.files",
    "denoise_folder": "io.files",
    "FileReport": "io.pipeline",
    "FileOutcome": "io.jobs",
    "ModelInfo": "model.contract",
    "list_models": "model.registry",
    "LiveDenoiser": "live.session",
    "Stats": "live.stats",
    "Device": "live.devices",
    "list_devices": "live.devices",
    "RtdenoiseError": "errors",
    "UsageError": "errors",
    "ModelError": "errors",
    "AudioFileError": "errors",
    "DeviceError": "errors",
}

__all__ = [
    "AsyncDenoiser",
    "AudioFileError",
    "Denoiser",
    "Device",
    "DeviceError",
    "FileOutcome",
    "FileReport",
    "LiveDenoiser",
    "ModelError",
    "ModelInfo",
    "RtdenoiseError",
    "Stats",
    "UsageError",
    "denoise",
    "denoise_file",
    "denoise_folder",
    "list_devices",
    "list_models",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rtdenoise' has no attribute {name!r}")
    return getattr(import_module(f"rtdenoise.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
