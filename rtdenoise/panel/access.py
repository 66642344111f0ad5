"""Who may talk to the panel: the one browser page that was given its address, and nothing else on the machine.

The server is bound to 127.0.0.1, which other users and every web page in the user's own browser can reach too. So
every path begins with a secret, the Host must be that very address (a foreign name that resolves to it is an attack by
DNS rebinding), and a page of another origin is refused.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

HOST = "127.0.0.1"
TOKEN_BYTES = 32
# The page loads and sends nothing elsewhere, is framed by nobody, and tells nobody its address.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """The rules for a server on ``port``."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The address of the page. Whoever knows it is let in."""
        return f"{self.origin}/{self.token}/"

    def admitted(self, hosts: list[str], origins: list[str], path: str, websocket: bool) -> str | None:
        """The rest of the path after the secret, or None for who is refused.

        ``path`` is as it was sent, without a query: nothing is decoded, so there is nothing to climb out of.
        A browser always tells the origin of a WebSocket, so one without comes from no page of ours.
        """
        if hosts != [f"{HOST}:{self.port}"]:
            return None
        if origins != [self.origin] and (websocket or origins):
            return None
        _, _, rest = path.partition("/")
        token, slash, name = rest.partition("/")
        known = hmac.compare_digest(token.encode(), self.token.encode())
        return name if known and slash else None
