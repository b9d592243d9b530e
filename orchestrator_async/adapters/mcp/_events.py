"""
What observers of servers are told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

logger: Final = logging.getLogger("orchestrator_async.mcp")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConnected:
    """
    A server is connected, for the first time or again.

    Attributes:
        server: Its name.
        tools: How many tools of it are offered.
    """

    server: str
    tools: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLost:
    """
    A server is not connected any more, or could not be; it is being tried again.

    Attributes:
        server: Its name.
        reason: Why, in a sentence, cleaned.
        retry_in: Seconds until the next attempt.
    """

    server: str
    reason: str
    retry_in: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolsChanged:
    """
    A server offers other tools than before. The names are those by which they are called.

    Attributes:
        server: Its name.
        added: Those that are new.
        removed: Those that are gone.
        changed: Those whose description or arguments have changed.
        refused: Those of them that are pinned, and are refused from now on.
    """

    server: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolLeftOut:
    """
    A tool of a server is not offered, or not as the server describes it.

    Attributes:
        server: The server.
        tool: The server's own name of the tool, cut.
        reason: Why, in a sentence.
    """

    server: str
    tool: str
    reason: str


McpEvent = ServerConnected | ServerLost | ToolsChanged | ToolLeftOut


@dataclass(slots=True)
class Listeners:
    """
    Tells events to observers, and to the log.
    """

    observers: Iterable[Callable[[McpEvent], object]]
    _complained: set[int] = field(default_factory=set)

    def tell(self, event: McpEvent) -> None:
        logger.log(*_as_logged(event))
        for observer in self.observers:
            try:
                observer(event)
            except Exception:
                if id(observer) not in self._complained:
                    self._complained.add(id(observer))
                    logger.exception("an observer of MCP servers raised")


def _as_logged(event: McpEvent) -> tuple[int, str]:
    match event:
        case ServerConnected():
            return logging.INFO, f"{event.server} is connected, with {event.tools} tools"
        case ServerLost():
            again = f"tried again in {event.retry_in:.1f} s"
            return (
                logging.WARNING,
                f"{event.server} is not connected: {event.reason}; {again}",
            )
        case ToolLeftOut():
            return logging.WARNING, f"{event.server}: tool {event.tool!r}: {event.reason}"
        case _:
            parts = ("added", "removed", "changed", "refused")
            told = (
                f"{part} {', '.join(names)}"
                for part in parts
                if (names := getattr(event, part))
            )
            return logging.INFO, f"{event.server} has changed its tools: {'; '.join(told)}"
