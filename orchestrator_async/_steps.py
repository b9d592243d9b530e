"""
The chunks of a tool that is an async generator, one at a time.

Each chunk is a step of its own: the tool runs in the task that asks for the chunk, under a
timeout of that step, and nothing of ours is around whatever its consumer does in between.
"""

from __future__ import annotations

import math
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from ._callbacks import is_its_own
from ._entry import Entry
from ._errors import InvalidResultError, ToolTimeoutError
from ._foreign import is_a, members_of
from ._generators import MOST_ITEMS, as_one
from ._hooks import NoAnswerError, ask
from ._marks import Marks, put, take_off
from ._outcome import MAY_OPEN_AN_OBJECT, Verdict, judge_value
from ._policy import shorter
from ._settle import End, Flight, fatal_in

_MOST_TEXT: Final = 50_000
"""Characters of a text that are kept to see whether it is an object that tells of an
error, where nobody else wants them."""

_TURN: Final = 1_000
"""Chunks after which the others have a turn."""


class Last:
    """
    The type of ``LAST``: what comes after all chunks.
    """


LAST: Final = Last()


class Gathered:
    """
    What a tool has yielded, as far as somebody is going to look at it.

    Attributes:
        said: What the chunks say of the tool, where one tells of an error: a stream of
            events has that in one of them, and then ends as if all was well.
        is_whole: Whether all that was yielded is kept.
    """

    __slots__ = ("_chunks", "_keeps_all", "_reads", "_size", "is_whole", "said")

    def __init__(self, entry: Entry, *, keeps_all: bool) -> None:
        self.said = Verdict.SUCCESS
        self.is_whole = True
        self._keeps_all = keeps_all
        self._reads = entry.reads_values
        self._chunks: list[Any] = []
        self._size = 0

    def add(self, chunk: Any) -> None:
        """
        One more was yielded.
        """
        if type(chunk) is not str and self._reads and self.said is not Verdict.FAILURE:
            said = judge_value(chunk)
            self.said = self.said if said is Verdict.SUCCESS else said
        if not self.is_whole:
            return
        if len(self._chunks) == MOST_ITEMS or not (
            self._keeps_all or self._may_tell(chunk)
        ):
            self.is_whole = False
            self._chunks = []
        else:
            self._chunks.append(chunk)

    def _may_tell(self, chunk: Any) -> bool:
        """
        Whether the text of all chunks may yet be an object.
        """
        if type(chunk) is not str or not self._reads:
            return False
        if chunk and not self._size and chunk[0] not in MAY_OPEN_AN_OBJECT:
            return False
        self._size += len(chunk)
        return self._size <= _MOST_TEXT

    def value(self) -> Any:
        """
        What they come to: their text where all are text, else a list of them; ``None``
        where they are not kept.
        """
        if not self.is_whole:
            return None
        return as_one(self._chunks)


