"""Tape noise is what cassettes make, and what takes it off keeps the stereo image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from rtdenoise import denoise  # noqa: E402
from rtdenoise.cli.main import main  # noqa: E402
from rtdenoise.model.registry import load_model  # noqa: E402
from rtdenoise.training import metrics  # noqa: E402
from rtdenoise.training.data import tape_noise  # noqa: E402
from rtdenoise.training.data.mixer import Banks, MixConfig  # noqa: E402
from rtdenoise.training.data.tape_mixer import TapeMixer, mixer_for  # noqa: E402
from rtdenoise.training.networks import build  # noqa: E402
from rtdenoise.training.onnx_export.export import export  # noqa: E402

pytestmark = pytest.mark.slow

RATE = 44100


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Two files: chords in stereo, and a mono one at another rate."""
    root = tmp_path_factory.mktemp("tape") / "music"
    root.mkdir()
    for name, rate, sides in (("stereo", RATE, 2), ("mono", 32000, 1)):
        time_s = np.arange(3 * rate) / rate
        chord = [sum(np.sin(2 * np.pi * hz * (1 + 0.002 * k) * time_s) for hz in (220, 330, 880)) for k in range(sides)]
        sf.write(root / f"{name}.wav", 0.08 * np.stack(chord, 1), rate)
    return root


@pytest.fixture
def banks(music):
    return Banks.open([music], [Path("tape")], [], RATE, music.parent / "cache")


def test_the_replay_equaliser_is_that_of_iec_60094_1():
    """Flat between 50 Hz (3180 us) and 1326 or 2274 Hz (120 us, 70 us), 3 dB off at each, then 6 dB an octave."""
    db = lambda hz, us: 20 * np.log10(tape_noise.equaliser(np.array([float(hz)]), us)[0])
    assert db(1e6 / (2 * np.pi * 3180), 120.0) == pytest.approx(-3.0, abs=0.1)
    assert db(1e6 / (2 * np.pi * 120), 120.0) == pytest.approx(3.0, abs=0.1)
    assert db(16000, 120.0) - db(8000, 120.0) == pytest.approx(6.0, abs=0.2)
    assert db(15000, 120.0) - db(15000, 70.0) == pytest.approx(20 * np.log10(120 / 70), abs=0.1)


def test_hiss_follows_its_spectrum_and_is_independent_on_the_two_tracks():
    noise = tape_noise.hiss(np.random.default_rng(1), 2**20, RATE)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.02
    # the generator draws its noise before its deck, so the deck is drawn again behind the same noise
    random = np.random.default_rng(1)
    random.standard_normal((2, noise.shape[1]), dtype=np.float32)
    expected = 20 * np.log10(tape_noise.hiss_spectrum(random, np.fft.rfftfreq(1024, 1 / RATE)[4:480]))
    power = np.mean(np.abs(np.fft.rfft(metrics.frames_of(noise[0], 1024, 512) * np.hanning(1024))) ** 2, 0)
    seen = 10 * np.log10(power[4:480])
    assert np.abs((seen - seen.mean()) - (expected - expected.mean())).max() < 1.5


def test_tape_noise_has_two_tracks_unit_level_and_depends_on_its_seed_alone():
    for seed in range(8):
        one, two = (tape_noise.tape_noise(np.random.default_rng(seed), RATE, RATE) for _ in range(2))
        assert one.shape == (2, RATE)
        assert np.array_equal(one, two)
        assert np.sqrt(np.mean(one**2)) == pytest.approx(1, abs=1e-3)
        gain = tape_noise.drop_outs(np.random.default_rng(seed), 4 * RATE, RATE)
        assert 0.1 < gain.min() <= gain.max() <= 1


def test_music_on_tape_has_the_snr_asked_for():
    random = np.random.default_rng(0)
    clean = random.standard_normal((2, 2 * RATE)).astype(np.float32) * 0.1
    noisy, wanted = tape_noise.on_tape(random, clean, RATE, 20.0)
    assert 10 * np.log10(np.sum(wanted**2) / np.sum((noisy - wanted) ** 2)) == pytest.approx(20, abs=0.5)


