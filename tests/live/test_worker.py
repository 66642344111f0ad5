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


class Rig:
    """A worker between rings, fed by hand."""

    def __init__(self, model, rate: int, block: int, kind: str = "native", channels: int = 1, **settings):
        self.denoiser = HopDenoiser(model, rate, channels, **settings)
        self.rings = Rings(self.denoiser.geometry.hop, channels, rate)
        self.rings.control[ring.ANCHOR] = 1
        self.control, self.block, self.channels = self.rings.control, block, channels
        self.worker = Worker(self.denoiser, self.rings, kind)
        self.feed = Feeder(self.rings, block, channels)

    def __enter__(self) -> Rig:
        self.worker.start()
        return self

    def __exit__(self, *_) -> None:
        self.worker.stop()

    def settle(self) -> None:
        """Until the worker has nothing left to do."""
        hop = self.denoiser.geometry.hop
        end = time.monotonic() + 20
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
    with Rig(delay, rate, block, kind) as rig:
        rig.stop_clock()
        y = rig.run(x)
    assert rig.control[ring.UNDERRUNS] == rig.control[ring.HOLDS] == 0
    assert_delayed(y, Denoiser(delay, rate).process(x), rig.denoiser, rig.delay, 3 * rig.delay)


@pytest.mark.parametrize("block", [64, 256, 1024])
def test_hops_are_gathered_for_as_much_latency_as_is_said(delay, rng, block):
    x = modulated_noise(rng, 24_000, 1, 48_000)
    with Rig(delay, 48_000, block) as rig:
        rig.control[ring.GATHER] = LIVE_BATCH
        rig.stop_clock()
        with stalls(rig.worker.hop_arguments[-1], every=1_000_000, stall_ms=0) as calls:
            y = rig.run(x)
            together = [int(row[COUNT]) for row in calls]
    assert rig.control[ring.PREFILL] == block + LIVE_BATCH * 192 - 64
    assert rig.control[ring.UNDERRUNS] == rig.control[ring.HOLDS] == 0
    assert together[LIVE_BATCH - 1] > 10
    assert sum(together[:-1]) <= (together[LIVE_BATCH - 1] if block > 192 * LIVE_BATCH else 0)
    assert_delayed(y, Denoiser(delay, 48_000).process(x), rig.denoiser, rig.delay, 3 * rig.delay)


@pytest.mark.parametrize("kind", KINDS)
def test_two_channels_low_latency(delay, rng, kind):
    x = modulated_noise(rng, 24_000, 2, 48_000)
    with Rig(delay, 48_000, 256, kind, 2, latency="low") as rig:
        rig.stop_clock()
        y = rig.run(x)
    assert rig.control[ring.UNDERRUNS] == rig.control[ring.HOLDS] == 0
    assert_delayed(y, Denoiser(delay, 48_000, 2, latency="low").process(x), rig.denoiser, rig.delay, 3 * rig.delay)


@pytest.mark.parametrize(("name", "tolerance"), [("delay", FLOAT32_STEPS), ("unet", 1e-5)])
@pytest.mark.parametrize(("block", "channels"), [(512, 1), (1024, 2)])
def test_hops_that_lie_ready_go_through_the_model_in_one_step(delay, rng, name, tolerance, block, channels):
    """As sound servers deliver them; the sound is that of one hop a step."""
    model, x = delay if name == "delay" else load_model(name), modulated_noise(rng, 24_000, channels, 48_000)
    with Rig(model, 48_000, block, "native", channels) as rig:
        rig.stop_clock()
        with stalls(rig.worker.hop_arguments[-1], every=1_000_000, stall_ms=0) as calls:
            y = rig.run(x)
            together = [int(row[COUNT]) for row in calls]
        later, skip = rig.delay - rig.denoiser.latency_samples, 3 * rig.delay
    assert rig.control[ring.HOLDS] == 0
    assert sum(k * n for k, n in enumerate(together, 1)) == rig.control[ring.HOPS]
    assert sum(together) <= rig.control[ring.HOPS] / (block // 192) + 2 or together[LIVE_BATCH - 1] > 10
    whole = Denoiser(model, 48_000, channels).process(x)
    np.testing.assert_allclose(y[skip:], whole[skip - later : len(y) - later], atol=tolerance)


def test_added_delay_is_a_block_and_what_a_hop_leaves_over(plain):
    for block, buffer in ((64, 64 + 192 - 64), (192, 192), (256, 256 + 192 - 64), (1024, 1024 + 192 - 64)):
        with Rig(plain, 48_000, block) as rig:
            rig.run(np.zeros((8 * block, 1), np.float32))
            assert rig.control[ring.PREFILL] == buffer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [3, 40, 400])  # the longest outruns the ring
