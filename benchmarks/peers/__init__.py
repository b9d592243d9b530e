"""
Adapters: how each library is given what a scenario wants, one module a library.

Each has a ``make``, and is as kind to its library as the documentation lets it be.
``requirements.txt`` pins what is measured.
"""

from __future__ import annotations

OURS = "orchestrator_async"

NOT_INSTALLED = "peers-not-installed.json"
"""Where ``install`` writes down, in the environment, what was refused, and why."""

MODULES = {
    OURS: "ours",
    "aiobreaker": "with_aiobreaker",
    "circuitbreaker": "with_circuitbreaker",
    "fluxgate": "with_fluxgate",
    "grelmicro": "with_grelmicro",
    "hyx": "with_hyx",
    "interlock-cb": "with_interlock",
    "nopanic": "with_nopanic",
    "purgatory": "with_purgatory",
    "pybreaker": "with_pybreaker",
    "pyresilience": "with_pyresilience",
    "resilix": "with_resilix",
}
"""The adapter of each library, by the name that it is installed by."""
