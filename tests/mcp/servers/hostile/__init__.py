"""
A server on stdio that misbehaves in the one way it is told: ``hostile BEHAVIOUR``.

What it does not have to do wrong it does right, so that a client gets as far as the fault.
"""

from __future__ import annotations

from .answers import ANSWERS
from .floods import FLOODS
from .lifecycle import LIFECYCLE
from .listings import LISTINGS
from .peer import Peer

BEHAVIOURS: dict[str, type[Peer]] = {
    name: kind
    for group in (LISTINGS, ANSWERS, FLOODS, LIFECYCLE)
    for name, kind in group.items()
}
