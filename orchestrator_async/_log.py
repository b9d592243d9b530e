"""
The log, of which foreign text is not to make a leak.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ._callbacks import is_its_own
from ._report import report

logger: Final = logging.getLogger("orchestrator_async")


def log_with_traceback(
    message: str,
    error: BaseException | None,
    clean: Callable[[str], str],
    level: int = logging.ERROR,
    said: str | None = None,
) -> None:
    """
    Log a foreign error with its traceback, which passes through ``clean`` like all
    foreign text: an exception's message can hold a password.

    Args:
        message: What to say before it.
        error: The error, if there is one.
        clean: What foreign text goes through.
        level: Of the record.
        said: The error in a line, cleaned, if that is known.
    """
    if not logger.isEnabledFor(level):
        return
    text = clean(message)
    if error is not None:
        text = f"{text}\n{_report(error, clean, said)}"
    logger.log(level, "%s", text)


def _report(error: BaseException, clean: Callable[[str], str], said: str | None) -> str:
    # What is logged must not depend on an error's goodwill, and what comes of a call
    # must not depend on the level of the log.
    try:
        return report(error, clean, said)
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return "(its traceback cannot be had)"
