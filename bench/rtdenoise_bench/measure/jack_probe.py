"""Frame-exact delay through a JACK client: `python -m rtdenoise_bench.measure.jack_probe SECONDS [IN_PORT OUT_PORT]`.

Plays noise into the client's port and records its output in the same callback. Without ports it measures itself. Prints
``[at_s, frames, correlation]`` of each window as JSON.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import subprocess
import sys
import time

import numpy as np

from rtdenoise_bench.measure.correlation import correlate, noise

WINDOW = 2048
MARGIN_S = 0.6  # The time before the first and after the last window.


def main() -> None:
    seconds, ports = float(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(ctypes.util.find_library("portaudio")).PaJack_SetClientName(b"probe")
    import sounddevice as sd

    rate = int(sd.query_devices("system")["default_samplerate"])
    x = noise(seconds + 2 * MARGIN_S)
    y, times, at = np.zeros_like(x), [], 0

    def callback(heard, out, frames, _times, _status) -> None:
        nonlocal at
        n = min(frames, len(x) - at)
        out[:] = 0
        out[:n, 0], y[at : at + n] = x[at : at + n], heard[:n, 0]
        times.append(time.monotonic() - at / rate)
        at += n

    def patch(verb: str, a: str, b: str) -> None:
        subprocess.run([verb, a, b], capture_output=True, check=False)

    with sd.Stream(
        device="system", samplerate=rate, channels=1, dtype="float32", latency="low", blocksize=0, callback=callback
    ):
        patch("jack_disconnect", "system:capture_1", "probe:in_0")
        patch("jack_disconnect", "probe:out_0", "system:playback_1")
        if ports:
            patch("jack_disconnect", "system:capture_1", ports[0])
            patch("jack_disconnect", ports[1], "system:playback_1")
            patch("jack_connect", "probe:out_0", ports[0])
            patch("jack_connect", ports[1], "probe:in_0")
        else:
            patch("jack_connect", "probe:out_0", "probe:in_0")
        while at < len(x):
            time.sleep(0.05)
    starts = np.arange(int(MARGIN_S * rate), len(x) - WINDOW, WINDOW)
    ms, correlation = correlate(x, y, starts, WINDOW, rate)
    frames = ms * rate / 1000
    first = float(np.median(times))
    print(json.dumps([[first + s / rate, f, c] for s, f, c in zip(starts, frames, correlation, strict=True)]))


if __name__ == "__main__":
    main()
