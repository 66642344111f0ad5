"""A live session in a process of its own, for measurements: `python -m rtdenoise_bench.product IN OUT MODEL`.

Prints "running" when audio flows, ends when its input does, and prints its statistics as one line of JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import threading
import time

from rtdenoise.live.session import LiveDenoiser


def _python_hog(stop: threading.Event) -> None:
    n = 0
    while not stop.is_set():
        for i in range(10_000):
            n += i * i


def _c_hog(stop: threading.Event) -> None:
    """C calls of about 20 ms each that keep the GIL."""
    usleep = ctypes.PyDLL(None).usleep
    while not stop.is_set():
        usleep(20_000)


HOGS = {"python": _python_hog, "c": _c_hog}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("model")
    parser.add_argument("--hog", choices=HOGS)
    parser.add_argument("--worker", choices=("native", "python"))
    parser.add_argument("--budget", type=float)
    parser.add_argument("--settle", type=float, default=2.0, help="seconds before the hog begins")
    args = parser.parse_args()
    stop = threading.Event()
    with LiveDenoiser(args.input, args.output, args.model, budget_ms=args.budget, worker=args.worker) as live:
        print("running", flush=True)
        if args.hog:
            time.sleep(args.settle)
            before = live.stats()
            threading.Thread(target=HOGS[args.hog], args=(stop,), daemon=True).start()
        else:
            time.sleep(args.settle)
            before = live.stats()
        sys.stdin.readline()
        after = live.stats().as_json()
        stop.set()
        after |= {"settled_underruns": before.underruns, "settled_silent_ms": before.silent_ms}
    print(json.dumps(after))


if __name__ == "__main__":
    main()
