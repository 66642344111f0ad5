"""What live audio promises, measured from outside on private servers: latency, stalls, overload, drift, load.

Each row starts a PulseAudio or PipeWire server on null sinks or a JACK server on its dummy back end, runs the product
as a process of its own and watches both ends (`rtdenoise_bench.measure.probes`). On a shared machine judge by medians
and by differences within a row.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rtdenoise import console, denoise
from rtdenoise.arguments import SECONDS
from rtdenoise.errors import RtdenoiseError
from rtdenoise.model.registry import DEFAULT_MODEL
from rtdenoise_bench.measure import correlation, echo, graph_stress, probes, recordings
from rtdenoise_bench.measure.chromium import BROWSER, in_a_page
from rtdenoise_bench.measure.correlation import Delay
from rtdenoise_bench.measure.graph_stress import through_graph
from rtdenoise_bench.report.table import Row, at_most, show
from rtdenoise_bench.testbed import busy_model, servers
from rtdenoise_bench.testbed.stressors import ALONE, BUSY_CORE, disturbed

LEAD_S = 0.5  # The probes run before the product starts, which is then measured from its first sound on.
JACK_BLOCKS = (256, 64)
RATE = 48_000
LEAST_GAIN_DB = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {', '.join(ROWS)} (default: all)")
    parser.add_argument(
        "--server",
        action="append",
        choices=THROUGH,
        help="of hog, busy, stop and slow; may be repeated (default: all)",
    )
    parser.add_argument("--seconds", type=SECONDS, default=20, help="length of a row's measurement (default 20)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", help="for the load and start rows (default: the default model)")


def run(args: argparse.Namespace) -> int:
    unknown = set(args.rows) - set(ROWS)
    if unknown:
        raise RtdenoiseError(f"unknown row {sorted(unknown)[0]}; available: {', '.join(ROWS)}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="rtd-") as folder:
        args.plain = busy_model.write(Path(folder) / "plain.onnx")
        args.folder = Path(folder)
        for name in args.rows or ROWS:
            console.say(f"stress {name} ...")
            rows += ROWS[name](args)
    return show(rows, args.json)


def through_pulse(
    model: object, seconds: float, *argv: object, during: Callable | None = None
) -> tuple[Delay, dict, float]:
    """Delay A to B with the product between, its statistics, and when ``during(product)`` was done."""
    with servers.pulseaudio() as env:
        crossing = probes.cross_pulse(env, LEAD_S, model, seconds, *argv, during=during)
    return crossing.delay(), crossing.stats, crossing.done


def through_jack(
    model: object, seconds: float, *argv: object, block: int = 256, during: Callable | None = None
) -> tuple:
    """The same on JACK, with the server's own delay taken off."""
    with servers.jack(frames=block) as env:
        return probes.across_jack(env, model, seconds, *argv, during=during)[:3]


THROUGH: dict[str, tuple[str, Callable]] = {
    "jack": ("JACK 256", through_jack),
    "pulse": ("PulseAudio", through_pulse),
    "pipewire": ("PipeWire", through_graph),
}


def wanted(args: argparse.Namespace) -> list[tuple[str, Callable]]:
    """The servers that rows are for which measure the same on each: their names, and what measures through them."""
    return [THROUGH[server] for server in args.server or THROUGH]


def dropouts(stats: dict) -> str:
    return f"{stats['underruns'] - stats['settled_underruns']} underruns, {stats['dropout_ms']:.0f} ms of dropout"


def jack(args: argparse.Namespace) -> list[Row]:
    rows = []
    for block in JACK_BLOCKS:
        delay, stats, _ = through_jack(args.plain, args.seconds, block=block)
        beyond = (delay.median_ms - 16) * RATE / 1000
        besides = f"= {beyond:.0f} frames beyond 16 ms; reported {stats['latency_ms']:.2f} ms; {dropouts(stats)}"
        same = np.mean(delay.placed == delay.median_ms)  # a cycle that JACK itself misses shifts a window by a block
        ok = bool(beyond <= 2 * block and same > 0.99)
        what = f"JACK, {block} frames: latency beyond JACK's own"
        rows.append(Row(what, f"{delay.summary()} {besides}", f"<= 16 ms + {2 * block} frames, constant", ok))
    return rows


def pulse(args: argparse.Namespace) -> list[Row]:
    delay, stats, _ = through_pulse(args.plain, args.seconds)
    steady = np.mean(np.abs(delay.placed - delay.median_ms) < 1) if len(delay.placed) else 0
    besides = f"{100 * steady:.1f} % of windows within 1 ms; {dropouts(stats)}; {stats['drift_ppm']:+.0f} ppm"
    what, ok = (
        f"PulseAudio null to null, {args.seconds:.0f} s: end to end",
        bool(delay.median_ms <= 60 and steady > 0.95),
    )
    return [Row(what, f"{delay.summary()}; {besides}", "<= 60 ms, +-1 ms", ok)]


def hog(args: argparse.Namespace) -> list[Row]:
    kinds = {"none": (), "Python": ("--hog", "python"), "C calls": ("--hog", "c")}
    return [
        row
        for server, through in wanted(args)
        for row in beside(
            f"{server}, GIL hog", {name: partial(through, args.plain, args.seconds, *kinds[name]) for name in kinds}
        )
    ]


def busy(args: argparse.Namespace) -> list[Row]:
    """Another program that computes without end, at usual priority, on one of the cores."""

    def under(condition: str, through: Callable) -> tuple[Delay, dict, float]:
        with disturbed(condition):
            return through(args.plain, args.seconds)

    return [
        row
        for server, through in wanted(args)
        for row in beside(
            f"{server}, busy cores", {"none": partial(under, ALONE, through), "one": partial(under, BUSY_CORE, through)}
        )
    ]


