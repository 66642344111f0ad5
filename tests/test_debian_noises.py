"""Noises for training out of packages: what is kept of them, and in which form."""

import csv
import io
import sys

import numpy as np
import pytest
import soundfile as sf

import debian_noises

RATE = 22050


def sound(x):
    data = io.BytesIO()
    sf.write(data, x, RATE, "PCM_16", format="WAV")
    return data.getvalue()


def test_a_package_becomes_noises_of_one_level(tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    hiss = random.standard_normal(RATE) * 0.02
    asked = []
    files = [
        ("usr/share/sounds/engine.wav", sound(0.3 * np.sin(2 * np.pi * 80 * np.arange(RATE // 2) / RATE))),
        ("usr/share/sounds/hiss.wav", sound(hiss)),
        ("usr/share/sounds/short.wav", sound(hiss[: RATE // 20])),
        ("usr/share/sounds/silent.wav", sound(np.zeros(RATE))),
        ("usr/share/sounds/clipped.wav", sound(np.sign(hiss))),
        ("usr/share/sounds/broken.wav", b"RIFF"),
    ]

    def members(name, package):
        asked.append(name)
        return iter(files)

    monkeypatch.setattr(debian_noises, "_members", members)
    monkeypatch.setattr(sys, "argv", ["debian_noises.py", str(tmp_path), "--only", "scratch"])
    assert debian_noises.main() == 0
    assert debian_noises.main() == 0
    assert asked == ["scratch"], "what is there is not made again"
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["source"], r["who"], r["nc"]) for r in rows] == [
        ("scratch", "effects-0", "0"),
        ("scratch", "machines-0", "0"),
    ]
    heard = {r["who"]: sf.read(tmp_path / r["path"]) for r in rows}
    assert all(rate == 48000 for _, rate in heard.values())
    engine, effects = (heard[name][0] for name in ("machines-0", "effects-0"))
    assert len(engine) == 12 * 48000, "a loop is played on"
    assert 1 <= len(effects) / 48000 <= 1.2, "of the others one can serve"
    for x in (engine, effects[: 48000 * 9 // 10]):
        assert 20 * np.log10(np.std(x)) == pytest.approx(-26, abs=0.5)
