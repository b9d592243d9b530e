"""
Fixtures for pytest. A test suite asks for them, in its topmost ``conftest.py``::

    pytest_plugins = ["orchestrator_async.testing.pytest_plugin"]

They need no event loop and no plugin for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

try:
    import pytest
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "orchestrator_async.testing.pytest_plugin needs pytest: pip install pytest",
        name=_missing.name,
    ) from _missing

from orchestrator_async import Registry, ToolOrchestrator

from ._clock import FakeClock
from ._recorder import Recorder
from ._scripted import After, ScriptedTool

__all__ = [
    "MakeOrchestrator",
    "MakeScriptedTool",
    "fake_clock",
    "make_orchestrator",
    "recorder",
    "scripted_tool",
    "tool_registry",
]


class MakeOrchestrator(Protocol):
    """
    The type of the fixture ``make_orchestrator``.
    """

    def __call__(
        self, registry: Registry | None = None, /, **options: Any
    ) -> ToolOrchestrator:
        """
        A ``ToolOrchestrator`` on the fixtures ``tool_registry``, ``fake_clock`` and
        ``recorder``.

        Args:
            registry: Another registry. Default: ``tool_registry``.
            **options: Those of ``ToolOrchestrator``. With ``observers`` the ``recorder``
                is told as well.
        """


class MakeScriptedTool(Protocol):
    """
    The type of the fixture ``scripted_tool``.
    """

    def __call__(
        self,
        name: str,
        outcomes: Iterable[object],
        /,
        *,
        after: After = "repeat",
        **options: Any,
    ) -> ScriptedTool:
        """
        A ``ScriptedTool``, added to the fixture ``tool_registry``.

        Args:
            name: Its name.
            outcomes: The script.
            after: See ``ScriptedTool``. With ``"fail"`` the test fails where the tool was
                called too often, also if what it tests has swallowed the error.
            **options: See ``ScriptedTool.tool``.
        """


@pytest.fixture
def fake_clock() -> FakeClock:
    """
    A clock that the test turns, at 0.
    """
    return FakeClock()


@pytest.fixture
def recorder() -> Recorder:
    """
    An observer that keeps the events of ``make_orchestrator``'s orchestrators.
    """
    return Recorder()


@pytest.fixture
def tool_registry() -> Registry:
    """
    An empty registry.
    """
    return Registry()


@pytest.fixture
def make_orchestrator(
    tool_registry: Registry, fake_clock: FakeClock, recorder: Recorder
) -> MakeOrchestrator:
    """
    What makes orchestrators for the test; see ``MakeOrchestrator``.
    """

    def make(registry: Registry | None = None, /, **options: Any) -> ToolOrchestrator:
        observers = [recorder, *options.pop("observers", ())]
        options = {"clock": fake_clock, **options}
        registry = tool_registry if registry is None else registry
        return ToolOrchestrator(registry, observers=observers, **options)

    return make


@pytest.fixture
def scripted_tool(tool_registry: Registry) -> Iterator[MakeScriptedTool]:
    """
    What makes scripted tools for the test; see ``MakeScriptedTool``.
    """
    made: list[ScriptedTool] = []

    def make(
        name: str,
        outcomes: Iterable[object],
        /,
        *,
        after: After = "repeat",
        **options: Any,
    ) -> ScriptedTool:
        scripted = ScriptedTool(outcomes, name=name, after=after)
        tool_registry.add(scripted.tool(**options))
        made.append(scripted)
        return scripted

    yield make
    for scripted in made:
        scripted.verify()
