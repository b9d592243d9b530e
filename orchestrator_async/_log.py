"""
The log, of which foreign text is not to make a leak.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Final

logger: Final = logging.getLogger("orchestrator_async")


def log_with_traceback(
    message: str,
    error: BaseException | None,
    clean: Callable[[str], str],
    level: int = logging.ERROR,
) -> None:
    """
    Log a foreign error with its traceback, which passes through ``clean`` like all
    foreign text: an exception's message can hold a password.
    """
    if not logger.isEnabledFor(level):
        return
    lines = [] if error is None else traceback.format_exception(error)
    text = "\n".join(clean(line.rstrip("\n")) for line in (message, *lines))
    logger.log(level, "%s", text)
