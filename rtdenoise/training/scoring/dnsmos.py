"""DNSMOS P.835 (Reddy et al., arXiv 2110.01763): what listeners would say of a voice, of what is left behind it, and of
both. Needs no clean speech.

The model is not ours to ship: `sig_bak_ovr.onnx`, in the folder DNSMOS/DNSMOS of the Deep Noise Suppression challenge's
repository (github.com/microsoft/DNS-Challenge), whose code has the polynomials below too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtdenoise.errors import ModelError, UsageError
from rtdenoise.model.onnx_runtime import open_session

SAMPLES = 144160  # The model's input is 9.01 s at 16 kHz.
TO_OPINIONS = {  # raw output -> mean opinion score; highest power first
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class Dnsmos:
    """The model in ``path``. Raises UsageError for a file that is no such model."""

    def __init__(self, path: Path):
        try:
            self._session = open_session(path)
        except ModelError as error:
            raise UsageError(f"cannot read {path} as a model; give DNSMOS's sig_bak_ovr.onnx") from error
        shapes = [v.shape for v in (*self._session.get_inputs(), *self._session.get_outputs())]
        if [s[1:] for s in shapes] != [[SAMPLES], [len(TO_OPINIONS)]]:
            raise UsageError(f"{path} is not a P.835 model; use sig_bak_ovr.onnx, not the personalised one")

    def __call__(self, x: np.ndarray) -> dict[str, float]:
        """Opinions, 1 to 5, of the first 9.01 s of ``x`` ``[samples]`` at 16 kHz; shorter sounds are repeated."""
        heard = np.resize(x, SAMPLES).astype(np.float32)[None]
        raw = self._session.run(None, {self._session.get_inputs()[0].name: heard})[0][0]
        return {k: float(np.polyval(p, v)) for (k, p), v in zip(TO_OPINIONS.items(), raw, strict=True)}
