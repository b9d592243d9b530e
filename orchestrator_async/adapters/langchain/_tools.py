"""
The tools of an orchestrator, as tools that LangChain can offer to a model and run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final

from langchain_core.callbacks import (
    AsyncCallbackManagerForToolRun,
    CallbackManagerForToolRun,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from pydantic import PrivateAttr

from orchestrator_async import Tool, ToolOrchestrator, ToolResult
from orchestrator_async.adapters._guarding import Runner, own_tools

from ._portal import portal_of
from ._results import content_of, message_of

runner: Final[ContextVar[Runner | None]] = ContextVar("runner", default=None)
"""The conversation that tools of ours are run in, where a middleware has one."""


class OrchestratorTool(BaseTool):
    """
    A tool of an orchestrator's registry; see ``langchain_tools``, which makes them.
    """

    _orch: ToolOrchestrator = PrivateAttr()
    _artifacts: bool = PrivateAttr(default=True)
    _context: dict[str, Any] = PrivateAttr(default_factory=dict)

    def belongs_to(self, orch: ToolOrchestrator) -> bool:
        """
        Whether it is run by that orchestrator, and so is under its circuits already.
        """
        return self._orch is orch

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # Whole, for an argument may have any name; they are validated by the orchestrator.
        return (tool_input, tool_call_id), {}

    async def _arun(
        self,
        args: Any,
        call_id: str | None,
        *,
        config: RunnableConfig,
        run_manager: AsyncCallbackManagerForToolRun | None = None,
    ) -> tuple[Any, Any]:
        run = (runner.get() or self._orch).run
        context = {"config": config, **self._context}
        token = runner.set(None)  # what it calls itself are calls of their own
        try:
            result: ToolResult = await run(self.name, args, call_id=call_id, **context)
        finally:
            runner.reset(token)
        return self._told(result)

    def _run(
        self,
        args: Any,
        call_id: str | None,
        *,
        config: RunnableConfig,
        run_manager: CallbackManagerForToolRun | None = None,
    ) -> tuple[Any, Any]:
        run = functools.partial(self._arun, args, call_id, config=config)
        with portal_of(self._orch) as portal:
            told: tuple[Any, Any] = portal.call(run)
        return told

    def _told(self, result: ToolResult) -> tuple[Any, Any]:
        """
        Content and artifact: for a failure a message, which has a status.
        """
        if result.ok:
            return content_of(result), result.value if self._artifacts else None
        if result.call_id is None:
            raise ToolException(result.content)  # BaseTool returns the text of it
        return message_of(result, self.name, result.call_id, artifact=self._artifacts), None


def langchain_tools(
    orch: ToolOrchestrator,
    *,
    names: Iterable[str] | None = None,
    artifacts: bool = True,
    **context: Any,
) -> list[BaseTool]:
    """
    The tools of an orchestrator's registry as tools of LangChain, in their order.

    A call of one is a call of the orchestrator, with all that it does around it. The
    message has the text that the model reads as its content, with images and files
    (``Media``) as content blocks after it, and the tool's own value as its artifact. A call
    that fails or is refused gives a message with the status ``"error"``.

    They run on the event loop of who calls them; without one, by ``invoke``, on one in a
    thread of their own.

    Args:
        orch: The orchestrator.
        names: Those that are to be offered. Default: all of them, but for those that a
            framework runs.
        artifacts: Whether messages have the values. A checkpointer saves them with the
            messages, and so they must be of types that it can save.
        context: What guards, observers and the tools themselves find in the context of
            each call, beside ``config``, LangChain's configuration of the run.

    Raises:
        TypeError: A tool's signature does not lend itself to a schema.
        UnknownToolError: One of the names is that of no tool.
        ValueError: One is that of a tool which only a framework can run.
    """
    tools = {tool.name: tool for tool in own_tools(orch)}
    if names is not None:
        tools = {name: tools.get(name) or _missing(orch, name) for name in names}
    made: list[BaseTool] = []
    for tool in tools.values():
        offered = _offered(tool)
        offered._orch, offered._artifacts, offered._context = orch, artifacts, context
        made.append(offered)
    return made


def _offered(tool: Tool) -> OrchestratorTool:
    said = tool.definition("mcp")
    return OrchestratorTool(
        name=tool.name,
        description=said.get("description") or "",
        args_schema=said["inputSchema"],
        response_format="content_and_artifact",
        handle_tool_error=True,
        metadata={"idempotent": tool.idempotent, "read_only": tool.read_only},
    )


def _missing(orch: ToolOrchestrator, name: str) -> Tool:
    known = orch.registry[name]  # or there is none, and this says so
    raise ValueError(f"{known.name} is a tool that only a framework can run")
