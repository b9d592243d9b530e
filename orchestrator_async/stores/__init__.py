"""
Where a fleet of processes shares its circuits: the protocol, and the store in memory.

``orchestrator_async.stores.redis`` has the one that processes share, through Redis or Valkey.
It stands on a client library, which nothing here imports.
"""

from __future__ import annotations

from orchestrator_async._store import (
    NOTHING_KNOWN,
    Answer,
    Change,
    Claim,
    Count,
    Isolate,
    Move,
    Renew,
    Run,
    SharedState,
    Store,
    StoreDownError,
    StoreError,
    StoreSession,
)

from .memory import MemoryStore

__all__ = [
    "NOTHING_KNOWN",
    "Answer",
    "Change",
    "Claim",
    "Count",
    "Isolate",
    "MemoryStore",
    "Move",
    "Renew",
    "Run",
    "SharedState",
    "Store",
    "StoreDownError",
    "StoreError",
    "StoreSession",
]
