"""Find a model by name or path, load it, and trust it only after it has run.

Shipped models keep the contract (`rtdenoise.model.contract`); a file with a sidecar beside it comes from elsewhere
(`rtdenoise.model.external`).
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from rtdenoise.errors import ModelError, UsageError
from rtdenoise.model.contract import Model, ModelInfo
from rtdenoise.model.contract_file import contract_model, read_info
from rtdenoise.model.external import has_sidecar, third_party_model
from rtdenoise.model.onnx_runtime import open_session

DEFAULT_MODEL = "unet"  # wherever somebody may wait for the sound
FILE_MODEL = "studio"  # for files and recordings: it sounds better, and answers later


def load_model(name_or_path: str | Path) -> Model:
    """Find, read and check a model, and run it over a few frames.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped model, or an ONNX file.

    Returns
    -------
    Model

    Raises
    ------
    UsageError
        For a name or file that does not exist.
    ModelError
        For a file that cannot be trusted.
    """
    path = find_model(name_or_path)
    session = open_session(path)
    try:
        described = has_sidecar(path, session.get_modelmeta().custom_metadata_map)
        model = (third_party_model if described else contract_model)(path, session)
    except UnicodeDecodeError as problem:  # a name or text in the file
        raise ModelError(f"{path}: holds text that is no UTF-8; get the file again") from problem
    model.try_out()
    return model


def models_folder() -> Path:
    """Return where the shipped models lie.

    Returns
    -------
    Path
        Inside the installed package, or at the top of a source tree.
    """
    package = Path(__file__).resolve().parents[1]
    return next((p for p in (package / "models", package.parent / "models") if p.is_dir()), package / "models")


def find_model(name_or_path: str | Path) -> Path:
    """Find the file behind a shipped model's name or a path.

    Parameters
    ----------
    name_or_path : str or Path
        As for `load_model`.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If there is none; it gives the nearest names.
    """
    text = str(name_or_path)
    shipped = {p.stem: p for p in sorted(models_folder().glob("*.onnx"))}
    if text in shipped:
        return shipped[text]
    path = Path(os.path.expanduser(text))
    if path.is_file():
        return path
    if path.suffix == ".onnx":
        raise UsageError(f"no model file {text!r}; check the path, or choose from: {', '.join(shipped) or 'none'}")
    near = difflib.get_close_matches(text, shipped, 1, 0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = ", ".join(shipped) or "none"
    raise UsageError(f"unknown model {text!r}; {hint}available: {known} (or a path to a .onnx file)")


def list_models() -> list[ModelInfo]:
    """List the shipped models.

    Returns
    -------
    list of ModelInfo
        The default first, the others by name.

    Raises
    ------
    ModelError
        If a shipped file is damaged.
    """
    infos = [read_info(p, open_session(p)) for p in sorted(models_folder().glob("*.onnx"))]
    return sorted(infos, key=lambda i: (i.name != DEFAULT_MODEL, i.name))
