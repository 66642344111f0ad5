"""``rtdenoise evaluate``: score models, checkpoints or any command on pairs of noisy and clean files.

Owns the command: what is asked, in which order it runs, and where the Markdown and JSON go. `systems` run, `scoring`
measures, `score_tables` and `comparison` put into words.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rtdenoise.arguments import count
from rtdenoise.errors import UsageError
from rtdenoise.io.atomic import write_text
from rtdenoise.training.data.material import find_clips
from rtdenoise.training.scoring import cards
from rtdenoise.training.scoring.comparison import beside, keep_scores, read_kept, verdicts
from rtdenoise.training.scoring.dnsmos import Dnsmos
from rtdenoise.training.scoring.noise_influence import influences, noises_of
from rtdenoise.training.scoring.pair_scores import Extent, Pair, find_pairs, named_folders, score_sets
from rtdenoise.training.scoring.score_tables import as_markdown, mean_of_sets
from rtdenoise.training.scoring.systems import System, open_systems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "systems",
        nargs="+",
        metavar="SYSTEM|DIR",
        help="systems: a model (name or file), a checkpoint (.pt), each optionally with @low for 8 ms of latency, or "
        "'name=command {in} {out}'; then folders with noisy/ and clean/ that have the same file names: for several, "
        "the mean of their means too",
    )
    parser.add_argument(
        "--tape",
        action="store_true",
        help="the folder contains clean music instead: score tape noise added to it",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also write scores.md and a NAME.json for each system, one folder per set",
    )
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE.md",
        help="write the tables between the marks <!-- scores --> of a model's card",
    )
    parser.add_argument(
        "--dnsmos",
        type=Path,
        metavar="FILE.onnx",
        help="also estimate listeners' ratings (SIG, BAK, OVRL) with DNSMOS's sig_bak_ovr.onnx",
    )
    parser.add_argument(
        "--against",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.json",
        help="also compare the first system, pair by pair, with systems scored before: for each "
        "folder a NAME.json of --out, or a table of several",
    )
    parser.add_argument(
        "--rir",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders with room impulse responses: also score clean speech in rooms",
    )
    parser.add_argument(
        "--quick", action="store_true", help="score the pairs alone, without clean speech, noise or 8 kHz input"
    )
    parser.add_argument("--jobs", type=count(1, 1_000), default=1, metavar="N", help="number of processes (default 1)")
    parser.add_argument(
        "--plot",
        type=count(0),
        default=0,
        metavar="N",
        help="draw spectrograms of the N pairs with the first system's lowest PESQ to worst.png in --out",
    )


def run(args: argparse.Namespace) -> int:
    texts, folders = _split(args.systems)
    if args.card:
        cards.around(args.card, "scores")  # raises now what would else be raised after the work
    if args.plot and not args.out:
        raise UsageError("--plot needs --out DIR, where the pictures go")
    with tempfile.TemporaryDirectory() as exported:
        if args.tape:
            from rtdenoise.training.scoring import tape_scores

            for name in ("dnsmos", "against", "rir", "quick"):
                if getattr(args, name):
                    raise UsageError(f"--{name} is only valid for speech; remove it, or --tape")
            if args.jobs > 1 or len(folders) > 1:
                raise UsageError("--tape takes one folder and one process")
            tables = tape_scores.run(folders[0], open_systems(texts, Path(exported)), args.out, args.plot)
        else:
            tables = _score_speech(texts, folders, args, Path(exported))
    print(tables, end="")
    if args.card:
        cards.put(args.card, "scores", f"{cards.how(args, texts)}\n{tables}")
    return 0


def _split(given: list[str]) -> tuple[list[str], list[Path]]:
    """Systems, and the folders behind them."""
    folders = next((k for k, text in enumerate(reversed(given)) if not Path(text).is_dir()), len(given))
    if folders == 0:
        raise UsageError(f"{given[-1]} is not a folder; give folders with noisy/ and clean/ behind the systems")
    if folders == len(given):
        raise UsageError("no system; give a model's name or file before the folders")
    return given[:-folders], [Path(text) for text in given[-folders:]]


def _score_speech(texts: list[str], folders: list[Path], args: argparse.Namespace, exported: Path) -> str:
    from rtdenoise import console

    try:
        import pesq  # noqa: F401
        import pystoi  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error.name} is missing; install it with: pip install 'rtdenoise[eval]'") from error
    if args.dnsmos:
        Dnsmos(args.dnsmos)  # a wrong file fails here, not in a process
    rooms = tuple(clip.path for folder in args.rir for clip in find_clips(folder, "rir"))
    if args.rir and not rooms:
        raise UsageError(
            f"no room impulse responses in {', '.join(map(str, args.rir))}; `rtdenoise rooms` simulates some"
        )
    extent = Extent(not args.quick, args.dnsmos, rooms)
    places = named_folders(folders)
    sets = {name: find_pairs(folder) for name, folder in places.items()}
    noises = {name: noises_of(folder) for name, folder in places.items()}
    kept = read_kept(args.against, {name: [pair.name for pair in pairs] for name, pairs in sets.items()})
    systems = open_systems(texts, exported)
    results = score_sets(systems, sets, extent, args.jobs, console.say)
    tables = _as_markdown(results)
    compared = {name: beside(scored, kept[name]) for name, scored in results.items()}
    tables = "\n".join(part for part in (tables, verdicts(compared), influences(compared, noises)) if part)
    if args.out:
        _keep(args.out, results, tables)
        if args.plot:
            _plot_worst(args, sets, systems, results)
    return tables


def _as_markdown(results: dict[str, dict[str, Any]]) -> str:
    if len(results) == 1:
        return as_markdown(*results.values())
    parts = {f"On {name}:": scored for name, scored in results.items()}
    parts[f"Mean of {' and '.join(results)}:"] = mean_of_sets(list(results.values()))
    return "\n".join(f"{title}\n\n{as_markdown(scored)}" for title, scored in parts.items())


def _keep(folder: Path, results: dict[str, dict[str, Any]], tables: str) -> None:
    for set_name, scored in results.items():
        keep_scores(folder if len(results) == 1 else folder / set_name, scored)
    write_text(folder / "scores.md", tables)


def _plot_worst(
    args: argparse.Namespace,
    sets: dict[str, list[Pair]],
    systems: dict[str, System],
    results: dict[str, dict[str, Any]],
) -> None:
    from rtdenoise.training.scoring.spectrograms import plot

    first = next(iter(systems))
    ranked = [(results[s][first]["pairs"][p.name]["pesq_wb"], p.name, p) for s, pairs in sets.items() for p in pairs]
    plot([pair for *_, pair in sorted(ranked, key=lambda r: r[:2])[: args.plot]], systems, args.out / "worst.png")
