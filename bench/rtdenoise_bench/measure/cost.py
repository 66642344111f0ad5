"""What a second of sound costs one core: every model by the number of hops a call takes, with warm and cold caches.

A call is the live worker's own code: transforms, one step of the model for all its hops, overlap-add. Warm, the
calls follow each other; cold, other data runs through the caches in between, as other programs do between two sounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rtdenoise.core.denoiser import Denoiser
from rtdenoise.errors import ModelError, UsageError
from rtdenoise.live import realtime, ring
from rtdenoise.live.callback import capture, play
from rtdenoise.live.hop_loop import next_hops
from rtdenoise.live.ring import now_ns
from rtdenoise.model.contract import Model
from rtdenoise.model.onnx_runtime import open_session
from rtdenoise.model.registry import find_model, list_models, load_model
from rtdenoise.native.fft import jit
from rtdenoise.native.intrinsics import pointer
from rtdenoise_bench.measure.clock import at_priority
from rtdenoise_bench.testbed.harness import PAUSE_S, Harness, syllables

HOPS = (1, 2, 3, 4)  # a call, as live audio takes them
FILE, STEP = "file", "a step"  # ways that are no call of the live worker
FILE_S = 4.0
SWEEPS = 5  # Ways take turns, so that a machine that changes its pace does so for all.
WARM_UP_CALLS, CALLS, COLD_CALLS = COUNTS = 10, 40, 24  # in a turn
FILE_COUNTS = 1, 1, 0
SWEPT_BYTES = 32 << 20  # more than the caches of one core hold, and than its share of the last one
LINE_BYTES = 64
ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


@dataclass(frozen=True)
class Cost:
    """Percent of a core for each second of sound, in one ``way``: hops a call, a file, or another's step.

    ``warm`` and ``cold`` are medians, ``warm_p99`` and ``cold_p99`` what one call in a hundred exceeds (not a number
    where nothing of the kind was measured); ``call_us`` is the median warm call, ``noise`` the relative spread of the
    visits' medians. ``millijoules`` of the processor for a second of sound, where it tells.
    """

    name: str
    way: str
    warm: float
    warm_p99: float
    cold: float
    cold_p99: float
    call_us: float
    noise: float
    millijoules: float | None = None


@jit
def _calls(hops, heard, target, arguments, swept, took_ns):
    """Calls of so many hops each, after a walk through the other data; only the worker's part is timed."""
    control = arguments[0].control
    hop = control[ring.HOP]
    for k in range(took_ns.shape[0]):
        for _ in range(hops):
            at = (control[ring.IN_HEAD] % heard.shape[0]) * heard.shape[1] * 4
            capture(control, pointer(heard.ctypes.data + at), hop)
        for i in range(0, swept.shape[0], LINE_BYTES):
            swept[i] += 1
        control[ring.HOLDING] = control[ring.PATIENCE] = 0  # The model runs in every call, however slow it is.
        began = now_ns(control, ring.CAPTURE_SCRATCH)
        done = 0
        while done < hops:  # in two steps where the ring begins anew
            control[ring.GATHER] = hops - done
            done += next_hops(*arguments, None)
        took_ns[k] = now_ns(control, ring.CAPTURE_SCRATCH) - began
        for _ in range(hops):
            play(control, pointer(target.ctypes.data), hop)


class _Way:
    """Something that can be called again and again, ``sound_s`` of sound a call; gathers the times of its calls.

    ``calls(count, swept)`` returns the nanoseconds of so many calls; ``counts`` are those of a turn: to warm up, warm,
    and cold.
    """

    def __init__(
        self,
        name: str,
        way: str,
        sound_s: float,
        calls: Callable[[int, np.ndarray], np.ndarray],
        counts: tuple[int, int, int] = COUNTS,
    ):
        self.name, self.way, self.sound_s, self._calls, self._counts = name, way, sound_s, calls, counts
        self.warm: list[np.ndarray] = []
        self.cold: list[np.ndarray] = []
        self._uj = self._measured_s = 0.0

    def visit(self, swept: np.ndarray) -> None:
        warm_up, warm, cold = self._counts
        self._calls(warm_up, swept[:0])  # after another way's turn
        before = _energy_uj()
        self.warm.append(self._calls(warm, swept[:0]))
        if before is not None and (spent := (_energy_uj() or 0) - before) > 0:  # the counter starts anew at times
            self._uj, self._measured_s = self._uj + spent, self._measured_s + warm * self.sound_s
        if cold:
            self.cold.append(self._calls(cold, swept))
        time.sleep(PAUSE_S)

    def result(self) -> Cost:
        warm, medians = np.concatenate(self.warm), [float(np.median(w)) for w in self.warm]
        percent = lambda ns: float(ns) / 1e7 / self.sound_s
        cold = np.concatenate(self.cold) if self.cold else np.full(1, np.nan)
        p99 = lambda ns: percent(np.percentile(ns, 99)) if len(ns) >= 100 else float("nan")
        median = float(np.median(warm))
        noise = (max(medians) - min(medians)) / median
        energy = self._uj / 1000 / self._measured_s if self._measured_s else None
        return Cost(
            self.name,
            self.way,
            percent(median),
            p99(warm),
            percent(np.median(cold)),
            p99(cold),
            median / 1000,
            noise,
            energy,
        )


