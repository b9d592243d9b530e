"""
A function in the place of a tool's own, with all else as it was.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from orchestrator_async import Registry, Tool

Stand = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Of a function that a tool runs, the one that stands in for it."""


def stand_in(tool: Tool, stand: Stand) -> Tool:
    """
    A tool that runs another function, with the schema, the validation, the settings, the
    circuit and the ``ToolContext`` of the first.
    """
    return replace(tool, fn=_in_place_of(tool.fn, stand))


def _in_place_of(fn: Any, stand: Stand) -> Callable[..., Any]:
    """
    What stands in for a function, and shows its signature and docstring.
    """
    if isinstance(fn, functools.partial):
        # What it has filled in is left out of the schema, which only a partial has done.
        return functools.partial(_in_place_of(fn.func, stand), *fn.args, **fn.keywords)
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return functools.wraps(fn)(stand(fn))
    # An object that is called: its class may have the docstring, its method the rest.
    method = functools.wraps(type(fn).__call__)(_method(stand(fn)))
    kind = type(type(fn).__name__, (), {"__call__": method, "__doc__": type(fn).__doc__})
    made: Callable[..., Any] = kind()
    return made


def _method(fn: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(fn):

        async def call_async(self: Any, /, *filled: Any, **arguments: Any) -> Any:
            return await fn(*filled, **arguments)

        return call_async
    if inspect.isasyncgenfunction(fn):

        async def stream(
            self: Any, /, *filled: Any, **arguments: Any
        ) -> AsyncGenerator[Any, None]:
            async with aclosing(fn(*filled, **arguments)) as chunks:
                async for chunk in chunks:
                    yield chunk

        return stream

    def call(self: Any, /, *filled: Any, **arguments: Any) -> Any:
        return fn(*filled, **arguments)

    return call


@contextmanager
def replaced(registry: Registry, tools: Iterable[Tool]) -> Iterator[None]:
    """
    Tools in the places of those of their names, which are put back at the end.

    A tool that was replaced or removed meanwhile is left alone.
    """
    before: list[tuple[Tool, Tool]] = []
    try:
        for tool in tools:
            real = registry[tool.name]
            before.append((real, registry.add(tool, replace=True)))
        yield
    finally:
        for real, tool in reversed(before):
            if registry.get(tool.name) is tool:
                registry.add(real, replace=True)
