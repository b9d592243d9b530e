"""
Who may ask over HTTP.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

_ORIGIN: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://[^/?#@\\\s*]+/?", re.ASCII | re.IGNORECASE
)
_HOST: Final = re.compile(
    r"(?:\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII | re.IGNORECASE
)


HEALTH: Final = "/healthz"
"""Where there is something else than MCP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """
    Who may ask.

    Args:
        port: The port that is listened at.
        path: Where MCP is.
        token: What a request must bring, or ``None``.
        origins: Those of pages that may ask, besides those of this machine.
        hosts: What this may be called, besides the names of this machine.
        host: The address that is listened at.
        is_local: Whether only this machine can ask; else it may be called by any address.
    """

    port: int
    path: str
    token: str | None = field(default=None, repr=False)
    origins: Iterable[str] = ()
    hosts: Iterable[str] = ()
    host: str = "127.0.0.1"
    is_local: bool = True

    def __post_init__(self) -> None:
        if self.token is not None and not self.token.strip():
            raise ValueError("the token is empty; give a long one, or none at all")
        if not self.path.startswith("/") or self.path == HEALTH:
            raise ValueError(f"path={self.path!r}: expected one such as /mcp")
        for origin in self.origins:
            # What no browser sends would be allowed in vain, and "null" is what any page can
            # make itself.
            if not (origin.isascii() and _ORIGIN.fullmatch(origin)):
                raise ValueError(
                    f"allowed origin {origin!r}: expected one such as https://example.com; "
                    "each has to be named"
                )
        for host in self.hosts:
            if not (_HOST.fullmatch(host) or _is_address(host)):
                raise ValueError(
                    f"allowed host {host!r}: expected one such as tools.example.com or "
                    "tools.example.com:8765; each has to be named"
                )

    def knows_host(self, host: str) -> bool:
        """
        Whether this is a name of this server. One that is not was made to lead here by
        somebody else.
        """
        if set(host) & set("@/?#\\"):
            return False  # there is more to it than a name
        known = {each.lower() for each in (self.host, *self.hosts)}
        if host.lower() in known:
            return True
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port  # which may be no number
        except ValueError:
            return False
        if name == "localhost" or name in known:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.is_local

    def knows_origin(self, origin: str) -> bool:
        """
        Whether a page from there may ask.
        """
        names = ("localhost", "127.0.0.1", "[::1]")
        own = {f"http://{name}:{self.port}" for name in names}
        return origin.lower() in own | {each.lower().rstrip("/") for each in self.origins}

    def knows_token(self, given: list[bytes]) -> bool:
        """
        Whether these are the ``Authorization`` headers of somebody who has the token.
        """
        if self.token is None:
            return True
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(
            token.strip(), self.token.strip().encode("utf-8", "surrogateescape")
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
