"""
What the running loop alone knows, asked without importing a loop.

Anyio answers every question of the core but these: was this task really cancelled by
somebody (asyncio counts the requests; a ``CancelledError`` can also come out of thin
air), does a loop still run, how does a thread wake it without waiting for it, and how is a
task begun that belongs to no group. A loop that is not in ``sys.modules`` is not running,
so nothing is imported here.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final

import anyio
from anyio.lowlevel import EventLoopToken, current_token


def _look_for_loop() -> Any:
    """
    Put asyncio's own functions in the place of these, from the day that it is there.

    They are called in every dispatch, and a Python function around them would cost
    more than they do.
    """
    global running_loop, running_task
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    running_loop, running_task = asyncio._get_running_loop, asyncio.current_task
    return running_loop()


def _nothing() -> None:
    return None


running_loop: Callable[[], Any] = _look_for_loop
"""The running asyncio loop of this thread, or ``None``, as on trio."""

running_task: Callable[[], Any] = _nothing
"""Its running task. Only to be asked where ``running_loop`` is not ``None``."""


def this_task() -> Any:
    """
    The task of asyncio that runs here, or ``None``, as on trio.
    """
    global current_task
    if running_loop() is None:
        current_task = this_task
        return None
    current_task = running_task
    return current_task()


current_task: Callable[[], Any] = this_task
"""
The same for half the price, where what ran last was asyncio; where that does not run now,
it may raise ``RuntimeError``, and ``this_task`` has the answer.
"""


def in_asyncio_task() -> bool:
    """
    Whether a task of asyncio runs here; not so within trio as its guest.
    """
    return this_task() is not None


@types.coroutine
def one_turn() -> Generator[None, None, None]:
    """
    Let the others have a turn, in an asyncio task: what ``checkpoint`` comes to there,
    without the search for the loop, which costs as much as a whole refusal.
    """
    yield


def cancel_requests(task: Any) -> int:
    """
    How many requests to cancel this asyncio task have reached it.

    A request that has not been delivered yet is left out: it will be, in the call that
    begins now. One that was delivered before is old: cleanup code after a cancellation
    may call tools. Those of anyio's scopes are left out too: a scope asks again and again,
    and takes back what it has asked for.
    """
    requests = all_requests(task)
    return requests - 1 if requests and is_to_be_cancelled(task) else requests


def all_requests(task: Any) -> int:
    """
    How many requests to cancel this asyncio task there are, those of scopes left out.
    """
    requests: int = task.cancelling()
    return max(0, requests - _requests_of_scopes(task)) if requests else 0


def is_to_be_cancelled(task: Any) -> bool:
    """
    Whether a request to cancel this asyncio task has yet to be delivered.
    """
    return bool(getattr(task, "_must_cancel", False))


def _requests_of_scopes(task: Any) -> int:
    """
    How many requests to cancel the task come from the scopes that it is in.

    Anyio counts them in private, and not those that a scope makes to the tasks of a group
    that it is around: what comes beside such a scope may all be its own.
    """
    found = 0
    with suppress(ImportError, AttributeError, KeyError, TypeError):
        from anyio._backends._asyncio import _task_states

        scope: Any = _task_states[task].cancel_scope
        while scope is not None:
            if scope._host_task is task:
                found += scope._pending_uncancellations or 0
            elif scope._cancel_called:
                return int(task.cancelling())
            scope = scope._parent_scope
    return found


def is_cancellation_of_asyncio(error: BaseException) -> bool:
    """
    Whether it is asyncio's ``CancelledError``, which a library may let out anywhere.
    """
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def is_of_a_scope(cancellation: BaseException) -> bool:
    """
    Whether this ``CancelledError`` of asyncio says that a scope of anyio has asked for it.
    """
    said = cancellation.args[0] if cancellation.args else None
    return isinstance(said, str) and said.startswith("Cancelled ")


def spawn(fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """
    Run it in a task of the loop's own, in a copy of this context. It raises nothing but
    its cancellation.

    Anyio has tasks in groups alone, and whoever opens a group has to leave it again, which
    nobody can make an ``async for`` do.
    """
    loop = running_loop()
    if loop is None or running_task() is None:
        trio: Any = sys.modules["trio"]
        trio.lowlevel.spawn_system_task(fn, context=copy_context())
        return
    task = loop.create_task(fn())
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)


_spawned: Final[set[Any]] = set()
"""Asyncio itself keeps no task alive."""


def leave() -> None:
    """
    Have this context forget which loop it was copied in.
    """
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:  # pragma: no branch - trio brings it with it
        sniffio.current_async_library_cvar.set(None)


def is_alive(token: EventLoopToken) -> bool:
    """
    Whether the loop of the token still runs, in whatever thread.
    """
    loop: Any = token.native_token
    if hasattr(loop, "is_running"):
        return bool(loop.is_running())
    try:
        loop.run_sync_soon(_nothing)
    except RuntimeError:
        return False
    return True


def wake(token: EventLoopToken, fn: Callable[[], object]) -> None:
    """
    Have the loop of the token call ``fn`` soon. From any thread; does not wait.

    A loop that has ended is left alone: nobody waits there any more.
    """
    loop: Any = token.native_token
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    with suppress(RuntimeError):
        soon(fn)


class Bell:
    """
    An event of the loop that runs, which can be set from anywhere: in another thread, where
    no loop runs, and when that loop has ended, where nobody hears it any more.
    """

    __slots__ = ("_event", "_token")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._token = current_token()

    def ring(self) -> None:
        """
        Set it.
        """
        if runs_here(self._token):
            self._event.set()
        else:
            wake(self._token, self._event.set)

    async def wait(self) -> None:
        """
        Return when it is set.
        """
        await self._event.wait()


def runs_here(token: EventLoopToken) -> bool:
    """
    Whether the loop of the token is the one that runs in this thread.
    """
    try:
        return current_token() == token
    except anyio.NoEventLoopError:
        return False
