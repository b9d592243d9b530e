"""
The chunks of a tool that is an async generator, one at a time.

Each chunk is a step of its own: the tool runs in the task that asks for the chunk, under a
timeout of that step, and nothing of ours is around whatever its consumer does in between.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from ._entry import Entry
from ._errors import InvalidResultError, ToolTimeoutError
from ._foreign import is_a
from ._generators import MOST_ITEMS, as_one
from ._outcome import MAY_OPEN_AN_OBJECT, Verdict, judge_value
from ._settle import End, Flight, part

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
        self._size += len(chunk)
        begins = self._size > len(chunk) or not chunk or chunk[0] in MAY_OPEN_AN_OBJECT
        return begins and self._size <= _MOST_TEXT

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
        hang_after: Seconds of one step after which a caller who gives it up has waited
            for a tool that hangs.
    """

    __slots__ = (
        "_also",
        "_flight",
        "_generator",
        "_releases",
        "_scope",
        "_timeout",
        "begun",
        "first",
        "gathered",
        "hang_after",
        "joined",
        "left",
        "spent",
    )

    def __init__(self, flight: Flight, generator: Any, *, joined: bool) -> None:
        entry = flight.entry
        self._flight = flight
        self._generator = aiter(generator)
        self.joined = joined
        self._also: list[tuple[ContextVar[tuple[Any, ...]], tuple[Any, ...]]] = []
        self._releases: list[Callable[[], object]] = []
        self._scope: anyio.CancelScope | None = None
        self._timeout: float | None = None
        self.begun = False
        self.first: Any = LAST
        self.left: End | None = None
        self.spent = 0.0
        self.hang_after = entry.settings.hang_after
        self.gathered = Gathered(entry, keeps_all=joined or entry.judge is not None)

    @property
    def has_struck(self) -> bool:
        """
        Whether the timeout of the present step has passed.
        """
        scope = self._scope
        if scope is None:
            return False
        return scope.cancel_called or scope.deadline <= anyio.current_time()

    @property
    def allowed(self) -> float | None:
        """
        Seconds that the present step may take.
        """
        return self._timeout

    def hand_over(
        self,
        release: Callable[[], object],
        variable: ContextVar[tuple[Any, ...]],
        value: tuple[Any, ...],
    ) -> None:
        """
        Have something given back when the stream has ended, and each step run with it.
        """
        self._releases.append(release)
        if value:
            self._also.append((variable, value))

    def release(self) -> None:
        """
        Give back what was handed over, once.
        """
        releases, self._releases = self._releases, []
        for each in releases:
            each()

    async def next(self) -> Any:
        """
        The next chunk, or ``LAST``.

        Raises:
            ToolTimeoutError: It took too long; of ours, and ``has_struck``.
            BaseException: Whatever the tool raises.
        """
        self._scope = None
        timeout = self._timeout_of_step()
        if timeout is None:
            return self._noted(await self._step())
        with anyio.move_on_after(timeout) as self._scope:
            try:
                chunk = await self._step()
            except GeneratorExit as closing:
                self._flight.closing = closing
                raise
            if chunk is LAST or not self.has_struck:
                return self._noted(chunk)
        # Or it has yielded something in spite of it, when its time was over.
        raise self._struck()

    def _noted(self, chunk: Any) -> Any:
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
            self.hang_after, flight.is_cut = hang, False
            course = flight.request.course
            if course is not None and course.total_timeout is not None:
                rest = max(0.0, course.deadline - anyio.current_time())
                if timeout is None or rest < timeout:
                    self._timeout, flight.is_cut = course.total_timeout, True
                    return rest
        self._timeout = timeout
        return timeout

    def _struck(self) -> ToolTimeoutError:
        assert self._timeout is not None
        return ToolTimeoutError(tool_name=self._flight.entry.name, timeout=self._timeout)

    async def _step(self) -> Any:
        tokens = [(each, each.set((*each.get(()), *also))) for each, also in self._also]
        try:
            return await self._generator.__anext__()
        except StopAsyncIteration:
            return LAST
        finally:
            for variable, token in reversed(tokens):
                # A coroutine that is closed by the garbage collector ends in another context.
                with suppress(ValueError):
                    variable.reset(token)

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
            raise  # nothing can be waited for
        except BaseException:
            await self.close()
            raise
        return self.gathered.value()

    async def close(self) -> None:
        """
        Have the generator clean up, for which it has the time of a step. What it raises is
        logged and has no other consequence, unless the caller is cancelled.
        """
        close = getattr(self._generator, "aclose", None)
        if close is None or getattr(self._generator, "ag_frame", self) is None:
            return
        flight = self._flight
        try:
            with anyio.move_on_after(self._timeout_of_step()) as scope:
                await close()
            if scope.cancelled_caught:
                flight.entry.complain(_UNCLOSED, self._struck())
        except GeneratorExit:
            raise
        except BaseException as error:
            own, _ = part(error)
            if own is None and flight.caller_is_cancelled():
                raise
            if not is_a(error, Exception) and own is not None:
                raise
            flight.entry.complain(_UNCLOSED, error)


_UNCLOSED: Final = "it raised, or took too long, when its stream was closed"
