"""
The tools of hermes-agent, under circuits: ``HermesTools`` has them as tools of a registry
of ours, and ``HermesCircuits`` puts our circuits inside hermes, as its plugin.

Needs hermes-agent, which no extra installs, as it pins the versions of much else:
``pip install hermes-agent orchestrator-async``. It is imported when tools are entered or
hermes loads the plugin, and not before.
"""

from ._circuits import HermesCircuits
from ._judge import hermes_errors
from ._tools import HermesTools

__all__ = ["HermesCircuits", "HermesTools", "hermes_errors"]
