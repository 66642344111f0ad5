"""Scores mean what their definitions say, and `evaluate` reports them for models and commands alike."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("pesq")
pytest.importorskip("pystoi")
pytest.importorskip("soxr")

import rtdenoise
from rtdenoise.cli import main
from rtdenoise.errors import UsageError
from rtdenoise.training import evaluate, metrics, score_tables, systems
from rtdenoise.training.dnsmos import SAMPLES, Dnsmos

RATE = 16000


@pytest.fixture(scope="module")
def speech():
    """Two seconds with a voice's structure: a gliding pitch, harmonics, syllables."""
    time_s = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(130 + 20 * np.sin(2 * np.pi * 1.5 * time_s)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    breath = 0.01 * np.random.default_rng(1).standard_normal(len(time_s))  # no voice is pure tones
    return 0.05 * voice * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s)) + breath


def noisy(speech, snr_db):
    noise = np.random.default_rng(0).standard_normal(len(speech))
    return speech + noise * np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)


@pytest.mark.parametrize("snr_db", [-5, 0, 20])
def test_si_sdr_of_white_noise_is_its_snr_at_any_scale(speech, snr_db):
    assert metrics.si_sdr_db(speech, 3.0 * noisy(speech, snr_db)) == pytest.approx(snr_db, abs=0.3)


def test_a_perfect_output_has_the_best_scores(speech):
    assert metrics.segmental_snr_db(speech, speech) == 35
    assert metrics.log_spectral_distance_db(speech, speech) == 0
    assert metrics.composite(speech, speech, 4.64, 35) == (5.0, pytest.approx(5, abs=0.1), 5.0)


def test_more_noise_scores_worse(speech):
    for score in (metrics.segmental_snr_db, metrics.estoi, metrics.pesq_wide):
        assert score(speech, noisy(speech, 20)) > score(speech, noisy(speech, 0))
    sig, bak, ovl = zip(*(metrics.composite(speech, noisy(speech, s), 2.5, s / 2) for s in (30, 10)), strict=True)
    assert sig[0] > sig[1]
    assert bak[0] > bak[1]
    assert ovl[0] > ovl[1]


