"""
How calls of a server's tools are judged, unless somebody says otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from fastmcp.exceptions import ValidationError
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


def judging(
    policy: ToolPolicy | BreakerPolicy | None,
) -> ToolPolicy | BreakerPolicy | None:
    """
    The policy, with our judge where it has none. What is no policy is told of by others.
    """
    if policy is None:
        return ToolPolicy(judge=_Judge(()))
    if isinstance(policy, BreakerPolicy):
        return ToolPolicy(judge=_Judge(()), breaker=policy)
    given: object = policy
    unset = ToolPolicy()
    if not isinstance(given, ToolPolicy) or (
        (policy.judge, policy.is_failure) != (unset.judge, unset.is_failure)
    ):
        return policy
    ignore = policy.ignore if isinstance(policy.ignore, tuple) else ()
    return replace(policy, judge=_Judge(ignore))


def of_result(value: object) -> Verdict:
    """
    What ``service_errors`` says of a result. Most are one text, and this is less work.
    """
    if type(value) is ToolResult and not value.is_error and len(value.content) == 1:
        block = value.content[0]
        if type(block) is TextContent:
            return of_value(block.text)
    return of_value(value)


class _Judge:
    """
    ``service_errors``, but that types which the policy ignores are ignored: a judge that
    has an opinion of everything leaves nothing to them.
    """

    def __init__(self, ignore: tuple[type[BaseException], ...]) -> None:
        self._ignore = (*ignore, ValidationError)
        looks_at_values_alone(of_result)(self)

    def __call__(self, outcome: Outcome) -> Verdict:
        if isinstance(outcome.error, self._ignore):
            return Verdict.IGNORE
        return service_errors(outcome)
