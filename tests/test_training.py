"""The training chain keeps its promises: it learns, resumes exactly, exports what it learnt, and says what is wrong."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from rtdenoise.cli.main import main  # noqa: E402
from rtdenoise.errors import RtdenoiseError, UsageError  # noqa: E402
from rtdenoise.geometry import CONTRACT_FRAMING  # noqa: E402
from rtdenoise.model.registry import load_model, models_folder  # noqa: E402
from rtdenoise.training import trainer  # noqa: E402
from rtdenoise.training.data.clips import open_bank  # noqa: E402
from rtdenoise.training.data.mixer import Banks, MixConfig, Mixer  # noqa: E402
from rtdenoise.training.losses import LossWeights, spectral_loss  # noqa: E402
from rtdenoise.training.networks import build, load_weights  # noqa: E402
from rtdenoise.training.networks.memory import sub_bands  # noqa: E402
from rtdenoise.training.onnx_export.export import export  # noqa: E402
from rtdenoise.training.recipe import Data, Recipe, Schedule, load_recipe, recipe_from_json  # noqa: E402
from rtdenoise.training.scoring.systems import open_systems  # noqa: E402
from rtdenoise.training.spectra import to_spectra, to_waves  # noqa: E402
from rtdenoise.training.trainer import Trainer, load_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

RATE = 16000
TINY = """
network = "{network}"
[options]
{options}
[data]
seconds = 1.0
batch = 2
[schedule]
steps = 12
warmup = 1
learning_rate = 3e-3
decay_from = 0.9
all_frames_from = 0.75
save_every = 3
validate_every = 12
"""
EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
SMALL = EXPERIMENTS / "models" / "crced.pt"  # trained, but not shipped
TRUNKS = sorted((EXPERIMENTS / "trunks").glob("*.pt"))  # not even finished
OPTIONS = {"unet": "channels = [4, 4, 8]\npitch = 4\nhead = 4", "crced": "channels = 4\nlayers = 3\nlocal = 4"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Speech-like tones with pauses, noise, and rooms: a few seconds each, in three folders."""
    root, random = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    time_s = np.arange(3 * RATE) / RATE
    for name in ("clean", "noise", "rir"):
        (root / name).mkdir()
    for k in range(3):
        voice = np.sin(2 * np.pi * (120 + 40 * k) * time_s) * (np.sin(2 * np.pi * 2 * time_s) > 0)
        sf.write(root / "clean" / f"{k}.wav", 0.3 * voice, RATE)
        sf.write(root / "noise" / f"{k}.wav", 0.1 * random.standard_normal(len(time_s)), RATE)
        room = random.standard_normal(4000) * np.exp(-np.arange(4000) / 600)
        room[8] = 3.0
        sf.write(root / "rir" / f"{k}.wav", 0.1 * room, RATE)
    return root


@pytest.fixture
def short_validation(monkeypatch):
    monkeypatch.setattr("rtdenoise.training.validate.PAIRS", 2)
    monkeypatch.setattr("rtdenoise.training.validate.SECONDS", 1.5)


@pytest.fixture
def start(folders, tmp_path, short_validation):
    """``start(network, "--steps", "4", ...)``: a tiny training by the command; its folder is ``tmp_path / out``."""

    def start(network: str, *more: str, out: str = "run", recipe: str = TINY) -> int:
        file = tmp_path / f"{network}.toml"
        file.write_text(recipe.format(network=network, options=OPTIONS[network]))
        audio = ["--clean", str(folders / "clean"), "--noise", str(folders / "noise"), "--rir", str(folders / "rir")]
        cache = ["--cache", str(folders / "cache")]
        return main(["train", str(file), "--out", str(tmp_path / out), *audio, *cache, *more])

    return start