def beside(what: str, crossings: dict[str, Callable[[], tuple[Delay, dict, float]]]) -> list[Row]:
    """A row for each crossing, by its disturbance; the first has none, and what it lost is the measure of the rest."""
    rows, alone = [], None
    for name, cross in crossings.items():
        delay, stats, _ = cross()
        count = stats["underruns"] - stats["settled_underruns"]
        alone = count if alone is None else alone
        measured = f"{dropouts(stats)}; {100 * delay.clean_share:.0f} % of windows clean"
        rows.append(Row(f"{what}: {name}", measured, f"<= {2 * alone + 3} underruns", count <= 2 * alone + 3))
    return rows


def stop(args: argparse.Namespace) -> list[Row]:
    def pause(product: subprocess.Popen) -> None:
        os.kill(product.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(product.pid, signal.SIGCONT)

    rows = []
    for server, through in wanted(args):
        delay, _, done = through(args.plain, 8, during=pause)
        before = delay.ms[(delay.at_s < done - 0.7) & (delay.correlation > correlation.PLACED)]
        usual, after = np.median(before), delay.after(done)
        right = (after.correlation > correlation.PLACED) & (np.abs(after.ms - usual) < 1.5)
        wrong = after.at_s[~right & (after.at_s < done + 3)]
        back = max(0.0, float(wrong[-1] - done) + 0.1) if len(wrong) else 0.0
        besides = f"{usual:.2f} ms before, {after.after(done + 1).median_ms:.2f} ms a second after"
        what = f"{server}, stopped for 0.5 s: latency is restored after"
        rows.append(Row(what, f"{back:.2f} s; {besides}", "<= 1 s", back <= 1))
    return rows


def slow(args: argparse.Namespace) -> list[Row]:
    model, rows = busy_model.write_slow(args.folder / "slow.onnx", 12), []
    for server, through in wanted(args):
        delay, stats, _ = through(model, 5)
        besides = (
            f"{stats['reused_gains']} hops reused gains, {dropouts(stats)}, step p50 {stats['model_ms_p50']:.1f} ms"
        )
        what, ok = f"{server}, model of 12 ms per step for 5 s", bool(np.ptp(delay.placed) < 5)
        rows.append(Row(what, f"{delay.summary()}; {besides}", "latency does not grow, reused gains are counted", ok))
    return rows


def drift(args: argparse.Namespace) -> list[Row]:
    rows = []
    for ppm in (-300, 300):
        delay, stats, _ = through_pulse(args.plain, max(args.seconds, 40), "--ppm", ppm)
        besides = f"estimated {stats['drift_ppm']:+.0f} ppm; {stats['resyncs']} jumps; {dropouts(stats)}"
        what = f"PulseAudio, output {ppm:+d} ppm against the server"
        rows.append(Row(what, f"{delay.summary()}; {besides}", "latency and fill constant"))
    return rows


def load(args: argparse.Namespace) -> list[Row]:
    model = args.model or DEFAULT_MODEL
    delay, stats, _ = through_pulse(model, args.seconds, "--bypass")
    steps = f"step p50 {stats['model_ms_p50']:.2f}, p99 {stats['model_ms_p99']:.2f} ms; {stats['scheduling']} priority"
    return [
        Row("model in live use", f"{model}: {steps}"),
        at_most("CPU of the process, 48 kHz mono, PulseAudio", stats["cpu_percent"], 20, "% of a core"),
        at_most("callback time p99.9", stats["callback_ms_p999"], 0.3, "ms"),
        at_most("process start to audio, imports included", stats["ready_s"], 1.5, "s"),
        Row(
            "memory",
            f"{stats['peak_kb'] / 1024:.0f} MB; {stats['grown_kb'] / 1024:+.1f} MB in the row; {delay.summary()}",
        ),
    ]


def gain(args: argparse.Namespace) -> list[Row]:
    """Noise and speech into a sink, the virtual microphone recorded by another program: what the filter is worth."""
    model, (noisy, clean) = args.model or DEFAULT_MODEL, recordings.example_clips()
    rounds = np.tile(clean, 3)
    before = correlation.si_sdr_db(rounds[len(clean) // 2 :], noisy)
    as_file = correlation.si_sdr_db(rounds[len(clean) // 2 :], denoise(noisy, RATE, model)) - before
    rows = []
    for server in ("pulseaudio", "pipewire"):
        if servers.missing(server):
            continue
        listeners: dict[str, dict] = {"another program": {}}
        if server == "pipewire" and BROWSER and find_spec("playwright"):
            listeners["a page in Chromium"] = {"record": in_a_page}
        for who, settings in listeners.items():
            with getattr(servers, server)() as env:
                heard = probes.through_virtual_mic(env, noisy, "--model", model, **settings)
            gained = correlation.si_sdr_db(rounds, heard) - before
            what = f"{server}: speech in noise at {before:.1f} dB SI-SDR, as {who} records the virtual microphone"
            measured = f"{gained:+.1f} dB; the same as a file {as_file:+.1f} dB"
            rows.append(Row(what, measured, f">= +{LEAST_GAIN_DB:g} dB", gained >= LEAST_GAIN_DB))
    return rows


ROWS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "jack": jack,
    "pulse": pulse,
    "hog": hog,
    "busy": busy,
    "stop": stop,
    "slow": slow,
    "drift": drift,
    "load": load,
    "gain": gain,
    **echo.ROWS,
    **graph_stress.ROWS,
}
