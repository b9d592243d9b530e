from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from trio.testing import MockClock

from .clock import AutojumpEventLoop

# A loaded machine is slow now and then, and ``anyio_backend`` is a fixture of each test.
settings.register_profile(
    "here",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("here")

LOOPS = ["asyncio", "asyncio+uvloop", "trio"]
if importlib.util.find_spec("uvloop") is None:
    LOOPS.remove("asyncio+uvloop")


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """
    Every async test runs on three loops, each time with a fresh loop and clock.
    """
    match request.param:
        case "asyncio":
            return "asyncio", {"debug": True, "loop_factory": AutojumpEventLoop}
        case "asyncio in real time":
            return "asyncio", {"debug": True}
        case "asyncio+uvloop":
            return "asyncio", {"use_uvloop": True}
        case "trio":
            return "trio", {"clock": MockClock(autojump_threshold=0)}
        case "trio in real time":
            return "trio", {}
        case other:
            raise ValueError(f"no such backend: {other!r}")
