"""
Who may ask over HTTP.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


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
        is_local: Whether only this machine can ask; else it may be called by any address.
    """

    port: int
    path: str
    token: str | None = field(default=None, repr=False)
    origins: Iterable[str] = ()
    hosts: Iterable[str] = ()
    is_local: bool = True

    def knows_host(self, host: str) -> bool:
        """
        Whether this is a name of this server. One that is not was made to lead here by
        somebody else.
        """
        if set(host) & set("@/?#\\"):
            return False  # there is more to it than a name
        if host.lower() in {each.lower() for each in self.hosts}:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in {each.lower() for each in self.hosts}:
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
