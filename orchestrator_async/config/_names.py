"""
The part of a tool's name that its server gives it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

LONGEST: Final = 32
_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")
_DIGITS: Final = 8


def server_part(server: str) -> str:
    """
    What the names of a server's tools begin with: the server's name in the characters that
    a model's API takes. It neither holds the separator, ``__``, nor ends in a piece of it,
    so that a name is divided in one way only. A name that has to be cut ends in a digest.
    """
    plain = re.sub("_{2,}", "_", _OTHER.sub("_", server)).rstrip("_")
    if plain and len(plain) <= LONGEST:
        return plain
    digest = hashlib.sha256(server.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    begin = plain[: LONGEST - _DIGITS - 1].rstrip("_") or "server"
    return f"{begin}_{digest}"
