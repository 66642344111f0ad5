"""Live output is the file's output, a constant delay later, whatever stalls; overload holds gains and never adds
delay."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import graphs
from command import DEADLINE_S
from conftest import SHIPPED, modulated_noise
from live.conftest import Feeder
from rtdenoise import Denoiser
from rtdenoise.core.hop_denoiser import LIVE_BATCH, HopDenoiser
from rtdenoise.errors import UsageError
from rtdenoise.live import ring
from rtdenoise.live.ring import Rings
from rtdenoise.live.worker import Worker
from rtdenoise.model import native_session
from rtdenoise.model.registry import load_model
from rtdenoise_bench.measure import correlation
from rtdenoise_bench.testbed import busy_model
from rtdenoise_bench.testbed.fault_injection import COUNT, stalls

FLOAT32_STEPS = 2e-6  # one frame a model call against many: the order of additions differs
KINDS = ("native", "python")


class Harness:
    """A worker between rings, fed by hand."""

    def __init__(self, model, rate: int, block: int, kind: str = "native", channels: int = 1, **settings):
        self.denoiser = HopDenoiser(model, rate, channels, **settings)
        self.rings = Rings(self.denoiser.geometry.hop, channels, rate)
        self.rings.control[ring.ANCHOR] = 1
        self.control, self.block, self.channels = self.rings.control, block, channels
        self.worker = Worker(self.denoiser, self.rings, kind)
        self.feed = Feeder(self.rings, block, channels)

    def __enter__(self) -> Harness:
        self.worker.start()
        return self

    def __exit__(self, *_) -> None:
        self.worker.stop()

    def settle(self) -> None:
        """Until the worker has nothing left to do."""
        hop = self.denoiser.geometry.hop
        end = time.monotonic() + DEADLINE_S
        while self.control[ring.IN_HEAD] - self.control[ring.IN_TAIL] >= hop * max(1, self.control[ring.GATHER]):
            assert time.monotonic() < end, "the worker does not work"
            time.sleep(0.0002)
        done = self.control[ring.IN_TAIL] // hop
        while self.control[ring.HOPS] * hop + self.control[ring.SKIPPED_FRAMES] < done * hop:
            assert time.monotonic() < end, "the worker does not finish"
            time.sleep(0.0002)

    def stop_clock(self) -> None:
        """From now on nothing takes time, so that no hop is held because this machine is busy."""
        leaves_the_time_alone = ctypes.CDLL(None).abs
        self.control[ring.CLOCK] = ctypes.cast(leaves_the_time_alone, ctypes.c_void_p).value

    def run(self, x: np.ndarray) -> np.ndarray:
        """One callback after the other, each after the worker has finished the last."""
        out = []
        for at in range(0, len(x) - self.block + 1, self.block):
            out.append(self.feed(x[at : at + self.block]))
            self.settle()
        return np.concatenate(out)

    @property
    def delay(self) -> int:
        """Samples from input to output, as promised."""
        return self.denoiser.latency_samples - self.denoiser.geometry.hop + int(self.control[ring.PREFILL])


def assert_delayed(live: np.ndarray, whole: np.ndarray, denoiser: Denoiser, delay: int, skip: int) -> None:
    """Live output is ``Denoiser.process``'s, later by what the rings add to the filter's own delay."""
    later = delay - denoiser.latency_samples
    np.testing.assert_allclose(live[skip:], whole[skip - later : len(live) - later], atol=FLOAT32_STEPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rate", "block"), [(48_000, 256), (48_000, 64), (44_100, 441), (16_000, 128)])
def test_live_output_is_file_output_later(delay, rng, rate, block, kind):
    x = modulated_noise(rng, rate // 2, 1, rate)
    with Harness(delay, rate, block, kind) as harness:
        harness.stop_clock()
        y = harness.run(x)
    assert harness.control[ring.UNDERRUNS] == harness.control[ring.REUSED_GAINS] == 0
    assert_delayed(y, Denoiser(delay, rate).process(x), harness.denoiser, harness.delay, 3 * harness.delay)


@pytest.mark.parametrize("block", [64, 256, 1024])
def test_hops_are_gathered_for_as_much_latency_as_is_said(delay, rng, block):
    x = modulated_noise(rng, 24_000, 1, 48_000)
    with Harness(delay, 48_000, block) as harness:
        harness.control[ring.GATHER] = LIVE_BATCH
        harness.stop_clock()
        with stalls(harness.worker.hop_arguments[-1], every=1_000_000, stall_ms=0) as calls:
            y = harness.run(x)
            together = [int(row[COUNT]) for row in calls]
    assert harness.control[ring.PREFILL] == block + LIVE_BATCH * 192 - 64
    assert harness.control[ring.UNDERRUNS] == harness.control[ring.REUSED_GAINS] == 0
    assert together[LIVE_BATCH - 1] > 10
    assert sum(together[:-1]) <= (together[LIVE_BATCH - 1] if block > 192 * LIVE_BATCH else 0)
    assert_delayed(y, Denoiser(delay, 48_000).process(x), harness.denoiser, harness.delay, 3 * harness.delay)


@pytest.mark.parametrize("kind", KINDS)
def test_two_channels_low_latency(delay, rng, kind):
    x = modulated_noise(rng, 24_000, 2, 48_000)
    with Harness(delay, 48_000, 256, kind, 2, latency="low") as harness:
        harness.stop_clock()
        y = harness.run(x)
    assert harness.control[ring.UNDERRUNS] == harness.control[ring.REUSED_GAINS] == 0
    assert_delayed(
        y, Denoiser(delay, 48_000, 2, latency="low").process(x), harness.denoiser, harness.delay, 3 * harness.delay
    )


@pytest.mark.parametrize(("name", "tolerance"), [("delay", FLOAT32_STEPS), ("unet", 1e-5)])
@pytest.mark.parametrize(("block", "channels"), [(512, 1), (1024, 2)])
def test_hops_that_lie_ready_go_through_the_model_in_one_step(delay, rng, name, tolerance, block, channels):
    """As sound servers deliver them; the sound is that of one hop a step."""
    model, x = delay if name == "delay" else load_model(name), modulated_noise(rng, 24_000, channels, 48_000)
    with Harness(model, 48_000, block, "native", channels) as harness:
        harness.stop_clock()
        with stalls(harness.worker.hop_arguments[-1], every=1_000_000, stall_ms=0) as calls:
            y = harness.run(x)
            together = [int(row[COUNT]) for row in calls]
        later, skip = harness.delay - harness.denoiser.latency_samples, 3 * harness.delay
    assert harness.control[ring.REUSED_GAINS] == 0
    assert sum(k * n for k, n in enumerate(together, 1)) == harness.control[ring.HOPS]
    assert sum(together) <= harness.control[ring.HOPS] / (block // 192) + 2 or together[LIVE_BATCH - 1] > 10
    whole = Denoiser(model, 48_000, channels).process(x)
    np.testing.assert_allclose(y[skip:], whole[skip - later : len(y) - later], atol=tolerance)


def test_added_delay_is_a_block_and_what_a_hop_leaves_over(plain):
    for block, buffer in ((64, 64 + 192 - 64), (192, 192), (256, 256 + 192 - 64), (1024, 1024 + 192 - 64)):
        with Harness(plain, 48_000, block) as harness:
            harness.run(np.zeros((8 * block, 1), np.float32))
            assert harness.control[ring.PREFILL] == buffer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [3, 40, 400])  # the longest outruns the ring
def test_delay_is_the_same_after_a_stall(plain, rng, kind, blocks):
    """Callbacks go on while the worker stands still, as under SIGSTOP of its thread."""
    block, x = 256, modulated_noise(rng, 256 * 900, 1, 48_000)
    with Harness(plain, 48_000, block, kind) as harness:
        y, at = [harness.run(x[: 100 * block])], 100 * block
        with harness.worker.paused():
            for _ in range(blocks):
                y.append(harness.feed(x[at : at + block]))
                at += block
        harness.settle()
        y = np.concatenate([*y, harness.run(x[at : at + 300 * block])])
        delay, settled = harness.delay, at + 4 * harness.delay
        np.testing.assert_allclose(y[settled:], x[settled - delay : len(y) - delay], atol=1e-4)


def test_a_slow_model_holds_gains_and_keeps_the_delay(tmp_path):
    """A step of three hops' length, in real time: most hops are held, sound goes on, no delay is added."""
    model, block = load_model(busy_model.write_slow(tmp_path / "slow.onnx", 12)), 256
    x = correlation.noise(3)[:, None]
    with Harness(model, 48_000, block) as harness:
        y, due = [], time.monotonic()
        for at in range(0, len(x) - block, block):
            y.append(harness.feed(x[at : at + block]))
            due = max(due + block / 48_000, time.monotonic())  # A device makes up for no time that it was late.
            time.sleep(max(0.0, due - time.monotonic()))
        y = np.concatenate(y)
        assert harness.control[ring.REUSED_GAINS] > 50
        ms, likeness = correlation.correlate(x[:, 0], y[:, 0], np.arange(24_000, len(y) - 2048, 2048), 2048)
        placed = likeness > 0.5  # a paced test on a busy machine: some windows have gaps
        assert np.mean(placed) > 0.5
        np.testing.assert_allclose(ms[placed] * 48, harness.delay, atol=0.5)


