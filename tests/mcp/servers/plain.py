"""
A server that does as it should, with a tool for each thing that a client has to deal with.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import (
    Context,
    Elicit,
    ElicitationResult,
    MCPServer,
    Resolve,
    Sample,
)
from mcp_types import (
    CallToolResult,
    CreateMessageResult,
    EmbeddedResource,
    ImageContent,
    SamplingMessage,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import BaseModel

from .serving import serve

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
    "hgGAWjR9awAAAABJRU5ErkJggg=="
)
OUTPUT = os.fstat(1)  # where it goes before the SDK moves it
server = MCPServer("plain", instructions="For tests.")


class Sum(BaseModel):
    sum: int


class Name(BaseModel):
    name: str


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
def echo(text: str) -> CallToolResult:
    """Say it again."""
    return CallToolResult(content=[TextContent(text=text)])


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(sum=a + b)


@server.tool()
async def sleep(seconds: float) -> CallToolResult:
    """Take so long."""
    await anyio.sleep(seconds)
    return CallToolResult(content=[TextContent(text="awake")])


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def fail(text: str) -> CallToolResult:
    """Return an error that says so."""
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


@server.tool()
def image() -> CallToolResult:
    """Return a picture of one pixel."""
    return CallToolResult(content=[ImageContent(data=PIXEL, mime_type="image/png")])


@server.tool()
def resource() -> CallToolResult:
    """Return a file."""
    contents = TextResourceContents(
        uri="test://file", mime_type="text/plain", text="inside"
    )
    return CallToolResult(content=[EmbeddedResource(resource=contents)])


@server.tool()
async def progress(steps: int, ctx: Context) -> CallToolResult:
    """Report so many steps."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step}")
    return CallToolResult(content=[TextContent(text="done")])


@server.tool()
def pid() -> CallToolResult:
    """Say which process this is."""
    return CallToolResult(content=[TextContent(text=str(os.getpid()))])


@server.tool()
def context(ctx: Context) -> dict[str, Any]:
    """Return what came with the request, such as its traceparent."""
    return {"meta": dict(ctx.request_context.meta or {})}


def _ask() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


@server.tool()
def ask(name: Annotated[ElicitationResult[Name], Resolve(_ask)]) -> CallToolResult:
    """Ask the person at the client."""
    return CallToolResult(content=[TextContent(text=name.model_dump_json())])


def _sample() -> Sample:
    message = SamplingMessage(role="user", content=TextContent(text="Say something."))
    return Sample([message], max_tokens=10)


@server.tool()
def sample(said: Annotated[CreateMessageResult, Resolve(_sample)]) -> CallToolResult:
    """Ask the client's model."""
    return CallToolResult(content=[TextContent(text=said.model_dump_json())])


@server.tool()
def crash() -> None:
    """Be killed in the middle of the call."""
    os.kill(os.getpid(), signal.SIGKILL)


@server.tool()
def grandchild() -> CallToolResult:
    """Start a child that holds the output, so that its end does not show; return its pid."""
    # The SDK has put the output elsewhere, where no child would get it.
    wire = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and _is_output(fd)]
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = subprocess.Popen(sleeper, stdin=subprocess.DEVNULL, pass_fds=wire)
    return CallToolResult(content=[TextContent(text=str(child.pid))])


def _is_output(fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), OUTPUT)
    except OSError:  # that with which the directory itself was read
        return False


if __name__ == "__main__":
    serve(server._lowlevel_server)
