"""
A server whose tools are what its client last said they were.

``set_tools`` takes a list as JSON, of objects as they are listed; those that there are at first
are in the environment, as ``TOOLS``. A change is told of as either
era of the protocol has it: by a notification of its own, and to those that listen.
"""

from __future__ import annotations

import json
import os
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ToolsListChanged,
)
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from .serving import serve

SET_TOOLS = Tool(
    name="set_tools",
    description="Change the tools.",
    input_schema={
        "type": "object",
        "properties": {"tools": {"type": "string"}, "tell": {"type": "boolean"}},
        "required": ["tools"],
    },
)
tools = [Tool.model_validate(tool) for tool in json.loads(os.environ.get("TOOLS", "[]"))]
bus = InMemorySubscriptionBus()


async def list_tools(ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
    return ListToolsResult(tools=[SET_TOOLS, *tools])


async def call_tool(ctx: Any, params: CallToolRequestParams) -> CallToolResult:
    arguments = params.arguments or {}
    if params.name == "set_tools":
        tools[:] = [Tool.model_validate(tool) for tool in json.loads(arguments["tools"])]
        if arguments.get("tell", True):
            await tell(ctx)
        return said(f"{len(tools)} tools")
    if params.name not in [tool.name for tool in tools]:
        return CallToolResult(content=[TextContent(text="no such tool")], is_error=True)
    return said(json.dumps({"tool": params.name} | arguments))


async def tell(ctx: Any) -> None:
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        await bus.publish(ToolsListChanged())
    else:
        await ctx.session.send_tool_list_changed()


def said(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)])


server: Server = Server(
    "changing",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_subscriptions_listen=ListenHandler(bus),
)

if __name__ == "__main__":
    serve(server)
