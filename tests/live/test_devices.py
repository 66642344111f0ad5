"""A device is found by what a person types, and an error lists what there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import devices, server
from rtdenoise.live.devices import Device, find_device, refuse_loop, share_clock

HARDWARE = Device(0, "HD-Audio: ALC257 (hw:0,0)", "ALSA", 2, 2, 48_000, 0)
BRIDGE = Device(1, "pulse", "ALSA", 32, 32, 44_100, 1, default_input=True, default_output=True)
HEADSET = Device(2, "Jabra Mono", "PulseAudio", 1, 0, 16_000, 1, "alsa_input.jabra", default_input=True)
HEADSET_OUT = Device(3, "Jabra", "PulseAudio", 0, 2, 48_000, 1, "alsa_output.jabra", default_output=True)
SPEAKERS = Device(4, "Built-in Speakers", "PulseAudio", 0, 2, 48_000, 1, "alsa_output.pci")
OWN = Device(5, "rtdenoise microphone", "PulseAudio", 1, 0, 48_000, 1, "rtdenoise_microphone", virtual=True, own=True)
OWN_SINK = Device(6, "rtdenoise output", "PulseAudio", 0, 1, 48_000, 1, "rtdenoise_sink", virtual=True, own=True)
MONITOR = Device(7, "Monitor of Jabra", "PulseAudio", 2, 0, 48_000, 1, "alsa_output.jabra.monitor", virtual=True)
EVERYTHING = [HARDWARE, BRIDGE, HEADSET, HEADSET_OUT, SPEAKERS, OWN, OWN_SINK]


@pytest.fixture(autouse=True)
def _devices(monkeypatch):
    monkeypatch.setattr(devices, "list_devices", lambda: EVERYTHING)


@pytest.mark.parametrize(
    ("typed", "side", "found"),
    [
        (None, "input", HEADSET),
        ("mic", "input", HEADSET),
        ("speakers", "output", HEADSET_OUT),
        ("0", "input", HARDWARE),
        (4, "output", SPEAKERS),
        ("built-in", "output", SPEAKERS),
        ("pulseaudio speak", "output", SPEAKERS),
        ("jabra", "output", HEADSET_OUT),
        ("alsa_output.pci", "output", SPEAKERS),
        ("pulse", "output", BRIDGE),
    ],
)
def test_found(typed, side, found):
    assert find_device(typed, side) == found


@pytest.mark.parametrize(
    ("typed", "side", "text"),
    [
        ("pulseaudio", "output", r"matches several outputs: \[3\] Jabra, PulseAudio"),
        ("zoom", "input", r"no input matches 'zoom'; available: \[0\]"),
        ("9", "input", "no device has the id 9"),
        ("4", "input", "has no input"),
        ("speakers", "input", "is an output"),
    ],
)
def test_refused_with_the_candidates(typed, side, text):
    with pytest.raises(UsageError, match=text):
        find_device(typed, side)


def chosen_as_default(monkeypatch, *device: Device) -> None:
    monkeypatch.setattr(devices, "list_devices", lambda: list(device))


@pytest.mark.parametrize("alias", ["pulse", "default", "pipewire", "sysdefault"])
def test_mic_is_another_true_source_where_our_own_is_the_default(monkeypatch, alias):
    ours, other = replace(OWN, default_input=True), replace(HEADSET, default_input=False)
    there = HARDWARE, replace(BRIDGE, name=alias), MONITOR, ours, other
    chosen_as_default(monkeypatch, *there)
    assert find_device("mic", "input") == other
    assert find_device(None, "input") == other


def test_speakers_are_never_our_own_sink(monkeypatch):
    chosen_as_default(monkeypatch, BRIDGE, replace(OWN_SINK, default_output=True), SPEAKERS)
    assert find_device("speakers", "output") == SPEAKERS


def test_without_another_source_one_line_says_which_to_choose(monkeypatch):
    chosen_as_default(monkeypatch, HARDWARE, BRIDGE, MONITOR, replace(OWN, default_input=True))
    with pytest.raises(UsageError, match=r"rtdenoise's own, and there is no other; available: \[0\] HD-Audio") as said:
        find_device("mic", "input")
    assert "\n" not in str(said.value)


def test_mic_is_no_alias_while_the_server_does_not_answer(monkeypatch):
    chosen_as_default(monkeypatch, HARDWARE, BRIDGE)
    monkeypatch.setattr(server, "refusal", ["the sound server is there but does not answer (busy)"])
    with pytest.raises(DeviceError, match="does not answer"):
        find_device("mic", "input")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (OWN, OWN_SINK),
        (replace(OWN_SINK, inputs=1, endpoint="rtdenoise_sink.monitor"), OWN_SINK),
        (MONITOR, HEADSET_OUT),
        (BRIDGE, OWN_SINK),
    ],
)
def test_an_input_that_records_the_output_is_a_loop(monkeypatch, source, target):
    chosen_as_default(monkeypatch, replace(OWN, default_input=True))
    with pytest.raises(UsageError, match="a feedback loop"):
        refuse_loop(source, target)


@pytest.mark.parametrize(("source", "target"), [(OWN, SPEAKERS), (HEADSET, OWN_SINK), (BRIDGE, OWN_SINK)])
def test_other_pairs_are_none(source, target):
    refuse_loop(source, target)


def test_no_device_at_all(monkeypatch):
    monkeypatch.setattr(devices, "list_devices", list)
    with pytest.raises(DeviceError, match="no input device"):
        find_device(None, "input")


def test_only_hardware_shares_a_clock():
    assert share_clock(HARDWARE, HARDWARE)
    assert not share_clock(BRIDGE, BRIDGE)
    assert not share_clock(HEADSET, HEADSET_OUT)


def test_without_portaudio_the_package_is_named(monkeypatch):
    import builtins
    import sys

    from rtdenoise.live.portaudio import portaudio

    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *args, **kwargs)

    portaudio.cache_clear()
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DeviceError, match=r"PortAudio is not installed; .*install"):
        portaudio()
    portaudio.cache_clear()
