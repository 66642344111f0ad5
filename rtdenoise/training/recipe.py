"""A training recipe: a TOML file, read into dataclasses. Unknown keys are errors that name the nearest key."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtdenoise.errors import UsageError
from rtdenoise.toml_dataclass import fill, read_table
from rtdenoise.training.data.mixer import MixConfig
from rtdenoise.training.losses import LossWeights

HOME = Path(__file__).parent / "recipes"
RETIRED = {"rumble", "pops"}  # Keys of earlier versions, which counted both as part of the voice.


@dataclass(frozen=True)
class Data:
    clean: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ()
    rate: int = 16000
    seconds: float = 2.0
    batch: int = 16
    wide_hz: int = 0  # use only speech files with at least this sampling rate
    reuse: int = 1  # pairs that share a voice, and a noise, always with another partner; mixing costs that much less
    workers: int = 0  # mixing processes; 0 = mix between two steps (a CPU that trains has no core to spare)


@dataclass(frozen=True)
class Schedule:
    steps: int = 8000
    optimizer: str = "adamw"  # or muon
    learning_rate: float = 2e-3
    warmup: int = 300  # steps
    decay_from: float = 0.5  # share of the steps after which the learning rate falls (cosine)
    all_frames_from: float = 1.0  # share of the steps after which every frame and the wave loss are used
    ema: float = 0.998  # of the averaged weights, which are the ones that count
    weight_decay: float = 1e-2
    clip_gradient: float = 1.0
    precision: str = "auto"  # float32, bfloat16 (of products; sums and weights stay float32), or what is faster here
    validate_every: int = 500
    save_every: int = 100
    seed: int = 1


@dataclass(frozen=True)
class Recipe:
    network: str = "unet"
    stage: str = "core"
    options: dict[str, Any] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    mix: MixConfig = field(default_factory=MixConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    schedule: Schedule = field(default_factory=Schedule)


def load_recipe(path: str | Path) -> Recipe:
    """A recipe file, or the name of one that comes with the package."""
    file = HOME / f"{path}.toml" if (HOME / f"{path}.toml").exists() else Path(path)
    try:
        table = read_table(file)
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in HOME.glob("*.toml")))
        raise UsageError(f"no recipe {path}; give a .toml file or one of: {known}") from None
    return fill(Recipe(), _renamed(table), file.name)


def recipe_from_json(text: str) -> Recipe:
    """The recipe inside a checkpoint; keys of ``mix`` that no longer exist are ignored."""
    table = _renamed(json.loads(text))
    table["mix"] = {k: v for k, v in table.get("mix", {}).items() if k not in RETIRED}
    return fill(Recipe(), table, "the checkpoint's recipe")


def _renamed(table: dict[str, Any]) -> dict[str, Any]:
    """A recipe under today's names: until 0.1 the section ``mix`` was called ``chances``."""
    return {"mix" if key == "chances" else key: value for key, value in table.items()}