@pytest.mark.parametrize("network", ["unet", "crced"])
def test_training_learns_and_exports_what_it_learnt(network, start, tmp_path, capsys):
    assert start(network, "--steps", "40") == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    assert main(["export", str(tmp_path / "run" / "best.pt"), "--out", str(tmp_path / "tiny.onnx")]) == 0
    assert load_model(tmp_path / "tiny.onnx").name == network
    systems = open_systems([str(tmp_path / "run" / "best.pt"), str(tmp_path / "tiny.onnx")], tmp_path)
    assert list(systems) == ["run-best", network], "a checkpoint can be scored as it is"
    x = 0.1 * np.random.default_rng(0).standard_normal(RATE, dtype=np.float32)
    np.testing.assert_array_equal(systems["run-best"](x, RATE), systems[network](x, RATE))
    nowhere = tmp_path / "nowhere" / "tiny.onnx"
    assert main(["export", str(tmp_path / "run" / "best.pt"), "--out", str(nowhere)]) != 0
    assert f"cannot write {nowhere}: No such file or directory; choose another --out" in capsys.readouterr().err


def test_a_resumed_training_equals_an_uninterrupted_one(start, tmp_path, monkeypatch):
    start("unet", out="whole")
    steps, step = 0, Trainer.train_step

    def killed(self, *batch):
        nonlocal steps
        steps += 1
        if steps == 8:  # saved after 6: two steps are lost and done again
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(Trainer, "train_step", killed)
    assert start("unet", out="broken") != 0
    monkeypatch.setattr(Trainer, "train_step", step)
    start("unet", "--resume", out="broken")
    whole, broken = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "broken"))
    for part in ("network", "ema"):
        for name, value in whole[part].items():
            assert torch.equal(value, broken[part][name]), f"{part} {name} differs"


def test_a_branch_of_a_trunk_falls_to_rate_zero_and_can_be_resumed(start, tmp_path, monkeypatch):
    start("unet", "--steps", "4", out="trunk")
    branch = "unet", "--trunk", str(tmp_path / "trunk"), "--decay", "6"
    assert start(*branch, out="whole") == 0
    step = Trainer.train_step

    def killed(self, *batch):
        if self.step == 8:
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(Trainer, "train_step", killed)
    assert start(*branch, out="broken") != 0
    monkeypatch.setattr(Trainer, "train_step", step)
    assert start("unet", "--resume", out="broken") == 0
    whole, broken = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "broken"))
    assert whole["step"] == broken["step"] == 10
    assert all(torch.equal(value, broken["network"][name]) for name, value in whole["network"].items())
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [entry["learning_rate"] for entry in log if "learning_rate" in entry][-1] < 1e-3 * 0.2


def test_the_time_left_of_a_branch_is_told_by_its_own_steps(start, tmp_path, monkeypatch):
    start("unet", "--steps", "4", out="trunk")
    clock_s = itertools.count(0, 60)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: next(clock_s)))
    assert start("unet", "--trunk", str(tmp_path / "trunk"), "--decay", "6", out="branch") == 0
    log = [json.loads(line) for line in (tmp_path / "branch" / "log.jsonl").read_text().splitlines()]
    told = {entry["step"]: (entry["spent_min"], entry["left_min"]) for entry in log if "left_min" in entry}
    assert told == {6: (2, 4), 9: (5, 1), 10: (6, 0)}  # steps of a minute each


def test_training_learns_in_half_precision(start, tmp_path):
    recipe = TINY.replace("[schedule]", '[schedule]\nprecision = "bfloat16"')
    assert start("unet", "--steps", "40", recipe=recipe) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


@pytest.mark.parametrize("network", ["unet", "crced"])
def test_frames_apart_equal_the_same_frames_of_a_whole_clip(network):
    """What training evaluates (every n-th frame) is what a stream computes at these frames."""
    net = build(network, {}).eval()
    spectra = torch.randn(2, 50, 129, dtype=torch.complex64) * 0.01
    with torch.no_grad():
        whole, step = net(spectra), net.training_step
        for first in (0, step - 1):
            assert torch.allclose(net(spectra, first, step), whole[:, first::step], atol=1e-6)
        assert torch.allclose(net(spectra[:, :30]), whole[:, :30], atol=1e-6), "a later frame changed an earlier one"