def test_delay_is_the_same_after_a_stall(plain, rng, kind, blocks):
    """Callbacks go on while the worker stands still, as under SIGSTOP of its thread."""
    block, x = 256, modulated_noise(rng, 256 * 900, 1, 48_000)
    with Rig(plain, 48_000, block, kind) as rig:
        y, at = [rig.run(x[: 100 * block])], 100 * block
        with rig.worker.paused():
            for _ in range(blocks):
                y.append(rig.feed(x[at : at + block]))
                at += block
        rig.settle()
        y = np.concatenate([*y, rig.run(x[at : at + 300 * block])])
        delay, settled = rig.delay, at + 4 * rig.delay
        np.testing.assert_allclose(y[settled:], x[settled - delay : len(y) - delay], atol=1e-4)


def test_a_slow_model_holds_gains_and_keeps_the_delay(tmp_path):
    """A step of three hops' length, in real time: most hops are held, sound goes on, no delay is added."""
    model, block = load_model(busy_model.write_slow(tmp_path / "slow.onnx", 12)), 256
    x = correlation.noise(3)[:, None]
    with Rig(model, 48_000, block) as rig:
        y, due = [], time.monotonic()
        for at in range(0, len(x) - block, block):
            y.append(rig.feed(x[at : at + block]))
            due += block / 48_000
            time.sleep(max(0.0, due - time.monotonic()))
        y = np.concatenate(y)
        assert rig.control[ring.HOLDS] > 50
        ms, likeness = correlation.correlate(x[:, 0], y[:, 0], np.arange(24_000, len(y) - 2048, 2048), 2048)
        placed = likeness > 0.5  # a paced test on a busy machine: some windows have gaps
        assert np.mean(placed) > 0.5
        np.testing.assert_allclose(ms[placed] * 48, rig.delay, atol=0.5)


def test_bypass_and_strength_change_while_running(tmp_path, rng):
    model = load_model(graphs.gain(tmp_path / "mute.onnx", 0.0))
    x = np.clip(0.1 * rng.standard_normal((48_000, 1)), -1, 1).astype(np.float32)
    with Rig(model, 16_000, 128) as rig:
        assert np.abs(rig.run(x[:8000])[4000:]).max() < 1e-6
        rig.denoiser.bypass = True
        y = rig.run(x[8000:16_000])
        assert np.abs(y[-2000:]).max() > 0.1
        rig.denoiser.bypass, rig.denoiser.strength_db = False, 20.0
        y = rig.run(x[16_000:24_000])
        assert np.std(y[-2000:]) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_exchanged_without_a_gap_or_a_shift(tmp_path, plain, rng, kind):
    """From one that halves, over 385 bins, to one that passes, over 129: nothing is lost between them."""
    half = load_model(graphs.gain(tmp_path / "half.onnx", 0.5, 385))
    x = modulated_noise(rng, 48_000, 1, 48_000)
    with Rig(half, 48_000, 256, kind) as rig:
        y = [rig.run(x[:20_480])]
        rig.worker.exchange(plain)
        assert rig.denoiser.model is plain
        y = np.concatenate([*y, rig.run(x[20_480:])])
        late = x[: len(y) - rig.delay]
        before, after = slice(2_000, 19_000), slice(23_000, len(late))
        np.testing.assert_allclose(y[rig.delay :][before], 0.5 * late[before], atol=1e-4)
        np.testing.assert_allclose(y[rig.delay :][after], late[after], atol=1e-4)
        assert rig.control[ring.UNDERRUNS] == 0


