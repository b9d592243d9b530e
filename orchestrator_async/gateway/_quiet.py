"""
What is not worth a traceback: that a host has gone while something was to be handed on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio

GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError)
"""What comes of sending to somebody who has gone."""

_LOGGERS: Final = ("mcp.server.streamable_http", "orchestrator_async.gateway.http")


@contextmanager
def quiet() -> Iterator[None]:
    """
    The SDK calls it an error where a session ends while a request for it comes in. Here it
    is none.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(_is_told)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_told)


def _is_told(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    while error is not None:
        if isinstance(error, GONE):
            return False
        error = error.__context__
    return True
