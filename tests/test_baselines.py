"""The five baselines live: each trains by its recipe, exports, and filters streams and files alike."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import rtdenoise  # noqa: E402
from conftest import modulated_noise  # noqa: E402
from rtdenoise.cli.main import main  # noqa: E402
from rtdenoise.errors import UsageError  # noqa: E402
from rtdenoise.model.registry import load_model  # noqa: E402
from rtdenoise.training.data.mixer import TAPE, Banks  # noqa: E402
from rtdenoise.training.data.tape_mixer import mixer_for  # noqa: E402
from rtdenoise.training.losses import LossWeights, spectral_loss  # noqa: E402
from rtdenoise.training.metrics import si_sdr_db  # noqa: E402
from rtdenoise.training.networks import build  # noqa: E402
from rtdenoise.training.onnx_export.export import export  # noqa: E402
from rtdenoise.training.recipe import load_recipe, recipe_from_json  # noqa: E402
from rtdenoise.training.spectra import to_spectra  # noqa: E402
from rtdenoise.training.trainer import load_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ["noise-subtraction", "db-minmax", "deep-unet", "crced-mse", "tape"]
RATES_HZ = {"noise-subtraction": 8000, "deep-unet": 22050, "tape": 44100}
TOY = {
    "data": {"seconds": 1.0, "batch": 4},
    "mix": {"noise_only": 0.0, "clean_only": 0.0, "low_noise": 0.0, "snr_db": [0.0, 10.0]},
    "schedule": {"steps": 40, "warmup": 3, "learning_rate": 4e-3, "save_every": 10, "validate_every": 40},
}


def recipe_file(name: str) -> Path:
    """The baseline's recipe; that of `tape`, which is shipped, comes with the package."""
    here = ROOT / "experiments" / "recipes" / f"{name}.toml"
    return here if here.exists() else ROOT / "rtdenoise" / "training" / "recipes" / f"{name}.toml"


