"""
What a server asks in the middle of a call, of somebody who may have to think.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
from mcp_types import INVALID_REQUEST, ErrorData

from orchestrator_async import ToolContext
from orchestrator_async._held import held

_PATIENCE: Final = 600.0
"""Seconds for all questions of a call together: it holds what it has taken meanwhile."""


class Questions:
    """
    Those of one call. They end with it, and while there is one its time does not run: the
    server is not to blame for how long a person takes.

    Args:
        context: That of the call's tool, whose timeout is held.
        scope: That in which the call runs, whose deadline is held too.
    """

    def __init__(self, context: ToolContext, scope: anyio.CancelScope) -> None:
        self._context = context
        self._scope = scope
        self._left = 0.0
        self._patience = _PATIENCE
        self._open: set[anyio.CancelScope] = set()
        self._is_over = False

    async def ask(self, question: Callable[..., Awaitable[Any]], *asked: Any) -> Any:
        """
        The answer, or an error for the server where there is none.
        """
        answer: Any = None
        with anyio.move_on_after(self._patience) as scope, self._waiting(scope):
            answer = await question(*asked)
        if scope.cancelled_caught:
            said = _ENDED if self._is_over else "nobody has answered in time"
            answer = ErrorData(code=INVALID_REQUEST, message=said)
        return answer

    def end(self) -> None:
        """
        The call has ended: nobody is to answer any more.
        """
        self._is_over = True
        for scope in self._open:
            scope.cancel()

    @contextmanager
    def _waiting(self, scope: anyio.CancelScope) -> Iterator[None]:
        if self._is_over:
            scope.cancel()
        began = anyio.current_time()
        if not self._open:
            self._left = self._scope.deadline - began
            self._scope.deadline = math.inf
        self._open.add(scope)
        try:
            with held(self._context):
                yield
        finally:
            self._open.discard(scope)
            now = anyio.current_time()
            self._patience -= now - began
            if not self._open:
                self._scope.deadline = now + self._left


_ENDED: Final = "the call that it is for has ended"
