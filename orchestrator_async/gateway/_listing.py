"""
The tools of a registry as MCP tells of them, page by page.
"""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Any, Final

import mcp_types as types
from mcp import MCPError

from orchestrator_async import Registry, Tool

logger: Final = logging.getLogger("orchestrator_async.gateway")

PAGE: Final = 500
"""Tools on a page. It is that large because many hosts read the first one only."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST: Final = 64
_DIGITS: Final = 8


def host_name(name: str) -> str:
    """
    What hosts call a tool of that name: the same, where a model's API takes it. Else what it
    does not take is replaced, and a digest of the whole keeps such names apart.
    """
    if _NAME.fullmatch(name):
        return name
    plain = _OTHER.sub("_", name)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{plain[: _LONGEST - _DIGITS - 1]}_{digest}"


class Listing:
    """
    What a registry has to offer, made anew only for tools that have changed. A ``Watcher``,
    which the registry holds on to weakly.

    Args:
        registry: The tools.
        changed: What is called each time that they are others.
    """

    def __init__(self, registry: Registry, changed: Any) -> None:
        self._registry = registry
        self._changed = changed
        self._places: dict[str, int] = {}
        self._last = 0
        self._made: dict[str, types.Tool | None] = {}
        self._names: dict[str, str] | None = None
        registry.watch(self)

    # What the registry tells

    def check(self, tool: Tool) -> None:
        """
        Any tool may come.
        """

    def tool_added(self, tool: Tool) -> None:
        """
        It is new, or has taken the place of another.
        """
        self._forget(tool)

    def tool_changed(self, tool: Tool, *, removed: bool) -> None:
        """
        It was replaced or removed.
        """
        if removed:
            # Should it come again, it comes last.
            self._places.pop(tool.name, None)
        self._forget(tool)

    def _forget(self, tool: Tool) -> None:
        self._made.pop(tool.name, None)
        self._names = None
        self._changed()

    # What hosts ask

    def own_name(self, name: str) -> str:
        """
        The registry's name of the tool that hosts know by this one; the name itself where
        there is none, for the orchestrator knows best what to say of that.
        """
        return self._by_host_name().get(name, name)

    def _by_host_name(self) -> dict[str, str]:
        if self._names is None:
            names: dict[str, str] = {}
            for tool in self._registry:
                names.setdefault(host_name(tool.name), tool.name)
            # A name that hosts take is always that of its own tool.
            names.update({name: name for name in names if name in self._registry})
            self._names = names
        return self._names

    def page(
        self, cursor: str | None, size: int = PAGE
    ) -> tuple[list[types.Tool], str | None]:
        """
        The tools after that cursor, and the next one.

        A cursor is the place of the last tool on a page. Tools keep their places, and new
        ones come last: however they change in between, none is told twice or left out.

        Raises:
            MCPError: This is no cursor.
        """
        after = last = _place(cursor)
        tools: list[types.Tool] = []
        for tool in self._registry:
            place = self._place_of(tool.name)
            if place <= after:
                continue
            if len(tools) == size:
                return tools, str(last)
            told = self._told(tool)
            if told is not None:
                tools.append(told)
                last = place
        return tools, None

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """
        The schema of a tool's arguments, by the name that hosts know it by.
        """
        tool = self._registry.get(self.own_name(name))
        told = None if tool is None else self._told(tool)
        return None if told is None else told.input_schema

    def _place_of(self, name: str) -> int:
        place = self._places.get(name)
        if place is None:
            place = self._last = self._places[name] = self._last + 1
        return place

    def _told(self, tool: Tool) -> types.Tool | None:
        name = host_name(tool.name)
        if self._by_host_name()[name] != tool.name:
            return None  # nobody could call it
        if tool.name not in self._made:
            self._made[tool.name] = _made(tool, name)
        return self._made[tool.name]


def _place(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 16):
        raise MCPError(types.INVALID_PARAMS, "this is no cursor of this server")
    return int(cursor)


def _made(tool: Tool, name: str) -> types.Tool | None:
    try:
        told = tool.definition("mcp")
    except TypeError as error:
        logger.warning("%s is not offered: %s", tool.name, error)
        return None
    schema = {"type": "object", **told["inputSchema"]}
    if schema["type"] != "object":
        logger.warning("%s is not offered: its arguments are no object", tool.name)
        return None
    annotations = None
    if tool.read_only is not None or tool.idempotent:
        annotations = types.ToolAnnotations(
            read_only_hint=tool.read_only, idempotent_hint=tool.idempotent or None
        )
    return types.Tool(
        name=name,
        description=told["description"],
        input_schema=schema,
        annotations=annotations,
    )
