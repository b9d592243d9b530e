"""
Telling those who listen, of whom none is to make another one deaf.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator_async._log import log_with_traceback
from orchestrator_async._store import SharedState
from orchestrator_async._text import clean

Heard = Callable[[str, SharedState], object]
Asked = Callable[[str], object]


def hear(listener: Callable[..., object], *told: object) -> None:
    """
    Tell one of something. What it raises is logged.
    """
    try:
        listener(*told)
    except Exception as error:
        log_with_traceback("a listener to a store has raised", error, clean)
