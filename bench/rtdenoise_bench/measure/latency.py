"""The algorithmic latency at common rates: what the filter adds, without any device."""

from __future__ import annotations

import argparse

from rtdenoise.geometry import Geometry

RATES_HZ = (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace) -> int:
    print("| rate | window | hop | `--latency normal` | `--latency low` |\n|---|---|---|---|---|")
    for rate in RATES_HZ:
        g = Geometry(rate)
        latencies = (f"{g.latency_samples(mode)} samples = {g.latency_ms(mode):.2f} ms" for mode in ("normal", "low"))
        print(f"| {rate / 1000:g} kHz | {g.window} | {g.hop} | {' | '.join(latencies)} |")
    return 0
