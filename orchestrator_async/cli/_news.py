"""
What whoever runs the program is told of servers and their tools: each thing once.

A server that is down is tried again and again, and one that is hostile says another thing
each time. Standard error is to say what is wrong, and not how often.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ._errors import tell

if TYPE_CHECKING:
    from orchestrator_async.adapters.mcp import McpEvent

MOST: Final = 20
"""Lines about one server."""

_DIGITS: Final = re.compile(r"\d+")


class News:
    """
    What was told already.
    """

    def __init__(self) -> None:
        self._told: dict[str, set[str]] = {}

    def forget(self) -> None:
        """
        Tell all of it once more, as there are other settings.
        """
        self._told.clear()

    def hear(self, event: McpEvent) -> None:
        """
        Tell of servers that are not there, and of their tools. An observer of servers.
        """
        from orchestrator_async.adapters.mcp import ServerLost

        if isinstance(event, ServerLost):
            self.lost(event.server, event.reason)
        else:
            self.hear_of_tools(event)

    def hear_of_tools(self, event: McpEvent) -> None:
        """
        Tell of tools that are left out. An observer of servers.
        """
        from orchestrator_async.adapters.mcp import ToolLeftOut

        if isinstance(event, ToolLeftOut):
            self._say(event.server, f"{event.server}: tool {event.tool!r}: {event.reason}")

    def lost(self, server: str, reason: str) -> None:
        """
        Tell that a server is not connected.
        """
        self._say(server, f"{server} is not connected: {reason}")

    @contextmanager
    def hearing(self, logger: str) -> Generator[None, None, None]:
        """
        Tell what a part of the library warns of, without tracebacks.
        """
        handler = _Handler(self)
        logging.getLogger(logger).addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger(logger).removeHandler(handler)

    def _say(self, about: str, text: str) -> None:
        told = self._told.setdefault(about, set())
        line = " ".join(text.split())
        # Times, ports and the like are others each time.
        known = _DIGITS.sub("0", line)
        if known in told or len(told) > MOST:
            return
        told.add(known)
        if len(told) > MOST:
            line = f"{about}: there is more, of which nothing is said here"
        tell(f"orchestrator-async: {line}")


class _Handler(logging.Handler):
    def __init__(self, news: News) -> None:
        super().__init__(logging.WARNING)
        self._news = news

    def emit(self, record: logging.LogRecord) -> None:
        self._news._say(record.name, record.getMessage())
