"""
The results of a turn's calls as they come.

The calls run in a task of their own beside the consumer's. A task group that was open
while he does something else would be wrong: whoever is cancelled within an ``async for``,
or leaves it, leaves it without a word, and the group's scope would be left standing among
those around it. So the calls end when the iterator is closed or let go of, and when the
time of their caller has passed; and he is cancelled by none of theirs.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import current_token

from . import _loop
from ._calls import ToolResult
from ._foreign import is_a
from ._settle import part
from ._traceback import raise_as_it_was
from ._turn import Turn


class _Work:
    """
    The calls, and what has come of them so far. It knows nothing of the iterator, which can
    so be let go of.
    """

    def __init__(self) -> None:
        self.found: deque[ToolResult] = deque()
        self.error: BaseException | None = None
        self.ended = anyio.Event()
        self.news = anyio.Event()
        self.scope = anyio.CancelScope(deadline=anyio.current_effective_deadline())
        self._token = current_token()

    async def run(self, turn: Turn, calls: Sequence[Any]) -> None:
        """
        Make the calls. An error waits for the consumer.
        """
        try:
            with self.scope:
                await turn.results(calls)
        except BaseException as error:
            self.error, cancellation = part(error)
            if cancellation is not None:
                raise  # by whoever ends all tasks that there are
        finally:
            if self.error is None:
                # If there is anything left.
                turn.break_off(calls, late=self.scope.cancel_called)
            self.ended.set()
            self.news.set()

    def tell(self, result: ToolResult) -> None:
        """
        One more has ended.
        """
        self.found.append(result)
        self.news.set()

    def cancel(self) -> None:
        """
        Have the calls end, from wherever it is asked.
        """
        if _loop.runs_here(self._token):
            self.scope.cancel()
        else:
            _loop.wake(self._token, self.scope.cancel)


class CompletedCalls:
    """
    The results of calls that run side by side, each as soon as it is there: what
    ``ToolOrchestrator.as_completed`` returns, for an ``async for``.

    The calls begin with the first result that is asked for. Those that still run when the
    iteration is left are cancelled as soon as nobody has the iterator any more; in an
    ``async with``, or by ``aclose``, it is also waited for until they have ended.
    """

    _work: _Work | None = None
    _is_busy = _is_over = False

    def _begin(
        self,
        calls: Sequence[Any],
        make: Callable[[Callable[[ToolResult], object]], Turn],
    ) -> Self:
        """
        Begin. Not by the constructor, which would show users what it is made of, and it is
        not for them to make.
        """
        self._calls = calls
        self._make = make
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and is_a(error, GeneratorExit):
            self._let_go()  # nothing can be waited for
        else:
            await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ToolResult:
        """
        The next result, of whichever call has ended.

        Raises:
            StopAsyncIteration: There are no more.
            RuntimeError: Another task waits for a result already.
            BaseException: What came out of a call that is no error of a tool (see
                ``dispatch_all``), after all results.
        """
        if self._is_busy:
            raise RuntimeError("Results have one consumer, and another task waits already")
        if self._is_over:
            raise StopAsyncIteration
        work = self._begun()
        self._is_busy = True
        try:
            while not work.found:
                if work.ended.is_set():
                    if work.error is not None:
                        raise_as_it_was(work.error)
                    raise StopAsyncIteration
                work.news = anyio.Event()
                await work.news.wait()
            return work.found.popleft()
        except GeneratorExit:
            self._let_go()
            raise
        except BaseException:
            await self._end()
            raise
        finally:
            self._is_busy = False

    async def aclose(self) -> None:
        """
        Cancel the calls that still run, and return when they have ended.
        """
        if self._is_busy:
            raise RuntimeError("Results cannot be left while another task waits for one")
        await self._end()

    def _begun(self) -> _Work:
        if self._work is None:
            work = self._work = _Work()
            _loop.spawn(functools.partial(work.run, self._make(work.tell), self._calls))
        return self._work

    async def _end(self) -> None:
        self._let_go()
        if self._work is None:
            return
        request = None
        with anyio.CancelScope(shield=True):
            while not self._work.ended.is_set():
                try:
                    await self._work.ended.wait()
                except anyio.get_cancelled_exc_class() as error:
                    request = error  # asyncio's own knows no shield
        if request is not None:
            raise_as_it_was(request)

    def _let_go(self) -> None:
        self._is_over = True
        if self._work is not None and not self._work.ended.is_set():
            self._work.cancel()

    def __del__(self) -> None:
        self._let_go()
