"""
A session with a store, of whose answers none is believed before it was looked at.

Stores are written by others, over libraries of others. What one of them raises, returns or
does not return is an error of the store here, and of nobody else.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, TypeVar

import anyio

from . import _loop
from ._breaker import CircuitState
from ._describe import describe_error
from ._store import Answer, Change, SharedState, StoreError, StoreSession

_LONGEST: Final = 60.0
"""Seconds after which an answer is no longer waited for, whatever the store does."""

_SHORT: Final = 0.5
"""The same for whether anybody is there."""

_LONGEST_TEXT: Final = 2_000
"""Characters of a tool's name or of its figures, which are never as many."""

_COUNTS: Final = ("generation", "failures", "reopenings", "successes", "pauses")
_STATES: Final = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN)
_MOST: Final = 2**53

T = TypeVar("T")


class CheckedSession:
    """
    The same as the session, but that it raises ``StoreError`` where that does anything else
    than to answer.
    """

    def __init__(self, session: StoreSession) -> None:
        self._session = session

    async def read(self, circuits: Sequence[str]) -> list[SharedState | None]:
        """
        As ``StoreSession`` says; what makes no sense is as if it were not there.
        """
        states: object = await _answer(self._session.read(circuits))
        if not isinstance(states, Sequence) or len(states) != len(circuits):
            raise _nonsense()
        return [state if is_sound(state) else None for state in states]

    async def change(self, circuit: str, change: Change) -> Answer:
        """
        As ``StoreSession`` says.
        """
        answer: object = await _answer(self._session.change(circuit, change))
        if type(answer) is not Answer or type(answer.done) is not bool:
            raise _nonsense()
        if not is_sound(answer.state):
            raise _nonsense()
        return answer

    async def beat(self, process: str, figures: Mapping[str, str]) -> int:
        """
        As ``StoreSession`` says.
        """
        live: object = await _answer(self._session.beat(process, figures))
        if type(live) is not int or not 0 <= live < _MOST:
            raise _nonsense()
        return live

    async def ask(self, word: str) -> None:
        """
        As ``StoreSession`` says.
        """
        await _answer(self._session.ask(word))

    async def figures(self) -> dict[str, dict[str, str]]:
        """
        As ``StoreSession`` says; what makes no sense is left out.
        """
        told: object = await _answer(self._session.figures())
        if not isinstance(told, Mapping):
            raise _nonsense()
        return {
            process: {
                name: text
                for name, text in said.items()
                if isinstance(name, str)
                and isinstance(text, str)
                and max(len(name), len(text)) <= _LONGEST_TEXT
            }
            for process, said in told.items()
            if isinstance(process, str) and isinstance(said, Mapping)
        }

    async def is_down(self) -> bool:
        """
        As ``StoreSession`` says; who cannot tell does not know.
        """
        try:
            return await _answer(self._session.is_down(), _SHORT) is True
        except StoreError:
            return False

    async def leave(self, process: str) -> None:
        """
        As ``StoreSession`` says.
        """
        await _answer(self._session.leave(process))


def is_sound(state: object) -> bool:
    """
    Whether this may be a circuit as a fleet has it.
    """
    if type(state) is not SharedState or state.state not in _STATES:
        return False
    counts = [*(getattr(state, each) for each in _COUNTS), state.isolations]
    if any(type(each) is not int or not 0 <= each < _MOST for each in counts):
        return False
    paused: object = state.paused
    if type(paused) is not bool:
        return False
    return all(
        type(each) in (int, float) and math.isfinite(each)
        for each in (state.rest, state.length)
    )


def is_the_stores(error: BaseException) -> bool:
    """
    Whether this is the store's error, whatever it looks like: a panic of a library in
    another language, say, or a cancellation that nobody has asked for, as of a future that
    was given up.
    """
    if isinstance(error, Exception):
        return True
    if _loop.is_cancellation_of_asyncio(error):
        task = _loop.this_task()
        return task is not None and not task.cancelling()
    ends = (KeyboardInterrupt, SystemExit, GeneratorExit, BaseExceptionGroup)
    return not isinstance(error, (*ends, anyio.get_cancelled_exc_class()))


async def _answer(asked: Awaitable[T], longest: float = _LONGEST) -> T:
    said: list[str] = []
    with anyio.move_on_after(longest):
        try:
            return await asked
        except BaseException as error:
            if not is_the_stores(error):
                raise
            if isinstance(error, StoreError):
                raise
            said.append(describe_error(error))
    raise StoreError(*said or ["no answer"])


def _nonsense() -> StoreError:
    return StoreError("what it has answered makes no sense")
