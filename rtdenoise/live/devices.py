"""Sound devices: list them, find one by what a person types, and say clearly when that does not work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rtdenoise.arguments import HZ
from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.live import pulse, server
from rtdenoise.live.portaudio import changing, portaudio

Side = Literal["input", "output"]
ALIASES = {"mic": "input", "microphone": "input", "speakers": "output", "speaker": "output"}
SERVER_NAMES = ("pulse", "pipewire", "default", "sysdefault")  # ALSA devices behind which a server hides its own clocks
FILE_HOST = "file"
USUAL_RATES = (48_000, 44_100, 32_000, 16_000, 96_000, 8_000)


@dataclass(frozen=True)
class Device:
    """One sound device.

    Attributes
    ----------
    id : int
        What a user may type to choose it.
    name, host : str
        Its name, and the audio system or server that offers it.
    inputs, outputs : int
        How many channels it records and plays.
    rate : int
        The sample rate it runs at, in Hz.
    index : int
        PortAudio's number for it.
    endpoint : str or None
        The sound server's name for a source or sink that is reached through that PortAudio device; None for the device
        itself.
    default_input, default_output : bool
        Whether it is the system's default.
    virtual : bool
        Whether it is a monitor or was made by a program.
    own : bool
        Whether this package made it, or what it stands on.
    """

    id: int
    name: str
    host: str
    inputs: int
    outputs: int
    rate: int
    index: int
    endpoint: str | None = None
    default_input: bool = False
    default_output: bool = False
    virtual: bool = False
    own: bool = False

    @property
    def label(self) -> str:
        """Name and host, as lists show them."""
        return self.name if self.is_file else f"{self.name}, {self.host}"

    @property
    def is_file(self) -> bool:
        """Whether a sound file stands in for a device (see `file_end`)."""
        return self.host == FILE_HOST

    @property
    def is_server(self) -> bool:
        """Whether a sound server stands between: it resamples and remixes, and its ends may have different clocks."""
        return self.endpoint is not None or (self.host == "ALSA" and self.name in SERVER_NAMES)

    def is_same(self, other: Device) -> bool:
        """Whether this is the other, listed at another time: numbers change, names stay.

        Parameters
        ----------
        other : Device
            A device of another list.

        Returns
        -------
        bool
            Whether the two are one.
        """
        if self.endpoint is not None:
            return self.endpoint == other.endpoint and bool(self.inputs) == bool(other.inputs)
        return other.endpoint is None and self.label == other.label

    def channels(self, side: Side) -> int:
        """Return how many channels one side has.

        Parameters
        ----------
        side : {"input", "output"}
            What is recorded, or what is played.

        Returns
        -------
        int
            0 where the device has no such side.
        """
        return self.inputs if side == "input" else self.outputs


def file_end(path: str, rate: int = 0, channels: int = 0) -> Device:
    """A sound file as one end of a session; ``rate`` 0: it takes any."""
    return Device(-1, path, FILE_HOST, channels, channels, rate, -1)


def list_devices() -> list[Device]:
    """List all sound devices: PortAudio's own, then the sound server's sources and sinks.

    Returns
    -------
    list of Device
        Every device that can record or play.

    Raises
    ------
    DeviceError
        Where PortAudio is missing or lists no devices.
    """
    found = _portaudio_devices()
    host, endpoints = pulse.endpoints()
    bridge = _bridge(found)
    if bridge is None:
        return found
    return found + [server_device(e, host, bridge, len(found) + i) for i, e in enumerate(endpoints)]


def _portaudio_devices() -> list[Device]:
    sd = portaudio()
    with changing:
        try:
            hosts, listed = [h["name"] for h in sd.query_hostapis()], list(sd.query_devices())
        except sd.PortAudioError as e:
            raise DeviceError(f"PortAudio lists no devices ({e}); is the sound system set up?") from e
        default_in, default_out = sd.default.device
    found: list[Device] = []
    for d in listed:
        i, host = d["index"], hosts[d["hostapi"]]
        ends = d["max_input_channels"], d["max_output_channels"]
        flags = {"default_input": i == default_in, "default_output": i == default_out}
        flags |= {"own": d["name"].startswith(pulse.OWN_DESCRIPTION)}  # JACK uses the names of PipeWire's nodes.
        found.append(Device(i, d["name"], host, *ends, round(d["default_samplerate"]), i, **flags))
    return found


def server_device(end: pulse.Endpoint, host: str, bridge: Device, id: int = -1) -> Device:
    """A source or sink of the server ``host`` as a device that PortAudio reaches through ``bridge``."""
    ends = (end.channels, 0) if end.is_source else (0, end.channels)
    defaults = end.default and end.is_source, end.default and not end.is_source
    virtual = end.monitor or end.own
    return Device(id, end.description, host, *ends, end.rate, bridge.index, end.name, *defaults, virtual, end.own)


def _bridge(devices: list[Device]) -> Device | None:
    return next((d for d in devices if d.host == "ALSA" and d.name == pulse.PORTAUDIO_NAME), None)


def server_bridge() -> Device:
    """PortAudio's way to the sound server; `DeviceError` where ALSA's plug-in is missing, or found no server."""
    bridge = _bridge(_portaudio_devices())
    if bridge is None:
        raise DeviceError(
            "PortAudio does not see the sound server; install ALSA's plug-in for it (libasound2-plugins), or restart"
        )
    return bridge


def find_device(wanted: int | str | None, side: Side) -> Device:
    """The device a person means.

    wanted: None or the alias ``mic``/``speakers`` (the system's default), an id, the exact name, or parts of "name,
    host" in any order and case. Raises `UsageError` that lists the candidates if several fit or none does,
    `DeviceError` if there is no device at all.
    """
    if wanted == "":
        raise UsageError(f"the name of the {side} is empty; give one, or None for the system's default")
    devices = list_devices()
    able = [d for d in devices if d.channels(side) > 0]
    text = "" if wanted is None else str(wanted).strip()
    if not able:
        named = text and not text.isdigit() and text.lower() not in ALIASES
        taken = f"there is no file {text!r}, and " if named else ""
        where = "check that a sound card or sound server is present (see `rtdenoise doctor`)"
        raise DeviceError(f"{taken}no {side} device found; {where}")
    if not text or ALIASES.get(text.lower()) == side:
        return _default(able, side)
    if text.lower() in ALIASES:
        raise UsageError(f"{text!r} is an {ALIASES[text.lower()]}; name an {side}, or see `rtdenoise devices`")
    if re.fullmatch(r"\d+", text):
        chosen = [d for d in devices if d.id == int(text)]
        if not chosen:
            raise UsageError(f"no device has the id {text}; {_candidates(able)}")
        if chosen[0] not in able:
            raise UsageError(f"device [{text}] {chosen[0].label} has no {side}; {_candidates(able)}")
        return chosen[0]
    hits = [d for d in able if text in (d.endpoint, d.name, d.label)]
    hits = hits or [d for d in able if text.lower() in (d.name.lower(), d.label.lower())]
    hits = hits or [d for d in able if all(part in d.label.lower() for part in text.lower().split())]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"{text!r} matches several {side}s: {_list(hits)}; type more of the name, or the number")
    raise UsageError(
        "; ".join([f"there is no file {text!r}, and no {side} matches {text!r}", _candidates(able), *server.refusal])
    )


def _default(able: list[Device], side: Side) -> Device:
    """The right default: a server's own choice before PortAudio's, which may be raw hardware that the server holds.

    Never one of our own, which would loop; so no alias either where a server could mean our own by it.
    """
    true = [d for d in able if not d.own]
    if served := [d for d in able if d.endpoint is not None]:
        true = [d for d in true if d in served or not d.is_server]
        if any(d.own and _is_marked(d, side) for d in served):  # PortAudio's default would be the same by another name
            true = [d for d in true if d in served and not d.virtual]
    elif server.refusal:
        raise DeviceError(f"{server.refusal[0]}; restart it, or name an {side}: {_list(true)}")
    if not true:
        raise UsageError(f"the default {side} is rtdenoise's own, and there is no other; {_candidates(able)}")
    traces = [d for d in true if _is_marked(d, side)]
    return max(traces or true, key=lambda d: (d.endpoint is not None, d.is_server, not d.virtual))


def _is_marked(device: Device, side: Side) -> bool:
    return device.default_input if side == "input" else device.default_output


def refuse_loop(source: Device, target: Device) -> None:
    """`UsageError` where ``source`` records what ``target`` plays."""
    heard = target.endpoint is not None and source.endpoint == f"{target.endpoint}.monitor"
    if not heard and target.own:
        alias = source.is_server and source.endpoint is None  # The server's default may be our own.
        heard = source.own or (alias and any(d.own and d.default_input for d in list_devices()))
    if heard:
        raise UsageError(f"{source.name} records what {target.name} plays, a feedback loop; choose another input")


def play_channels(channels: int, target: Device) -> int:
    """How many channels to play: a mono signal goes to both ears, unless a server does that by itself."""
    return channels if target.is_server or channels > 1 else min(2, target.outputs)


def _list(devices: list[Device]) -> str:
    return ", ".join(f"[{d.id}] {d.label}" + (f" ({d.endpoint})" if d.endpoint else "") for d in devices)


def _candidates(devices: list[Device]) -> str:
    return f"available: {_list(devices)}"


def share_clock(source: Device, target: Device) -> bool:
    """Whether both ends are one device with one clock: then one duplex stream serves them, and nothing can drift."""
    return source.index == target.index and not source.is_server and not target.is_server


def common_rate(source: Device, target: Device, wanted: int | None) -> int:
    """A rate both ends accept: the wanted one, else the input's own, else the usual ones. `DeviceError` if none is."""
    if wanted is not None:
        HZ.check("rate", wanted)
    rates = [wanted] if wanted else [r for r in (source.rate, target.rate, *USUAL_RATES) if r]
    for rate in rates:
        if _accepts(source, "input", rate) and _accepts(target, "output", rate):
            return rate
    if wanted:
        try:
            other = common_rate(source, target, None)
        except DeviceError:
            other = None
        hint = f"{other} Hz would work" if other else "is one of them in use by another program?"
        raise DeviceError(f"{source.label} and {target.label} do not both support {wanted} Hz; {hint}")
    if source.is_file:
        raise DeviceError(
            f"{target.label} does not support the {source.rate} Hz of {source.label}; choose another output, or "
            f"convert the file: ffmpeg -i {source.label} -ar {target.rate} converted.wav"
        )
    raise DeviceError(
        f"{source.label} and {target.label} have no sample rate in common, or one is in use; close what uses it"
    )


def _accepts(device: Device, side: Side, rate: int) -> bool:
    if device.is_file:
        return device.rate in (0, rate)
    sd = portaudio()
    check = sd.check_input_settings if side == "input" else sd.check_output_settings
    try:
        check(device.index, channels=1, dtype="float32", samplerate=rate)
    except (sd.PortAudioError, ValueError):
        return False
    return True
