"""Train the five baselines and compare them: same audio, same computing time, same pairs.

Each is a recipe, beside this file or in the package. It is trained for a stated time of one core's work, exported, run
through the streaming core on pairs that it never heard, scored as by ``rtdenoise evaluate``, and becomes one row of
the table in ``BASELINES.md``. The default model's recipe gets the same time, for comparison. Finished trainings are
kept in ``--work``, and a stopped run resumes where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rtdenoise import Denoiser, console
from rtdenoise.arguments import count, number
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.atomic import replacing, write_text
from rtdenoise.model.registry import load_model
from rtdenoise.training.onnx_export.export import export_checkpoint
from rtdenoise.training.recipe import Recipe, load_recipe, recipe_from_json
from rtdenoise.training.scoring import cards
from rtdenoise.training.scoring.pair_scores import Extent, Filter, Pair, find_pairs, named_folders, score_sets
from rtdenoise.training.scoring.score_tables import COLUMNS, mean_of_sets, places, table
from rtdenoise.training.scoring.systems import System as Scored
from rtdenoise.training.scoring.systems import unfiltered
from rtdenoise.training.trainer import Batches, Trainer, load_checkpoint
from rtdenoise_bench.report import machine

RECIPES = Path(__file__).parent / "recipes"
LOW, HIGH = 16000, 48000  # banks that serve all: bins are 62.5 Hz apart at every rate, so a network hears its own band
PROBE_STEPS = 4
REUSE = 4  # of voices and noises, for all alike
STEPS_TIMED = 500
PLAN = "plan.json"  # What a training was begun with, which later calls do not change.
SHOWN = ("pesq_wb", "estoi", "si_sdr_80hz", "iou")
HEADINGS = COLUMNS | {"iou": "IoU"}
Results = dict[str, dict[str, Any]]  # of one system: by set, and "mean" of several


@dataclass(frozen=True)
class System:
    """A recipe, what is different from it here, and what its origin reported."""

    recipe: str
    rate: int
    reported: str = "-"
    linked: bool | None = None  # None: the network knows no links


SYSTEMS = {
    "noise-subtraction": System("noise-subtraction", LOW, "80 ms for a window of 1 s"),
    "db-minmax": System("db-minmax", LOW, "80 ms for a window of 1 s"),
    "deep-unet": System("deep-unet", HIGH),
    "crced-mse": System("crced-mse", LOW),
    "tape-mask": System("tape", HIGH, "on tape: SI-SDR ~19 dB, segmental SNR 19+ dB, LSD ~6 dB", linked=False),
    "unet": System("unet", LOW),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, what in (("clean", "speech"), ("noise", "noise"), ("rir", "room impulse responses")):
        parser.add_argument(f"--{name}", type=Path, nargs="+", default=[], metavar="DIR", help=f"folders with {what}")
    parser.add_argument(
        "--pairs",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="pairs to score on, noisy/ and clean/; for several folders, the mean of their means too",
    )
    parser.add_argument(
        "--keep-input", type=number(0, 1), default=0.05, metavar="SHARE", help="of the input left in all (default 0.05)"
    )
    parser.add_argument(
        "--minutes",
        type=number(0.001, 1_000_000, "minutes"),
        default=2.0,
        help="of one core's work, for each training (default 2)",
    )
    parser.add_argument("--seed", type=count(0), default=1)
    parser.add_argument("--work", type=Path, default=Path("baselines"), help="keeps what is done (default baselines/)")
    parser.add_argument("--cache", type=Path, help="where decoded audio is kept (default: WORK/cache)")
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--into", type=Path, metavar="FILE.md", help="put the table between its <!-- table --> marks")
    parser.add_argument("--models", type=Path, metavar="DIR", help="put the trained models here too, as NAME.onnx")
    parser.add_argument("--jobs", type=count(1, 1_000), default=1, metavar="N", help="processes that score (default 1)")


def run(args: argparse.Namespace) -> int:
    if not args.clean or not args.noise:
        raise UsageError("no audio to train on; add --clean DIR and --noise DIR")
    if args.into:
        cards.around(args.into, "table")  # raises now what would else be raised after the trainings
    torch.set_num_threads(1)
    sets = {name: find_pairs(folder) for name, folder in named_folders(args.pairs).items()}
    rows = {name: row_of(name, sets, args) for name in ("noisy", *args.only)}
    text = as_markdown(rows, sets, args)
    print(text, end="")
    if args.into:
        cards.put(args.into, "table", text)
    return 0


def recipe_path(name: str) -> str | Path:
    """The recipe beside this file or, where there is none, the name of one of the package's."""
    return path if (path := RECIPES / f"{name}.toml").exists() else name


