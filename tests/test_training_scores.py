"""Scores mean what their definitions say, and `evaluate` reports them for models and commands alike."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("pesq")
pytest.importorskip("pystoi")
pytest.importorskip("soxr")

import rtdenoise
from rtdenoise.cli.main import main
from rtdenoise.errors import UsageError
from rtdenoise.model.registry import find_model
from rtdenoise.training import metrics
from rtdenoise.training.scoring import comparison, noise_influence, pair_scores, spectrograms
from rtdenoise.training.scoring.dnsmos import SAMPLES, Dnsmos
from rtdenoise.training.scoring.pair_scores import Pair
from rtdenoise.training.scoring.systems import open_systems

pytestmark = pytest.mark.slow

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


def test_rumble_below_80_hz_costs_covl_but_not_behind_the_high_pass(speech):
    rumble = 0.2 * np.sin(2 * np.pi * 20 * np.arange(len(speech)) / RATE)
    for clean, out in ((speech + rumble, speech), (speech, speech + rumble)):
        row = pair_scores.scores(clean, out)
        assert row["covl_80hz"] > row["covl"] + 0.5


def test_the_high_band_is_judged_at_48_khz_alone():
    random = np.random.default_rng(0)
    wide = random.standard_normal(48000)
    low = np.fft.irfft(np.fft.rfft(wide) * (np.fft.rfftfreq(48000, 1 / 48000) < 7500))
    assert metrics.has_high_band(wide)
    assert not metrics.has_high_band(low)
    assert metrics.hf_lsd_db(wide, wide) == 0
    assert metrics.hf_lsd_db(wide, low) > 20


def write_pairs(folder, speech, names, snr_db=5):
    for side in ("clean", "noisy"):
        (folder / side).mkdir(parents=True, exist_ok=True)
        for name in names:
            stated = float(name.split("_")[1].removesuffix("dB")) if "dB" in name else snr_db
            sf.write(folder / side / f"{name}.wav", speech if side == "clean" else noisy(speech, stated), RATE)
    return folder


def cells_of(tables, heading):
    """A table of the printed ones, as rows of cells without the headings."""
    lines = next(part for part in tables.split("\n\n") if part.startswith(f"| {heading}")).splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if not line.startswith("| ---")]


def test_evaluate_reports_every_pair_and_its_snr(speech, tmp_path, capsys):
    write_pairs(tmp_path, speech, ["a_2.5dB", "b_7.5dB_rumble"])
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
    assert result["mean"]["gain_8k_db"] == pytest.approx(0, abs=1e-3)
    assert result["mean"]["noise_left_pauses" if "noise_left_pauses" in result["mean"] else "noise_left_speech"] == (
        pytest.approx(0, abs=0.5)
    )
    assert result["worse_than_noisy"] == {"estoi": 0, "si_sdr_80hz": 0}


def test_several_sets_have_one_mean_however_many_pairs_each_has(speech, tmp_path, capsys):
    sets = [
        write_pairs(tmp_path / "one", speech, ["a_0dB", "b_0dB"]),
        write_pairs(tmp_path / "two", speech, ["d_12dB"]),
    ]
    asked = ["evaluate", "copy=cp {in} {out}", *map(str, sets), "--quick", "--out", str(tmp_path / "scores")]
    assert main([*asked, "--jobs", "2"]) == 0
    tables = capsys.readouterr().out
    _, row = cells_of(tables[tables.index("Mean of one and two:") :].partition("\n\n")[2], "system | PESQ-WB")
    assert float(row[5]) == pytest.approx(6, abs=0.3), "SI-SDR: the mean of 0 and 12, not of all three pairs"
    *_, ours, voice = cells_of(tables, "system, means in dB")
    assert voice[0] == "the clean voice itself"
    assert float(voice[4]) < float(ours[4]) - 6, "under speech: what is counted has 6 dB more noise than voice"
    assert float(voice[5]) == 0
    assert "0 / 0 of 3" in tables
    kept = [tmp_path / "scores" / name / "copy.json" for name in ("two", "one")]
    assert "clean_in_pesq" not in json.loads(kept[0].read_text())["mean"], "--quick"
    assert main([*asked[:-2], "--against", *map(str, kept)]) == 0
    decided = capsys.readouterr().out
    for name in ("one", "two", "mean of one and two"):
        title, *rows = cells_of(decided[decided.index(f"On {name}:\n\n| copy (") :].partition("\n\n")[2], "copy (")
        assert title[1] == "against copy before"
        assert all(row[1].startswith("tie, ") for row in rows)


def test_a_verdict_is_better_worse_or_a_tie_beyond_two_standard_errors():
    def rows(**scores):
        return {pair: {k: v[i] for k, v in scores.items() if v[i] is not None} for i, pair in enumerate("abcd")}

    new = rows(si_sdr=[2, 4, 4, 6], estoi=[1, 1, 1, 1], noise_left_pauses=[-20, -20, None, -21], lsd=[3, 4, 5, 6])
    old = rows(si_sdr=[1, 2, 3, 4], estoi=[1.5, 0.5, 1, 1], noise_left_pauses=[-10, None, -9, -12], lsd=[2, 3, 4, 5])
    title, *table = cells_of(comparison.verdicts({"dev": {"new": new, "old": old}}), "new (")
    assert title == ["new (± 2 standard errors)", "against old"]
    assert dict(table) == {
        "SI-SDR": "better, +1.5 ± 0.6",  # differences 1, 2, 1, 2: twice 0.577 / sqrt(4)
        "ESTOI": "tie, +0.000 ± 0.408",
        "noise left in pauses > 150 Hz": "better, -9.5 ± 1.0",  # of the two pairs that both have it on
        "LSD": "worse, +1.00 ± 0.00",
    }
    both = comparison.verdicts({"dev": {"new": new, "old": old}, "foreign": {"new": old, "old": new}})
    assert dict(cells_of(both.partition("mean of dev and foreign:\n\n")[2], "new ("))["SI-SDR"] == "tie, +0.0 ± 0.4"
    alike = comparison.verdicts({"dev": {"new": rows(stoi=[0.1 + 0.2] * 4), "old": rows(stoi=[0.3] * 4)}})
    assert "tie, +0.000 ± 0.000" in alike, "a last bit is no difference, though every pair has the same"
    assert not comparison.verdicts({"dev": {"new": new}})
    assert "tie, +1.0 ± inf" in comparison.verdicts({"d": {"n": {"a": {"si_sdr": 2}}, "o": {"a": {"si_sdr": 1}}}})


def test_a_difference_that_hangs_on_one_noise_says_so(tmp_path):
    (tmp_path / "pairs.csv").write_text("pair,noise_source,noise\na,kitchen,kettle\nb,kitchen,kettle\nc,,fan\n")
    noises = noise_influence.noises_of(tmp_path)
    assert noises == {"a": "kitchen/kettle", "b": "kitchen/kettle", "c": "fan"}
    assert noise_influence.noises_of(tmp_path / "elsewhere") == {}
    new = {"a": {"si_sdr_80hz": 1.0}, "b": {"si_sdr_80hz": 2.0}, "c": {"si_sdr_80hz": 7.0, "pesq_wb": 2.0}, "d": {}}
    old = {"a": {"si_sdr_80hz": 3.0}, "b": {"si_sdr_80hz": 3.0}, "c": {"si_sdr_80hz": 4.0, "pesq_wb": 1.0}, "d": {}}
    told = noise_influence.influences({"s": {"new": new, "old": old}}, {"s": noises})
    [heading, row] = cells_of(told, "new |")
    cells = dict(zip(heading, row, strict=True))
    assert cells["SI-SDR 80 Hz"] == "+0.0, +3.0 without kitchen/kettle (2)"  # differences -2, -1 and 3
    assert cells["PESQ-WB"] == "-", "one noise alone"
    assert noise_influence.influences({"s": {"new": new, "old": old}}, {"s": {}}) == ""
    assert noise_influence.influences({"s": {"new": new}}, {"s": noises}) == ""
    (tmp_path / "pairs.csv").write_bytes(b"pair,noise\n\xff,x\n")
    with pytest.raises(UsageError, match="scores do not need it"):
        noise_influence.noises_of(tmp_path)


def test_scores_kept_from_before_are_compared_with(tmp_path):
    comparison.keep_scores(tmp_path, {"old": {"pairs": {"a": {"pesq_wb": 1.0}, "b": {"pesq_wb": 2.0}}}})
    peers = {"metrics": ["pesq_wb", "estoi"], "pairs": ["b", "a", "c"]}
    peers["scores"] = {"p": [[3, None], [2, 0.5], [9, 1]], "q": [[1, 1]] * 3}
    (tmp_path / "peers.json").write_text(json.dumps(peers))
    paths = [tmp_path / "old.json", tmp_path / "peers.json"]
    kept = comparison.read_kept(paths, {"dev": ["a", "b"], "foreign": ["c"]})
    assert kept["dev"]["old before"] == {"a": {"pesq_wb": 1.0}, "b": {"pesq_wb": 2.0}}
    assert kept["dev"]["p"]["b"] == {"pesq_wb": 3}, "null is what could not be measured"
    assert list(kept["foreign"]) == ["p", "q"]
    beside = comparison.beside({"p": {"pairs": {}}}, kept["foreign"])
    assert list(beside) == ["p", "p before", "q"], "a namesake does not take the first one's place"
    with pytest.raises(UsageError, match="no scores of pair d"):
        comparison.read_kept(paths, {"dev": ["a", "d"]})
    with pytest.raises(UsageError, match="the second file with scores of old before on dev"):
        comparison.read_kept(paths[:1] * 2, {"dev": ["a", "b"]})
    for text in ("", "[]", "{}", '{"metrics": ["x"], "pairs": ["a"], "scores": {"p": []}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError, match="contains no scores"):
            comparison.read_kept([tmp_path / "bad.json"], {"dev": ["a"]})


@pytest.mark.parametrize("count", [1, 2])
def test_the_worst_pairs_are_drawn_side_by_side(speech, tmp_path, count):
    image = pytest.importorskip("matplotlib.image")
    pairs = []
    for name in "ab"[:count]:
        for side, sound in (("clean", speech), ("noisy", noisy(speech, 5))):
            (tmp_path / side).mkdir(exist_ok=True)
            sf.write(tmp_path / side / f"{name}.wav", sound, RATE)
        pairs.append(Pair(name, tmp_path / "noisy" / f"{name}.wav", tmp_path / "clean" / f"{name}.wav"))
    spectrograms.plot(pairs, {"loud": lambda x, rate: 2 * x}, tmp_path / "worst.png")
    picture = image.imread(tmp_path / "worst.png")[..., :3]
    assert picture.shape[1] > 600
    assert picture.std() > 0.1, "something is drawn"


def test_a_model_with_low_behind_it_is_scored_at_8_ms(speech, tmp_path):
    x = noisy(speech, 5).astype(np.float32)
    systems = open_systems(["unet", "unet@low"], tmp_path)
    for name, latency in (("unet", "normal"), ("unet@low", "low")):
        np.testing.assert_array_equal(systems[name](x, RATE), rtdenoise.denoise(x, RATE, model="unet", latency=latency))


def test_files_that_state_one_name_are_told_apart(tmp_path):
    for name in ("first", "second"):
        shutil.copy(find_model("tape"), tmp_path / f"{name}.onnx")
    assert list(open_systems(["tape", str(tmp_path / "first.onnx"), f"{tmp_path}/second.onnx@low"], tmp_path)) == [
        "tape",
        "first",
        "tape@low",
    ]
    with pytest.raises(UsageError, match="two systems are called tape"):
        open_systems(["tape", "tape"], tmp_path)


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
    with pytest.raises(UsageError, match="not a P\\.835 model"):
        Dnsmos(samples_picker(0, 1, 2, samples=1000))
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    for name in ("broken.onnx", "missing.onnx"):
        with pytest.raises(UsageError, match="cannot read"):
            Dnsmos(tmp_path / name)


def test_evaluate_adds_opinions_where_asked(speech, samples_picker, tmp_path, capsys):
    write_pairs(tmp_path, speech, ["a"])
    model = str(samples_picker(0, 1, 2))
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path), "--quick", "--dnsmos", model]) == 0
    assert "| COVL 80 Hz | SIG | BAK | OVRL |" in capsys.readouterr().out
    assert main(["evaluate", "tape", str(tmp_path), "--tape", "--dnsmos", model]) == 2


def test_clean_speech_in_a_room_is_scored_where_rooms_are_given(speech, tmp_path, capsys):
    write_pairs(tmp_path, speech, ["a"])
    response = np.random.default_rng(0).standard_normal(RATE // 4) * np.exp(-np.arange(RATE // 4) / 800)
    response[20] = 8.0
    (tmp_path / "rooms").mkdir()
    sf.write(tmp_path / "rooms" / "office.wav", response / 9, RATE)
    asked = ["evaluate", "copy=cp {in} {out}", str(tmp_path), "--quick", "--rir", str(tmp_path / "rooms")]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    mean = json.loads((tmp_path / "copy.json").read_text())["mean"]
    assert mean["reverberant_in_pesq"] > 4.6
    assert mean["reverberant_in_si_sdr_80hz"] > 60, "judged against the voice with its room"
    assert main([*asked[:-1], str(tmp_path / "clean" / "none")]) == 2


def test_evaluate_says_what_is_wrong(tmp_path, capsys):
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path)]) == 2
    assert "noisy/ and clean/" in capsys.readouterr().err
    for side, count in (("clean", RATE), ("noisy", RATE + 1)):
        (tmp_path / side).mkdir()
        sf.write(tmp_path / side / "a.wav", np.zeros(count), RATE)
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path)]) == 1
    assert "differ" in capsys.readouterr().err
    assert main(["evaluate", "copy=cp a b", str(tmp_path)]) == 2
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path / "gone")]) == 2
    assert "gone is not a folder" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "no system" in capsys.readouterr().err
    (tmp_path / "scores.json").write_text("{}")
    asked = ["evaluate", "copy=cp {in} {out}", str(tmp_path)]
    for more in (["--jobs", "0"], ["--plot", "1"], ["--against", str(tmp_path / "scores.json")]):
        assert main([*asked, *more]) == 2
    assert main(["evaluate", "tape", str(tmp_path), "--tape", "--against", str(tmp_path / "scores.json")]) == 2
    capsys.readouterr()
    (tmp_path / "card.md").write_text("no marks")
    assert main(["evaluate", "copy=cp {in} {out}", str(tmp_path), "--card", str(tmp_path / "card.md")]) == 2
    assert "<!-- scores -->" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../up", "/tmp/x", "a/b", "..", "."])
def test_a_command_cannot_put_its_scores_into_another_folder(tmp_path, name):
    with pytest.raises(UsageError, match="another folder"):
        open_systems([f"{name}=cp {{in}} {{out}}"], tmp_path)
