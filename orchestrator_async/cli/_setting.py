"""
The tools and settings that a command was given, as one orchestrator.

All that is known here of files with settings, and of servers, stands in this module.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator_async import Registry, ToolOrchestrator

from ._errors import CliError
from ._loading import Found, load
from ._news import News
from ._options import Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """
    What there is before the loop runs.

    Attributes:
        orchestrator: Runs the tools.
        config: What the file with settings says, or ``None`` if there is none.
    """

    orchestrator: ToolOrchestrator
    config: Any = None


def prepare(setting: Setting) -> Prepared:
    """
    Import the tools and read the settings. Outside of a loop, for a module that is imported
    may run one.

    Raises:
        CliError: There are none, or they cannot be had; says why.
    """
    if not setting.tools and setting.config is None:
        raise CliError(
            "There are no tools. Give --tools module:registry, or --config file.toml with "
            "servers."
        )
    config = None if setting.config is None else _config_of(setting.config)
    found = [load(spec) for spec in setting.tools]
    try:
        return Prepared(orchestrator=_orchestrator_of(found, config), config=config)
    except ValueError as error:
        raise CliError(str(error)) from error


@asynccontextmanager
async def opened(prepared: Prepared) -> AsyncGenerator[ToolOrchestrator]:
    """
    The orchestrator, with the tools of the servers while they run.

    Raises:
        CliError: The packages for that are missing.
    """
    orch, config, news = prepared.orchestrator, prepared.config, News()
    if config is None or not config.servers:
        yield orch
        return
    try:
        from orchestrator_async.adapters.mcp import McpServers
    except ImportError as error:
        raise CliError(str(error)) from error

    async with McpServers(config, observers=[news.hear_of_tools]) as servers:
        orch.registry.include(servers)
        for server in servers.status().values():
            if not server.connected:
                news.lost(server.name, server.reason)
        try:
            yield orch
        finally:
            orch.registry.exclude(servers)


def _config_of(path: Path) -> Any:
    try:
        from orchestrator_async.config import load_config
    except ImportError as error:
        raise CliError(str(error)) from error
    try:
        return load_config(path)
    except ValueError as error:
        raise CliError(str(error)) from error


def _orchestrator_of(found: list[Found], config: Any) -> ToolOrchestrator:
    """
    The one that was given, or else a new one; settings of a file take the place of its own.
    """
    orchestrators = {id(each): each for each in found if isinstance(each, ToolOrchestrator)}
    if len(orchestrators) > 1:
        raise CliError("--tools: only one of them can be a ToolOrchestrator.")
    registry = _joined(
        each.registry if isinstance(each, ToolOrchestrator) else each
        for each in [*orchestrators.values(), *found]
    )
    if not orchestrators:
        return (
            ToolOrchestrator(registry) if config is None else config.orchestrator(registry)
        )
    [orch] = orchestrators.values()
    if config is not None:
        orch.reload(**config.settings())
    return orch


def _joined(registries: Iterable[Registry]) -> Registry:
    """
    The first of them, with the tools of the others.
    """
    first, *others = {id(each): each for each in registries}.values() or [Registry()]
    for other in others:
        for tool in other:
            first.add(tool)
    return first