def measure(
    rate: int, models: list[str] | None = None, steps: list[tuple[str, Path, float]] | None = None
) -> list[Cost]:
    """Measure models, by default all that are listed, at a rate in mono, and others' steps (see `parse_step`)."""
    names = [str(find_model(name)) for name in models] if models else [info.path for info in list_models()]
    swept = np.zeros(SWEPT_BYTES, np.uint8)
    with ExitStack() as stack:
        ways = [way for name in names for way in _of_model(load_model(name), rate, stack)]
        ways += [_of_step(*other) for other in steps or []]
        for _ in range(SWEEPS):
            for way in ways:
                way.visit(swept)
        return [way.result() for way in ways]


def parse_step(text: str) -> tuple[str, Path, float]:
    """``name=file.onnx@milliseconds``: a streaming model of any make and how much sound a step is of.

    >>> parse_step("other=a/b.onnx@16")
    ('other', PosixPath('a/b.onnx'), 16.0)
    """
    name, equals, rest = text.partition("=")
    file, at, ms = rest.rpartition("@")
    try:
        hop_ms = float(ms)
    except ValueError:
        hop_ms = 0.0
    if not (name.strip() and equals and file and at and 0 < hop_ms < 10_000):
        raise UsageError(f"--step {text!r}: give NAME=FILE.onnx@MS, a streaming model and the milliseconds of a step")
    return name.strip(), Path(file), hop_ms


def _of_model(model: Model, rate: int, stack: ExitStack) -> list[_Way]:
    harness = stack.enter_context(Harness(model, rate))
    heard = syllables(rate, 1)
    heard = heard[: len(heard) // harness.hop * harness.hop]
    target = np.zeros((harness.hop, 1), np.float32)

    def calls(hops: int, count: int, swept: np.ndarray) -> np.ndarray:
        took_ns = np.zeros(count, np.int64)
        work = lambda: _calls(hops, heard, target, harness.worker.hop_arguments, swept, took_ns)
        at_priority(realtime.WORKER_PRIORITY, work)
        return took_ns

    hop_s = harness.hop / rate
    live = [_Way(model.name, f"{hops} a call", hops * hop_s, partial(calls, hops)) for hops in HOPS]
    sound = syllables(rate, 1, FILE_S)
    denoiser = Denoiser(model, rate)

    def whole(count: int, swept: np.ndarray) -> np.ndarray:
        return np.array([_ns(lambda: denoiser.process(sound)) for _ in range(count)])

    return [*live, _Way(model.name, FILE, FILE_S, whole, FILE_COUNTS)]


def _of_step(name: str, path: Path, hop_ms: float) -> _Way:
    """One step after the other of a graph with fixed shapes, on arrays that are bound once."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file; give the streaming model of {name}")
    session = open_session(path)
    binding, generator = session.io_binding(), np.random.default_rng(0)
    for given in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        if given.type != "tensor(float)":
            raise ModelError(f"{path}: input {given.name} is {given.type}; only float32 models can be stepped")
        binding.bind_cpu_input(given.name, (0.1 * generator.standard_normal(shape)).astype(np.float32))
    for result in session.get_outputs():
        binding.bind_output(result.name)

    def calls(count: int, swept: np.ndarray) -> np.ndarray:
        took_ns = np.zeros(count, np.int64)

        def work() -> None:
            for k in range(count):
                swept[::LINE_BYTES] += 1
                took_ns[k] = _ns(lambda: session.run_with_iobinding(binding))

        at_priority(realtime.WORKER_PRIORITY, work)
        return took_ns

    return _Way(name, STEP, hop_ms / 1000, calls)


def _ns(work: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


def _energy_uj() -> int | None:
    """Microjoules that the processor has used since some moment; None where it does not tell us."""
    try:
        return int(ENERGY.read_text())
    except (OSError, ValueError):
        return None
