"""A device is found by what a person types, and an error lists what there is."""

from __future__ import annotations

import pytest

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import devices, pulse
from rtdenoise.live.devices import Device, find_device, share_clock

HARDWARE = Device(0, "HD-Audio: ALC257 (hw:0,0)", "ALSA", 2, 2, 48_000, 0)
BRIDGE = Device(1, "pulse", "ALSA", 32, 32, 44_100, 1, default_input=True, default_output=True)
HEADSET = Device(2, "Jabra Mono", "PulseAudio", 1, 0, 16_000, 1, "alsa_input.jabra", default_input=True)
HEADSET_OUT = Device(3, "Jabra", "PulseAudio", 0, 2, 48_000, 1, "alsa_output.jabra", default_output=True)
SPEAKERS = Device(4, "Built-in Speakers", "PulseAudio", 0, 2, 48_000, 1, "alsa_output.pci")
OWN = Device(5, "rtdenoise microphone", "PulseAudio", 1, 0, 48_000, 1, "rtdenoise_microphone", default_input=True)
EVERYTHING = [HARDWARE, BRIDGE, HEADSET, HEADSET_OUT, SPEAKERS, OWN]


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
        ("pulseaudio", "output", r"fits several outputs: \[3\] Jabra, PulseAudio"),
        ("zoom", "input", r"no input fits 'zoom'; there are: \[0\]"),
        ("9", "input", "no device has the id 9"),
        ("4", "input", "has no input"),
        ("speakers", "input", "is an output"),
    ],
)
def test_refused_with_the_candidates(typed, side, text):
    with pytest.raises(UsageError, match=text):
        find_device(typed, side)


def test_our_own_microphone_is_never_the_default():
    assert find_device("mic", "input") != OWN


def test_no_device_at_all(monkeypatch):
    monkeypatch.setattr(devices, "list_devices", list)
    with pytest.raises(DeviceError, match="no input device"):
        find_device(None, "input")


def test_only_hardware_shares_a_clock():
    assert share_clock(HARDWARE, HARDWARE)
    assert not share_clock(BRIDGE, BRIDGE)
    assert not share_clock(HEADSET, HEADSET_OUT)


def test_a_server_that_refuses_once_is_asked_again(monkeypatch, tmp_path):
    import pulsectl

    calls: list[str] = []

    class Client:
        def __init__(self, *_, **__):
            pass

        def connect(self, **_):
            calls.append("connect")
            if len(calls) < 3:
                raise pulsectl.PulseError("busy")

        def close(self):
            calls.append("close")

    monkeypatch.setattr(pulsectl, "Pulse", Client)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}")
    with pulse.connection() as client:
        assert client is not None
    assert calls == ["connect"] * 3 + ["close"]
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path}/nothing")
    calls.clear()
    with pulse.connection() as client:
        assert client is None
    assert calls == ["connect"]


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
    with pytest.raises(DeviceError, match=r"PortAudio is not here; .*install"):
        portaudio()
    portaudio.cache_clear()
