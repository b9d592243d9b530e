"""
A turn of a model: many calls side by side, none of which can harm another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from ._calls import ToolCall, ToolResult, calls_of_message
from ._settle import fatal_in
from ._traceback import raise_as_it_was

_Due = tuple[int, Any, tuple[anyio.Event | None, anyio.Event | None]]


class Turn:
    """
    Runs each call in a task of its own, so that what one sets in its context is seen by
    no other. They are begun in their order: each when the one before has come to its first
    await. A loop may take new tasks in any order, so a task has the call that is due when
    it takes its first step.

    Args:
        run: Runs one call. Raises nothing but cancellation and control flow.
        broken_off: The answer to a call whose tool has cancelled its own task.
        limit: How many may run at one time; ``None`` for all of them.
        line_of: The line in which a call stands: those of one line run one after another.
            ``None`` for calls that stand in none, or where none does.
        tell: Is told of each result when it is there.
    """

    def __init__(
        self,
        run: Callable[[Any], Awaitable[ToolResult]],
        broken_off: Callable[..., ToolResult],
        limit: int | None,
        line_of: Callable[[Any], str | None] | None = None,
        tell: Callable[[ToolResult], object] | None = None,
    ) -> None:
        self._tell = tell
        self._line_of = line_of
        self._last_of: dict[str, anyio.Event] = {}
        self._run = run
        self._broken_off = broken_off
        self._places = None if limit is None else anyio.Semaphore(limit)
        self._results: dict[int, ToolResult] = {}
        self._raised: dict[int, BaseException] = {}
        self._due: deque[_Due] = deque()
        self._begun: set[int] = set()
        self._answered: set[int] = set()
        self._interrupted = False

    async def results(self, calls: Sequence[Any]) -> list[ToolResult]:
        """
        The results in the order of the calls.

        Raises:
            BaseException: What came out of the first of the calls out of which anything
                came, as it was; an interrupt before all else.
        """
        try:
            async with anyio.create_task_group() as group:
                for index, call in enumerate(calls):
                    place = await self._take_place()
                    if self._interrupted:
                        break  # pragma: no cover - by an eager task, from Python 3.12 on
                    self._due.append((index, call, self._turn_of(call)))
                    group.start_soon(self._work, group.cancel_scope, place)
        except BaseExceptionGroup as errors:
            self._raised[-1] = fatal_in(errors) or errors
        finally:
            self._raise_interrupt()
        if self._raised:
            raise_as_it_was(self._raised[min(self._raised)])
        # A task that asyncio was asked to cancel before its first step has never run, and
        # anyio's group then cancels the others, of which some have begun.
        self.break_off(calls)
        # Taken out, as the group's own cycles keep this object a while.
        found, self._results = self._results, {}
        return [found[index] for index in range(len(calls))]

    def break_off(self, calls: Sequence[Any], *, late: bool = False) -> None:
        """
        Give those calls that have none the answer that they were broken off.
        """
        for index, call in enumerate(calls):
            if index not in self._answered:
                begun = index in self._begun
                self._has(index, self._broken_off(call, begun=begun, late=late))

    async def _take_place(self) -> _Place | None:
        if self._places is None:
            return None
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            await self._places.acquire()
        return _Place(self._places)

    def _turn_of(self, call: Any) -> tuple[anyio.Event | None, anyio.Event | None]:
        """
        What the call waits for, and what waits for it. It has a place already, and so has
        what it waits for: no two wait for each other.
        """
        line = None if self._line_of is None else self._line_of(call)
        if line is None:
            return None, None
        before, self._last_of[line] = self._last_of.get(line), (done := anyio.Event())
        return before, done

    def _raise_interrupt(self) -> None:
        for error in self._raised.values():
            if not isinstance(error, Exception):
                raise_as_it_was(error)

    async def _work(self, scope: anyio.CancelScope, place: _Place | None) -> None:
        index, call, (before, done) = self._due.popleft()
        try:
            if not self._interrupted:
                await self._answer(scope, before, index, call)
        finally:
            if done is not None:
                done.set()
            if place is not None:
                place.release()

    async def _answer(
        self, scope: anyio.CancelScope, before: anyio.Event | None, index: int, call: Any
    ) -> None:
        try:
            if before is not None:
                await before.wait()
            self._begun.add(index)
            self._has(index, await self._run(call))
        except anyio.get_cancelled_exc_class():
            if await _is_cancelled():
                raise
            self._has(index, self._broken_off(call, begun=index in self._begun))
        except Exception as error:
            self._raised[index] = error
        except BaseException as error:
            # Nothing may leave a task of asyncio but an Exception: it would leave the
            # loop too.
            self._raised[index] = error
            self._interrupted = True
            scope.cancel()

    def _has(self, index: int, result: ToolResult) -> None:
        self._results[index] = result
        self._answered.add(index)
        if self._tell is not None:
            self._tell(result)


async def _is_cancelled() -> bool:
    """
    Whether it is the group that is cancelled, and not this task alone.

    Where asyncio cancels every task there is, it takes the group a turn to be told. A
    request to this task that is delivered meanwhile is of no more account than the one
    before.
    """
    cancelled = anyio.get_cancelled_exc_class()
    for _ in range(3):
        if anyio.current_effective_deadline() <= anyio.current_time():
            return True
        try:
            await checkpoint()
        except cancelled:
            continue
    return anyio.current_effective_deadline() <= anyio.current_time()


class _Place:
    """
    A place among those that may run at one time.

    It is given back once, when the call has ended, or when its task is gone without
    having run: asyncio drops a task that was cancelled before its first step.
    """

    __slots__ = ("_places",)

    def __init__(self, places: anyio.Semaphore) -> None:
        self._places: anyio.Semaphore | None = places

    def release(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.release()

    __del__ = release


def listed(calls: Any) -> list[Any]:
    """
    The calls of a turn: a list of them, or the message of a model that has them.

    Raises:
        TypeError: It is one call, or nothing that has calls.
    """
    if calls is None:
        return []
    if isinstance(calls, (str, bytes, ToolCall)):
        raise _no_calls(calls)
    if isinstance(calls, list | tuple):
        return list(calls)
    found = calls_of_message(calls)
    if found is not None:
        return found
    if isinstance(calls, Mapping) or not isinstance(calls, Iterable):
        raise _no_calls(calls)
    return list(calls)


def _no_calls(calls: object) -> TypeError:
    return TypeError(
        "dispatch_all takes a list of tool calls, such as message['tool_calls'], or the "
        f"message that has them, not a {type(calls).__name__}"
    )


def check_limit(limit: object) -> None:
    """
    Raise ``ValueError`` for a limit that can be none.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"limit={limit!r} cannot be; expected at least 1, or None")
