"""``rtdenoise train``: mix, learn, validate, keep the best; survive a kill and go on exactly where it stopped.

Owns the command: which recipe, which weights to start from, the log. `trainer` owns the training itself.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rtdenoise import console
from rtdenoise.arguments import count
from rtdenoise.errors import UsageError
from rtdenoise.model.registry import models_folder
from rtdenoise.training.allocator import kept_memory
from rtdenoise.training.data.material import place
from rtdenoise.training.distributed import Ranks, is_restarted, run_together
from rtdenoise.training.recipe import Recipe, load_recipe, recipe_from_json
from rtdenoise.training.trainer import Trainer, load_checkpoint, network_of

FINE_TUNING: dict[str, Any] = {
    "steps": 600,
    "learning_rate": 2e-4,
    "warmup": 50,
    "decay_from": 0.3,
    "validate_every": 200,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="a recipe file, or studio, studio_bands, tape, unet, unet_bands")
    parser.add_argument("--from", dest="origin", metavar="MODEL", help="fine-tune a shipped model or a checkpoint")
    parser.add_argument("--out", type=Path, default=Path("training"), help="folder for checkpoints and the log")
    parser.add_argument("--resume", action="store_true", help="resume from last.pt in --out")
    parser.add_argument(
        "--trunk", type=Path, metavar="DIR", help="with --decay: continue from another training's last.pt"
    )
    parser.add_argument(
        "--decay",
        type=count(),
        metavar="STEPS",
        help="let the learning rate fall from the trunk's to zero within STEPS",
    )
    parser.add_argument(
        "--clean",
        type=place,
        nargs="+",
        metavar="DIR",
        help="folders or .jsonl manifests with clean speech, instead of the recipe's",
    )
    parser.add_argument(
        "--noise",
        type=place,
        nargs="+",
        metavar="DIR",
        help="folders or .jsonl manifests with noise, instead of the recipe's",
    )
    parser.add_argument(
        "--rir",
        type=place,
        nargs="+",
        metavar="DIR",
        help="folders or .jsonl manifests with room impulse responses, instead of the recipe's",
    )
    parser.add_argument("--steps", type=count(), help="number of steps, instead of the recipe's")
    parser.add_argument(
        "--processes",
        type=count(1, 1_000),
        default=1,
        help="number of training processes on this machine (default 1); for several machines and GPUs use torchrun",
    )
    parser.add_argument(
        "--batch",
        type=count(1, 1_000_000),
        metavar="PAIRS",
        help="pairs in a step, shared out over all processes (default: the recipe's batch in each process)",
    )
    parser.add_argument("--cache", type=Path, help="folder for decoded audio (default: OUT/cache)")


def run(args: argparse.Namespace) -> int:
    if (args.trunk is None) != (args.decay is None) or (args.trunk and args.resume):
        raise UsageError("--trunk DIR and --decay STEPS must be given together, and begin a new training in --out")
    if args.decay is not None and args.decay < 1:
        raise UsageError(f"--decay {args.decay}: give a number of steps above 0")
    launched = Ranks.launched()
    if launched and args.processes > 1:
        raise UsageError("--processes and torchrun both say how many processes train; remove --processes")
    recipe = _shared_out(_choose_recipe(args), args.batch, launched.count if launched else args.processes)
    origin = _checkpoint_of(args.origin) if args.origin else None
    args.out.mkdir(parents=True, exist_ok=True)
    is_first = launched is None or launched.rank == 0
    if is_first and (args.out / "last.pt").exists() and not (args.resume or is_restarted()):
        raise UsageError(f"{args.out} contains a training; add --resume to continue it, or choose another --out")
    cache = args.cache or args.out / "cache"
    branch = (args.trunk, args.decay) if args.trunk else None
    work = recipe, args.out, cache, origin, args.resume, branch
    if launched:
        launched.run(_train, *work)
    else:
        run_together(args.processes, _train, *work)
    if is_first:
        console.say(f"done; next: rtdenoise export {args.out / 'best.pt'} --out model.onnx")
    return 0


def _shared_out(recipe: Recipe, batch: int | None, processes: int) -> Recipe:
    """The recipe of each process, whose batch is its share."""
    if batch is None:
        return recipe
    if batch % processes:
        raise UsageError(
            f"--batch {batch} cannot be shared equally by {processes} processes; give a multiple of {processes}"
        )
    return replace(recipe, data=replace(recipe.data, batch=batch // processes))


@kept_memory()
def _train(
    ranks: Ranks,
    recipe: Recipe,
    out: Path,
    cache: Path,
    origin: Path | None,
    resume: bool,
    branch: tuple[Path, int] | None,
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if is_restarted():
        resume = json.loads(ranks.of_first(lambda: json.dumps(resume or (out / "last.pt").exists()).encode()))
    begin_as = network_of(origin)[1] if origin and not resume else None
    trainer = Trainer(recipe, out, cache, device, begin_as, ranks)
    if branch:
        trainer.decay(*branch)
    if resume:
        trainer.resume()
    if ranks.rank:
        trainer.run(print)
        return
    with (out / "log.jsonl").open("a") as log:

        def report(entry: dict[str, Any]) -> None:
            print(json.dumps(entry), file=log, flush=True)
            console.say(", ".join(f"{k} {_short(v)}" for k, v in entry.items()))

        trainer.run(report)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {_short(v)}" for k, v in value.items()) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _choose_recipe(args: argparse.Namespace) -> Recipe:
    """The recipe asked for; without one, that of the checkpoint to start from, shortened to a fine-tuning."""
    if args.recipe:
        recipe = load_recipe(args.recipe)
    elif args.origin:
        recipe = recipe_from_json(load_checkpoint(_checkpoint_of(args.origin))["recipe"])
        recipe = replace(recipe, schedule=replace(recipe.schedule, **FINE_TUNING, all_frames_from=1.0))
    else:
        raise UsageError("give a recipe (unet, studio, tape, or a file), or --from MODEL to fine-tune a model")
    folders = {"clean": args.clean, "noise": args.noise, "rooms": args.rir}
    given: dict[str, Any] = {k: tuple(map(str, v)) for k, v in folders.items() if v}
    data = replace(recipe.data, **given)
    missing = [f"--{k}" for k in ("clean", "noise") if not getattr(data, k)]
    if missing:
        raise UsageError(f"no folders with audio; add {' and '.join(f'{m} DIR' for m in missing)}")
    steps = args.steps or recipe.schedule.steps
    return replace(recipe, data=data, schedule=replace(recipe.schedule, steps=steps))


def _checkpoint_of(origin: str) -> Path:
    """A checkpoint file, or the one beside a shipped model: there in a checkout and in the sdist, not in the wheel."""
    beside = models_folder() / f"{origin}.pt"
    if beside.exists():
        return beside
    if beside.with_suffix(".onnx").exists() and not Path(origin).exists():
        raise UsageError(
            f"no {beside}: wheels do not contain checkpoints; unpack the source archive (sdist) of this version "
            f"and use --from models/{origin}.pt"
        )
    return Path(origin)