def test_bypass_and_strength_change_while_running(tmp_path, rng):
    model = load_model(graphs.gain(tmp_path / "mute.onnx", 0.0))
    x = np.clip(0.1 * rng.standard_normal((48_000, 1)), -1, 1).astype(np.float32)
    with Harness(model, 16_000, 128) as harness:
        assert np.abs(harness.run(x[:8000])[4000:]).max() < 1e-6
        harness.denoiser.bypass = True
        y = harness.run(x[8000:16_000])
        assert np.abs(y[-2000:]).max() > 0.1
        harness.denoiser.bypass, harness.denoiser.strength_db = False, 20.0
        y = harness.run(x[16_000:24_000])
        assert np.std(y[-2000:]) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_exchanged_without_a_gap_or_a_shift(tmp_path, plain, rng, kind):
    """From one that halves, over 385 bins, to one that passes, over 129: nothing is lost between them."""
    half = load_model(graphs.gain(tmp_path / "half.onnx", 0.5, 385))
    x = modulated_noise(rng, 48_000, 1, 48_000)
    with Harness(half, 48_000, 256, kind) as harness:
        y = [harness.run(x[:20_480])]
        harness.worker.exchange(plain)
        assert harness.denoiser.model is plain
        y = np.concatenate([*y, harness.run(x[20_480:])])
        late = x[: len(y) - harness.delay]
        before, after = slice(2_000, 19_000), slice(23_000, len(late))
        np.testing.assert_allclose(y[harness.delay :][before], 0.5 * late[before], atol=1e-4)
        np.testing.assert_allclose(y[harness.delay :][after], late[after], atol=1e-4)
        assert harness.control[ring.UNDERRUNS] == 0


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """A model that changes nothing, with windows of 32 ms and two frames of look-ahead."""
    return load_model(graphs.late_identity(tmp_path_factory.mktemp("late") / "late.onnx", 8, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("latency", "filter_ms"), [("normal", 40), ("low", 24)])
def test_look_ahead_is_in_the_live_delay(late, rng, kind, latency, filter_ms):
    x = modulated_noise(rng, 36_000, 1, 48_000)
    with Harness(late, 48_000, 256, kind, latency=latency) as harness:
        harness.stop_clock()
        y = harness.run(x)
    assert harness.denoiser.latency_samples - harness.denoiser.geometry.hop == filter_ms * 48
    np.testing.assert_allclose(y[harness.delay :], x[: len(y) - harness.delay], atol=1e-5)
    assert harness.control[ring.UNDERRUNS] == harness.control[ring.REUSED_GAINS] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("disturb", ["hold", "exchange", "fail"])
def test_a_model_with_look_ahead_that_is_skipped_leaves_neither_a_hole_nor_an_echo(late, rng, kind, disturb):
    """After hops without it, or with a fresh state, its first answers are to frames of before: they go unused."""
    x = modulated_noise(rng, 72_000, 1, 48_000)
    with Harness(late, 48_000, 256, kind) as harness:
        harness.stop_clock()
        y = [harness.run(x[:24_064])]
        for count in (1, 2, 5):
            if disturb == "hold":
                harness.control[ring.HOLDING] = count
            elif disturb == "exchange":
                harness.worker.exchange(late)
            else:
                harness.control[ring.STATUS] = 1
            y.append(harness.run(x[sum(map(len, y)) :][:9_984]))
            harness.control[ring.STATUS] = 0
    y = np.concatenate(y)
    assert harness.control[ring.REUSED_GAINS] == (8 if disturb == "hold" else 0)
    np.testing.assert_allclose(y[harness.delay :], x[: len(y) - harness.delay], atol=1e-4)


def test_a_model_of_another_framing_is_refused_and_the_old_one_goes_on(tmp_path, plain):
    with Harness(plain, 16_000, 128) as harness, pytest.raises(UsageError, match="another STFT"):
        harness.worker.exchange(load_model(graphs.foreign(tmp_path / "foreign.onnx")))
    assert harness.denoiser.model is plain


def test_a_model_that_fails_leaves_the_sound_on(delay, rng, monkeypatch):
    """The C library reports a step that it refuses; the input passes from then on, and the reason can be read."""
    monkeypatch.setattr("rtdenoise.live.worker.native_steps", native_session.NativeSteps)
    x = modulated_noise(rng, 48_000, 1, 48_000)
    with Harness(delay, 48_000, 256) as harness:
        harness.run(x[:4096])
        harness.worker._native.arguments[:, native_session.COUNT] = 0  # a count of inputs that onnxruntime refuses
        y = harness.run(x[4096:])
        assert harness.worker.failure
        assert np.std(y[-9600:]) == pytest.approx(np.std(x[-9600 - harness.delay : -harness.delay]), rel=0.05)


def workers() -> int:
    return sum(t.name == "rtdenoise-worker" for t in threading.enumerate())


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_one_worker_while_it_runs_and_none_before_or_after(plain, delay, kind):
    harness = Harness(plain, 48_000, 256, kind)
    harness.worker.exchange(delay)
    with harness.worker.paused():
        assert workers() == 0
    assert (workers(), harness.denoiser.model) == (0, delay)
    with harness:
        assert workers() == 1
        harness.worker.exchange(plain)
        assert (workers(), harness.denoiser.model) == (1, plain)
        with harness.worker.paused():
            assert workers() == 0
        with pytest.raises(UsageError, match="starts once"):
            harness.worker.start()
        assert workers() == 1
    for again in (lambda: harness.worker.exchange(delay), harness.worker.start, harness.worker.paused().__enter__):
        with pytest.raises(UsageError):
            again()
    harness.worker.stop()
    assert (workers(), harness.denoiser.model) == (0, plain)


def test_a_model_chosen_before_the_start_is_the_one_that_filters(tmp_path, plain, rng):
    x = modulated_noise(rng, 24_000, 1, 48_000)
    harness = Harness(load_model(graphs.gain(tmp_path / "mute.onnx", 0.0)), 48_000, 256)
    harness.worker.exchange(plain)
    with harness:
        y = harness.run(x)
    np.testing.assert_allclose(y[2 * harness.delay :], x[harness.delay : len(y) - harness.delay], atol=1e-4)


def test_models_exchanged_by_many_threads_while_another_stops_leave_no_worker(plain, delay):
    harness = Harness(plain, 48_000, 256)
    harness.worker.start()
    refused = []

    def exchange(model) -> None:
        try:
            for _ in range(20):
                harness.worker.exchange(model)
        except UsageError as e:
            refused.append(e)

    threads = [threading.Thread(target=exchange, args=(m,)) for m in (plain, delay, plain, delay)]
    for t in threads:
        t.start()
    harness.worker.stop()
    for t in threads:
        t.join(20)
    assert workers() == 0
    assert len(refused) == len(threads)  # each of them came after the end


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE / 2**20


def growth_mb(make, count: int = 20, first: int = 3) -> float:
    """How much more memory ``count`` results of ``make`` take that are all kept."""
    kept = [make() for _ in range(first)]  # what the first ones bring along stays for all
    before = resident_mb()
    kept += [make() for _ in range(count)]
    return resident_mb() - before


def stopped(model) -> Worker:
    with Harness(model, 48_000, 256) as harness:
        harness.run(np.zeros((2048, 1), np.float32))
    return harness.worker


@pytest.mark.skipif(not SHIPPED, reason="no trained model in this tree")
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
class TestMemory:
    """Of sessions of the default model, whose weights, in a session of ONNX Runtime's, take 7 MB each."""

    MOST_MB = 40  # for 20 that are kept: rings and transforms, 1 MB each, but no weights
    MOST_LEFT_MB = 5

    def test_starting_and_stopping_leaks_no_thread_and_little_memory(self):
        model, before = load_model(SHIPPED[0]), threading.active_count()
        assert growth_mb(lambda: stopped(model) and None) < self.MOST_LEFT_MB
        assert threading.active_count() == before

    def test_what_is_stopped_holds_no_weights_even_while_it_is_kept(self):
        model = load_model(SHIPPED[0])
        assert growth_mb(lambda: stopped(model)) < self.MOST_MB

    def test_what_is_stopped_holds_no_session_of_onnx_runtime(self, monkeypatch):
        """Which steps other models, and all where our own programs cannot run."""
        monkeypatch.setattr("rtdenoise.live.worker.native_steps", native_session.NativeSteps)
        model, count = load_model(SHIPPED[0]), 6
        assert growth_mb(lambda: stopped(model), count) < self.MOST_MB / 20 * count

    def test_what_is_made_and_dropped_leaves_nothing(self):
        model = load_model(SHIPPED[0])
        assert growth_mb(lambda: Harness(model, 48_000, 256) and None) < self.MOST_LEFT_MB

    def test_models_that_were_exchanged_leave_nothing(self):
        model = load_model(SHIPPED[0])
        with Harness(model, 48_000, 256) as harness:
            # The C library's heap finds its size after about twenty sessions of other sizes than the process had.
            assert growth_mb(lambda: harness.worker.exchange(model), first=25) < self.MOST_LEFT_MB
