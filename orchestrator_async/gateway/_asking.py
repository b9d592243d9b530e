"""
What servers ask for while a tool runs (input of a user, an answer of a model, folders), from
the host whose call it is.

Whose it is, is told by the context in which the servers' adapter asks. Where that is no
host's, or the host cannot be asked, the server is told so, and so is the model.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import mcp_types as types
from mcp import MCPError
from mcp.shared.message import ServerMessageMetadata
from pydantic import BaseModel

from ._requests import request

logger: Final = logging.getLogger("orchestrator_async.gateway")


async def elicitation(context: Any, params: Any) -> Any:
    """
    Input of the host's user.
    """
    is_url = isinstance(params, types.ElicitRequestURLParams)

    def can(host: types.ClientCapabilities) -> bool:
        said = host.elicitation
        if said is None:
            return False
        # One that says nothing of kinds has forms, as there were no others once.
        return said.url is not None if is_url else said.form is not None or said.url is None

    asked = types.ElicitRequest(params=_without_meta(params))
    return await _ask(asked, types.ElicitResult, can)


async def sampling(context: Any, params: Any) -> Any:
    """
    An answer of the host's model.
    """
    has_tools = params.tools is not None or params.tool_choice is not None

    def can(host: types.ClientCapabilities) -> bool:
        said = host.sampling
        return said is not None and (not has_tools or said.tools is not None)

    asked = types.CreateMessageRequest(params=_without_meta(params))
    if has_tools:
        return await _ask(asked, types.CreateMessageResultWithTools, can)
    return await _ask(asked, types.CreateMessageResult, can)


async def roots(context: Any) -> Any:
    """
    The host's folders.
    """

    def can(host: types.ClientCapabilities) -> bool:
        return host.roots is not None

    return await _ask(types.ListRootsRequest(), types.ListRootsResult, can)


def _without_meta(params: Any) -> Any:
    # What stands there is between the server and us, such as where its progress goes.
    return params.model_copy(update={"meta": None})


async def _ask(asked: Any, result: type[BaseModel], can: Any) -> Any:
    host = request.get()
    if host is None:
        return _refusal("it cannot be told which host that is for")
    capabilities = host.session.client_capabilities
    if not host.session.can_send_request or capabilities is None or not can(capabilities):
        return _refusal("the host whose call this is cannot be asked for that")
    try:
        return await host.session.send_request(
            asked,
            result,
            metadata=ServerMessageMetadata(related_request_id=host.request_id),
        )
    except MCPError as error:
        return error.error


def _refusal(reason: str) -> types.ErrorData:
    logger.info("a server was refused: %s", reason)
    return types.ErrorData(code=types.INVALID_REQUEST, message=reason)