def test_fine_tuning_starts_from_the_weights_it_was_given(start, tmp_path):
    start("unet", "--steps", "3", out="first")
    start("unet", "--steps", "1", "--from", str(tmp_path / "first" / "best.pt"), out="second")
    first, second = (load_checkpoint(tmp_path / name / "last.pt") for name in ("first", "second"))
    change = max((first["ema"][k] - second["network"][k]).abs().max() for k in first["ema"] if "weight" in k)
    assert change < 0.05


def test_a_unet_of_another_hop_is_trained_from_one_of_the_usual_hop(start, tmp_path):
    start("unet", "--steps", "3", out="first")
    recipe = TINY.replace("[data]", "hop_ms = 8.0\nlook_ahead = 1\n[data]")
    assert start("unet", "--steps", "4", "--from", str(tmp_path / "first" / "best.pt"), recipe=recipe) == 0
    assert start("unet", "--steps", "6", "--resume", recipe=recipe) == 0
    assert main(["export", str(tmp_path / "run" / "last.pt"), "--name", "s", "--out", str(tmp_path / "s.onnx")]) == 0
    assert load_model(tmp_path / "s.onnx").info.framing.latency_ms == 40


@pytest.mark.usefixtures("short_validation")
@pytest.mark.parametrize("look_ahead", [0, 2])
def test_an_estimate_is_compared_with_the_frame_it_is_of(folders, tmp_path, look_ahead):
    """A network that passes its input makes no error on clean speech, and gains nothing on noisy speech."""
    audio = {side: (str(folders / side),) for side in ("clean", "noise")}
    recipe = Recipe(
        options={"channels": (4, 4, 8), "pitch": 4, "head": 4, "hop_ms": 8.0, "look_ahead": look_ahead},
        data=Data(**audio, seconds=1.0, batch=2),
        loss=LossWeights(snr=0.0),
        schedule=Schedule(all_frames_from=0.5),
    )
    trainer = Trainer(recipe, tmp_path, folders / "cache", "cpu", None)
    trainer.net.keep_input(1.0)
    noisy, clean = (torch.from_numpy(x) for x in trainer.mixer.batch(0, 2))
    for trainer.step in (0, recipe.schedule.steps - 1):  # some frames; all, with the wave
        assert trainer.train_step(clean, clean)[0] < 1e-9
        assert trainer.train_step(noisy, clean)[0] > 1e-3
    assert trainer.validation.scores(trainer.net)["gain_db"] == pytest.approx(0, abs=1e-3)


def test_a_checkpoint_from_before_the_network_grew_does_what_it_did():
    old = build("unet", {"channels": (4, 4, 8), "head": 4}).eval()
    weights = {k: v for k, v in old.state_dict().items() if not k.startswith("pitch")}
    assert len(weights) < len(old.state_dict())
    new = build("unet", {"channels": (4, 4, 8), "head": 4}).eval()
    spectra = torch.randn(1, 30, 385, dtype=torch.complex64)
    with torch.no_grad():
        assert not torch.equal(new(spectra), old(spectra))
        load_weights(new, weights)
        assert torch.equal(new(spectra), old(spectra))
    with pytest.raises(UsageError, match="other network or other options"):
        load_weights(build("unet", {"channels": (4, 4, 12), "head": 4}), weights)
    with pytest.raises(UsageError, match=r"down\.0\.linear\.bias does not fit"):
        load_weights(new, {k: v for k, v in weights.items() if k != "down.0.linear.bias"})


def test_harmonics_that_share_a_bin_fall_into_sub_bands_of_their_own():
    """A window of 16 ms has bins 62.5 Hz apart; four side by side tell tones apart that are 15.6 Hz from another."""
    seconds = torch.arange(16000) / 16000
    for sub_band in range(4):
        tone = torch.sin(2 * torch.pi * (6 * 62.5 + 15.625 * (sub_band - 1)) * seconds)[None]
        low = to_spectra(tone, 16000)
        sizes = sub_bands(low, torch.ones(low.shape), 40, 4, CONTRACT_FRAMING).unflatten(2, (-1, 4))[:, 0, 6]
        loudest = (1 - sub_band) % 4  # frames are counted back
        others = [k for k in range(4) if k != loudest]
        assert (sizes[:, loudest, None] > 100 * sizes[:, others]).all()


