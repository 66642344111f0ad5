"""Who may talk to the server: programs of this machine, or of others by a token.

Without a token the server is bound to 127.0.0.1 alone, which every web page in a browser of this machine can reach too.
So the Host must be this machine, and a page's Origin is refused (a foreign name that resolves to 127.0.0.1 is an attack
by DNS rebinding). With a token, which no page can send, neither matters.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rtdenoise.errors import UsageError

LOOPBACK = "127.0.0.1"
LEAST_CHARACTERS, LONGEST_BYTES = 16, 4_096


@dataclass(frozen=True)
class Access:
    """The rules: a token, or none on the loopback."""

    token: str | None = None

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers is one of those."""
        if self.token is not None:
            scheme, _, given = headers.get("Authorization", "").partition(" ")
            return scheme.lower() == "bearer" and hmac.compare_digest(
                given.strip().encode("utf-8", "surrogateescape"), self.token.encode()
            )
        host = headers.get("Host", "").lower()
        name, colon, port = host.rpartition(":")
        here = (name if colon and port.isdecimal() else host) in (LOOPBACK, "localhost")
        return here and headers.get("Origin", f"http://{host}") == f"http://{host}"


def read_token(path: str | os.PathLike[str]) -> str:
    """The token that a file holds; `UsageError` if it holds none that is fit for one."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LONGEST_BYTES + 1)
    except OSError as problem:
        raise UsageError(f"--token-file {path}: {problem.strerror or problem}") from None
    token = content.decode("ascii", "replace").strip()
    if not LEAST_CHARACTERS <= len(token) <= LONGEST_BYTES or not token.isprintable() or " " in token:
        raise UsageError(
            f"--token-file {path} holds no token: one line of {LEAST_CHARACTERS} characters or more, without spaces; "
            "make one with: openssl rand -hex 32"
        )
    if not token.isascii():
        raise UsageError(f"--token-file {path}: the token has characters beyond ASCII, which no header can carry")
    return token
