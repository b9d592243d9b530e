"""
A tool's chunks, for whoever takes them one by one.

A call is made when the ``async with`` is entered, up to its first chunk: until then it can
be refused, tried again, or answered by a fallback. After that the tool runs while somebody
waits for a chunk, in his task, and at no other time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from inspect import CO_ASYNC_GENERATOR
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from ._calls import Request, ToolResult
from ._execution import Execution, result_of
from ._foreign import is_a
from ._settle import End, Flight, part
from ._steps import LAST


class Told:
    """
    What a stream tells whoever keeps count of calls. This one does not.
    """

    def heard(self, chunk: Any) -> None:
        """
        The consumer was given a chunk.
        """

    def ended(self, result: ToolResult | None) -> ToolResult | None:
        """
        The call has ended: with a result, or by what nobody answers. What is to be said.
        """
        return result


class ToolStream:
    """
    The chunks of one call: what ``ToolOrchestrator.stream`` returns, for an ``async with``
    and an ``async for`` within it.

    The circuit is told when the stream ends: of a failure where the tool raises, takes
    too long for a chunk, or has yielded an object that tells of an error; of a success
    where it comes to its end. Leaving early shows a probe that the tool is well, and says
    nothing else. What its consumer does, how long that takes and what it raises, is none
    of the tool's business.

    Attributes:
        result: What came of the call, without its chunks, once it has ended; ``None``
            until then, and where a cancellation ended it.
    """

    def _begin(
        self,
        request: Request,
        execution: Execution,
        run: Callable[[Request], Awaitable[ToolResult]],
        raises: Callable[[BaseException, str], NoReturn],
        told: Told,
    ) -> Self:
        """
        Begin. Not by the constructor, which would show users what it is made of, and it is
        not for them to make.
        """
        request.streams = True
        self.result: ToolResult | None = None
        self._request: Request | None = request
        self._execution = execution
        self._run = run
        self._raises = raises
        self._told = told
        self._opening: ToolResult | None = None
        self._before: float  # seconds of the attempts before
        self._flight: Flight | None = None
        self._first: Any = LAST
        self._is_busy = self._is_left = False
        return self

    async def __aenter__(self) -> Self:
        """
        Make the call, up to its first chunk.

        Raises:
            RuntimeError: It was entered before.
            Exception: What ``ToolOrchestrator.call`` raises.
        """
        request, self._request = self._request, None
        if request is None:
            raise RuntimeError("A stream is one call, which was made already.")
        try:
            result = await self._run(request)
        except BaseException:
            self._flight, request.opened = request.opened, None
            if self._flight is not None:  # interrupted on the way here
                await self._leave(cancelled=True, at_once=True)
            self._told.ended(None)
            raise
        self._opening, self._flight = result, request.opened
        try:
            steps = None if self._flight is None else self._flight.steps
            if steps is not None:
                self._before = result.duration - steps.spent
                self._first, steps.first = steps.first, LAST
                return self
            self.result = self._told.ended(result)
            if result.error is not None:
                self._raises(result.error, result.name)
            if not request.is_empty:
                self._first = result.value
            return self
        finally:
            del result

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._first = LAST
        if error is None:
            is_busy = self._is_busy
            await self._leave()
            if is_busy:
                raise RuntimeError(_BUSY)
            return
        cancelled = _is_cancellation(error)
        at_once = is_a(error, GeneratorExit) and not _may_wait(traceback)
        try:
            await self._leave(cancelled=cancelled, at_once=at_once)
        finally:
            del error, traceback

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """
        The next chunk, as the tool has yielded it.

        Raises:
            StopAsyncIteration: There is none.
            RuntimeError: The stream was not entered, or another task waits for a chunk.
            ToolTimeoutError: The tool took too long.
            ToolCancelledError: The tool broke off by itself.
            Exception: Whatever the tool raised, as it was.
        """
        if self._opening is None:
            raise RuntimeError("A stream is to be entered first: async with ... as chunks")
        if self._is_busy:
            raise RuntimeError("A stream has one consumer, and another task waits already")
        chunk, self._first = self._first, LAST
        if chunk is not LAST:
            self._told.heard(chunk)
            return chunk
        flight = self._flight
        if flight is None:
            raise StopAsyncIteration
        self._is_busy = True
        end = None
        try:
            chunk, end = await self._execution.advance(flight)
        except BaseException:
            self._flight = None
            self._told.ended(None)
            raise
        finally:
            self._is_busy = False
        if end is None and self._is_left:
            await self._leave()
            raise StopAsyncIteration
        if end is None:
            self._told.heard(chunk)
            return chunk
        try:
            self._flight = None
            self._note(flight, end)
            if end.error is not None:
                self._raises(end.error, self._opening.name)
            raise StopAsyncIteration
        finally:
            del end

    async def aclose(self) -> None:
        """
        Want no more chunks: what leaving the ``async with`` does.
        """
        if self._is_busy:
            raise RuntimeError(_BUSY)
        self._first = LAST
        await self._leave()

    async def _leave(self, *, cancelled: bool = False, at_once: bool = False) -> None:
        if self._is_busy:
            self._is_left = True  # whoever waits will end it
            return
        flight, self._flight = self._flight, None
        if flight is None:
            return
        try:
            await self._execution.leave(flight, cancelled=cancelled, at_once=at_once)
        finally:
            if cancelled:
                self._told.ended(None)
            else:
                assert flight.steps is not None
                assert flight.steps.left is not None
                self._note(flight, flight.steps.left)

    def _note(self, flight: Flight, end: End) -> None:
        """
        What came of the whole call, with the attempts before.
        """
        opening = self._opening
        assert opening is not None
        result = replace(
            result_of(flight, end),
            name=opening.name,
            value=None,
            attempts=opening.attempts,
            duration=self._before + end.duration,
        )
        self.result = self._told.ended(result)


_BUSY: Final = "A stream cannot be left while another task waits for it."


def _is_cancellation(error: BaseException) -> bool:
    try:
        return part(error)[0] is None
    except Exception:
        return False  # a group that cannot be looked into


def _may_wait(traceback: TracebackType | None) -> bool:
    """
    Whether a consumer that is closed can still wait for something: an async generator can,
    in its ``aclose``. Other coroutines are thrown away.
    """
    code = None if traceback is None else traceback.tb_frame.f_code
    return code is not None and bool(code.co_flags & CO_ASYNC_GENERATOR)