def test_the_trained_convolutional_one_filters(folders):
    """It left the wheel, not the sources, and runs by its path."""
    model = ROOT / "experiments" / "models" / "crced.onnx"
    clean, rate = sf.read(folders / "clean" / "0.wav", dtype="float32")
    noisy = clean[:, 0] + 0.02 * np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    filtered = rtdenoise.denoise(noisy, rate, model=model)
    assert si_sdr_db(clean[:, 0], filtered) > si_sdr_db(clean[:, 0], noisy) + 3
    assert load_recipe(str(recipe_file("crced"))).network == "crced"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A few seconds of stereo tones with pauses, and of noise."""
    root, random = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    time_s = np.arange(3 * 44100) / 44100
    for name in ("clean", "noise"):
        (root / name).mkdir()
    for k in range(3):
        voice = sum(np.sin(2 * np.pi * n * (150 + 40 * k) * time_s) / n for n in range(1, 12))
        voice = voice * (np.sin(2 * np.pi * 2 * time_s) > 0)
        sf.write(root / "clean" / f"{k}.wav", 0.1 * np.stack([voice, 0.5 * voice], 1), 44100)
        sf.write(root / "noise" / f"{k}.wav", 0.1 * random.standard_normal(len(time_s)), 44100)
    return root


def toy_recipe(name: str) -> str:
    """The shipped recipe, smaller: fewer channels, shorter clips, few steps, no clips that are hard by chance."""
    text = re.sub(r"channels = \[(.*)\]", lambda m: f"channels = {[4] * len(m[1].split(','))}", _text(name))
    if name == "crced-mse":
        text = text.replace("mask = true", "mask = true\nchannels = 4\nlayers = 3\nlocal = 4")
    for table, values in TOY.items():
        for key in values:
            text = re.sub(rf"(?m)^{key} = .*\n", "", text)
        lines = "".join(f"{key} = {value}\n" for key, value in values.items())
        text = (
            text.replace(f"[{table}]\n", f"[{table}]\n{lines}")
            if f"[{table}]" in text
            else f"{text}\n[{table}]\n{lines}"
        )
    return text


def _text(name: str) -> str:
    return recipe_file(name).read_text()


@pytest.fixture(scope="module", params=RECIPES)
def baseline(request, folders, tmp_path_factory):
    """Trained and exported by the commands: name, checkpoint, model file."""
    name, home = request.param, tmp_path_factory.mktemp(request.param)
    (home / "recipe.toml").write_text(toy_recipe(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtdenoise.training.validate.PAIRS", 1)
        patch.setattr("rtdenoise.training.validate.SECONDS", 1.5)
        noise = [] if name == "tape" else ["--noise", str(folders / "noise")]
        audio = ["--clean", str(folders / "clean"), *noise, "--cache", str(folders / "cache")]
        assert main(["train", str(home / "recipe.toml"), "--out", str(home / "run"), *audio]) == 0
    assert main(["export", str(home / "run" / "last.pt"), "--out", str(home / "toy.onnx"), "--name", name]) == 0
    return name, home / "run" / "last.pt", home / "toy.onnx"


def test_each_learns_by_its_recipe(baseline, folders):
    """Of what its recipe minimises, less is left on other mixtures after the training than before."""
    name, checkpoint, _ = baseline
    state = load_checkpoint(checkpoint)
    recipe = recipe_from_json(state["recipe"])
    audio = [folders / "clean"], [TAPE] if name == "tape" else [folders / "noise"], []
    banks = Banks.open(*audio, recipe.data.rate, folders / "cache")
    pairs = mixer_for(banks, 2.0, seed=99, config=recipe.mix, part="all").batch(0, 6)
    torch.manual_seed(recipe.schedule.seed)
    losses, net = [], build(recipe.network, recipe.options).eval()
    for weights in (net.state_dict(), state["ema"]):
        net.load_state_dict(weights)
        noisy, target = (to_spectra(torch.from_numpy(x), recipe.data.rate, net.framing) for x in pairs)
        with torch.no_grad():
            losses.append(spectral_loss(*net.loss_target(net(noisy), target), recipe.loss)[0].item())
    assert losses[1] < losses[0], f"{name}: {losses}"


def test_each_gives_the_same_live_and_in_one_piece(baseline):
    name, _, path = baseline
    model, rate = load_model(path), RATES_HZ.get(name, 16000)
    assert model.name == name
    x = modulated_noise(np.random.default_rng(3), rate, 2, rate)
    stream = rtdenoise.Denoiser(model, rate, 2)
    hop = stream.geometry.hop
    live = np.concatenate([*(stream.process(x[k : k + hop]) for k in range(0, len(x), hop)), stream.flush()])
    assert np.abs(live[stream.latency_samples :] - rtdenoise.denoise(x, rate, model)).max() < 1e-6


def test_each_filters_a_file(baseline, tmp_path):
    name, _, path = baseline
    rate = RATES_HZ.get(name, 16000)
    x = modulated_noise(np.random.default_rng(4), rate, 2, rate)
    sf.write(tmp_path / "in.wav", x, rate, subtype="FLOAT")
    assert main(["--in", str(tmp_path / "in.wav"), "--out", str(tmp_path / "out.wav"), "--model", str(path)]) == 0
    out, out_rate = sf.read(tmp_path / "out.wav", dtype="float32")
    assert (out_rate, out.shape) == (rate, x.shape)
    assert np.abs(out - rtdenoise.denoise(x, rate, path)).max() < 1e-6


@pytest.mark.parametrize("name", RECIPES)
def test_frames_apart_equal_the_same_frames_of_a_whole_clip(name):
    """What training evaluates (every fourth frame) is what a stream computes at these frames, and time is causal."""
    recipe = load_recipe(recipe_file(name))
    net = build(recipe.network, recipe.options).eval()
    spectra = torch.randn(2, 50, net.bins, dtype=torch.complex64) * 0.01
    with torch.no_grad():
        whole, step = net(spectra), net.training_step
        for first in (0, step - 1):
            assert torch.allclose(net(spectra, first, step), whole[:, first::step], atol=1e-6)
        assert torch.allclose(net(spectra[:, :30]), whole[:, :30], atol=1e-6), "a later frame changed an earlier one"


@pytest.mark.parametrize("name", RECIPES)
def test_full_size_networks_export_and_keep_input(name):
    recipe = load_recipe(recipe_file(name))
    net = build(recipe.network, recipe.options).eval()
    spectra = torch.randn(1, 20, net.bins, dtype=torch.complex64) * 0.01
    with torch.no_grad():
        before = net(spectra)
        net.keep_input(0.25)
        assert torch.allclose(net(spectra), 0.75 * before + 0.25 * spectra, atol=1e-7)
    export(net, recipe.network, {})


@pytest.mark.parametrize("kind", ["huber", "mse", "bce"])
def test_losses_of_the_baselines_are_least_for_a_perfect_estimate(kind):
    random = np.random.default_rng(0)
    target = torch.tensor(random.standard_normal((2, 20, 65)) * 0.01 + 0j).to(torch.complex64)
    weights = LossWeights(magnitude=0, complex=0, over_attenuation=0, snr=0, **{kind: 1.0})
    losses = [spectral_loss(target * share, target, weights)[0].item() for share in (1.0, 0.8, 0.3, 1.5)]
    assert losses[0] == min(losses)
    assert losses[1] < losses[2]


@pytest.mark.parametrize("kind", ["huber", "bce"])
def test_a_voice_that_was_taken_away_has_a_slope_back(kind):
    """What once stopped noise subtraction for good: it had learnt to remove everything, and nothing led out of that."""
    random = np.random.default_rng(0)
    target = torch.tensor(random.standard_normal((2, 20, 65)) * 0.01 + 0j).to(torch.complex64)
    gain_db = torch.tensor(-60.0, requires_grad=True)
    weights = LossWeights(magnitude=0, complex=0, over_attenuation=0, snr=0, **{kind: 1.0})
    spectral_loss(target * 10 ** (gain_db / 20), target, weights)[0].backward()
    assert gain_db.grad < -1e-4, "a little more voice must lower the loss"


@pytest.mark.parametrize("target", ["noise", "db"])
def test_before_training_the_input_comes_out(target):
    net = build("masker", {"target": target, "channels": (4, 4, 4)}).eval()
    torch.nn.init.zeros_(net.out.weight)
    spectra = torch.randn(1, 40, 129, dtype=torch.complex64) * 0.01
    with torch.no_grad():
        gain_db = 20 * torch.log10(net(spectra).abs() / spectra.abs())
    assert gain_db.abs().max() < 3


def test_levels_are_never_raised_beyond_6_db():
    """The dB network says a level outright; a bin far below it must not become loud."""
    net = build("masker", {"target": "db", "channels": (4, 4, 4)}).eval()
    spectra = torch.randn(1, 40, 129, dtype=torch.complex64) * 10 ** torch.empty(1, 40, 129).uniform_(-6, 0)
    with torch.no_grad():
        assert (net(spectra).abs() <= 2 * spectra.abs() + 1e-9).all()


def test_a_network_that_cannot_be_built_says_why():
    with pytest.raises(UsageError, match="noise, db, mask"):
        build("masker", {"target": "phase"})
    with pytest.raises(UsageError, match="cannot be halved"):
        build("masker", {"columns": 100})


def test_the_comparison_fills_its_table_and_goes_on_where_it_stopped(folders, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    import baselines

    monkeypatch.setattr("rtdenoise.training.validate.PAIRS", 1)
    monkeypatch.setattr(baselines, "PROBE_STEPS", 2)
    sets = [tmp_path / name for name in ("first", "second")]
    for folder, side in itertools.product(sets, ("noisy", "clean")):
        (folder / side).mkdir(parents=True)
        sound = modulated_noise(np.random.default_rng(7), 2 * 16000)
        sf.write(folder / side / "a_5dB.wav", sound + (side == "noisy") * 0.01, 16000)
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- table -->\nold\n<!-- /table -->\nbelow\n")
    folder = ["--clean", str(folders / "clean"), "--noise", str(folders / "noise"), "--cache", str(folders / "cache")]
    where = ["--pairs", *map(str, sets), "--work", str(tmp_path / "work"), "--minutes", "0.001", "--into", str(page)]
    where += ["--models", str(tmp_path / "kept")]
    assert baselines.main([*folder, *where, "--only", "noise-subtraction"]) == 0
    text = page.read_text()
    assert text.startswith("above\n<!-- table -->\n")
    assert text.endswith("<!-- /table -->\nbelow\n")
    assert "old" not in text
    for expected in (
        "| noisy | ",
        "| noise-subtraction | ",
        "huber 1",
        "296,866",
        "16 ms",
        "| 0.001 min |",
        "seed 1",
        "1 pairs of first, 1 pairs of second",
        "5 % of the input left",
        "several figures in a cell: first, second, mean",
    ):
        assert expected in text
    row = next(line for line in text.splitlines() if line.startswith("| noisy | "))
    assert re.match(r"\| noisy \| (\d\.\d\d / ){2}\d\.\d\d \| ", row), row
    assert load_model(tmp_path / "kept" / "noise-subtraction.onnx").name == "noise-subtraction"
    monkeypatch.setattr(baselines, "trained", lambda *_: pytest.fail("trained again"))
    assert baselines.main([*folder, *where, "--only", "noise-subtraction"]) == 0
    assert page.read_text() == text
    assert baselines.main(["--pairs", str(sets[0])]) == 2
