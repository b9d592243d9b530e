"""
What a result of hermes says of the tool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from orchestrator_async import LimitExceededError, Outcome, Verdict, service_errors

_CAUGHT: Final = '{"error": "[TOOL_ERROR]'
"""How hermes begins what it makes of an exception that a handler has raised."""

_MOST: Final = 20_000
"""Characters of a result in which more than errors of the usual form are looked for."""

_OF_INTEREST: Final = ('"exit_code"', '"results"', '"tool_result_contract"')
_SHUT_OUT: Final = "Blocked: "
"""How hermes begins what it says of an address that it does not go to."""

_NOT_RUN: Final = ("blocked", "pending_approval")


def hermes_errors(outcome: Outcome) -> Verdict:
    """
    The judge for tools of hermes, which return JSON text whatever happens.

    - An exception that hermes has caught is a failure.
    - What a command or a script has come to is its own business: any exit code, and that it
      ran out of its time. One that was not approved gives no verdict.
    - Of pages none of which could be had, the errors are judged.
    - All else is as ``service_errors`` says: that a file is missing is no fault of
      ``read_file``, and ``"error": null`` is none.
    """
    if isinstance(outcome.error, LimitExceededError):
        return Verdict.IGNORE
    text = outcome.value
    if not isinstance(text, str):
        return service_errors(outcome)
    if text.startswith(_CAUGHT):
        return Verdict.FAILURE
    verdict = service_errors(outcome)
    if len(text) > _MOST or not any(word in text for word in _OF_INTEREST):
        return verdict
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return verdict
    return _refined(found, verdict) if isinstance(found, dict) else verdict


def _refined(found: Mapping[str, Any], verdict: Verdict) -> Verdict:
    if found.get("error_type") == "tool_result_contract":
        return Verdict.FAILURE
    code = found.get("exit_code")
    if isinstance(code, int):
        if found.get("status") in _NOT_RUN:
            return Verdict.IGNORE
        if code != -1:  # -1: there was no command that could have ended
            return Verdict.IGNORE if found.get("error") else Verdict.SUCCESS
    results = found.get("results")
    if verdict is Verdict.SUCCESS and isinstance(results, list) and results:
        return _of_all(results)
    return verdict


def _of_all(results: list[Any]) -> Verdict:
    """
    Of several that were asked for at once: the worst, where none has come.
    """
    said = set()
    for each in results:
        if not isinstance(each, dict) or not each.get("error"):
            return Verdict.SUCCESS
        if not str(each["error"]).startswith(_SHUT_OUT):
            said.add(service_errors(Outcome(value={"error": each["error"]})))
    return Verdict.FAILURE if Verdict.FAILURE in said else Verdict.IGNORE
