"""Pairs to choose by hold recordings that no training draws from, mixed as their list says."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("torch")
pytest.importorskip("soxr")
pytest.importorskip("scipy")

from rtdenoise.cli.main import main
from rtdenoise.training.data.devset import active_level
from rtdenoise.training.data.material import Clip
from rtdenoise.training.scoring.pair_scores import STATED_SNR

pytestmark = pytest.mark.slow

RATES = {"narrow": 16000, "wide": 48000}
COUNT = 20


def label(source, dev, begin):
    """A label that falls on this side of the split."""
    return next(who for k in range(1000) if Clip(None, source, who := f"{begin}{k}").is_dev == dev)


def tone_burst(rate, seconds, hz):
    time_s = np.arange(int(seconds * rate)) / rate
    rumble = 0.0025 * np.sin(2 * np.pi * 25 * time_s)  # of the recording's own
    hiss = 1e-4 * np.random.default_rng(0).standard_normal(len(time_s))
    return 0.2 * np.sin(2 * np.pi * hz * time_s) * (time_s % 1 < 0.7) + rumble + hiss


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root, rows, random = tmp_path_factory.mktemp("corpus"), [], np.random.default_rng(1)

    def add(kind, source, who, nc, sound, rate):
        (root / source).mkdir(exist_ok=True)
        sf.write(root / source / f"{who}.wav", sound, rate)
        rows.append({"path": f"{source}/{who}.wav", "kind": kind, "source": source, "who": who, "nc": nc})

    for nc, part in (("0", True), ("0", False), ("1", False)):
        side = f"nc{nc}"
        for name, rate in RATES.items():
            voice = tone_burst(rate, 8, 300 + 100 * part)
            add("speech", f"{side}_{name}", label(f"{side}_{name}", part, "voice"), nc, voice, rate)
        for begin in ("hiss", "engine-"):
            noise = 0.05 * random.standard_normal(5 * 16000)
            add("noise", f"{side}_noise", label(f"{side}_noise", part, begin), nc, noise, 16000)
    add("speech", "nc0_mumble", label("nc0_mumble", True, "voice"), "0", random.standard_normal(8 * 16000) / 9, 16000)
    response = np.zeros(4000)
    response[[20, 900]] = 1, 0.3
    add("rir", "hall", "hall", "0", response, 16000)
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return root


@pytest.fixture(scope="module")
def sets(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets")
    asked = ["devset", "--corpus", str(corpus), "--pairs", str(COUNT), "--seconds", "3", "--out"]
    assert main([*asked, str(out)]) == 0
    assert main([*asked, str(out / "again")]) == 0
    return out


def listed(folder):
    with (folder / "pairs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pair(folder, row):
    (noisy, rate), (clean, _) = (sf.read(folder / side / f"{row['pair']}.flac") for side in ("noisy", "clean"))
    return noisy, clean, rate


def low_share(x, rate, hz=50):
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    return power[np.fft.rfftfreq(len(x), 1 / rate) < hz].sum() / power.sum()


def test_equal_seeds_write_equal_files(sets):
    files = sorted(p.relative_to(sets / "again") for p in (sets / "again").rglob("*.*"))
    assert len(files) == 2 * (2 * COUNT + 1)
    for path in files:
        assert (sets / path).read_bytes() == (sets / "again" / path).read_bytes()


def test_dev_has_what_is_kept_out_of_training_and_foreign_what_training_leaves_out(sets):
    for row in listed(sets / "dev"):
        for source, _, who in (row["voice"].partition("/"), row["noise"].partition("/")):
            assert source.startswith("nc0")
            assert Clip(None, source, who).is_dev
    for row in listed(sets / "foreign"):
        assert row["voice"].startswith("nc1")
        assert row["noise"].startswith("nc1")
    for row in listed(sets / "dev") + listed(sets / "foreign"):
        source, _, who = row["rumble"].partition("/")
        assert source in ("", "nc1_noise") or Clip(None, source, who).is_dev


def test_collections_snrs_rumbles_and_rooms_take_their_turns(sets):
    rows = listed(sets / "dev")
    count = lambda key, value: sum(row[key] == value for row in rows)
    assert {float(row["snr_db"]) for row in rows} == {-2.5, 2.5, 7.5, 12.5, 17.5}
    assert all(count("snr_db", row["snr_db"]) == COUNT // 5 for row in rows)
    assert count("rumble", "") == COUNT // 2
    assert count("room", "hall/hall") == COUNT // 4
    assert count("rate", "48000") == COUNT // 2, "as the voice was recorded"
    assert not any("hiss" in row["rumble"] or "mumble" in row["voice"] for row in rows), "a voice in noise is left out"
    for row in rows:
        assert float(STATED_SNR.search(row["pair"])[1]) == float(row["snr_db"])
        assert row["pair"].endswith("_rumble") == bool(row["rumble"])


def test_voices_of_some_collections_far_speakers_and_whispers_can_be_asked_for(corpus, tmp_path, capsys):
    asked = ["devset", "--corpus", str(corpus), "--pairs", "8", "--seconds", "3", "--out"]
    assert main([*asked, str(tmp_path / "some"), "--voices", "nc1_wide", "--in-rooms", "75"]) == 0
    assert "no dev pairs: no such voice" in capsys.readouterr().err
    rows = listed(tmp_path / "some" / "foreign")
    assert {row["voice"].partition("/")[0] for row in rows} == {"nc1_wide"}
    assert sum(row["room"] == "hall/hall" for row in rows) == 6
    assert not any(row["whispered"] for row in rows)
    assert main([*asked, str(tmp_path / "soft"), "--voices", "nc1_wide", "--whispered", "25"]) == 0
    whispers = listed(tmp_path / "soft" / "foreign")
    assert sum(row["whispered"] == "yes" for row in whispers) == 2
    assert main([*asked, str(tmp_path / "none"), "--voices", "nobody"]) == 2
    assert "keeps no voice of nobody" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["dev", "foreign"])
def test_levels_are_what_the_list_says_and_references_have_no_rumble(sets, name):
    for row in listed(sets / name):
        noisy, clean, rate = pair(sets / name, row)
        assert rate == int(row["rate"])
        assert len(noisy) == len(clean) == 3 * rate
        assert np.abs(noisy).max() < 0.99
        assert low_share(clean, rate) < 2e-5, "its voice's own rumble is noise"
        power = np.mean((noisy - clean) ** 2) / active_level(clean, rate) ** 2
        stated = [float(row[key]) for key in ("snr_db", "rumble_snr_db") if row[key]]
        expected = sum(10 ** (-db / 10) for db in stated)
        assert 10 * np.log10(power) == pytest.approx(10 * np.log10(expected), abs=1.2)


def test_devset_says_what_is_wrong(corpus, sets, tmp_path, capsys):
    def refused(*arguments):
        assert main(["devset", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "already exists" in refused("--corpus", corpus, "--out", sets)
    assert "no manifest.csv" in refused("--corpus", tmp_path, "--out", tmp_path / "out")
    without = ["--without", "nc0_narrow", "nc0_wide"]
    assert "no voice of the dev set" in refused("--corpus", corpus, "--out", tmp_path / "out", *without)
    assert "keeps no voice" in refused("--corpus", corpus, "--out", tmp_path, *without, "nc0_mumble")
    assert "--pairs" in refused("--corpus", corpus, "--out", tmp_path / "out", "--pairs", "0")
