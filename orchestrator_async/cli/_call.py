"""
The command ``call``.
"""

from __future__ import annotations

import os
from typing import Final

import anyio

from orchestrator_async import ToolOrchestrator
from orchestrator_async._calls import ToolCall, ToolResult
from orchestrator_async._errors import ToolTimeoutError

from ._answering import answer, code_of, failed
from ._errors import CliError
from ._options import STANDARD_INPUT
from ._running import Session
from ._shown import as_json, record_of, visible
from ._stdio import Output, Stdio, opened, read_all

_MOST: Final = 10_000_000


async def call(session: Session, name: str, args: str | None, timeout: float | None) -> int:
    """
    Make one call and print what came of it.

    Returns:
        The exit code.
    """
    request = ToolCall(name, await _arguments(args, session.stdio))
    result = await _answer_in_time(session.orch, request, timeout)
    output = session.stdio.output
    if session.setting.json:
        output.write(as_json(record_of(result)))
    else:
        output.write(_as_read(result.content, output))
    return code_of(result)


async def _answer_in_time(
    orch: ToolOrchestrator, call: ToolCall, timeout: float | None
) -> ToolResult:
    with anyio.move_on_after(timeout):
        return await answer(orch, call)
    assert timeout is not None
    tool = orch.registry.get(call.name)
    error = ToolTimeoutError(
        tool_name=call.name,
        timeout=timeout,
        still_running=tool is not None and not tool.is_async,
    )
    return failed(call, str(error), error)


async def _arguments(args: str | None, stdio: Stdio) -> str | None:
    """
    The JSON of the arguments, from wherever it is to be read.
    """
    if args is None and (stdio.input is None or os.isatty(stdio.input)):
        return None
    if args in (None, STANDARD_INPUT):
        if stdio.input is None:
            raise CliError("There is no standard input to read the arguments from.")
        return await _text(stdio.input, "Standard input") or None
    if args.startswith("@"):
        return await _text(opened(args[1:]), args[1:])
    return args


async def _text(descriptor: int, name: str) -> str:
    try:
        return (await read_all(descriptor, name, _MOST)).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise CliError(f"{name} is not text in UTF-8.") from None


def _as_read(content: str, output: Output) -> str:
    if not output.is_terminal:
        return content
    shown = visible(content)
    return shown if shown.endswith("\n") else f"{shown}\n"
