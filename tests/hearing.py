"""What another program hears at a source of a sound server while noise of a known level is played."""

from __future__ import annotations

from rtdenoise_bench.measure import correlation
from rtdenoise_bench.measure.recordings import Recorder, Recording
from running import wait_until

WITHIN = 0.2  # of the level: a player and a recorder that are held up leave holes


def hear(env: dict[str, str], source: str, level: float = correlation.LEVEL) -> Recording:
    """Record until the last second has the level, however long a busy machine takes: what is lost never has it."""
    recorder, levels = Recorder(env, source), [0.0]

    def loud_as_played() -> bool:
        last = recorder.so_far[-correlation.RATE :]
        if len(last) == correlation.RATE:
            levels.append(correlation.level(last))
        return abs(levels[-1] - level) < WITHIN * level

    try:
        wait_until(loud_as_played, otherwise=lambda: f"{source} is heard at {levels[-1]:.3f}, not {level:.3f}")
    finally:
        recording = recorder.stop()
    return recording
