"""
The plugin that hermes loads: our circuits around all of its tools.

Hermes finds it by its entry point, or by a directory ``plugins/orchestrator-async`` in its
home with a ``plugin.yaml`` and an ``__init__.py`` that imports ``register`` from here. It
is off until it is enabled: ``hermes plugins enable orchestrator-async``.

Settings come from a file of ours, whose path is that in the environment variable
``ORCHESTRATOR_ASYNC_CONFIG``, or else in hermes' ``config.yaml``, under
``plugins.entries.orchestrator-async.config``. Without either, all are the defaults.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Final

from orchestrator_async import Registry

from ._circuits import HermesCircuits

__all__ = ["circuits", "register"]

VARIABLE: Final = "ORCHESTRATOR_ASYNC_CONFIG"

_made: list[HermesCircuits] = []


def register(ctx: Any) -> None:
    """
    What hermes calls when it loads the plugin; again when it looks for plugins again, and
    the circuits are then as they were.

    Args:
        ctx: Hermes' ``PluginContext``.

    Raises:
        ImportError: This is another version of hermes.
        ConfigError: The file of settings cannot be read.
        ValueError: Hermes' config names no path.
    """
    if not _made:
        _made.append(_from_settings(_path(ctx)))
    ctx.register_middleware("tool_execution", _made[0].middleware)


def circuits() -> HermesCircuits | None:
    """
    What the plugin has made, for its figures; ``None`` before hermes has loaded it.
    """
    return _made[0] if _made else None


def _path(ctx: Any) -> str | None:
    found = os.environ.get(VARIABLE) or _configured(ctx)
    return None if found is None else os.path.expanduser(found)


def _configured(ctx: Any) -> str | None:
    config = importlib.import_module("hermes_cli.config").load_config() or {}
    entries = (config.get("plugins") or {}).get("entries") or {}
    manifest = ctx.manifest
    name = manifest.key or manifest.name
    found = (entries.get(name) or {}).get("config") or None
    if found is not None and not isinstance(found, str):
        raise ValueError(
            f"plugins.entries.{name}.config is {found!r} in hermes' config.yaml: expected "
            "the path of a file of settings"
        )
    return found


def _from_settings(path: str | None) -> HermesCircuits:
    if path is None:
        return HermesCircuits()
    from orchestrator_async.config import load_config

    return HermesCircuits(load_config(path).orchestrator(Registry()))
