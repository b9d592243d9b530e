"""
A turn of a model: many calls side by side, none of which can harm another.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ._calls import ToolCall, ToolResult, calls_of_message, read_call
from ._errors import InvalidArgumentsError
from ._settle import fatal_in
from ._traceback import raise_as_it_was


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
        line_of: The line in which a call stands: those of one line run one after another,
            and who waits for another takes no place. ``None`` for calls that stand in
            none, or where none does.
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
        self._run = run
        self._broken_off = broken_off
        self._places = math.inf if limit is None else limit
        self._one_has_ended: anyio.Event | None = None
        self._results: dict[int, ToolResult] = {}
        self._raised: dict[int, BaseException] = {}
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
                await self._begin(group, _Queue(calls, self._line_of))
        except BaseExceptionGroup as errors:
            raise_as_it_was(fatal_in(errors) or errors)
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

    async def _begin(self, group: TaskGroup, queue: _Queue) -> None:
        """
        Begin all calls, each when there is a place and nobody before it in its line. Where
        asyncio drops a task that was cancelled before its first step, its place and its
        line are not given back, but anyio then cancels the group.
        """
        while queue.left:
            if self._places and queue.advance():
                self._places -= 1
                group.start_soon(self._work, group.cancel_scope, queue)
            else:
                self._one_has_ended = anyio.Event()
                await self._one_has_ended.wait()

    def _raise_interrupt(self) -> None:
        for error in self._raised.values():
            if not isinstance(error, Exception):
                raise_as_it_was(error)

    async def _work(self, scope: anyio.CancelScope, queue: _Queue) -> None:
        index, call = queue.take()
        try:
            if not self._interrupted:
                await self._answer(scope, index, call)
        finally:
            queue.ended(index)
            self._places += 1
            if self._one_has_ended is not None:
                self._one_has_ended.set()

    async def _answer(self, scope: anyio.CancelScope, index: int, call: Any) -> None:
        self._begun.add(index)
        try:
            self._has(index, await self._run(call))
        except anyio.get_cancelled_exc_class():
            if await _is_cancelled():
                raise
            self._has(index, self._broken_off(call, begun=True))
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

    Where asyncio cancels every task there is, it takes the group a turn of the loop to be
    told. A request to this task that is delivered meanwhile is of no more account than the
    one before.
    """
    with suppress(anyio.get_cancelled_exc_class()):
        await checkpoint()
    return anyio.current_effective_deadline() <= anyio.current_time()


class _Queue:
    """
    The calls of a turn that have not begun, in their order. One that has another before it
    in its line is passed over until that has ended: it takes nobody's place meanwhile.

    Attributes:
        left: How many have not been due yet.
    """

    def __init__(
        self, calls: Sequence[Any], line_of: Callable[[Any], str | None] | None
    ) -> None:
        self.left = len(calls)
        self._calls = calls
        self._line_of = line_of
        self._unseen = iter(range(len(calls)))
        self._due: deque[int] = deque()
        self._line: dict[int, str] = {}  # of those who stand first in theirs
        self._behind: dict[str, deque[int]] = {}  # who waits for these
        self._moved_up: list[int] = []  # a heap: who has waited, and stands first now

    def advance(self) -> bool:
        """
        Have one more call due; whether there is one that waits for no other.
        """
        index = heappop(self._moved_up) if self._moved_up else self._first_unseen()
        if index is None:
            return False
        self.left -= 1
        self._due.append(index)
        return True

    def take(self) -> tuple[int, Any]:
        """
        The call that has been due for longest, which begins now.
        """
        index = self._due.popleft()
        return index, self._calls[index]

    def ended(self, index: int) -> None:
        """
        A call has ended, and who stands behind it is the first.
        """
        line = self._line.pop(index, None)
        if line is None:
            return
        if not self._behind[line]:
            del self._behind[line]
            return
        first = self._behind[line].popleft()
        self._line[first] = line
        heappush(self._moved_up, first)

    def _first_unseen(self) -> int | None:
        for index in self._unseen:
            line = None if self._line_of is None else self._line_of(self._calls[index])
            if line is None:
                return index
            if line not in self._behind:
                self._line[index] = line
                self._behind[line] = deque()
                return index
            self._behind[line].append(index)
        return None


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
    if isinstance(calls, Mapping) or not isinstance(calls, Iterable) or _is_a_call(calls):
        raise _no_calls(calls)
    return list(calls)


def _is_a_call(calls: object) -> bool:
    """
    Whether it is itself one, as an object that gives its fields when it is iterated.
    """
    try:
        read_call(calls)
    except InvalidArgumentsError:
        return False
    return True


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
