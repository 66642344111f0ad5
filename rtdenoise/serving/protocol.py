"""What a client and the server say to each other: a hello each way, then one answer for each message, in order.

    client                                              server
    {"type": "hello", "protocol": 1, "rate": 8000} ─▶
                                ◀─ {"type": "hello", "protocol": 1, "latency_samples": 128, ...}
    binary: samples ─▶                                  ◀─ binary: as many samples, latency_samples late
    {"type": "set", "strength_db": 12} ─▶               ◀─ {"type": "set", "strength_db": 12, ...}
    {"type": "flush"} ─▶                                ◀─ binary: the last latency_samples
    what makes no sense ─▶                              ◀─ {"type": "error", ...}, and the end

``docs/howto/serve.md`` describes it for who writes a client. All that comes from outside is checked here, or by
`Denoiser` itself.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np

from rtdenoise.arguments import LOW_CUT, Range
from rtdenoise.errors import UsageError
from rtdenoise.geometry import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, Latency
from rtdenoise.io.pcm import STREAM_ENCODINGS, decode, encode

VERSION = 1
PATH = "/v1/stream"
FORMATS = {"s16le": "PCM_16", "f32le": "FLOAT"}
STRENGTH_DB = Range(0, 1_000, "dB")
LONGEST_TEXT = 4_096  # characters of a message that is no sound


class Refusal(UsageError):
    """What a client asked for makes no sense, or is not to be had: ``code`` for programs, the message for people."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Hello:
    """What a client asks for. Sound is interleaved little-endian PCM."""

    rate: int
    channels: int = 1
    format: str = "s16le"
    latency: Latency = "normal"
    strength_db: float | None = None
    low_cut_hz: float | None = None
    bypass: bool = False

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * STREAM_ENCODINGS[FORMATS[self.format]]

    def seconds(self, data: bytes) -> float:
        """How long this sound lasts."""
        return len(data) / self.frame_bytes / self.rate

    def decode(self, data: bytes) -> np.ndarray:
        """Samples ``[samples, channels]`` of a message; `Refusal` if the last one is not whole."""
        if len(data) % self.frame_bytes:
            raise Refusal(
                "partial-sample", f"{len(data)} bytes are no whole samples; send multiples of {self.frame_bytes}"
            )
        return decode(data, FORMATS[self.format]).reshape(-1, self.channels)

    def encode(self, samples: np.ndarray) -> bytes:
        """The message that carries these samples; integers are held at full scale."""
        return encode(samples.reshape(-1), FORMATS[self.format])


CHANGEABLE = ("strength_db", "low_cut_hz", "bypass")  # while sound flows, too


def read_message(text: str) -> tuple[str, dict[str, Any]]:
    """Type and fields of a message that is no sound."""
    try:
        message = json.loads(text) if len(text) <= LONGEST_TEXT else None
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise Refusal("bad-message", f'a text message is a JSON object with "type", of up to {LONGEST_TEXT} characters')
    kind = message.pop("type")
    return kind, message


def read_hello(text: str) -> Hello:
    """The first message of a client."""
    kind, given = read_message(text)
    if kind != "hello":
        raise Refusal("bad-hello", 'the first message is {"type": "hello", "protocol": 1, "rate": ...}')
    if given.pop("protocol", None) != VERSION:
        raise Refusal("bad-protocol", f'this server speaks protocol {VERSION}: give "protocol": {VERSION}')
    known = [f.name for f in fields(Hello)]
    if unknown := [name for name in given if name not in known]:
        raise Refusal("bad-hello", f"{unknown[0][:40]!r} is unknown; a hello may have {', '.join(known)}")
    if "rate" not in given:
        raise Refusal("bad-hello", 'give "rate", the sample rate in Hz')
    for name, words in (("format", tuple(FORMATS)), ("latency", ("normal", "low"))):
        if name in given and given[name] not in words:
            raise Refusal("bad-hello", f"{name} is {' or '.join(words)}")
    _check("rate", given["rate"], Range(MIN_RATE_HZ, MAX_RATE_HZ, "Hz", whole=True))
    _check("channels", given.get("channels", 1), Range(1, MAX_CHANNELS, whole=True))
    return Hello(**checked(given))


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings whose values are in range; `Refusal` names the first that is not."""
    for name, allowed in (("strength_db", STRENGTH_DB), ("low_cut_hz", LOW_CUT)):
        if settings.get(name) is not None:
            _check(name, settings[name], allowed)
    if not isinstance(settings.get("bypass", False), bool):
        raise Refusal("out-of-range", "bypass is true or false")
    return settings


def read_settings(given: dict[str, Any]) -> dict[str, Any]:
    """What a message of type "set" is to change."""
    if not given or (unknown := [name for name in given if name not in CHANGEABLE]):
        wrong = f"{unknown[0][:40]!r} cannot be set; " if given else ""
        raise Refusal("bad-message", f"{wrong}{', '.join(CHANGEABLE)} can be set")
    return checked(given)


def _check(name: str, value: Any, allowed: Range) -> None:
    try:
        allowed.check(name, value)
    except UsageError as problem:
        raise Refusal("out-of-range", str(problem)) from None


def text(kind: str, **given: Any) -> str:
    """The text of a message."""
    return json.dumps({"type": kind, **given})


def refusal(problem: Exception) -> str:
    """The text that tells a client why its connection ends."""
    code = cast(str, getattr(problem, "code", "failed"))
    return text("error", code=code, message=str(problem))


def close_frame(code: int, reason: str) -> bytes:
    """A WebSocket's last frame (RFC 6455, 5.5.1), as it goes over the network; ``reason`` of up to 123 bytes."""
    body = struct.pack(">H", code) + reason.encode()
    return bytes([0x88, len(body)]) + body
