"""
What is imported once for all processes of a fleet.
"""

from __future__ import annotations

import importlib
from contextlib import suppress

for _name in (
    "trio",
    "uvloop",
    "glide",
    "griffe",
    "pydantic",
    "orchestrator_async.stores.redis",
):
    with suppress(ImportError):
        importlib.import_module(_name)

from . import worker as worker  # noqa: E402  # it needs most of these