def test_digital_silence_breaks_no_score(speech):
    gated = speech.copy()
    gated[: RATE // 2] = 0
    out = np.zeros_like(gated)
    for a, b in ((gated, out), (gated, gated), (gated, noisy(gated, 5))):
        values = metrics.composite(a, b, 1.5, metrics.segmental_snr_db(a, b))
        assert np.isfinite([*values, metrics.si_sdr_db(a, b), metrics.log_spectral_distance_db(a, b)]).all()


def test_the_high_band_is_judged_at_48_khz_alone():
    random = np.random.default_rng(0)
    wide = random.standard_normal(48000)
    low = np.fft.irfft(np.fft.rfft(wide) * (np.fft.rfftfreq(48000, 1 / 48000) < 7500))
    assert metrics.has_high_band(wide)
    assert not metrics.has_high_band(low)
    assert metrics.hf_lsd_db(wide, wide) == 0
    assert metrics.hf_lsd_db(wide, low) > 20


def test_evaluate_reports_every_pair_and_its_snr(speech, tmp_path, capsys):
    for side, sound in (("clean", lambda s: speech), ("noisy", lambda s: noisy(speech, s))):
        (tmp_path / side).mkdir()
        for snr_db in (2.5, 7.5):
            sf.write(tmp_path / side / f"a_{snr_db}dB.wav", sound(snr_db), RATE)
    card = tmp_path / "card.md"
    card.write_text("# copy\n<!-- scores -->\nold\n<!-- /scores -->\nwhat it does badly\n")
    arguments = ["copy=cp {in} {out}", str(tmp_path), "--out", str(tmp_path / "scores"), "--card", str(card)]
    assert main(["evaluate", *arguments]) == 0
    tables = capsys.readouterr().out
    assert "| copy |" in tables
    assert tables in card.read_text()
    assert "old" not in card.read_text()
    assert card.read_text().endswith("what it does badly\n")
    result = json.loads((tmp_path / "scores" / "copy.json").read_text())
    assert list(result["by_snr"]) == ["2.5", "7.5"]
    assert result["mean"]["si_sdr"] == pytest.approx(5, abs=0.3)
    assert result["mean"]["gain_db"] == pytest.approx(0, abs=0.1)
    assert result["mean"]["clean_in_pesq"] > 4.6
    assert result["worse_than_noisy"] == {"estoi": 0, "si_sdr": 0}


def test_systems_are_compared_pair_by_pair_with_the_first():
    def system(*si_sdr):
        alike = dict.fromkeys(score_tables.COLUMNS, 1.0)
        return {"pairs": {pair: alike | {"si_sdr": v} for pair, v in zip("abcd", si_sdr, strict=True)}}

    (lines,) = score_tables.differences({"old": system(1, 2, 3, 4), "new": system(2, 4, 4, 6)})
    cells = dict(zip(*([c.strip() for c in line.split("|")[1:-1]] for line in lines.splitlines()[::2]), strict=True))
    assert cells["mean difference ± 2 standard errors"] == "new minus old"
    assert cells["SI-SDR"] == "+1.5 ± 0.6", "differences 1, 2, 1, 2: twice 0.577 / sqrt(4)"
    assert cells["PESQ-WB"] == "+0.00 ± 0.00"
    assert not score_tables.differences({"old": system(1, 2, 3, 4)})


def test_scores_kept_from_before_are_compared_with(tmp_path):
    one = {"pairs": {pair: dict.fromkeys(score_tables.COLUMNS, 1.0) for pair in "ab"}}
    score_tables.keep_scores(tmp_path, "scores.md", "", {"old": one})
    (tmp_path / "peers.json").write_text(
        json.dumps({"metrics": ["pesq_wb"], "pairs": ["b", "a", "c"], "scores": {"p": [[3], [2], [9]], "q": [[1]] * 3}})
    )
    kept = score_tables.read_scores(tmp_path / "old.json", ["a", "b"])
    kept |= score_tables.read_scores(tmp_path / "peers.json", ["a", "b"])
    (table,) = score_tables.differences({"new": one} | kept)
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]
    assert rows == [
        ["old before minus new", "+0.00 ± 0.00", "+0.00 ± 0.00"],
        ["p minus new", "+1.50 ± 1.00", "-"],
        ["q minus new", "+0.00 ± 0.00", "-"],
    ]
    (table,) = score_tables.differences({"p": one}, score_tables.read_scores(tmp_path / "peers.json", ["a", "b"]))
    assert "| p minus p | +1.50 ± 1.00 | - |" in table, "a namesake does not take the first one's place"
    with pytest.raises(UsageError, match="no scores of pair d"):
        score_tables.read_scores(tmp_path / "peers.json", ["a", "d"])
    for text in ("", "[]", "{}", '{"metrics": ["x"], "pairs": ["a"], "scores": {"p": []}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError, match="holds no scores"):
            score_tables.read_scores(tmp_path / "bad.json", ["a"])


@pytest.mark.parametrize("count", [1, 2])
def test_the_worst_pairs_are_drawn_side_by_side(speech, tmp_path, count):
    image = pytest.importorskip("matplotlib.image")
    pairs = []
    for name in "ab"[:count]:
        for side, sound in (("clean", speech), ("noisy", noisy(speech, 5))):
            (tmp_path / side).mkdir(exist_ok=True)
            sf.write(tmp_path / side / f"{name}.wav", sound, RATE)
        pairs.append((name, tmp_path / "noisy" / f"{name}.wav", tmp_path / "clean" / f"{name}.wav"))
    evaluate.plot(pairs, {"loud": lambda x, rate: 2 * x}, tmp_path / "worst.png")
    picture = image.imread(tmp_path / "worst.png")[..., :3]
    assert picture.shape[1] > 600
    assert picture.std() > 0.1, "something is drawn"


def test_a_model_with_low_behind_it_is_scored_at_8_ms(speech):
    x = noisy(speech, 5).astype(np.float32)
    for text, latency in (("unet", "normal"), ("unet@low", "low")):
        name, system = systems.open_system(text)
        assert name == text
        np.testing.assert_array_equal(system(x, RATE), rtdenoise.denoise(x, RATE, model="unet", latency=latency))


@pytest.fixture
def samples_picker(tmp_path):
    """Makes a model of DNSMOS's shape whose three raw outputs are samples of its input."""
    onnx = pytest.importorskip("onnx")

    def make(*which, samples=SAMPLES):
        declare = lambda name, size: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        at = onnx.numpy_helper.from_array(np.array(which), "at")
        node = onnx.helper.make_node("Gather", ["x", "at"], ["y"], axis=1)
        graph = onnx.helper.make_graph([node], "picker", [declare("x", samples)], [declare("y", len(which))], [at])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "picker.onnx")
        return tmp_path / "picker.onnx"

    return make


