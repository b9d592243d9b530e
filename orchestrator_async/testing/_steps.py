"""
What a tool may do for once: hang, be slow, break off, return rubbish.

An outcome is a value, which is returned; an exception, which is raised; or a function,
which is called with the arguments. The steps here are such functions.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel

MALFORMED = '{"result": [{"id": 1, "name": "'
"""Text that begins like JSON and breaks off, as that of a connection that was cut."""


class Step:
    """
    A function of the arguments with a ``repr`` that says what it does. ``hang`` and its
    like make them; any function will do as well.

    Args:
        what: What ``repr`` says.
        act: An async function of the mapping of arguments.
    """

    __slots__ = ("_act", "_what")

    def __init__(
        self, what: str, act: Callable[[Mapping[str, Any]], Awaitable[Any]]
    ) -> None:
        self._what = what
        self._act = act

    def __call__(self, **arguments: Any) -> Awaitable[Any]:
        return self._act(arguments)

    def __repr__(self) -> str:
        return self._what


async def play(outcome: object, arguments: Mapping[str, Any]) -> Any:
    """
    Return, raise or do what the outcome says.
    """
    if isinstance(outcome, type) and issubclass(outcome, BaseException):
        raise outcome
    if isinstance(outcome, BaseException):
        # One exception may be raised many times, and would drag all their frames along.
        raise outcome.with_traceback(None)
    if not callable(outcome):
        return outcome
    value = outcome(**arguments)
    return await value if inspect.isawaitable(value) else value


def hang() -> Step:
    """
    Never end. Only a cancellation or a timeout gets a call out of it.
    """

    async def act(arguments: Mapping[str, Any]) -> Any:
        await anyio.sleep_forever()

    return Step("hang()", act)


def slow(seconds: float, then: object = None) -> Step:
    """
    Sleep on the event loop, where time may be virtual, and go on with another outcome.

    Args:
        seconds: How long.
        then: A value, an exception or a step. Default: return ``None``.

    Raises:
        ValueError: ``seconds`` is negative or not finite; for the latter there is
            ``hang``.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds={seconds!r} cannot be; expected 0 or more")

    async def act(arguments: Mapping[str, Any]) -> Any:
        await anyio.sleep(seconds)
        return await play(then, arguments)

    return Step(f"slow({seconds!r}, {then!r})", act)


def broken_off() -> Step:
    """
    End cancelled although nobody has cancelled the caller, as the task group of a
    connection that died does to whoever waits on it.
    """

    async def act(arguments: Mapping[str, Any]) -> Any:
        # A cancellation of the caller that is on its way comes first: asyncio's scopes do
        # not know another one for theirs.
        await anyio.lowlevel.checkpoint()
        raise await _stray_cancellation()

    return Step("broken_off()", act)


def malformed(text: str = MALFORMED) -> Step:
    """
    Return text that is no JSON, as what is meant to be JSON. It is a success to the
    circuit, and the agent's to deal with.

    Args:
        text: What to return. Default: an object that breaks off in the middle.
    """

    async def act(arguments: Mapping[str, Any]) -> str:
        return text

    return Step("malformed()", act)


def garbage() -> Step:
    """
    Return an object that cannot be made JSON, which is an ``InvalidResultError``.
    """

    async def act(arguments: Mapping[str, Any]) -> object:
        return object()

    return Step("garbage()", act)


def huge(size: int = 1_000_000) -> Step:
    """
    Return a long text, as a tool does that was asked for a whole log.

    Args:
        size: Characters. Default 1,000,000.

    Raises:
        ValueError: ``size`` is negative.
    """
    if size < 0:
        raise ValueError(f"size={size!r} cannot be; expected 0 or more")

    async def act(arguments: Mapping[str, Any]) -> str:
        return "x" * size

    return Step(f"huge({size!r})", act)


async def _stray_cancellation() -> BaseException:
    """
    A cancellation of the running loop that no scope waits for.
    """
    cancelled = anyio.get_cancelled_exc_class()
    try:
        return cancelled()
    except TypeError:
        pass  # trio makes them itself
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except cancelled as error:
            return error
    raise AssertionError(  # pragma: no cover - a checkpoint in a cancelled scope raises
        "a cancelled scope has not cancelled"
    )
