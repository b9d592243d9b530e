"""
What goes with a call beside its arguments, and comes with its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

call_meta: Final[ContextVar[Mapping[str, Any] | None]] = ContextVar(
    "call_meta", default=None
)
"""
What calls from this context send to their server as ``_meta``, such as a ``traceparent``
that came from elsewhere. What the SDK says itself goes before it.
"""

PREFIX: Final = "orchestrator-async/"
"""That of a gateway's keys in the ``_meta`` of its results."""

VERDICT: Final = f"{PREFIX}verdict"
