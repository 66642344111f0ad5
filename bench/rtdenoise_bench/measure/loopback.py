"""Round trip through real devices: noise out, back in by a cable or through the air, and found again.

The filter does not run meanwhile, since it would have to hear what it plays. What it adds is known: its own delay and
the buffer that it needs on such a device.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.geometry import Geometry, Latency
from rtdenoise.live import pulse
from rtdenoise.live.devices import Device, common_rate, find_device, share_clock
from rtdenoise.live.portaudio import portaudio
from rtdenoise_bench.measure import correlation, recordings
from rtdenoise_bench.measure.recordings import Recording

SETTLE_S = 0.5
LATE_S = 5.0  # A server may need this long to begin.
HEARD = 0.2  # A window counts from this correlation on, since rooms and loudspeakers change the noise much.


@dataclass(frozen=True)
class Loopback:
    """``latency_ms`` is the median of the round trip, ``low_ms`` and ``high_ms`` hold 95 % of the ``windows``;
    ``driver_ms`` is what the driver reports for both devices; ``filter_ms`` what the filter adds, and the buffer it
    needs where both devices run on one clock."""

    input: str
    output: str
    rate: int
    block: int
    latency_ms: float
    low_ms: float
    high_ms: float
    windows: int
    correlation: float
    driver_ms: float
    filter_ms: float
    over_time: list[list[float]]


def measure(
    source: str, target: str, seconds: float, latency: Latency = "normal", blocksize: int | None = None
) -> Loopback:
    """Play and record on these devices; raises `DeviceError` if they refuse, `UsageError` if nothing comes back."""
    heard_on, played_on = find_device(source, "input"), find_device(target, "output")
    rate = common_rate(heard_on, played_on, correlation.RATE)
    played, heard, driver_ms, block = _played_and_heard(heard_on, played_on, seconds + 2 * SETTLE_S, blocksize)
    if len(heard.samples) < rate * SETTLE_S:
        raise UsageError(f"{heard_on.label} delivers no audio; see `rtdenoise doctor`")
    times = heard.ends / rate + heard.late
    delay = recordings.align(played, heard, float(times[0]) + SETTLE_S, float(times[-1]))
    found = delay.correlation > HEARD
    if not found.any() or np.mean(found) < 0.5:
        raise UsageError("the noise does not come back; connect output and input by a cable, or raise both volumes")
    geometry, ms = Geometry(rate), delay.ms[found]
    low, high = np.percentile(ms, (2.5, 97.5))
    needed = geometry.latency_samples(latency) + block - math.gcd(block, geometry.hop)
    return Loopback(
        input=heard_on.label,
        output=played_on.label,
        rate=rate,
        block=block,
        latency_ms=float(np.median(ms)),
        low_ms=float(low),
        high_ms=float(high),
        windows=int(found.sum()),
        correlation=float(np.median(delay.correlation[found])),
        driver_ms=driver_ms if math.isfinite(driver_ms) else float("nan"),
        filter_ms=1000 * needed / rate,
        over_time=[[float(t), float(v)] for t, v in zip(delay.at_s[found] - delay.at_s[0], ms, strict=True)],
    )


def _played_and_heard(
    heard_on: Device, played_on: Device, seconds: float, blocksize: int | None
) -> tuple[Recording, Recording, float, int]:
    """What went out and what came in, each with its callbacks' times; what the driver reports; the largest block."""
    sd, x = portaudio(), correlation.noise(seconds)
    out_log, in_log, pieces = list[tuple[float, int]](), list[tuple[float, int]](), list[np.ndarray]()

    def play(out, frames, _times, _status) -> None:
        at = out_log[-1][1] if out_log else 0
        out[:] = 0
        out[: max(0, min(frames, len(x) - at))] = x[at : at + frames, None]
        out_log.append((time.monotonic(), at + frames))

    def hear(heard, frames, _times, _status) -> None:
        in_log.append((time.monotonic(), (in_log[-1][1] if in_log else 0) + frames))
        pieces.append(heard[:, 0].copy())

    def both(heard, out, frames, times, status) -> None:
        hear(heard, frames, times, status)
        play(out, frames, times, status)

    settings = {"samplerate": correlation.RATE, "blocksize": blocksize or 0, "dtype": "float32", "latency": "low"}
    channels, devices = (1, min(2, played_on.outputs)), (heard_on.index, played_on.index)
    try:
        with ExitStack() as stack:
            with pulse.addressed(heard_on.endpoint, played_on.endpoint):
                if share_clock(heard_on, played_on):
                    streams = [sd.Stream(device=devices, channels=channels, callback=both, **settings)]
                else:
                    one_way = (sd.InputStream, hear), (sd.OutputStream, play)
                    streams = [
                        make(device=device, channels=count, callback=callback, **settings)
                        for (make, callback), device, count in zip(one_way, devices, channels, strict=True)
                    ]
                for stream in streams:
                    stack.enter_context(stream)
            driver_ms = 1000 * float(np.sum([np.sum(stream.latency) for stream in streams]))
            end = time.monotonic() + seconds + LATE_S
            while time.monotonic() < end and not (out_log and out_log[-1][1] >= len(x)):
                time.sleep(0.05)
    except (sd.PortAudioError, ValueError) as e:
        raise DeviceError(f"{heard_on.label} and {played_on.label} do not open together ({e.args[0]})") from e
    block = max((b - a for (_, a), (_, b) in pairwise([(0.0, 0), *out_log])), default=0)
    heard = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return _recording(x, out_log), _recording(heard, in_log), driver_ms, block


def _recording(samples: np.ndarray, log: list[tuple[float, int]]) -> Recording:
    times, ends = np.array(log, float).reshape(-1, 2).T
    return Recording(samples, ends.astype(int), times - ends / correlation.RATE)