@pytest.mark.usefixtures("short_validation")
def test_a_trained_model_is_fine_tuned_below_8_khz_where_voices_are(folders, tmp_path):
    clean, noise = (str(folders / side) for side in ("clean", "noise"))
    mine = tmp_path / "mine"
    argv = ["train", "--from", "unet", "--clean", clean, "--noise", noise, "--steps", "1", "--out", str(mine)]
    assert main(argv) == 0
    before = load_checkpoint(models_folder() / "unet.pt")["ema"]
    got = load_checkpoint(mine / "last.pt")
    weights = {k: v for k, v in got["network"].items() if k.endswith("weight")}
    moved = {k for k, v in weights.items() if not torch.equal(v, before[k].float())}
    assert any(k.startswith(("down", "convs")) for k in moved), moved
    assert json.loads(got["recipe"])["data"]["rate"] == 16000


def test_the_bands_above_8_khz_train_alone(folders):
    net = build("unet", {"channels": (4, 4, 8), "head": 4})
    net.set_stage("bands")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    wave = torch.randn(1, 12000) * 0.1
    net(to_spectra(wave, 48000), 0, 4).abs().sum().backward()
    trained = {name.split("_")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {"head"}
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert not changed, "the core's statistics stay those that it was trained with"


def test_in_use_a_sure_band_passes_untouched_and_an_unlikely_one_not_at_all():
    net = build("unet", {"channels": (4, 4, 8), "head": 4}).eval()
    torch.nn.init.zeros_(net.head_out.weight)
    spectra = torch.randn(1, 20, 385, dtype=torch.complex64)
    for logit, gain in ((1.0, 1), (-3.5, 0)):
        torch.nn.init.constant_(net.head_out.bias, logit)
        with torch.no_grad():
            assert torch.equal(net(spectra)[..., 129:], spectra[..., 129:] * gain)
            net.train()
            soft = (net(spectra)[..., 129:] / spectra[..., 129:]).real
            net.eval()
        assert 0.02 < soft.min() <= soft.max() < 0.8, "learning needs the slopes"


def test_spectra_return_to_the_wave_they_came_from():
    for rate in (8000, 16000, 44100, 48000):
        wave = torch.randn(2, rate // 2)
        back = to_waves(to_spectra(wave, rate), rate)
        assert torch.allclose(back, wave[:, : back.shape[1]], atol=1e-5)


def test_mixing_is_repeatable_and_keeps_the_snr_it_states(folders, tmp_path):
    args = ["--clean", str(folders / "clean"), "--noise", str(folders / "noise"), "--hours", "0.003", "--seconds", "3"]
    for out in ("one", "two"):
        assert (
            main(["mix", *args, "--rate", "16000", "--seed", "5", "--snr", "0", "5", "--out", str(tmp_path / out)]) == 0
        )
    names = sorted(p.name for p in (tmp_path / "one" / "noisy").iterdir())
    assert len(names) == 4
    assert names == sorted(p.name for p in (tmp_path / "one" / "clean").iterdir())
    for name in names:
        for side in ("noisy", "clean"):
            assert (tmp_path / "one" / side / name).read_bytes() == (tmp_path / "two" / side / name).read_bytes()
        assert 0 <= float(name.split("_")[1].removesuffix("dB.flac")) <= 5


def test_a_pair_depends_on_seed_and_number_alone(folders):
    banks = Banks.open([folders / "clean"], [folders / "noise"], [folders / "rir"], RATE, folders / "cache")
    one, two = (Mixer(banks, 1.0, 3, MixConfig()) for _ in range(2))
    two.pair(0)
    assert all(np.array_equal(a, b) for a, b in zip(one.pair(7)[:2], two.pair(7)[:2], strict=True))
    for k in range(60):
        noisy, target, _ = one.pair(k)
        assert np.isfinite(noisy).all()
        assert np.isfinite(target).all()
        assert np.abs(noisy).max() < 2


def test_used_again_voices_and_noises_always_meet_others(folders, monkeypatch):
    monkeypatch.setattr("rtdenoise.training.data.mixer.BLOCK", 50)
    banks = Banks.open([folders / "clean"], [folders / "noise"], [], RATE, folders / "cache")
    quiet = dict.fromkeys(("clean_only", "noise_only", "band_limited", "clipped", "coded", "low_noise"), 0)
    config = MixConfig(**quiet, snr_db=(-5.0, 0.0), synthetic={"coloured": 1.0})
    mixer, met, made = Mixer(banks, 0.5, 3, config, reuse=3), [], Mixer._noise_bed
    monkeypatch.setattr(Mixer, "_noise_bed", lambda self, random: (met.append(1), made(self, random))[1])
    pairs = [mixer.pair(k)[:2] for k in range(300)]
    assert len(met) == 100, "each noise is made once"
    edge = np.fft.rfftfreq(mixer.count, 1 / RATE) > 200  # below, a voice's own rumble is part of the noise

    def direction(x):
        spectrum = np.fft.rfft(x)[edge]
        return spectrum / (np.linalg.norm(spectrum) + 1e-9)

    directions = [[direction(x) for x in (target, noisy - target)] for noisy, target in pairs]
    again = Mixer(banks, 0.5, 3, config, reuse=3)
    for k in (170, 299):
        assert np.array_equal(again.pair(k)[0], pairs[k][0]), "only the number decides"
    for k in (0, 49):
        same_voice, same_noise = (
            {j for j in range(150) if np.vdot(directions[j][side], directions[k][side]).real > 0.99} for side in (0, 1)
        )
        assert same_voice == {k, k + 50, k + 100}
        assert len(same_noise) == 3
        assert same_noise & same_voice == {k}


def test_using_voices_less_than_once_makes_no_sense(folders):
    banks = Banks.open([folders / "clean"], [folders / "noise"], [], RATE, folders / "cache")
    with pytest.raises(UsageError, match="reuse 0"):
        Mixer(banks, 0.5, 3, MixConfig(), reuse=0)


def test_an_exported_model_that_differs_from_torch_is_refused(monkeypatch):
    monkeypatch.setattr("rtdenoise.training.onnx_export.export.TOLERANCE", 0.0)
    with pytest.raises(RtdenoiseError, match="differs from torch"):
        export(build("crced", {"channels": 4, "layers": 3, "local": 4}), "crced", {})


def test_how_loud_an_estimate_is_costs_nothing_in_snr_but_too_soft_a_voice_does():
    target, error = torch.randn(2, 3, 20, 129, dtype=torch.complex64)
    estimate = target + 0.5 * error
    plain = {"magnitude": 0.0, "complex": 0.0, "over_attenuation": 0.0}
    near, soft = (spectral_loss(g * estimate, target, LossWeights(**plain, snr=1.0)) for g in (1.0, 0.5))
    assert near[0].item() == pytest.approx(soft[0].item(), abs=1e-3)
    assert near[1].item() == pytest.approx(10 * np.log10(1 / 0.25), abs=0.3)
    soft, loud = (
        spectral_loss(g * target, target, LossWeights(**plain | {"over_attenuation": 1.0}, snr=0.0))[0].item()
        for g in (0.5, 2.0)
    )
    assert soft > 0.01
    assert loud == pytest.approx(0, abs=1e-6)


def test_a_loss_that_is_no_number_stops_with_its_step_and_keeps_the_checkpoint(start, tmp_path, monkeypatch, capsys):
    start("unet", "--steps", "3")
    good = (tmp_path / "run" / "last.pt").read_bytes()
    broken = lambda estimate, *_: (estimate.abs().sum() * float("nan"), torch.zeros(()))
    monkeypatch.setattr("rtdenoise.training.trainer.spectral_loss", broken)
    assert start("unet", "--resume", "--steps", "9") == 1
    assert "step 3" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").read_bytes() == good


def test_a_full_disk_leaves_the_old_checkpoint(start, tmp_path, monkeypatch, capsys):
    start("unet", "--steps", "3")
    good = (tmp_path / "run" / "last.pt").read_bytes()

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert start("unet", "--resume", "--steps", "6") == 1
    assert "No space left" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").read_bytes() == good
    assert not list((tmp_path / "run").glob("*.part"))


def test_resuming_another_networks_training_says_how_to_go_on(start, tmp_path, capsys):
    start("unet", "--steps", "3")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    state["network"].popitem()  # as if the network had grown since
    torch.save(state, tmp_path / "run" / "last.pt")
    assert start("unet", "--resume", "--steps", "6") == 2
    assert "--from" in capsys.readouterr().err


def test_a_misspelt_recipe_key_names_the_nearest(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text("[schedule]\nlearning_rat = 1e-3\n")
    with pytest.raises(UsageError, match="learning_rate"):
        load_recipe(recipe)
    recipe.write_text('[schedule]\nsteps = "many"\n')
    with pytest.raises(UsageError, match="steps must be int"):
        load_recipe(recipe)


@pytest.mark.parametrize("name", ["unet", "unet_bands"])
def test_shipped_recipes_load(name):
    assert load_recipe(name).network in name


def test_the_old_name_of_a_section_still_works(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text("[chances]\nroom = 0.7\nsynthetic = {rain = 0.5}\n")
    assert load_recipe(recipe).mix.room == 0.7
    assert load_recipe(recipe).mix.synthetic == {"rain": 0.5}


@pytest.mark.parametrize(
    "path", [*sorted(models_folder().glob("*.pt")), SMALL, *TRUNKS], ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_trained_checkpoints_load_with_their_recipes(path):
    checkpoint = load_checkpoint(path)
    recipe = recipe_from_json(checkpoint["recipe"])
    assert recipe.mix.level_dbfs[1] - recipe.mix.level_dbfs[0] > 0
    load_weights(build(recipe.network, recipe.options), checkpoint["ema"])


def test_folders_that_cannot_be_mixed_say_why(folders, tmp_path):
    empty, short = tmp_path / "empty", tmp_path / "short"
    empty.mkdir()
    short.mkdir()
    sf.write(short / "a.wav", np.zeros(100), RATE)
    clean, cache = folders / "clean", tmp_path / "cache"
    with pytest.raises(UsageError, match="no speech audio"):
        open_bank([empty], "speech", RATE, cache)
    with pytest.raises(UsageError, match="not a folder"):
        open_bank([tmp_path / "nothing"], "speech", RATE, cache)
    with pytest.raises(RtdenoiseError, match="shorter than"):
        open_bank([short], "speech", RATE, cache)
    with pytest.raises(UsageError, match="the same"):
        Banks.open([clean], [clean], [], RATE, cache)


def test_mixed_rates_in_a_folder_become_one(folders, tmp_path):
    for rate in (8000, 44100):
        sf.write(tmp_path / f"{rate}.wav", 0.1 * np.sin(np.arange(rate) * 0.1), rate)
    bank = open_bank([tmp_path], "speech", RATE, tmp_path / "cache")
    assert [round(bank.length(k), -2) for k in range(2)] == [RATE, RATE]


def test_training_needs_audio_and_a_fresh_folder(start, tmp_path, capsys):
    assert main(["train", "unet", "--out", str(tmp_path / "x")]) == 2
    assert "--clean" in capsys.readouterr().err
    start("unet", "--steps", "1")
    assert start("unet", "--steps", "1") == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize("network", ["unet", "crced"])
def test_keeping_some_of_the_input_is_a_blend(network):
    net = build(network, {}).eval()
    spectra = torch.randn(1, 20, 129, dtype=torch.complex64) * 0.01
    with torch.no_grad():
        before = net(spectra)
        net.keep_input(0.25)
        assert torch.allclose(net(spectra), 0.75 * before + 0.25 * spectra, atol=1e-7)
    export(net, network, {})