class Steps:
    """
    The steps of one flight.

    Args:
        flight: The execution.
        generator: What the tool has returned.
        joined: Whether the chunks are gathered for an answer, within the timeout of one
            execution, or are handed on to somebody who takes them in his own time.

    Attributes:
        gathered: What was yielded.
        begun: Whether there was a chunk.
        first: The first one, until it is taken.
        left: How it ended, if its consumer has left it before its end.
        spent: Seconds that the tool took for the steps before the present one.
        has_struck: Whether the timeout of the last step had passed when that ended.
        allowed: Seconds of that timeout, or of the whole call's that it is the rest of.
        is_cut: Whether it is the rest of the whole call's.
        hang_after: Seconds of one step after which a caller who gives it up has waited
            for a tool that hangs.
    """

    __slots__ = (
        "_also",
        "_flight",
        "_generator",
        "_is_stopped",
        "_is_timed",
        "_releases",
        "allowed",
        "begun",
        "first",
        "gathered",
        "hang_after",
        "has_struck",
        "is_cut",
        "joined",
        "left",
        "spent",
    )

    def __init__(
        self, flight: Flight, generator: AsyncGenerator[Any, Any], *, joined: bool
    ) -> None:
        entry = flight.entry
        self._flight = flight
        self._generator: Any = generator
        self.joined = joined
        self._also: list[tuple[ContextVar[Marks[Any]], Marks[Any]]] = []
        self._releases: list[Callable[[], object]] = []
        self.has_struck = self.is_cut = self._is_stopped = False
        self.allowed: float | None = None
        self.begun = False
        self.first: Any = LAST
        self.left: End | None = None
        self.spent = 0.0
        self.hang_after = entry.settings.hang_after
        settings = entry.settings
        timeouts = {settings.first_chunk_timeout, settings.chunk_timeout}
        if joined:
            timeouts.discard(settings.timeout)  # there is a scope for that already
        else:
            timeouts.add(settings.total_timeout)
        self._is_timed = bool(timeouts - {None})
        self.gathered = Gathered(entry, keeps_all=joined or entry.judge is not None)

    def hand_over(
        self,
        release: Callable[[], object],
        variable: ContextVar[Marks[Any]],
        marks: Marks[Any],
    ) -> None:
        """
        Have something given back when the stream has ended, and each step run with it.
        """
        self._releases.append(release)
        if marks:
            self._also.append((variable, marks))

    def release(self) -> None:
        """
        Give back what was handed over.
        """
        for each in self._releases:
            each()

    async def next(self) -> Any:
        """
        The next chunk, or ``LAST``.

        Raises:
            ToolTimeoutError: It took too long; of ours, and ``has_struck``.
            BaseException: Whatever the tool raises.
        """
        self.has_struck = False
        timeout = self._timeout_of_step()
        if timeout is None and not self._is_timed:
            chunk = await self._step()
        else:
            chunk = await self._timed(self._step, timeout)
            # It may have yielded something in spite of the timeout, or ended because of it.
            if self.has_struck and (chunk is not LAST or self._is_stopped):
                raise self._struck()
        if chunk is not LAST:
            self.gathered.add(chunk)
            self.begun = True
        return chunk

    def _timeout_of_step(self) -> float | None:
        flight, settings = self._flight, self._flight.entry.settings
        if self.begun:
            timeout, hang = settings.chunk_timeout, settings.chunk_hang_after
        else:
            timeout, hang = settings.first_chunk_timeout, settings.first_chunk_hang_after
        if self.joined:
            # There is a scope for the whole execution already.
            timeout = None if timeout == settings.timeout else timeout
        else:
            self.hang_after, self.is_cut = hang, False
            course = flight.request.course
            if course is not None and course.total_timeout is not None:
                rest = max(0.0, course.deadline - anyio.current_time())
                if timeout is None or rest < timeout:
                    self.allowed, self.is_cut = course.total_timeout, True
                    return rest
        self.allowed = timeout
        return timeout

    async def _timed(
        self, step: Callable[[], Awaitable[Any]], timeout: float | None
    ) -> Any:
        """
        What it comes to, in so many seconds.

        Raises:
            ToolTimeoutError: It was stopped.
            RuntimeError: The tool has left a scope of its own open.
        """
        raised: BaseException | None = None
        scope = anyio.move_on_after(timeout)
        try:
            with scope:
                try:
                    return await step()
                except BaseException as error:
                    raised = error
                    raise
                finally:
                    self._is_stopped = scope.cancel_called
                    self.has_struck = (
                        scope.cancel_called or scope.deadline <= anyio.current_time()
                    )
        except BaseException as error:
            if is_a(raised, GeneratorExit):
                # The scope has complained: of another task, or that there is no loop.
                raise GeneratorExit from None
            if error is raised or not is_a(error, RuntimeError):
                raise
        finally:
            del raised
        if not self._is_stopped:
            await self._leave_open_scopes(scope)
        raise self._struck()

    async def _leave_open_scopes(self, scope: anyio.CancelScope) -> None:
        """
        The tool has yielded with a scope or a task group open, which it opened in this one
        of ours: neither can be left before the other. Close the tool, which leaves its own.
        """
        scope.deadline = math.inf
        self.has_struck = False
        with suppress(Exception, GeneratorExit, BaseExceptionGroup):
            await self._closing()
        with suppress(RuntimeError):
            scope.__exit__(None, None, None)  # asyncio would go on cancelling the task
        name = self._flight.entry.name
        raise RuntimeError(_OPEN_SCOPE.format(name)) from None

    def _struck(self) -> ToolTimeoutError:
        """
        What is logged of a clean-up. A call has an error of its own, for ``has_struck``.
        """
        assert self.allowed is not None
        return ToolTimeoutError(tool_name=self._flight.entry.name, timeout=self.allowed)

    async def _step(self) -> Any:
        tokens = self._set()
        try:
            return await self._driven(self._generator.__anext__())
        except StopAsyncIteration:
            return LAST
        finally:
            _reset(tokens)

    def _set(self) -> _Tokens:
        """
        Run what comes now with what was handed over.
        """
        return [(each, put(each, also)) for each, also in self._also]

    async def all(self) -> Any:
        """
        All that is yielded, as one value.

        Raises:
            InvalidResultError: It yields more than 100,000 chunks, and may have no end.
            BaseException: What ``next`` raises.
        """
        number = 0
        try:
            while await self.next() is not LAST:
                number += 1
                if number % _TURN == 0:
                    await checkpoint()  # it need not wait for anything itself
                if not self.gathered.is_whole:
                    raise InvalidResultError(
                        tool_name=self._flight.entry.name,
                        result_type="a stream",
                        reason=f"it has more than {MOST_ITEMS:,} chunks, and may never end",
                    )
        except GeneratorExit:
            self.close_at_once()
            raise
        except BaseException:
            await self.close()
            raise
        return self.gathered.value()

    async def close(self) -> None:
        """
        Have the generator clean up, for which it has the time of a step. What it raises is
        logged and has no other consequence.

        Raises:
            BaseException: A cancellation of the caller, or control flow.
        """
        if self._generator.ag_frame is None:
            return  # it has ended
        struck, allowed = self.has_struck, self.allowed
        try:
            with suppress(NoAnswerError):
                await ask(self._flight.entry, _UNCLOSED, self._clean_up)
        finally:
            self.has_struck, self.allowed = struck, allowed

    async def _clean_up(self) -> None:
        settings = self._flight.entry.settings
        # Not what is left of the whole call's time, which may be nothing.
        step = settings.chunk_timeout or settings.first_chunk_timeout
        self.allowed = shorter(step, settings.total_timeout)
        tokens = self._set()
        try:
            if self.allowed is None:
                await self._closing()
            else:
                await self._timed(self._closing, self.allowed)
        except (Exception, SystemExit) as error:
            # Also where the caller is cancelled, who has something else to hear.
            self._flight.entry.complain(_UNCLOSED, error)
        except BaseExceptionGroup as error:
            self._note_group(error)
        finally:
            _reset(tokens)

    def _note_group(self, group: BaseExceptionGroup[Any]) -> None:
        """
        What a task group makes of its generator's being closed is nothing; with errors
        beside it, it is logged; with anything else, it goes up.
        """
        others = [each for each in _leaves(group) if not is_a(each, GeneratorExit)]
        if not all(is_a(each, (Exception, SystemExit)) for each in others):
            raise group
        if others:
            self._flight.entry.complain(_UNCLOSED, group)

    def close_at_once(self) -> None:
        """
        The same where nothing can be waited for: where the clean-up would, it is broken off.

        Raises:
            BaseException: An interrupt.
        """
        if self._generator.ag_frame is None:
            return
        closing = self._generator.aclose()
        self._cut_short(lambda: closing.send(None), lambda: closing.throw(GeneratorExit))

    async def _closing(self) -> None:
        await self._driven(self._generator.aclose())

    @types.coroutine
    def _driven(self, step: Any) -> Generator[Any, Any, Any]:
        """
        Await a step of the generator. Before 3.13 Python does not tell that of it when the
        coroutine which awaits is closed, and the generator would hang there for ever.
        """
        move, given = step.send, None
        while True:
            try:
                waited = move(given)
            except StopIteration as done:
                return done.value
            try:
                move, given = step.send, (yield waited)
            except GeneratorExit:
                self._cut_short(*[lambda: step.throw(GeneratorExit)] * 2)
                raise
            except BaseException as error:
                move, given = step.throw, error

    def _cut_short(self, *moves: Callable[[], object]) -> None:
        """
        Move the generator on until it ends; what it waits for in between does not come.
        """
        try:
            for move in moves:
                move()
        except (StopIteration, StopAsyncIteration, GeneratorExit):
            pass  # it has ended
        except BaseExceptionGroup as group:
            self._note_group(group)
        except BaseException as error:
            if not is_its_own(error) and fatal_in(error) is not None:
                raise
            self._flight.entry.complain(_UNCLOSED, error)


_Tokens = list[tuple[ContextVar[Marks[Any]], Token[Marks[Any]]]]


def _reset(tokens: _Tokens) -> None:
    for variable, token in reversed(tokens):
        take_off(variable, token)


def _leaves(error: BaseException) -> list[BaseException]:
    if not is_a(error, BaseExceptionGroup):
        return [error]
    return [leaf for each in members_of(error) for leaf in _leaves(each)]


_OPEN_SCOPE: Final = (
    "{} yields with a cancel scope or a task group open, so that its chunks cannot be given "
    "a time: set its timeout, first_chunk_timeout, chunk_timeout and total_timeout to None "
    "to take them as a stream, or open the group in a task of its own"
)

_UNCLOSED: Final = "it raised, or took too long, when its stream was closed"
