"""
What is made of a server's results, where nobody has said otherwise.
"""

from __future__ import annotations

from typing import Final

from orchestrator_async import Outcome, Verdict, service_errors

from ._meta import VERDICT
from ._results import McpResult

_BELIEVED: Final = (Verdict.FAILURE, Verdict.IGNORE)


def judge(outcome: Outcome) -> Verdict:
    """
    As ``service_errors`` says, but that another gateway knows best what its errors are: its
    words are for a model, and a failure behind it reads like a mistake.

    It is only asked of what is an error in any case, so a server that lies about it gains
    nothing that it could not have by other words.
    """
    value = outcome.value
    if outcome.error is None and isinstance(value, McpResult) and value.is_error:
        said = (value.meta or {}).get(VERDICT)
        for verdict in _BELIEVED:
            if said == str(verdict):
                return verdict
    return service_errors(outcome)