def test_tape_pairs_are_stereo_finite_and_depend_on_seed_and_number_alone(banks):
    one, two = (mixer_for(banks, 1.0, 3, MixConfig()) for _ in range(2))
    assert isinstance(one, TapeMixer)
    two.pair(0)
    assert all(np.array_equal(a, b) for a, b in zip(one.pair(5)[:2], two.pair(5)[:2], strict=True))
    for k in range(30):
        noisy, target, _ = one.pair(k)
        assert noisy.shape == target.shape == (2, RATE)
        assert np.isfinite(noisy).all()
        assert np.isfinite(target).all()
    noisy, _ = one.batch(2, 3)
    assert np.array_equal(noisy[2:4], one.pair(7)[0])


def test_rumble_and_handling_are_noise_and_the_music_keeps_its_bass(banks):
    config = {"low_noise_db": (-12.0, -12.0), "noise_only": 0.0, "clean_only": 0.0}
    plain, with_low = (mixer_for(banks, 1.0, 3, MixConfig(low_noise=chance, **config)) for chance in (0.0, 1.0))
    hz = np.fft.rfftfreq(RATE, 1 / RATE)
    for k in range(6):
        (noisy, wanted, _), (rumbling, same, _) = plain.pair(k), with_low.pair(k)
        gain = np.dot(wanted.ravel(), same.ravel()) / np.dot(wanted.ravel(), wanted.ravel())
        assert np.allclose(same, gain * wanted, atol=1e-5 * np.abs(same).max()), "the music changed"
        added = np.abs(np.fft.rfft(rumbling - gain * noisy)) ** 2
        assert added[:, hz < 500].sum() > 0.9 * added.sum()
        level_db = 10 * np.log10(np.sum((rumbling - gain * noisy) ** 2) / np.sum(same**2))
        assert level_db == pytest.approx(-12, abs=2)  # drop-outs take some of the music away


def test_mix_writes_stereo_pairs_with_tape_noise(music, tmp_path):
    args = ["--clean", str(music), "--noise", "tape", "--rate", str(RATE), "--snr", "15", "20"]
    assert main(["mix", *args, "--hours", "0.001", "--seconds", "2", "--out", str(tmp_path)]) == 0
    with (tmp_path / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        noisy, clean = (sf.read(tmp_path / side / row["name"])[0] for side in ("noisy", "clean"))
        assert noisy.shape == clean.shape == (2 * RATE, 2)
        snr_db = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        assert snr_db == pytest.approx(float(row["snr_db"]), abs=1)


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    """An untrained linked network, exported."""
    torch.manual_seed(1)
    net = build("masker", {"columns": 352, "channels": (4, 4, 4), "taps": (0, 1), "linked": True})
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    path = tmp_path_factory.mktemp("linked") / "linked.onnx"
    path.write_bytes(export(net, "masker", {"name": "linked"}).SerializeToString())
    return load_model(path)


def test_a_linked_model_says_so(linked):
    assert linked.info.linked
    assert not load_model("unet").info.linked


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_linked_channels_keep_their_levels_to_each_other(linked, channels):
    """One filter for all: a source that is panned comes out panned alike, at any number of channels."""
    random = np.random.default_rng(0)
    source, gains = 0.1 * random.standard_normal(RATE), 10 ** (-np.arange(channels) * 6 / 20)
    x = (source[:, None] * gains).astype(np.float32)
    y = denoise(x, RATE, linked)
    assert np.abs(y / gains - y[:, :1]).max() < 1e-5
    assert np.abs(y[RATE // 4 :] - x[RATE // 4 :]).max() > 1e-3, "the network did nothing"


def test_evaluate_scores_tape_noise_on_music(music, tmp_path, capsys):
    assert main(["evaluate", "copy=cp {in} {out}", str(music), "--tape", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| copy | 15 dB | " in out
    result = json.loads((tmp_path / "copy.json").read_text())
    for snr_db in (15, 20, 25):
        row = result[str(snr_db)]
        assert row["si_sdr_db"] == row["si_sdr_db_in"] == pytest.approx(snr_db, abs=1.5)
        assert row["lsd_db"] == row["lsd_db_in"]
    assert result["clean"]["si_sdr_db"] > 100
    assert result["clean"]["pan_error_db"] == 0
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path / "nothing"), "--tape"]) == 2


def test_overlap_is_one_for_equal_sounds_and_small_for_others():
    random = np.random.default_rng(0)
    low, high = (np.sin(2 * np.pi * hz * np.arange(16000) / 16000) for hz in (500, 4000))
    noise = 1e-4 * random.standard_normal(16000)
    assert metrics.overlap(low + noise, low + noise) == 1
    assert metrics.overlap(low + noise, high + noise) < 0.3
