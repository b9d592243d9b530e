"""
What is used of hermes. Its modules have names such as ``tools``, which may be those of
somebody else's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from orchestrator_async._requiring import require

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


def have_between(middleware: Callable[..., Any]) -> None:
    """
    Have hermes put this between a call and its tool, as a plugin would, from now on. It
    forgets it when it looks for plugins again; does nothing where it is there.
    """
    plugins = importlib.import_module("hermes_cli.plugins")
    manager = plugins.get_plugin_manager()
    if middleware not in manager._middleware.get("tool_execution", ()):
        manifest = plugins.PluginManifest(name="orchestrator-async")
        context = plugins.PluginContext(manifest, manager)
        context.register_middleware("tool_execution", middleware)


def end_process(session_id: str) -> None:
    """
    End a process that a command has left in the background.
    """
    module = importlib.import_module("tools.process_registry")
    module.process_registry.kill_process(session_id)
