"""A profile sets what nobody typed, and a running session takes it on or says why not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from command import call, voice, write
from rtdenoise import profiles
from rtdenoise.cli import main, request
from rtdenoise.cli.config import config_path, load_config
from rtdenoise.cli.main import _filter_parser
from rtdenoise.errors import UsageError
from rtdenoise.profiles import BUILT_IN, Profile, while_running

LIVE = ("--in", "mic", "--out", "virtual-mic")


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Writes the configuration file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))

    def write_it(text: str) -> None:
        config_path().parent.mkdir(parents=True, exist_ok=True)
        config_path().write_text(text, encoding="utf-8")

    write_it("")
    return write_it


def asked(*argv: str):
    return request.read(_filter_parser(), list(argv))


def test_the_four_are_there_and_only_music_practice_is_for_the_least_delay(configure):
    assert list(load_config().profiles) == ["call", "podcast", "music-practice", "far-microphone"]
    for name in BUILT_IN:
        args = asked(*LIVE, "--profile", name)
        assert args.latency == ("low" if name == "music-practice" else "normal")
        assert args.strength == BUILT_IN[name].values()["strength"]


def test_the_command_line_wins_over_the_profile_and_the_profile_over_the_configuration(configure):
    configure('strength = 3\nlatency = "low"\nprofile = "podcast"\n[live]\nfixed_latency = 40\n')
    assert (asked(*LIVE).strength, asked(*LIVE).latency) == (12, "normal")
    assert asked(*LIVE, "--strength", "5").strength == 5
    assert asked(*LIVE, "--profile", "call").strength is None
    for back in ("none", "default"):
        assert (asked(*LIVE, "--profile", back).strength, asked(*LIVE, "--profile", back).latency) == (3, "low")


def test_the_configuration_changes_profiles_and_adds_others(configure):
    configure(
        '[live]\nfixed_latency = 40\n[profiles.call]\nstrength = 20\n[profiles."my band"]\nlatency = 30\nchannels = 2\n'
    )
    assert load_config().profiles["call"] == Profile(BUILT_IN["call"].about, strength=20.0, latency="normal")
    args = asked(*LIVE, "--profile", "my band")
    assert (args.latency, args.channels, args.fixed_latency, args.strength) == (30, 2, None, None)
    assert asked(*LIVE, "--profile", "call").fixed_latency == 40


def test_files_take_what_makes_sense_for_them(configure, tmp_path, capfd):
    configure("[profiles.all]\nlatency = 30\nchannels = 2\nstrength = 0\n")
    ends = ("--in", write(tmp_path / "a.wav", voice(16_000)), "--out", tmp_path / "b.wav", "--json")
    assert json.loads(call(capfd, *ends, "--profile", "music-practice")[1])["latency_ms"] == 8
    assert call(capfd, *ends, "--profile", "all")[0] == 0
    before, after = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    assert np.abs(before - after).max() < 1e-3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[profiles.call]\nstrenght = 3", "[profiles.call]: unknown key 'strenght'; did you mean 'strength'?"),
        ("[profiles.call]\nstrength = -3", "[profiles.call]: strength: '-3.0' is out of range"),
        ('[profiles.x]\nlatency = "slow"', "[profiles.x]: latency: 'slow' is not normal"),
        ("[profiles.x]\nchannels = 1.5", "[profiles.x]: channels must be int"),
        ("[profiles]\ncall = 3", "profiles.call must be a table, not 3"),
        ("profiles = 3", "profiles must be dict, not 3"),
        ('[profiles.""]', "choose another name"),
        ("[profiles.none]", "choose another name"),
        ('[profiles." x"]', "choose another name"),
        ('profile = "cal"', "profile: unknown profile 'cal', did you mean call?"),
        ("profile = 3", "profile must be str"),
    ],
)
def test_a_mistake_in_one_is_named_in_one_line(configure, capfd, text, says):
    configure(text)
    for line in (["profiles"], [*LIVE]):
        assert main.main(line) == 2
        said = capfd.readouterr().err
        assert says in said
        assert str(config_path()) in said
        assert said.count("\n") == 1


def test_one_that_is_not_there_is_named_with_the_nearest(configure, capfd):
    assert main.main([*LIVE, "--profile", "podcats"]) == 2
    assert "unknown profile 'podcats', did you mean podcast?; see rtdenoise profiles" in capfd.readouterr().err
    configure('[profiles.mine]\nmodel = "unett"\n')
    assert main.main(["--in", "a.wav", "--out", "b.wav", "--profile", "mine"]) != 0
    assert capfd.readouterr().err.count("\n") == 1


def test_an_error_about_a_value_of_a_profile_names_it(configure, tmp_path, capfd):
    configure('[profiles.mine]\nmodel = "unett"\n')
    ends = ["--in", str(write(tmp_path / "a.wav", voice(1000))), "--out", str(tmp_path / "b.wav")]
    assert main.main([*ends, "--profile", "mine"]) == 2
    assert "model: see profile mine" in capfd.readouterr().err


def test_they_are_listed_with_what_they_set(configure, capfd):
    configure('profile = "band"\n[profiles.band]\nabout = "the band"\nstrength = "none"\nlatency = 25\n')
    assert main.main(["profiles"]) == 0
    shown = capfd.readouterr().out
    assert all(name in shown for name in BUILT_IN)
    line = next(line for line in shown.splitlines() if "band (default)" in line)
    assert "strength none, latency 25 ms" in line
    assert "configuration" in line
    assert main.main(["profiles", "--json"]) == 0
    listed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert listed[-1] == {"profile": "band", "about": "the band", "strength": "none", "latency": 25.0}


def test_a_running_session_takes_on_all_but_another_timing():
    fits = lambda name, value: value in ("normal", 1, "unet")
    assert while_running("p", Profile(strength="none", low_cut="off", model="unet", channels=1), fits) == {
        "strength_db": None,
        "low_cut_hz": None,
        "model": "unet",
    }
    assert while_running("p", Profile(model="default"), fits) == {"model": None}
    with pytest.raises(UsageError, match=r"profile p has latency low, which .* start it again with --profile p"):
        while_running("p", Profile(latency="low"), fits)
    with pytest.raises(UsageError, match=r"profile p has model studio, which .* start it again with --profile p"):
        while_running("p", Profile(model="studio", strength=3.0), fits)
    with pytest.raises(UsageError, match=r"latency 30\.0 and channels 2"):
        while_running("p", Profile(latency=30.0, channels=2, strength=3.0), fits)
    with pytest.raises(UsageError, match="unknown profile"):
        profiles.find("no", BUILT_IN)
