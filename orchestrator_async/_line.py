"""
The line to a store: the session that there is, whether it answers, and where the tasks run
that carry what is said.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from anyio.abc import TaskGroup
from anyio.lowlevel import EventLoopToken, current_token

from . import _loop
from ._checked_session import CheckedSession
from ._fleet import Fleet
from ._patience import Patience

Errand: TypeAlias = Callable[..., Coroutine[Any, Any, object]]


class Line:
    """
    The line of one process.

    Attributes:
        process: By which the store knows it; a new one each time that it is entered.
        live: How many processes are alive, as far as is known.
        loop: That in which the orchestrator was entered.
        tasks: Those that carry what is said, for as long as it is entered.
        session: The session with the store, if there is one now.
        patience: Whether the store is to be asked.
    """

    def __init__(self, fleet: Fleet, patience: Patience) -> None:
        self.process: str = secrets.token_hex(8)
        self.live: int = 1
        self.loop: EventLoopToken | None = None
        self.tasks: TaskGroup | None = None
        self.session: CheckedSession | None = None
        self.patience: Patience = patience
        self._bell: _loop.Bell | None = None
        self._fleet = fleet
        self._errands: deque[tuple[Errand, tuple[object, ...]]] = deque()

    def begin(self) -> None:
        """
        The orchestrator is entered, in the loop that runs.
        """
        self.process = secrets.token_hex(8)
        self.loop = current_token()
        self._bell = _loop.Bell()
        self.patience.begin()
        self._errands.clear()

    def end(self) -> None:
        """
        It is left, or has failed.
        """
        tasks, self.tasks = self.tasks, None
        if tasks is not None:
            tasks.cancel_scope.cancel()
        self.loop = self.session = None

    @property
    def is_up(self) -> bool:
        """
        Whether there is somebody to ask.
        """
        return self.session is not None and not self.patience.is_over

    @property
    def is_of_this_loop(self) -> bool:
        """
        Whether it is this thread's loop in which the orchestrator was entered.
        """
        return self.loop is not None and _loop.runs_here(self.loop)

    def start(self, fn: Errand, *args: object) -> None:
        """
        Run it beside the session, if the orchestrator is entered, and end it with that.
        From any thread.
        """
        if self.tasks is None:
            return
        if self.is_of_this_loop:
            self.tasks.start_soon(fn, *args)
        else:
            self._errands.append((fn, args))
            self.ring()

    async def wait(self) -> None:
        """
        Return when there is something to do.
        """
        assert self._bell is not None
        if not self._errands:
            await self._bell.wait()

    def answer(self) -> None:
        """
        Hear what is rung from now on, and begin what was to be begun in another thread.
        """
        self._bell = _loop.Bell()
        while self._errands:
            fn, args = self._errands.popleft()
            self.start(fn, *args)

    def ring(self) -> None:
        """
        There is something to do. From any thread.
        """
        if self._bell is not None:
            self._bell.ring()

    def missed(self, error: Exception, began: float, *, ask: bool = False) -> None:
        """
        The store has not answered what it was asked at that time, or not as it should.
        """
        self.patience.missed(error, began, self.time(), ask=ask)

    def time(self) -> float:
        """
        Seconds on the orchestrator's clock.
        """
        return self._fleet.time()
