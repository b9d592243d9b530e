"""
The tools of our registry as function tools of the SDK.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from agents import (
    FunctionTool,
    ToolOutputFileContent,
    ToolOutputImage,
    ToolOutputText,
)
from agents.strict_schema import ensure_strict_json_schema
from agents.tool_context import ToolContext

from orchestrator_async import Tool, ToolOrchestrator, ToolResult
from orchestrator_async.adapters._guarding import own_tools

from ._context import (
    Context,
    ConversationOf,
    check_functions,
    runner_of,
    told,
    told_by,
)
from ._guard import report_failure

OFFERED: Final = "_orchestrator_offered"
"""The attribute by which a tool of an orchestrator is known, and which it is."""


def function_tools(
    orch: ToolOrchestrator,
    *,
    conversation: ConversationOf | None = None,
    context: Context = told,
) -> list[FunctionTool]:
    """
    The tools of an orchestrator, for ``Agent(tools=...)``.

    They are ordinary ``FunctionTool`` objects: ``needs_approval``, ``is_enabled`` and the
    like can be set on them. Those that the orchestrator guards for the SDK are left out.

    Args:
        orch: The orchestrator.
        conversation: From the SDK's context of a call to the conversation of the
            orchestrator that it belongs to, or ``None``. Default: none.
        context: From the SDK's context of a call to what the tools find in their
            ``ToolContext``, as guards and observers do. Default: ``told``.

    Raises:
        TypeError: A signature does not lend itself to a schema, which names the tool; or
            something that is given has the wrong type.
    """
    check_functions(conversation, context)
    return [_made(orch, tool, conversation, context) for tool in own_tools(orch)]


def _made(
    orch: ToolOrchestrator,
    tool: Tool,
    conversation: ConversationOf | None,
    told_of: Context,
) -> FunctionTool:
    definition = tool.definition("openai-responses")
    name, parameters = definition["name"], definition["parameters"]

    async def invoke(context: ToolContext[Any], input: str) -> Any:
        runner = runner_of(conversation, context, orch) or orch
        about = told_by(told_of, context)
        call_id = getattr(context, "tool_call_id", None)
        result = await runner.run(name, input, call_id=call_id, **about)
        if isinstance(result.error, Exception):
            report_failure(made, result.error, input, context)
        return _output(result)

    setattr(invoke, OFFERED, orch)
    made = FunctionTool(
        name=name,
        description=definition["description"],
        params_json_schema=parameters,
        on_invoke_tool=invoke,
        strict_json_schema=_is_strict(parameters),
    )
    return made


def _is_strict(parameters: dict[str, Any]) -> bool:
    """
    Whether the schema is one that a model can be held to, as it is.
    """
    try:
        return ensure_strict_json_schema(copy.deepcopy(parameters)) == parameters
    except Exception:
        return False


def _output(result: ToolResult) -> Any:
    """
    Text, or text and what there is to look at.
    """
    output = result.message("openai-responses")["output"]
    return output if isinstance(output, str) else [_block(each) for each in output]


def _block(block: dict[str, Any]) -> Any:
    match block["type"]:
        case "input_image":
            return ToolOutputImage(image_url=block["image_url"], detail=block["detail"])
        case "input_file":
            data, name = block["file_data"], block["filename"]
            return ToolOutputFileContent(file_data=data, filename=name)
        case _:
            return ToolOutputText(text=block["text"])
