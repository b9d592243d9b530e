"""
Circuits for the tools of async agents, on asyncio and trio.

``ToolOrchestrator`` runs the tools of a ``Registry`` by name. It stops calling those
that are down, lets one call find out when they are back, and always has an answer that
a model can act on.
"""

from __future__ import annotations

import logging

from ._breaker import CircuitState
from ._calls import ToolCall, ToolContext, ToolResult
from ._conversation import ConversationPolicy
from ._errors import (
    CallRefusedError,
    CircuitOpenError,
    DrainingError,
    DuplicateToolError,
    InvalidArgumentsError,
    InvalidResultError,
    LimitExceededError,
    OrchestratorError,
    ToolCancelledError,
    ToolTimeoutError,
    UnknownToolError,
)
from ._events import (
    CallFinished,
    CallRejected,
    CircuitChanged,
    Event,
    Observer,
    ProgressReported,
    RetryScheduled,
)
from ._media import Media
from ._orchestrator import ToolOrchestrator, orchestrator
from ._outcome import Outcome, Verdict, any_error, exceptions_only
from ._policy import (
    BreakerPolicy,
    BudgetPolicy,
    FleetPolicy,
    LimitPolicy,
    RetryPolicy,
    ToolPolicy,
)
from ._registry import Registry, registry
from ._service_errors import service_errors
from ._stats import ToolStats
from ._store import Store
from ._tool import Tool

# Without it Python prints a library's warnings on stderr, asked or not.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "BreakerPolicy",
    "BudgetPolicy",
    "CallFinished",
    "CallRefusedError",
    "CallRejected",
    "CircuitChanged",
    "CircuitOpenError",
    "CircuitState",
    "ConversationPolicy",
    "DrainingError",
    "DuplicateToolError",
    "Event",
    "FleetPolicy",
    "InvalidArgumentsError",
    "InvalidResultError",
    "LimitExceededError",
    "LimitPolicy",
    "Media",
    "Observer",
    "OrchestratorError",
    "Outcome",
    "ProgressReported",
    "Registry",
    "RetryPolicy",
    "RetryScheduled",
    "Store",
    "Tool",
    "ToolCall",
    "ToolCancelledError",
    "ToolContext",
    "ToolOrchestrator",
    "ToolPolicy",
    "ToolResult",
    "ToolStats",
    "ToolTimeoutError",
    "UnknownToolError",
    "Verdict",
    "any_error",
    "exceptions_only",
    "orchestrator",
    "registry",
    "service_errors",
]
