"""
What is used of hermes. Its modules have names such as ``tools``, which may be those of
somebody else's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from orchestrator_async.adapters._requiring import require

VERSIONS: Final = ("0.19", "0.20")
"""The first that was tested, and the first that was not."""


def check() -> None:
    """
    Raise ``ImportError`` where hermes is not there, or in another version.
    """
    at_least, below = VERSIONS
    require(
        "hermes-agent", module="model_tools", extra=None, at_least=at_least, below=below
    )


def registry() -> Any:
    """
    Its registry of tools. Importing it is quick, and finds no tools by itself.
    """
    try:
        return importlib.import_module("tools.registry").registry
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "hermes-agent is installed, but the module `tools` is not its own: another of "
            "that name comes first on the path"
        ) from error


def tools_module() -> Any:
    """
    What finds all tools when it is imported, which takes a second and writes to its home.
    """
    return importlib.import_module("model_tools")


def interrupts() -> tuple[Callable[[bool, int | None], None], Callable[[], bool]]:
    """
    What sets and clears the flag of a thread, and what asks for that of this thread.
    """
    module = importlib.import_module("tools.interrupt")
    return module.set_interrupt, module.is_interrupted
