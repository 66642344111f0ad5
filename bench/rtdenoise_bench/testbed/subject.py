"""A live session in a process of its own, for measurements: `python -m rtdenoise_bench.testbed.subject IN OUT MODEL`.

Prints "running" when audio flows, ends when its input does, and prints its statistics as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np

from rtdenoise.arguments import BACKENDS, count, number
from rtdenoise.live import callback, ring
from rtdenoise.live.session import LiveDenoiser
from rtdenoise.live.trace import WRITTEN, make_trace
from rtdenoise.native.compilation import carray
from rtdenoise_bench.measure.correlation import RATE
from rtdenoise_bench.testbed.stressors import HOGS
from rtdenoise_bench.testbed.traced_callback import Observer

TRACED_HOPS = 1 << 16  # The last four minutes are kept.


def _hurry_output(ppm: float) -> None:
    """From now on open output streams at a rate that is ``ppm`` off while the session believes in the nominal one."""
    real = callback.open_stream

    def open_stream(kind, rings, **settings):
        if kind == "output":
            settings["samplerate"] *= 1 + ppm * 1e-6
        return real(kind, rings, **settings)

    callback.open_stream = open_stream


def _pass_through() -> None:
    """From now on the callback of a stream on one clock copies input to output; the rings' positions move on, so that
    the session sees a stream that runs, and its worker rests."""

    @callback.native
    def copy(source, target, frames, times, flags, user):  # type: ignore[no-untyped-def]
        count = np.int64(frames)
        heard, played = carray(source, (count,), np.float32), carray(target, (count,), np.float32)
        for i in range(count):
            played[i] = heard[i]
        control = carray(user, (ring.SLOTS,), np.int64)
        control[ring.IN_HEAD] += count
        control[ring.OUT_TAIL] += count
        control[ring.PRIMED] = 1
        return callback.CONTINUE

    callback.entry = lambda kind, rings: (copy.address, rings.address)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("model")
    parser.add_argument("--hog", choices=HOGS)
    parser.add_argument("--worker", choices=("native", "python"))
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--fixed-latency", type=number(0.1, 10_000, "ms"))
    parser.add_argument("--ppm", type=number(-100_000, 100_000), default=0.0, help="hurry the output's clock by this")
    parser.add_argument("--bypass", action="store_true")
    parser.add_argument("--pass-through", action="store_true", help="one channel, one clock: copy, without a worker")
    parser.add_argument("--latency", default="normal")
    parser.add_argument("--blocksize", type=count(1, 65_536))
    parser.add_argument("--trace", type=Path, help="write the trace points to this .npz file")
    parser.add_argument("--inject-delay", type=number(0, 10_000, "ms"), default=0.0, help="unknown to the session")
    parser.add_argument("--settle", type=number(0, 86_400, "seconds"), default=2.0, help="time before counting starts")
    args = parser.parse_args()
    if args.ppm:
        _hurry_output(args.ppm)
    if args.pass_through:
        _pass_through()
    observer = Observer(round(args.inject_delay * RATE / 1000)) if args.trace or args.inject_delay else None
    stop = threading.Event()
    settings = {
        "fixed_latency_ms": args.fixed_latency,
        "worker": args.worker,
        "backend": args.backend,
        "latency": args.latency,
        "blocksize": args.blocksize,
    }
    live = LiveDenoiser(args.input, args.output, args.model, **settings)
    trace = make_trace(TRACED_HOPS)
    if args.trace:
        live._worker.record_trace(trace)
    with live:
        live.bypass = args.bypass
        print("running", flush=True)
        ready_s = _age_s()
        time.sleep(args.settle)
        before, memory_kb, threads = live.stats(), _memory_kb(), _threads()
        if args.hog:
            threading.Thread(target=HOGS[args.hog], args=(stop,), daemon=True).start()
        sys.stdin.readline()
        after = live.stats().as_json()
        after |= {"grown_kb": _memory_kb() - memory_kb, "threads": [threads, _threads()], "ready_s": ready_s}
        after |= {"settled_underruns": before.underruns, "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        stop.set()
    if observer and args.trace:
        recorded = observer.recorded() | {
            "trace": trace[trace[:, WRITTEN] >= 0],
            "split": np.array(live._carrier.route.split),
        }
        np.savez(args.trace, allow_pickle=False, **recorded)
    print(json.dumps(after))


def _memory_kb() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() // 1024


def _age_s() -> float:
    """Since this process began, imports and all."""
    with open("/proc/self/stat") as f:
        began_ticks = int(f.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began_ticks / os.sysconf("SC_CLK_TCK")


def _threads() -> int:
    with open("/proc/self/stat") as f:
        return int(f.read().rpartition(")")[2].split()[17])


if __name__ == "__main__":
    main()
