"""The U-Net with longer windows and look-ahead: what training sees is what a stream, a file and live audio get."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import modulated_noise

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from live.test_worker import KINDS, Harness  # noqa: E402
from rtdenoise.core.denoiser import Denoiser, denoise  # noqa: E402
from rtdenoise.errors import UsageError  # noqa: E402
from rtdenoise.live import ring  # noqa: E402
from rtdenoise.model.registry import load_model  # noqa: E402
from rtdenoise.training.networks import build  # noqa: E402
from rtdenoise.training.networks.unet import UNet  # noqa: E402
from rtdenoise.training.onnx_export.export import export  # noqa: E402
from rtdenoise.training.recipe import HOME, load_recipe  # noqa: E402
from rtdenoise.training.warm_start import begin_as  # noqa: E402

SMALL = {"channels": [4, 4, 8], "pitch": 4, "head": 4}
FLOAT32_STEPS = 1e-5  # one frame a model call against many: the order of additions differs


def grown(options: dict) -> UNet:
    """A small network in which nothing is as it begins: no part gives zero, and batch norms have statistics."""
    torch.manual_seed(5)
    net = build("unet", SMALL | options).eval()
    for name, parameter in net.named_parameters():
        if name.startswith(("pitch_taps", "pitch.out")):
            torch.nn.init.normal_(parameter, std=0.3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture(scope="module")
def options() -> dict:
    return load_recipe(HOME / "studio.toml").options


@pytest.fixture(scope="module")
def studio(options, tmp_path_factory):
    path = tmp_path_factory.mktemp("studio") / "studio.onnx"
    path.write_bytes(export(grown(options), "unet", {"name": "studio"}).SerializeToString())
    return load_model(path)


def test_the_recipe_s_frames_apart_equal_those_of_a_whole_clip_and_hear_no_later_one(options):
    net = grown(options)
    spectra = torch.randn(2, 50, net.bins, dtype=torch.complex64) * 0.01
    with torch.no_grad():
        whole, step = net(spectra), net.training_step
        for first in (0, step - 1):
            assert torch.allclose(net(spectra, first, step), whole[:, first::step], atol=1e-6)
        assert torch.allclose(net(spectra[:, :30]), whole[:, :30], atol=1e-6)
        shorter = spectra.clone()
        shorter[:, 29] = 0
        assert (net(shorter)[:, 29] - whole[:, 29]).abs().max() > 1e-4, "the newest frame is not heard"


@pytest.mark.parametrize("wrong", [{"hop_ms": 6.0}, {"look_ahead": 5}, {"look_ahead": -1}])
def test_a_recipe_whose_times_no_model_may_have_is_refused(wrong):
    with pytest.raises(UsageError, match="use one of"):
        build("unet", wrong)


def test_what_is_kept_of_the_input_is_the_frame_that_comes_out(options):
    net = grown(options)
    spectra = torch.randn(1, 20, net.low_bins, dtype=torch.complex64) * 0.01
    with torch.no_grad():
        net.keep_input(1.0)
        out = net(spectra)
    late = options["look_ahead"]
    assert torch.allclose(out[:, late:], spectra[:, :-late], atol=1e-7)
    assert not out[:, :late].abs().any()


@pytest.mark.parametrize(("latency", "latency_ms"), [("normal", 40), ("low", 24)])
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_stream_equals_the_whole_file_for_any_chunks_at_the_printed_latency(studio, rng, rate, latency, latency_ms):
    x = modulated_noise(rng, rate // 2, 2, rate)
    d = Denoiser(studio, rate, 2, latency=latency)
    assert d.latency_ms == latency_ms
    whole = denoise(x, rate, studio, latency=latency)
    cuts = np.cumsum(rng.integers(1, rate // 50, 100))
    parts = [*np.split(x, cuts[cuts < len(x)])]
    y = np.concatenate([*map(d.process, parts), d.flush()])[d.latency_samples :]
    np.testing.assert_allclose(y, whole, atol=FLOAT32_STEPS)
    assert np.abs(whole - x).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_live_output_is_the_file_s_later_by_the_filter_and_its_buffer(studio, rng, kind):
    x = modulated_noise(rng, 36_000, 1, 48_000)
    with Harness(studio, 48_000, 256, kind) as harness:
        harness.stop_clock()
        y = harness.run(x)
        delay, d = harness.delay, harness.denoiser
    assert harness.control[ring.UNDERRUNS] == harness.control[ring.REUSED_GAINS] == 0
    assert delay == d.latency_samples - d.geometry.hop + harness.control[ring.PREFILL]
    whole = denoise(x, 48_000, studio)
    np.testing.assert_allclose(y[delay:], whole[: len(y) - delay], atol=FLOAT32_STEPS)


def test_a_network_of_another_hop_begins_with_what_the_old_one_knows(options):
    """All inner weights, and outer layers that say nearly the same of the same moment."""
    old, new = grown({}), grown(options)
    random = np.random.default_rng(2)
    waves = [torch.from_numpy(modulated_noise(random, 32_000, 4, 16_000).T.copy()) for _ in range(4)]
    explained = begin_as(new, old, waves, 16_000)
    assert explained["first"] > 0.8
    assert explained["bands"] > 0.5
    fitted = ("down.0.linear", "pitch.bands", "gain", "taps", "pitch_taps", "spread")
    for name, value in old.state_dict().items():
        if not name.startswith(fitted):
            assert torch.equal(new.state_dict()[name], value), name
    with torch.no_grad():
        gains = torch.sigmoid(old.gain.bias), torch.sigmoid(new.gain.bias)
    assert torch.equal(gains[0].repeat_interleave(2), gains[1])
