"""
Circuits that are open because a test says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from orchestrator_async import ToolOrchestrator, orchestrator


@contextmanager
def forced_open(*names: str, orch: ToolOrchestrator | None = None) -> Iterator[None]:
    """
    Hold circuits open for the length of a ``with`` block, by ``Circuit.force_open``.

    The model reads what it would read of a tool that is down, with the ``reset_timeout``
    as the time to wait. (``isolate`` has no such time and other words, and failures that
    are made would stay in the figures.) No call probes, however much time passes. At the
    end, also if the block raises, the circuits are what they were; blocks may be nested.
    Calls that were under way when the block began give no verdict.

    Args:
        *names: Tools, which take those down that share their circuits, or circuits.
        orch: Whose circuits. Default: the package's ready-made ``orchestrator``.

    Raises:
        TypeError: No name is given.
        UnknownToolError: There is neither a tool nor a circuit of that name. No circuit
            is touched then.
    """
    if not names:
        raise TypeError("forced_open takes the names of tools or of circuits")
    orch = orchestrator if orch is None else orch
    registry = orch.registry
    tools = [(name, registry.get(name)) for name in names]
    circuits = [
        orch.circuit(name if tool is None else tool.circuit_name) for name, tool in tools
    ]
    with ExitStack() as stack:
        for circuit in circuits:
            stack.enter_context(circuit.force_open())
        yield
