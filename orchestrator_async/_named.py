"""
Settings for tools by name, or by patterns of names: an operator's word, which goes before
that of a tool's author.

All that match a name apply, the later over the earlier, field by field. They stay levels,
and are not made one policy: what two of them say need not be right together, and the
settings that come of all levels see to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from ._checks import INHERIT
from ._names import check_name
from ._policy import BreakerPolicy, ToolPolicy, as_tool_policy
from ._tool import Tool


class Named:
    """
    The levels that patterns of names make.

    Args:
        policies: Policies of either kind, by names or patterns of names.

    Raises:
        TypeError: It is no mapping.
        ValueError: A pattern or a policy cannot be; says which.
    """

    def __init__(self, policies: Mapping[str, ToolPolicy | BreakerPolicy] | None) -> None:
        given: object = policies
        if not isinstance(given, Mapping | None):
            raise TypeError(
                f"tools={policies!r:.200}: expected a mapping of names, or patterns of "
                "names, to ToolPolicy"
            )
        self._policies: list[tuple[str, ToolPolicy]] = []
        for pattern, policy in (policies or {}).items():
            check_name("a name or pattern in tools", pattern)
            if not isinstance(policy, ToolPolicy | BreakerPolicy):
                raise ValueError(f"tools[{pattern!r}]={policy!r}: expected a ToolPolicy")
            self._policies.append((pattern, as_tool_policy(policy)))
        self._policies.reverse()
        # All who share a circuit are looked at whenever one of them comes.
        self._remembered = lru_cache(maxsize=1000)(self._levels)

    def levels(self, name: str) -> tuple[ToolPolicy, ...]:
        """
        What there is for the tool of that name, what goes before the rest first.
        """
        return self._remembered(name) if self._policies else ()

    def _levels(self, name: str) -> tuple[ToolPolicy, ...]:
        return tuple(
            policy for pattern, policy in self._policies if fnmatchcase(name, pattern)
        )

    def check(self, tools: Iterable[Tool]) -> None:
        """
        See that those who share a circuit are not told different things of it.

        Raises:
            ValueError: Two of them are; names both.
        """
        if not self._policies:
            return
        said: dict[tuple[str, str], tuple[str, Any]] = {}
        for tool in tools:
            for name, value in self._of_circuit(tool).items():
                at = tool.circuit_name, name
                other, theirs = said.setdefault(at, (tool.name, value))
                if theirs != value:
                    raise ValueError(
                        f"{other} and {tool.name} share the circuit {tool.circuit_name}, "
                        f"and the settings for them by name disagree on its {name}: "
                        f"{theirs!r} and {value!r}"
                    )

    def _of_circuit(self, tool: Tool) -> dict[str, Any]:
        has: dict[str, Any] = {}
        for level in self.levels(tool.name):
            for name in BreakerPolicy.__slots__:
                value = getattr(level.breaker, name)
                if value is not INHERIT:
                    has.setdefault(name, value)
        return has
