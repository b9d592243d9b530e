"""
Whoever is waiting for something foreign to return, and may be cancelled meanwhile.
"""

from __future__ import annotations

from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from . import _loop
from ._groups import take_back_requests

_TURNS: Final = 3


class Caller:
    """
    The task that calls.

    Attributes:
        task: The asyncio task that it is, ``None`` on trio.
        requests: How often that task had been asked to cancel when the call began.
    """

    __slots__ = ("requests", "task")

    def __init__(self) -> None:
        self.task: Any = None
        self.requests = 0

    def remember_task(self) -> None:
        """
        Note which asyncio task this is, and what has been asked of it before.
        """
        self.task = task = _loop.this_task()
        if task is not None:
            self.requests = _loop.cancel_requests(task)

    def task_was_cancelled(self) -> bool:
        """
        Whether somebody has asked asyncio to cancel the task since the call began.
        """
        task = self.task
        if task is None or task.cancelling() <= self.requests:
            return False
        return _loop.all_requests(task) > self.requests

    def take_back_requests(self, error: BaseException) -> None:
        """
        Do not count what a task group of the foreign code has asked of the task for itself.
        """
        unaccounted = _loop.all_requests(self.task) - self.requests
        take_back_requests(self.task, error, unaccounted)

    def caller_is_cancelled(self) -> bool:
        """
        Whether the caller was cancelled, or its deadline has passed, by now.
        """
        if self.task_was_cancelled():
            return True
        deadline = anyio.current_effective_deadline()
        return deadline <= anyio.current_time()

    async def reassert(self) -> None:
        """
        Raise the caller's cancellation again, which what it waited for has swallowed.

        A cancelled scope does it at any checkpoint. A deadline that has passed while the
        loop was blocked needs some turns of the loop to be acted on. A request to an
        asyncio task is made once only: what was delivered and swallowed is gone.
        """
        if self.task_was_cancelled():
            if _loop.is_to_be_cancelled(self.task):
                await checkpoint()
            raise anyio.get_cancelled_exc_class()
        for _ in range(_TURNS):
            # Not checkpoint_if_cancelled, which waits for ever where the scope has been
            # left and nobody delivers: in a call from a thread that was given up, say.
            await checkpoint()