def test_a_model_of_another_framing_is_refused_and_the_old_one_goes_on(tmp_path, plain):
    with Rig(plain, 16_000, 128) as rig, pytest.raises(UsageError, match="another STFT"):
        rig.worker.exchange(load_model(graphs.foreign(tmp_path / "foreign.onnx")))
    assert rig.denoiser.model is plain


def test_a_model_that_fails_leaves_the_sound_on(delay, rng):
    """The C library reports a step that it refuses; the input passes from then on, and the reason can be read."""
    x = modulated_noise(rng, 48_000, 1, 48_000)
    with Rig(delay, 48_000, 256) as rig:
        rig.run(x[:4096])
        rig.worker._native.arguments[:, native_session.COUNT] = 0  # a count of inputs that onnxruntime refuses
        y = rig.run(x[4096:])
        assert rig.worker.failure
        assert np.std(y[-9600:]) == pytest.approx(np.std(x[-9600 - rig.delay : -rig.delay]), rel=0.05)


def workers() -> int:
    return sum(t.name == "rtdenoise-worker" for t in threading.enumerate())


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_one_worker_while_it_runs_and_none_before_or_after(plain, delay, kind):
    rig = Rig(plain, 48_000, 256, kind)
    rig.worker.exchange(delay)
    with rig.worker.paused():
        assert workers() == 0
    assert (workers(), rig.denoiser.model) == (0, delay)
    with rig:
        assert workers() == 1
        rig.worker.exchange(plain)
        assert (workers(), rig.denoiser.model) == (1, plain)
        with rig.worker.paused():
            assert workers() == 0
        with pytest.raises(UsageError, match="starts once"):
            rig.worker.start()
        assert workers() == 1
    for again in (lambda: rig.worker.exchange(delay), rig.worker.start, rig.worker.paused().__enter__):
        with pytest.raises(UsageError):
            again()
    rig.worker.stop()
    assert (workers(), rig.denoiser.model) == (0, plain)


def test_a_model_chosen_before_the_start_is_the_one_that_filters(tmp_path, plain, rng):
    x = modulated_noise(rng, 24_000, 1, 48_000)
    rig = Rig(load_model(graphs.gain(tmp_path / "mute.onnx", 0.0)), 48_000, 256)
    rig.worker.exchange(plain)
    with rig:
        y = rig.run(x)
    np.testing.assert_allclose(y[2 * rig.delay :], x[rig.delay : len(y) - rig.delay], atol=1e-4)


def test_models_exchanged_by_many_threads_while_another_stops_leave_no_worker(plain, delay):
    rig = Rig(plain, 48_000, 256)
    rig.worker.start()
    refused = []

    def exchange(model) -> None:
        try:
            for _ in range(20):
                rig.worker.exchange(model)
        except UsageError as e:
            refused.append(e)

    threads = [threading.Thread(target=exchange, args=(m,)) for m in (plain, delay, plain, delay)]
    for t in threads:
        t.start()
    rig.worker.stop()
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
    with Rig(model, 48_000, 256) as rig:
        rig.run(np.zeros((2048, 1), np.float32))
    return rig.worker


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

    def test_what_is_made_and_dropped_leaves_nothing(self):
        model = load_model(SHIPPED[0])
        assert growth_mb(lambda: Rig(model, 48_000, 256) and None) < self.MOST_LEFT_MB

    def test_models_that_were_exchanged_leave_nothing(self):
        model = load_model(SHIPPED[0])
        with Rig(model, 48_000, 256) as rig:
            # The C library's heap finds its size after about twenty sessions of other sizes than the process had.
            assert growth_mb(lambda: rig.worker.exchange(model), first=25) < self.MOST_LEFT_MB
