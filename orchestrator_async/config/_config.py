"""
What a file says, once it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, StrictBool
from pydantic.dataclasses import dataclass as checked

from orchestrator_async import (
    BreakerPolicy,
    BudgetPolicy,
    LimitPolicy,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
)

from ._servers import ServerConfig
from ._values import Name


@checked(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid"))
class GatewayConfig:
    """
    How the tools are offered to others, as a server.

    Args:
        name: What the server calls itself. Default ``"orchestrator"``.
        figures_tool: Whether it has a tool that tells the figures. Default false.
    """

    name: Name = "orchestrator"
    figures_tool: StrictBool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """
    What a file says. ``load_config`` and ``read_config`` make it.

    Attributes:
        path: The file, or ``None`` where it was none.
        servers: The servers, by their names.
        gateway: How the tools are offered to others.
        policy: The settings of all tools.
        circuits: Those of circuits, by name.
        tools: Those of tools, by name or pattern, in the order of the file.
        limits: How many calls there may be of all tools together, or ``None``.
        groups: The same for groups of tools, by name.
        retry_budget: How many attempts after the first all calls may make together, or
            ``None`` for no such limit.
        fields: Fields of ``Tool`` for tools of servers, by name or pattern.
    """

    path: Path | None = None
    servers: Mapping[str, ServerConfig] = field(default_factory=dict)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    policy: ToolPolicy = field(default_factory=ToolPolicy)
    circuits: Mapping[str, BreakerPolicy] = field(default_factory=dict)
    tools: Mapping[str, ToolPolicy] = field(default_factory=dict)
    limits: LimitPolicy | None = None
    groups: Mapping[str, LimitPolicy] = field(default_factory=dict)
    retry_budget: BudgetPolicy | None = field(default_factory=BudgetPolicy)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def orchestrator(
        self, registry: Registry | None = None, **overrides: Any
    ) -> ToolOrchestrator:
        """
        An orchestrator with these settings. Servers are not started by it.

        Args:
            registry: The tools. Default: the module's own ``registry``.
            **overrides: Arguments of ``ToolOrchestrator``, each in place of what the file
                says.

        Raises:
            TypeError: An argument is of the wrong kind.
            ValueError: A setting cannot be, or is given twice; or tools that share a
                circuit are told different things of it.
        """
        return ToolOrchestrator(registry, **{**self.settings(), **overrides})

    def settings(self) -> dict[str, Any]:
        """
        The settings as keyword arguments, for ``ToolOrchestrator`` and its ``reload``.
        """
        return {
            "policy": self.policy,
            "circuits": dict(self.circuits),
            "tools": dict(self.tools),
            "limits": self.limits,
            "groups": dict(self.groups),
            "retry_budget": self.retry_budget,
        }

    def tool_fields(self, name: str) -> dict[str, Any]:
        """
        What the file says of a tool that is no policy: fields of ``Tool``, such as
        ``idempotent``. Of all patterns that match, the last that says a field decides it.

        Args:
            name: Name of the tool.
        """
        said: dict[str, Any] = {}
        for pattern, values in self.fields.items():
            if fnmatchcase(name, pattern):
                said.update(values)
        return said
