"""
How calls of a server's tools are judged, unless somebody says otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from fastmcp.tools.base import ToolResult
from mcp_types import TextContent

from orchestrator_async import (
    BreakerPolicy,
    Outcome,
    ToolPolicy,
    Verdict,
    service_errors,
)
from orchestrator_async._outcome import looks_at_values_alone
from orchestrator_async._service_errors import of_value
from orchestrator_async.adapters._guarding import as_policy


def judging(policy: ToolPolicy | BreakerPolicy | None) -> ToolPolicy:
    """
    The policy, with our judge where it has none.

    Raises:
        TypeError: It is none.
    """
    made, unset = as_policy(policy), ToolPolicy()
    if (made.judge, made.is_failure) != (unset.judge, unset.is_failure):
        return made
    return replace(made, judge=_judge)


def of_result(value: object) -> Verdict:
    """
    What ``service_errors`` says of a result. Most are one text, and this is less work.
    """
    if type(value) is ToolResult and not value.is_error and len(value.content) == 1:
        block = value.content[0]
        if type(block) is TextContent:
            return of_value(block.text)
    return of_value(value)


@looks_at_values_alone(of_result)
def _judge(outcome: Outcome) -> Verdict | None:
    """
    ``service_errors``, but that it has no opinion of an error which does not blame the
    call: that is a failure, unless a policy ignores its type.
    """
    said = service_errors(outcome)
    return None if outcome.error is not None and said is Verdict.FAILURE else said
