"""The folders that a user's system sets aside for programs: configuration and caches."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def user_folder(kind: Literal["cache", "config"]) -> Path | None:
    """Our folder of this kind, which need not exist; None for a user without a home, as containers have them."""
    import platformdirs

    folder_of = {"cache": platformdirs.user_cache_dir, "config": platformdirs.user_config_dir}[kind]
    try:
        path = Path(folder_of("rtdenoise", appauthor=False))
    except RuntimeError:
        return None
    return path if path.is_absolute() else None  # older releases give "~/..." back
