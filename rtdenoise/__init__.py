"""rtdenoise: a real-time streaming noise filter for speech and music.

>>> import numpy as np, rtdenoise
>>> clean = rtdenoise.denoise(np.zeros(16_000, np.float32), rate=16_000)     # a whole array, delay removed
>>> stream = rtdenoise.Denoiser(rate=48_000)                                 # or hop by hop, any chunk length
>>> stream.process(np.zeros(480, np.float32)).shape, stream.latency_ms
((480,), 16.0)
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rtdenoise.core.denoiser import Denoiser, denoise
    from rtdenoise.errors import AudioFileError, DeviceError, ModelError, RtdenoiseError, UsageError
    from rtdenoise.live.devices import list_devices
    from rtdenoise.live.session import LiveDenoiser
    from rtdenoise.model.registry import list_models

# Loaded on first use: `rtdenoise --help` must not wait for numba and onnxruntime.
_HOMES = {
    "Denoiser": "core.denoiser",
    "denoise": "core.denoiser",
    "list_models": "model.registry",
    "LiveDenoiser": "live.session",
    "list_devices": "live.devices",
    "RtdenoiseError": "errors",
    "UsageError": "errors",
    "ModelError": "errors",
    "AudioFileError": "errors",
    "DeviceError": "errors",
}

__all__ = [
    "AudioFileError",
    "Denoiser",
    "DeviceError",
    "LiveDenoiser",
    "ModelError",
    "RtdenoiseError",
    "UsageError",
    "denoise",
    "list_devices",
    "list_models",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'rtdenoise' has no attribute {name!r}")
    return getattr(import_module(f"rtdenoise.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
