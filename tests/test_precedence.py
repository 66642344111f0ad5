"""A setting that is given several times holds as it was typed; what nobody typed gives way, in one order everywhere.

option typed ▸ --profile typed ▸ remembered for the microphone ▸ the configuration's profile ▸ configuration
"""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest

from rtdenoise.arguments import Parser
from rtdenoise.cli import live, panel, request
from rtdenoise.cli.config import config_path
from rtdenoise.cli.main import _filter_parser
from rtdenoise.live import microphones

MICROPHONE = "USB microphone"
CALL_DB, PODCAST_DB = None, 12.0  # what these profiles set
# Each with what it gives: the typed option, the typed profile, what is remembered, the configuration's profile and key.
OPTIONS = {None: (), "7": (7.0,), "none": (None,)}
TYPED = {None: (), "call": (CALL_DB,), "none": ()}
REMEMBERED = {None: (), 9: (9.0,), "none": (None,)}
CONFIGURED = {None: (), "podcast": (PODCAST_DB,)}
KEYS = {None: (), 3: (3.0,)}
EVERY = list(product(OPTIONS, TYPED, REMEMBERED, CONFIGURED, KEYS))


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Writes what is configured and remembered."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(live, "find_device", lambda name, side: SimpleNamespace(name=MICROPHONE))
    config_path().parent.mkdir(parents=True)

    def write(remembered: dict, text: str) -> None:
        config_path().write_text(text, encoding="utf-8")
        microphones.path().unlink(missing_ok=True)
        microphones.save({MICROPHONE: remembered})

    return write


def configuration(profile: str | None, strength: int | None) -> str:
    return (f'profile = "{profile}"\n' if profile else "") + (f"strength = {strength}\n" if strength else "")


def first(*ways: tuple) -> float | None:
    """What the first of those gives that give anything; no limit if none does."""
    return next((way[0] for way in ways if way), None)


def of_command(*argv: str):
    """What `rtdenoise --in mic --out virtual-mic` would begin with."""
    args = request.read(_filter_parser(), ["--in", "mic", "--out", "virtual-mic", "--quiet", *argv])
    live._take_remembered(args)
    return args


def of_panel(*argv: str, microphone: str = MICROPHONE) -> dict:
    """What `rtdenoise panel` would begin with."""
    parser = Parser()
    panel.add_arguments(parser)
    engine, _ = panel._engine(parser.parse_args(list(argv)))
    return engine.preferences.wanted(microphone, engine.choices["profile"])


def test_of_every_combination_the_command_takes_the_first_that_is_given(given):
    for option, typed, remembered, configured, key in EVERY:
        given({"strength": remembered} if remembered else {}, configuration(configured, key))
        argv = ([f"--strength={option}"] if option else []) + ([f"--profile={typed}"] if typed else [])
        expected = first(
            OPTIONS[option],
            TYPED[typed],
            REMEMBERED[remembered],
            CONFIGURED[configured] if typed is None else (),  # `--profile none` is to do without it
            KEYS[key],
        )
        assert of_command(*argv).strength == expected, (argv, remembered, configured, key)


def test_of_every_combination_the_panel_takes_the_same(given):
    for option, typed, remembered, configured, key in EVERY:
        if option is not None:
            continue  # the panel's command has none for the strength
        given({"strength": remembered} if remembered else {}, configuration(configured, key))
        argv = [f"--profile={typed}"] if typed else []
        assert of_panel(*argv).get("strength") == of_command(*argv).strength, (argv, remembered, configured, key)


def test_a_typed_profile_leaves_what_it_does_not_set(given):
    given({"strength": 9, "low_cut": 80, "channels": 2}, "")
    args = of_command("--profile", "podcast")
    assert (args.strength, args.low_cut, args.channels) == (PODCAST_DB, 80, 2)
    wanted = of_panel("--profile", "podcast")
    assert (wanted["strength"], wanted["low_cut"], wanted["channels"]) == (PODCAST_DB, 80, 2)


def test_a_typed_model_goes_before_that_of_a_typed_profile(given):
    given({"model": "tape"}, '[profiles.mine]\nmodel = "crced"\n')
    assert of_command("--profile", "mine").model == of_panel("--profile", "mine")["model"] == "crced"
    assert of_command("--profile", "mine", "--model", "unet").model == "unet"
    assert of_panel("--profile", "mine", "--model", "unet")["model"] == "unet"


def test_a_typed_profile_holds_until_something_else_is_set_in_the_panel(given):
    given({"strength": 9}, "[profiles.low]\nlow_cut = 80\nstrength = 4\n")
    parser = Parser()
    panel.add_arguments(parser)
    engine, _ = panel._engine(parser.parse_args(["--profile", "low"]))
    kept = engine.preferences
    assert (kept.wanted(MICROPHONE, "low")["strength"], kept.wanted(MICROPHONE, "low")["low_cut"]) == (4, 80)
    kept.remember(MICROPHONE, {"strength": 5.0})
    assert (kept.wanted(MICROPHONE, "low")["strength"], kept.wanted(MICROPHONE, "low")["low_cut"]) == (5, 80)
    kept.begin_profile(MICROPHONE, "podcast")
    assert kept.wanted(MICROPHONE, "podcast")["strength"] == PODCAST_DB
    assert "low_cut" not in kept.wanted(MICROPHONE, "podcast")


def test_the_virtual_speaker_has_settings_of_its_own(given):
    given({"strength": 9}, "")
    microphones.save({"rtdenoise speaker": {"strength": 4}})
    args = request.read(_filter_parser(), ["--in", "virtual-speaker", "--out", "speakers", "--quiet"])
    live._take_remembered(args)
    assert args.strength == 4
    assert of_panel("--in", "virtual-speaker", microphone="rtdenoise speaker")["strength"] == 4


def test_what_is_taken_is_told_and_what_gives_way_is_not(given, capfd):
    given({"low_cut": 80, "strength": 9}, "")
    of = ["--in", "mic", "--out", "virtual-mic"]
    for argv, said in (
        ([], "low cut 80 Hz, strength 9 dB, as set in the panel"),
        (["--profile", "podcast"], "USB microphone: low cut 80 Hz, as set in the panel"),
        (["--profile", "podcast", "--low-cut", "off"], ""),
        (["--strength", "3"], "USB microphone: low cut 80 Hz, as set in the panel"),
    ):
        capfd.readouterr()
        live._take_remembered(request.read(_filter_parser(), of + argv))
        heard = capfd.readouterr().err
        assert (said in heard) if said else not heard
