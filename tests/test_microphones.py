"""What is set for a microphone is kept by its name, privately and whole; a mistake in the file is named in a line."""

from __future__ import annotations

import os
import stat

import pytest

from rtdenoise.cli import main
from rtdenoise.errors import UsageError
from rtdenoise.live import microphones
from rtdenoise.panel.preferences import Preferences
from rtdenoise.profiles import BUILT_IN, Profile


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


def write(text: str) -> None:
    microphones.path().parent.mkdir(parents=True, exist_ok=True)
    microphones.path().write_text(text, encoding="utf-8")


def test_it_is_kept_for_its_user_alone_and_other_microphones_stay():
    microphones.save({"USB": {"strength": 12.0}, "Zoë's “mic”\n": {"model": "unet", "channels": 2}})
    microphones.save({"Headset": {"strength": "none"}, "USB": {"strength": 6.0}})
    assert microphones.load() == {
        "Zoë's “mic”\n": {"model": "unet", "channels": 2},
        "Headset": {"strength": "none"},
        "USB": {"strength": 6.0},
    }
    assert stat.S_IMODE(microphones.path().stat().st_mode) == 0o600
    microphones.path().chmod(0o644)
    microphones.save({"USB": {}})
    assert "USB" not in microphones.load()
    assert stat.S_IMODE(microphones.path().stat().st_mode) == 0o600
    assert os.listdir(microphones.path().parent) == ["microphones.json"]


def test_it_does_not_grow_for_ever():
    microphones.save({f"microphone {k}": {"strength": 1.0} for k in range(microphones.MOST)})
    microphones.save({"another": {"strength": 2.0}})
    kept = microphones.load()
    assert len(kept) == microphones.MOST
    assert "another" in kept
    assert "microphone 0" not in kept


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not valid JSON"),
        ("\0", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "must be an object of microphones"),
        ('{"USB": 3}', "'USB' must be an object of settings, not 3"),
        ('{"USB": {"strenght": 3}}', "'USB': unknown key 'strenght', did you mean strength?"),
        ('{"USB": {"latency": "low"}}', "'USB': unknown key 'latency'"),
        ('{"USB": {"strength": -3}}', "'USB': strength: '-3' is out of range"),
        ('{"USB": {"strength": NaN}}', "'USB': strength: 'nan' is out of range"),
        ('{"USB": {"strength": null}}', "'USB': strength: None is neither a number nor a text"),
        ('{"USB": {"low_cut": 20}}', "'USB': low_cut: '20' is out of range"),
        ('{"USB": {"channels": 0}}', "'USB': channels: '0' is out of range"),
        ('{"USB": {"channels": 1.5}}', "'USB': channels: '1.5' is out of range"),
        ('{"USB": {"model": ["unet"]}}', "'USB': model: ['unet'] is neither"),
    ],
)
def test_a_mistake_is_named_in_one_line_and_the_file_stays_as_it_is(text, says, capfd):
    write(text)
    with pytest.raises(UsageError) as refused:
        microphones.load()
    assert says in str(refused.value)
    assert str(microphones.path()) in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError):
        microphones.save({"USB": {"strength": 1.0}})
    assert microphones.path().read_text(encoding="utf-8") == text
    assert main.main(["panel", "--no-browser"]) == 2
    assert says in capfd.readouterr().err


def preferences(said: dict | None = None) -> Preferences:
    profiles = BUILT_IN | {"thirty": Profile(latency=30.0)}
    configured = {"strength": 3.0, "fixed_latency": 40.0, "worker": "native"}
    return Preferences(configured, lambda: profiles, said or {}, {"USB": {"strength": "none", "channels": 2}})


def test_this_start_goes_before_the_microphone_that_before_the_profile_and_that_before_the_configuration():
    kept = preferences()
    assert kept.wanted("other", "") == {"strength": 3, "fixed_latency": 40, "worker": "native"}
    assert kept.wanted("other", "podcast")["strength"] == 12
    assert kept.wanted("USB", "podcast")["strength"] is None
    assert kept.wanted("USB", "podcast")["channels"] == 2
    assert preferences({"strength": 7.0}).wanted("USB", "podcast")["strength"] == 7
    assert "fixed_latency" not in kept.wanted("USB", "thirty")
    with pytest.raises(UsageError, match="unknown profile 'pod'"):
        kept.wanted("USB", "pod")


def test_what_is_set_holds_for_that_microphone_until_a_profile_sets_it_anew():
    kept = preferences({"model": "tape"})
    kept.remember("USB", {"strength": 9.0, "model": "unet"})
    wanted = kept.wanted("USB", "far-microphone")
    assert (wanted["strength"], wanted["model"]) == (9, "unet")
    assert "model" not in kept.wanted("other", "")
    assert kept.unsaved
    kept.save()
    assert not kept.unsaved
    assert microphones.load() == {"USB": {"strength": 9.0, "channels": 2, "model": "unet"}}
    kept.begin_profile("USB", "far-microphone")
    kept.save()
    assert kept.wanted("USB", "far-microphone")["strength"] == 18
    assert microphones.load() == {"USB": {"channels": 2, "model": "unet"}}
    kept.remember("USB", {"strength": None, "low_cut": None})
    kept.save()
    assert microphones.load()["USB"] == {"channels": 2, "model": "unet", "strength": "none", "low_cut": "off"}
    assert kept.wanted("USB", "far-microphone")["low_cut"] is None


def test_what_is_set_while_none_is_known_is_for_the_one_that_comes_next():
    kept = preferences()
    kept.remember("", {"strength": 4.0, "low_cut": 80.0})
    assert not kept.unsaved
    assert kept.wanted("USB", "podcast")["strength"] is None
    kept.arrived("headset")
    kept.arrived("USB")
    assert kept.wanted("headset", "podcast")["strength"] == 4
    assert kept.wanted("USB", "podcast")["strength"] is None
    kept.save()
    assert microphones.load() == {"headset": {"strength": 4.0, "low_cut": 80.0}}
    kept.remember("", {"strength": 5.0})
    kept.begin_profile("", "podcast")  # takes its place
    kept.arrived("headset")
    assert kept.wanted("headset", "podcast")["strength"] == 4
