"""
What servers ask for while a tool runs (input of a user, an answer of a model, folders), from
the host whose call it is.
"""

from __future__ import annotations

from typing import Any

import mcp_types as types


async def elicitation(context: Any, params: Any) -> Any:
    return types.ErrorData(code=types.INVALID_REQUEST, message="nobody can be asked")


sampling = elicitation


async def roots(context: Any) -> Any:
    return types.ErrorData(code=types.INVALID_REQUEST, message="nobody can be asked")
