"""
What the lines of a host are: messages, or faults that it is told of.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCMessage,
    JSONRPCNotification,
    jsonrpc_message_adapter,
)
from pydantic_core import from_json

from orchestrator_async.adapters.mcp._lines import KEPT, TooLong

WITH_BATCHES: Final = "2025-03-26"
"""The one version of the protocol that has them."""

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Why something is no message.

    Attributes:
        id: What it has for an id, as far as it can be told.
        code: That of JSON-RPC.
        reason: For people.
    """

    id: Any
    code: int
    reason: str

    def __str__(self) -> str:
        """
        The answer.
        """
        error = {"code": self.code, "message": self.reason}
        return json.dumps({"jsonrpc": "2.0", "id": self.id, "error": error})


Part = JSONRPCMessage | Fault


def parts_of(line: bytes, *, batches: bool) -> tuple[list[Part], bool]:
    """
    What a line has, and whether it is a batch of them.

    Args:
        line: The line.
        batches: Whether the host may send some at once.
    """
    line = line.removeprefix(_BOM)
    if not line.strip():
        return [], False
    message = _read(line)
    if message is not None and not isinstance(message, JSONRPCNotification):
        return [message], False
    try:
        value = from_json(line, allow_inf_nan=False)
    except ValueError:
        found = TooLong(line[:KEPT], line[-KEPT:]).request_id()
        return [Fault(found, PARSE_ERROR, "this is no JSON")], False
    if not isinstance(value, list):
        return _part_of(value), False
    if not batches:
        return [Fault(None, INVALID_REQUEST, "send each message by itself")], False
    if not value:
        return [Fault(None, INVALID_REQUEST, "there is no message in it")], False
    return [part for each in value for part in _part_of(each)], True


def _read(line: bytes) -> JSONRPCMessage | None:
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None


def _part_of(value: Any) -> list[Part]:
    try:
        message = jsonrpc_message_adapter.validate_python(value, by_name=False)
    except ValueError:
        message = None
    # With an id of another kind it is taken for a notification, and its host would wait.
    if message is not None and not (
        isinstance(message, JSONRPCNotification) and "id" in value
    ):
        return [message]
    found = None
    if isinstance(value, dict):
        if "method" not in value and ("result" in value or "error" in value):
            return []  # an answer that is none; who has sent it waits for nothing
        found = value.get("id")
    known = type(found) in (int, str) or (type(found) is float and math.isfinite(found))
    found = found if known else None
    return [Fault(found, INVALID_REQUEST, "this is no message")]