def recipe_for(name: str, args: argparse.Namespace) -> Recipe:
    """The recipe on the common audio: its own network, band and loss; rate, levels and mixtures alike for all."""
    system = SYSTEMS[name]
    recipe, common = load_recipe(recipe_path(system.recipe)), Recipe()
    clean, noise, rooms = (tuple(map(str, folders)) for folders in (args.clean, args.noise, args.rir))
    data = replace(
        recipe.data, clean=clean, noise=noise, rooms=rooms, rate=system.rate, seconds=common.data.seconds, reuse=REUSE
    )
    options = recipe.options if system.linked is None else recipe.options | {"linked": system.linked}
    return replace(
        recipe, options=options, data=data, mix=common.mix, schedule=replace(recipe.schedule, seed=args.seed)
    )


def trained(name: str, args: argparse.Namespace) -> Path:
    """Train for the time asked for, or go on with what lies there; the last checkpoint."""
    folder, cache = args.work / name, args.cache or args.work / "cache"
    last = folder / "last.pt"
    folder.mkdir(parents=True, exist_ok=True)
    if last.exists():
        recipe = recipe_from_json(load_checkpoint(last)["recipe"])
        trainer = Trainer(recipe, folder, cache, "cpu", None)
        trainer.resume()
    else:
        recipe = recipe_for(name, args)
        step_s = seconds_a_step(Trainer(recipe, folder, cache, "cpu", None))
        steps = max(2, round(args.minutes * 60 / step_s))
        plan = {"steps": steps, "warmup": max(1, steps // 20), "all_frames_from": 1.0}
        trainer = Trainer(replace(recipe, schedule=replace(recipe.schedule, **plan)), folder, cache, "cpu", None)
        write_text(folder / PLAN, json.dumps({"minutes": args.minutes}))
    schedule = trainer.recipe.schedule
    batches = Batches(trainer.mixer, trainer.step, schedule.steps, trainer.recipe.data.batch, trainer.ranks)
    for k in range(len(batches)):  # no choosing of a best one on the way: the last averages count
        loss, _ = trainer.train_step(*batches[k])
        if trainer.step % schedule.save_every == 0 or trainer.step == schedule.steps:
            print(f"{name}: step {trainer.step} of {schedule.steps}, loss {loss:.4f}", flush=True)
            trainer.save(last.name)
    return last


def seconds_a_step(trainer: Trainer) -> float:
    """Work of one core for mixing and learning one batch, however busy the machine is; the first one warms up."""
    batches = Batches(trainer.mixer, 0, PROBE_STEPS, trainer.recipe.data.batch, trainer.ranks)
    spent = []
    for k in range(PROBE_STEPS):
        begin = time.process_time()
        trainer.train_step(*batches[k])
        spent.append(time.process_time() - begin)
    return float(np.mean(spent[1:]))


def row_of(name: str, sets: dict[str, list[Pair]], args: argparse.Namespace) -> dict[str, Any]:
    """What was found when the same was asked before, or is found now."""
    done = args.work / name / "row.json"
    asked = {"pairs": [str(f.resolve()) for f in args.pairs], "kept": args.keep_input}
    if done.exists() and (before := json.loads(done.read_text()))["asked"] == asked:
        return before
    row = filtered(name, sets, args) if name in SYSTEMS else scored(name, unfiltered, sets, args.jobs)
    done.parent.mkdir(parents=True, exist_ok=True)
    write_text(done, json.dumps(row | {"asked": asked}))
    return row


def filtered(name: str, sets: dict[str, list[Pair]], args: argparse.Namespace) -> dict[str, Any]:
    """Train, export and score as users would run it."""
    checkpoint = trained(name, args)
    path = checkpoint.with_name(f"{name}.onnx")
    model = export_checkpoint(checkpoint, {"name": name, "version": "1"}, args.keep_input).SerializeToString()
    for target in (path, *([args.models / path.name] if args.models else [])):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            file.write(model)
    plan = json.loads((checkpoint.parent / PLAN).read_text())
    return scored(name, Scored(name, str(path)), sets, args.jobs) | cost_of(path, checkpoint) | plan


def cost_of(path: Path, checkpoint: Path) -> dict[str, Any]:
    """What a model costs, live and in training."""
    recipe, model = recipe_from_json(load_checkpoint(checkpoint)["recipe"]), load_model(path)
    stream = model.stream(1)
    stream.buffers(1)[0][:] = 0.01 * np.random.default_rng(4).standard_normal((1, 1, model.info.bins, 2))
    spent = []
    for _ in range(STEPS_TIMED):
        begin = time.perf_counter()
        stream.step(1)
        spent.append(time.perf_counter() - begin)
    data = recipe.data
    return {
        "parameters": model.info.parameters,
        "step_ms": float(np.median(spent)) * 1000,
        "latency_ms": Denoiser(model, 48000).latency_ms,
        "hours_heard": recipe.schedule.steps * data.batch * data.seconds / 3600,
        "loss": {k: v for k, v in vars(recipe.loss).items() if v and k != "wave"},
    }


def scored(name: str, system: Filter, sets: dict[str, list[Pair]], jobs: int) -> dict[str, Any]:
    """Mean scores on every set and over the sets, and how many pairs came out worse than they went in."""
    results = list(score_sets({name: system}, sets, Extent(others=False), jobs, console.say).values())
    whole = mean_of_sets(results)[name]
    return {
        "scores": [{k: r["mean"][k] for k in SHOWN} for r in (*(r[name] for r in results), whole)],
        "worse": whole["worse_than_noisy"],
    }


def as_markdown(rows: dict[str, dict[str, Any]], sets: dict[str, list[Pair]], args: argparse.Namespace) -> str:
    titles = ["system", *(HEADINGS[k] for k in SHOWN), "worse than noisy, ESTOI / SI-SDR 80 Hz"]
    titles += ["parameters", "step", "latency", "trained", "heard", "loss", "its origin"]
    lines = []
    for name, row in rows.items():
        by_set = row["scores"] if len(sets) > 1 else row["scores"][:1]
        line = [name, *(" / ".join(f"{s[k]:.{places(k)}f}" for s in by_set) for k in SHOWN)]
        if name not in SYSTEMS:
            lines.append([*line, *["-"] * (len(titles) - len(line))])
            continue
        line.append(f"{row['worse']['estoi']} / {row['worse']['si_sdr_80hz']}")
        line += [f"{row['parameters']:,}", f"{row['step_ms']:.2f} ms", f"{row['latency_ms']:.0f} ms"]
        loss = ", ".join(f"{k} {v:g}" for k, v in row["loss"].items())
        line += [f"{row['minutes']:g} min", f"{row['hours_heard']:.1f} h", loss]
        lines.append([*line, SYSTEMS[name].reported])
    whom = ", ".join(f"{len(pairs)} pairs of {name}" for name, pairs in sets.items())
    order = f"; several figures in a cell: {', '.join(sets)}, mean" if len(sets) > 1 else ""
    left = f"{100 * args.keep_input:g} % of the input left in each output"
    return f"{machine.look().line}; seed {args.seed}; {left}; {whom}{order}.\n\n{table(titles, lines)}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train the five baselines for a given time each, and compare them.")
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except RtdenoiseError as problem:
        print(f"baselines: error: {problem}", file=sys.stderr)
        return problem.exit_code


if __name__ == "__main__":
    sys.exit(main())
