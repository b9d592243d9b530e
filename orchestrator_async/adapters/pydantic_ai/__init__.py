"""
Pydantic AI: its tools under our circuits, and ours as its tools. Needs ``[pydantic-ai]``.

``CircuitToolset`` goes around one toolset, ``Circuits`` around all tools of an agent, and
``OrchestratorToolset`` is made of the tools of a registry. Failures reach the model as
``ToolFailed``, which ends no run and takes nothing of the framework's retries.
"""

from orchestrator_async._requiring import require

require(
    "pydantic-ai-slim",
    module="pydantic_ai",
    extra="pydantic-ai",
    at_least="2.60",
    below="3",
)

from ._circuits import Circuits, CircuitToolset  # noqa: E402
from ._runs import RunContextData, run_data  # noqa: E402
from ._toolset import OrchestratorToolset  # noqa: E402

__all__ = [
    "CircuitToolset",
    "Circuits",
    "OrchestratorToolset",
    "RunContextData",
    "run_data",
]
