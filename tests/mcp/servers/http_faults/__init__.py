"""
A server on streamable HTTP whose calls fail, each tool in the way it is named after.

The handshake and the list are right. ``POST /control`` with JSON changes what comes next::

    {"fault": "unavailable"}              every request, the handshake too, has this fault
    {"fault": "reset", "times": 2}        the next two have it
    {"fault": null}                       back to what is right
    {"size": 1000}                        so many bytes of what is large

``GET /control`` returns what was asked of it, in order: ``{"requests": ["tools/call ok"]}``.
"""

from __future__ import annotations

from .faults import FAULTS
from .server import Server

__all__ = ["FAULTS", "Server"]