def test_dnsmos_repeats_a_short_sound_and_maps_to_opinions(samples_picker):
    model = Dnsmos(samples_picker(0, 1999, 2000 * 3 + 5))
    x = np.linspace(1, 5, 2000)
    got = model(x)
    assert got["sig"] == pytest.approx(-0.08397278 + 1.22083953 + 0.0052439, abs=1e-6), "of a raw 1"
    assert got["bak"] == pytest.approx(-0.13166888 * 25 + 1.60915514 * 5 - 0.39604546, abs=1e-5), "of a raw 5"
    assert got["ovrl"] == pytest.approx(-0.06766283 * x[5] ** 2 + 1.11546468 * x[5] + 0.04602535, abs=1e-5)
    assert model(np.tile(x, 3)) == got


def test_dnsmos_refuses_other_files(samples_picker, tmp_path):
    with pytest.raises(UsageError, match="no P\\.835 model"):
        Dnsmos(samples_picker(0, 1, 2, samples=1000))
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    for name in ("broken.onnx", "missing.onnx"):
        with pytest.raises(UsageError, match="cannot read"):
            Dnsmos(tmp_path / name)


def test_evaluate_adds_opinions_where_asked(speech, samples_picker, tmp_path, capsys):
    for side, sound in (("clean", speech), ("noisy", noisy(speech, 5))):
        (tmp_path / side).mkdir()
        sf.write(tmp_path / side / "a.wav", sound, RATE)
    model = str(samples_picker(0, 1, 2))
    assert main(["evaluate", "copy=cp {in} {out}", "same=cp {in} {out}", str(tmp_path), "--dnsmos", model]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert all("| COVL | SIG | BAK | OVRL |" in tables[k] for k in (0, 3)), "scores and differences"
    assert "+0.00 ± inf" in tables[3]
    assert main(["evaluate", "tape", str(tmp_path), "--tape", "--dnsmos", model]) == 2


def test_evaluate_compares_with_scores_kept_before(speech, tmp_path, capsys):
    for side, sound in (("clean", speech), ("noisy", noisy(speech, 5))):
        (tmp_path / side).mkdir()
        sf.write(tmp_path / side / "a.wav", sound, RATE)
    asked = ["evaluate", "copy=cp {in} {out}", str(tmp_path)]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main([*asked, "--against", str(tmp_path / "copy.json")]) == 0
    assert "| copy before minus copy | +0.00 ± inf |" in capsys.readouterr().out
    assert main([*asked, "--against", str(tmp_path / "scores.md")]) == 2
    assert main(["evaluate", "tape", str(tmp_path), "--tape", "--against", str(tmp_path / "copy.json")]) == 2


def test_evaluate_says_what_is_wrong(tmp_path, capsys):
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path)]) == 2
    assert "noisy/ and clean/" in capsys.readouterr().err
    for side, count in (("clean", RATE), ("noisy", RATE + 1)):
        (tmp_path / side).mkdir()
        sf.write(tmp_path / side / "a.wav", np.zeros(count), RATE)
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path)]) == 1
    assert "differ" in capsys.readouterr().err
    assert main(["evaluate", "copy=cp a b", str(tmp_path)]) == 2
    (tmp_path / "card.md").write_text("no marks")
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path), "--card", str(tmp_path / "card.md")]) == 2
    assert "<!-- scores -->" in capsys.readouterr().err
