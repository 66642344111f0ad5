"""What one hop costs, stage by stage, and whether it is ready in time: the live worker's own code, without a device.

Two views. *Back to back* gives many hops, so rare ones show, and each stage alone. *In real time* a clock plays the
device, so the processor sleeps and wakes between hops as it does live, alone or beside what disturbs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtdenoise.live import ring
from rtdenoise.live.hop import HOLD
from rtdenoise.live.trace import ACTION, ANALYSED, BLENDED, IN_AT, OPENED, STEPPED, WRITTEN, make_trace
from rtdenoise_bench.measure.times import Punctuality, Times, times
from rtdenoise_bench.testbed.fault_injection import without_model
from rtdenoise_bench.testbed.harness import BURST_HOPS, CAPTURED, CAPTURING, PLAYED, PLAYING, POSITION, Harness, Run
from rtdenoise_bench.testbed.stressors import disturbed

WARM_UP_HOPS = 200
ROUND_HOPS = 500  # The medians of rounds tell how steady the machine is.
NOISY = 0.10  # From this relative spread of rounds on a report warns of noise.
STAGES = ("ring in", "window + FFT", "model", "blend + inverse FFT + overlap-add", "ring out")


@dataclass(frozen=True)
class Stage:
    """What one stage of a hop costs.

    Attributes
    ----------
    name : str
        One of `STAGES`.
    times : Times
        Of every hop.
    share : float
        Median as a share of the time that a hop lasts.
    """

    name: str
    times: Times
    share: float


@dataclass(frozen=True)
class Engine:
    """Hops back to back. ``misses`` took longer than a hop lasts; ``rtf`` is mean work per time; ``measuring_us`` what
    the clocks add to a hop; ``round_medians_us`` of the hop, and ``noise`` their relative spread."""

    model: str
    rate: int
    channels: int
    latency: str
    hop_us: float
    stages: list[Stage]
    hop: Times
    misses: int
    rtf: float
    measuring_us: float
    scheduling: str
    round_medians_us: list[float]
    noise: float


@dataclass(frozen=True)
class InRealTime(Punctuality):
    """Hops at the pace of sound, ``seconds`` long under one ``condition``."""

    condition: str
    seconds: float


class Rounds:
    """Rounds of hops back to back on one harness, taken at any moments of the report; `result` sums them up.

    Closes the harness at its end."""

    def __init__(self, harness: Harness):
        self.harness, self._ran = harness, list[Run]()
        harness.back_to_back(WARM_UP_HOPS)

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *_: object) -> None:
        self.harness.close()

    def take(self, count: int) -> None:
        for _ in range(count):
            self._ran.append(self.harness.back_to_back(ROUND_HOPS))

    def result(self) -> Engine:
        harness, log, trace = self.harness, np.concatenate([r.log for r in self._ran]), self._trace
        hop_us = 1e6 * harness.hop / harness.denoiser.rate
        parts = (
            log[:, CAPTURED] - log[:, CAPTURING],
            trace[:, ANALYSED] - trace[:, OPENED],
            trace[:, STEPPED] - trace[:, ANALYSED],
            trace[:, BLENDED] - trace[:, STEPPED],
            trace[:, WRITTEN] - trace[:, BLENDED] + log[:, PLAYED] - log[:, PLAYING],
        )
        stages = [times(part / 1000) for part in parts]
        hop = sum(parts) / 1000
        medians = [float(np.median(part)) for part in np.split(hop, len(self._ran))]
        d = harness.denoiser
        return Engine(
            model=d.model.name,
            rate=d.rate,
            channels=d.channels,
            latency=d.latency,
            hop_us=hop_us,
            stages=[Stage(n, t, t.median / hop_us) for n, t in zip(STAGES, stages, strict=True)],
            hop=times(hop),
            misses=int(np.sum(hop > hop_us)),
            rtf=float(hop.mean() / hop_us),
            measuring_us=measuring_us(harness),
            scheduling=self._ran[0].scheduling,
            round_medians_us=medians,
            noise=spread(medians),
        )

    @property
    def _trace(self) -> np.ndarray:
        return np.concatenate([r.trace for r in self._ran])


def spread(medians: list[float]) -> float:
    """Relative distance of the second largest and the second smallest, or of the extremes where there are few."""
    v = sorted(medians)
    if len(v) >= 8:
        v = v[1:-1]
    return (v[-1] - v[0]) / float(np.median(v))


def measuring_us(harness: Harness, rounds: int = 100) -> float:
    """What reading clocks adds to a hop: two bursts with and two without in each round, whose median counts, since a
    shared processor changes its speed between rounds more than within one."""
    log, trace = np.zeros((BURST_HOPS, 6), np.int64), make_trace(BURST_HOPS)
    plain, timed = (None, None), (log, trace)
    harness.burst(BURST_HOPS, *plain)
    added = []
    with without_model(harness.worker.hop_arguments[-1]):
        for _ in range(rounds):
            first, second, third, last = (harness.burst(BURST_HOPS, *way)[0] for way in (timed, plain, plain, timed))
            added.append((first + last - second - third) / 2)
    return float(np.median(added)) / BURST_HOPS


def in_real_time(harness: Harness, condition: str, seconds: float) -> InRealTime:
    """One condition, on a harness that is used up by it."""
    hops = round(seconds * harness.denoiser.rate / harness.hop)
    underruns = int(harness.control[ring.UNDERRUNS])
    with disturbed(condition):
        ran = harness.in_real_time(hops)
    return _in_real_time(ran, condition, harness, int(harness.control[ring.UNDERRUNS]) - underruns)


def _in_real_time(ran: Run, condition: str, harness: Harness, underruns: int) -> InRealTime:
    called = {int(position): int(at) for position, at in ran.log[:, (POSITION, CAPTURING)]}
    known = np.array([int(at) in called for at in ran.trace[:, IN_AT]])
    trace = ran.trace[known]
    since = np.array([called[int(at)] for at in trace[:, IN_AT]])
    completion = (trace[:, WRITTEN] - since) / 1000
    hop_us = 1e6 * harness.hop / harness.denoiser.rate
    lost = len(ran.log) - len(trace)  # hops left behind after a long stall: not in time either
    return InRealTime(
        condition=condition,
        seconds=len(ran.log) * hop_us / 1e6,
        wake_up=times((trace[:, OPENED] - since) / 1000),
        completion=times(completion),
        misses=int(np.sum(completion > hop_us)) + lost,
        reused_gains=int(np.sum(trace[:, ACTION] == HOLD)),
        underruns=underruns,
        scheduling=ran.scheduling,
    )
