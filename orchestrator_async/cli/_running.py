"""
What all commands share: streams, tools, a loop, and an exit code at the end.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from orchestrator_async import ToolOrchestrator
from orchestrator_async._describe import describe_error

from ._errors import CliError, tell
from ._interrupts import interrupts
from ._options import Setting
from ._setting import Prepared, opened, prepare
from ._stdio import Stdio

_OPTIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {}),
    "trio": ("trio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}


_THEIR_LOGS: Final = ("mcp", "httpx2", "httpcore2")


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """
    What a command works with.

    Attributes:
        orch: Runs the tools.
        stdio: The standard streams.
        setting: The options that every command has.
        config: What the file with settings says, or ``None`` if there is none.
    """

    orch: ToolOrchestrator
    stdio: Stdio
    setting: Setting
    config: Any


Command = Callable[[Session], Awaitable[int]]


def run_command(
    command: Command, setting: Setting, *, servers: bool = True, reloads: bool = False
) -> int:
    """
    Run a command with the tools that it was given.

    Args:
        command: What to run.
        setting: The options that every command has.
        servers: Whether it wants the tools of servers, and does not start these by itself.
        reloads: Whether SIGHUP has it read its file of settings anew, if it has one.

    Returns:
        The exit code. Messages have been printed.
    """
    if not reloads or setting.config is None:
        interrupts.ends_by_hang_up()
    if not setting.debug:
        for name in _THEIR_LOGS:
            # What has no handler is printed by Python, with tracebacks.
            logging.getLogger(name).addHandler(logging.NullHandler())
    stdio = Stdio.take()
    try:
        code = _in_a_loop(command, setting, stdio, servers)
    except Exception as error:
        code = _told(error, setting)
    return interrupts.code or code


def _in_a_loop(command: Command, setting: Setting, stdio: Stdio, servers: bool) -> int:
    if importlib.util.find_spec(setting.backend) is None:
        raise CliError(f"{setting.backend} is not installed: pip install {setting.backend}")
    prepared = prepare(setting)
    backend, options = _OPTIONS[setting.backend]
    try:
        return anyio.run(
            functools.partial(_run, command, prepared, setting, stdio, servers),
            backend=backend,
            backend_options=options,
        )
    finally:
        interrupts.no_loop()


async def _run(
    command: Command, prepared: Prepared, setting: Setting, stdio: Stdio, servers: bool
) -> int:
    tools = opened(prepared) if servers else nullcontext(prepared.orchestrator)
    with anyio.CancelScope() as scope, interrupts.cancelling(scope):
        await checkpoint()  # it may be interrupted already
        async with tools as orch:
            session = Session(
                orch=orch, stdio=stdio, setting=setting, config=prepared.config
            )
            return await command(session)
    return 1  # it was interrupted, which has a code of its own


def _told(error: Exception, setting: Setting) -> int:
    """
    Print what has gone wrong, in words; the exit code.
    """
    raised = error
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    shown = error.__cause__ if isinstance(error, CliError) else raised
    if setting.debug and shown is not None:
        tell("".join(traceback.format_exception(shown)).rstrip("\n"), limit=1_000_000)
    if not isinstance(error, CliError):
        tell(f"orchestrator-async: {describe_error(error)}")
        return 1
    if str(error):
        tell(f"orchestrator-async: {error}")
    return error.code
