"""The command `rtdenoise profiles`: the sets of settings that can be asked for by name."""

from __future__ import annotations

import argparse
import json

from rtdenoise import console
from rtdenoise.cli.config import load_config
from rtdenoise.profiles import BUILT_IN, in_words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Use one with --profile NAME, or while a session runs with rtdenoise ctl profile NAME. "
        "[profiles.NAME] in the configuration file changes or adds one."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per profile")


def run(args: argparse.Namespace) -> int:
    config, rows = load_config(), []
    for name, profile in config.profiles.items():
        if args.json:
            print(json.dumps({"profile": name, "about": profile.about, **profile.settings()}))
            continue
        mark = " (default)" if name == config.profile else ""
        origin = "" if BUILT_IN.get(name) == profile else "configuration"
        rows.append([name + mark, in_words(profile.settings()), profile.about, origin])
    if rows:
        console.print_table(["profile", "settings", "for", "from"], rows)
    return 0
