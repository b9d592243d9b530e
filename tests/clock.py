"""
Virtual time on both event loops, and real time where only that will do.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import random
import selectors
from collections import deque
from collections.abc import Callable
from contextvars import Context

import pytest

# libuv owns uvloop's timers, so its clock cannot be swapped: a test that lets time
# pass carries this mark, and takes none.
virtual_time = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)

# A virtual clock jumps while a worker thread or another process is busy. A test with one
# of those carries this mark, and makes its order with events.
real_time = pytest.mark.parametrize(
    "anyio_backend",
    [
        "asyncio in real time",
        pytest.param(
            "asyncio+uvloop",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("uvloop") is None, reason="uvloop is not here"
            ),
        ),
        "trio in real time",
    ],
    indirect=True,
)


class AutojumpEventLoop(asyncio.SelectorEventLoop):
    """
    An event loop whose clock jumps to the next timer once every task is blocked.

    Asyncio's counterpart of ``MockClock(autojump_threshold=0)``: it starts at zero.
    With no timer pending it really waits, for a thread or for a socket.

    Attributes:
        order: What draws the order in which tasks that are ready have their turn, as trio
            does; ``None`` for that in which they became ready.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.order: random.Random | None = None
        super().__init__(_AutojumpSelector(self.jump))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds
        # A timer is due when it lies before now plus a nanosecond. After half a year a
        # float's steps are coarser than that, and a timer at now would never be due.
        if seconds and math.ulp(self._now) > 1e-9:
            self._now = math.nextafter(self._now, math.inf)

    def _run_once(self) -> None:
        if self.order is not None:
            self._shuffle(self.order)
        super()._run_once()  # type: ignore[misc]

    def _shuffle(self, order: random.Random) -> None:
        """
        Change the places of the tasks' steps among what is ready, and of nothing else:
        futures and transports rely on the order of their own callbacks.
        """
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        places = [n for n, handle in enumerate(ready) if _is_step(handle)]
        steps = [ready[place] for place in places]
        order.shuffle(steps)
        for place, handle in zip(places, steps, strict=True):
            ready[place] = handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        # ``sleep_forever`` is a timer at infinity. On the heap it would wake the loop
        # once a virtual day, and the loop would spin.
        if when == math.inf:
            return asyncio.TimerHandle(when, callback, args, self, context)

        return super().call_at(when, callback, *args, context=context)


def _is_step(handle: asyncio.Handle) -> bool:
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return isinstance(owner, asyncio.Task)


class _AutojumpSelector(selectors.DefaultSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)

        ready = super().select(0)
        if not ready:
            self._jump(timeout)

        return ready
