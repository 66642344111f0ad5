"""Train the five baselines and compare them: same audio, same computing time, same pairs.

Each is a recipe, beside this file or in the package. It is trained for a stated time of one core's work, exported, run
through the streaming core on pairs that it never heard, and becomes one row of the table in ``BASELINES.md``. The
default model's recipe gets the same time, for comparison. Finished trainings are kept in ``--work``, and a stopped run
resumes where it was.
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
import soundfile as sf
import torch

from rtdenoise import Denoiser, denoise
from rtdenoise.arguments import count, number
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.atomic import replacing, write_text
from rtdenoise.model.registry import load_model
from rtdenoise.training import metrics
from rtdenoise.training.networks import build
from rtdenoise.training.onnx_export.export import export
from rtdenoise.training.recipe import Recipe, load_recipe, recipe_from_json
from rtdenoise.training.scoring import cards
from rtdenoise.training.scoring.pair_scores import Pair, at_rate, find_pairs
from rtdenoise.training.scoring.score_tables import table
from rtdenoise.training.trainer import Batches, Trainer, load_checkpoint
from rtdenoise_bench.report import machine

RECIPES = Path(__file__).parent / "recipes"
LOW, HIGH = 16000, 48000  # banks that serve all: bins are 62.5 Hz apart at every rate, so a network hears its own band
PROBE_STEPS = 4
REUSE = 4  # of voices and noises, for all alike
STEPS_TIMED = 500


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
    "tape": System("tape", HIGH, "on tape: SI-SDR ~19 dB, segmental SNR 19+ dB, LSD ~6 dB", linked=False),
    "unet": System("unet", LOW),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, what in (("clean", "speech"), ("noise", "noise"), ("rir", "room impulse responses")):
        parser.add_argument(f"--{name}", type=Path, nargs="+", default=[], metavar="DIR", help=f"folders with {what}")
    parser.add_argument("--pairs", type=Path, required=True, metavar="DIR", help="pairs to score on, noisy/ and clean/")
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


def run(args: argparse.Namespace) -> int:
    if not args.clean or not args.noise:
        raise UsageError("no audio to train on; add --clean DIR and --noise DIR")
    if args.into:
        cards.around(args.into, "table")  # raises now what would else be raised after the trainings
    torch.set_num_threads(1)
    pairs = find_pairs(args.pairs)
    rows = {"noisy": scored(pairs, lambda x, rate: x)}
    for name in args.only:
        done = args.work / name / "row.json"
        if not done.exists():
            checkpoint = trained(name, args)
            write_text(done, json.dumps(row_of(name, checkpoint, pairs)))
        rows[name] = json.loads(done.read_text())
    text = as_markdown(rows, args)
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


def row_of(name: str, checkpoint: Path, pairs: list[Pair]) -> dict[str, Any]:
    """Export a checkpoint, check it, and score it as users would run it."""
    state = load_checkpoint(checkpoint)
    recipe = recipe_from_json(state["recipe"])
    net = build(recipe.network, recipe.options)
    net.load_state_dict(state["ema"])
    path = checkpoint.with_name(f"{name}.onnx")
    with replacing(path) as file:
        file.write(export(net, recipe.network, {"name": name, "version": "1"}).SerializeToString())
    model = load_model(path)
    stream = model.stream(1)
    stream.buffers(1)[0][:] = 0.01 * np.random.default_rng(4).standard_normal((1, 1, model.info.bins, 2))
    spent = []
    for _ in range(STEPS_TIMED):
        begin = time.perf_counter()
        stream.step(1)
        spent.append(time.perf_counter() - begin)
    data, steps = recipe.data, recipe.schedule.steps
    return scored(pairs, lambda x, rate: denoise(x, rate, model)) | {
        "parameters": model.info.parameters,
        "step_ms": float(np.median(spent)) * 1000,
        "latency_ms": Denoiser(model, 48000).latency_ms,
        "hours_heard": steps * data.batch * data.seconds / 3600,
        "loss": {k: v for k, v in vars(recipe.loss).items() if v and k != "wave"},
    }


def scored(pairs: list[Pair], system: Any) -> dict[str, Any]:
    """Mean scores over the pairs, at 16 kHz."""
    rows = []
    for pair in pairs:
        (x, rate), (c, _) = (sf.read(p, dtype="float32", always_2d=True) for p in (pair.noisy, pair.clean))
        out, wanted = at_rate(system(x[:, 0], rate), rate), at_rate(c[:, 0], rate)
        measures = (metrics.pesq_wide, metrics.estoi, metrics.si_sdr_db, metrics.overlap)
        rows.append([measure(wanted, out) for measure in measures])
    return dict(zip(("pesq_wb", "estoi", "si_sdr", "iou"), map(float, np.mean(rows, 0)), strict=True))


def as_markdown(rows: dict[str, dict[str, Any]], args: argparse.Namespace) -> str:
    titles = [
        "system",
        "PESQ-WB",
        "ESTOI",
        "SI-SDR",
        "IoU",
        "parameters",
        "step",
        "latency",
        "heard",
        "loss",
        "its origin",
    ]
    lines = []
    for name, row in rows.items():
        scores = [f"{row['pesq_wb']:.2f}", f"{row['estoi']:.3f}", f"{row['si_sdr']:.1f} dB", f"{row['iou']:.3f}"]
        if name not in SYSTEMS:
            lines.append([name, *scores, *["-"] * (len(titles) - 5)])
            continue
        loss = ", ".join(f"{k} {v:g}" for k, v in row["loss"].items())
        cost = [f"{row['parameters']:,}", f"{row['step_ms']:.2f} ms", f"{row['latency_ms']:.0f} ms"]
        lines.append([name, *scores, *cost, f"{row['hours_heard']:.1f} h", loss, SYSTEMS[name].reported])
    pairs = len(find_pairs(args.pairs))
    budget = f"{args.minutes:g} minutes of one core's work for each training, seed {args.seed}, {pairs} pairs"
    return f"{machine.look().line}; {budget}.\n\n{table(titles, lines)}"


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
