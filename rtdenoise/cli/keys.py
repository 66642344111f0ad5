"""Which keys were pressed, out of the bytes that a terminal sends.

A key that is no character (an arrow, F5, Del), a report of the terminal (its focus, its size, a mouse) and a pasted
colour all come as a sequence that begins with the byte of Escape. Such a sequence is no key here, in however many
pieces it arrives; Escape is one where nothing follows it.
"""

from __future__ import annotations

import re

ESCAPE = "\x1b"
# A terminal sends a sequence in one go, so after this time nothing belongs to an Escape any more.
ALONE_S = 0.05
STRING_S = 1.0  # After this time the rest of a longer sequence is no longer awaited.
CONTROL = rb"\[(?:\[.|M...|(?![\[M])[0-?]*[ -/]*[@-~])"  # CSI; first two oddities, of a console and of old mice
SHIFT = rb"O[0-?]*[ -~]"  # SS3: keypad and F1 to F4
STRING = rb"[\]PX^_].*?(?:\x1b\\|\x07)"  # OSC, DCS, ...: answers of the terminal
OTHER = rb"[^\x1b\[O\]PX^_]"  # a letter with Alt
SEQUENCE = re.compile(rb"\x1b+(?:" + b"|".join((CONTROL, SHIFT, STRING, OTHER)) + rb")", re.DOTALL)


class Keys:
    """Takes bytes as they come, gives keys: ASCII characters and `ESCAPE`."""

    def __init__(self) -> None:
        self._begun, self._since_s = b"", 0.0  # A sequence whose end has not come.

    def feed(self, data: bytes, now_s: float) -> list[str]:
        """Keys in ``data``, which may be empty, but should come every `ALONE_S` or so while one waits for Escape."""
        found, rest = self._given_up(now_s) if not data else [], self._begun + data
        if data:
            while (at := rest.find(b"\x1b")) >= 0:
                found += _characters(rest[:at])
                rest = rest[at:]
                if not (sequence := SEQUENCE.match(rest)):
                    break
                rest = rest[sequence.end() :]
            else:
                found, rest = found + _characters(rest), b""
            if rest != self._begun:
                self._begun, self._since_s = rest, now_s
        return found

    def _given_up(self, now_s: float) -> list[str]:
        """Escape, if nothing came after it for long enough; the beginning of anything else is forgotten later."""
        alone = bool(self._begun) and not self._begun.strip(b"\x1b")
        if self._begun and now_s - self._since_s >= (ALONE_S if alone else STRING_S):
            self._begun = b""
            return [ESCAPE] if alone else []
        return []


def _characters(data: bytes) -> list[str]:
    """What is a character of ASCII; parts of others, from whatever encoding, are none."""
    return [chr(byte) for byte in data if 0x20 <= byte < 0x7F]
