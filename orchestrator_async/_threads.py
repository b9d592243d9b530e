"""
Worker threads for plain functions.

The slot of a call is released by its thread, when the function has really ended:
anyio's limiter has its token back as soon as a call is abandoned, while the thread goes
on. On asyncio the threads are our own too, and daemons: one of anyio's that hangs keeps
the process from exiting. On trio anyio's are daemons, and ``from_thread`` needs them.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from anyio.lowlevel import EventLoopToken, current_token

from . import _loop
from ._generators import drained
from ._traceback import binds_arguments

if TYPE_CHECKING:
    from queue import SimpleQueue

_IDLE_SECONDS: Final = 10.0


class NoThreadError(RuntimeError):
    """
    The system has no thread to spare; the function was not entered.
    """


class Slots:
    """
    So many places. Taking one never waits; releasing one works from any thread.

    Attributes:
        size: How many. It may be changed while places are taken.
        taken: How many of them are in use.
    """

    __slots__ = ("__weakref__", "_lock", "size", "taken")

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """
        Take a place; whether there was one.
        """
        with self._lock:
            if self.taken >= self.size:
                return False
            self.taken += 1
            return True

    def release(self) -> None:
        """
        Give a place back.
        """
        with self._lock:
            self.taken -= 1


class ThreadedCall:
    """
    One call of a plain function, in a worker thread, that holds a slot already.

    The slot is given back once: by the thread when the function has ended, or here if
    the call was given up before a thread took it up.

    Attributes:
        closing: What ended the wait if the coroutine was closed.
        error: What the function has raised.
        running: Whether the function is running at this moment.
    """

    __slots__ = (
        "_context",
        "_done",
        "_fn",
        "_given_up",
        "_result",
        "_scope",
        "_slots",
        "_taken",
        "_token",
        "closing",
        "error",
        "running",
    )

    def __init__(self, slots: Slots) -> None:
        self._fn: Callable[[], Any] | None = None
        self._slots = slots
        self._taken = threading.Lock()
        self._context: contextvars.Context | None = None
        self._token: EventLoopToken | None = None
        self._done: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None
        self._result: Any = None
        self.error: BaseException | None = None
        self.closing: GeneratorExit | None = None
        self.running = False
        self._given_up = False

    async def wait(self, fn: Callable[[], Any]) -> Any:
        """
        Run the function and return its value, or raise its exception.

        A cancellation gives the call up; a function that has begun runs to its end.
        """
        self._fn = fn
        try:
            if _loop.running_loop() is None:
                await self._wait_for_anyio()
            else:
                self._token = current_token()
                self._context = contextvars.copy_context()
                self._done = anyio.Event()
                with anyio.CancelScope() as self._scope:
                    _submit(self)
                    await self._wait_until_done()
            error, self.error = self.error, None
            value, self._result = self._result, None
        finally:
            self.give_up()
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error, value

    async def _wait_until_done(self) -> None:
        assert self._done is not None
        try:
            await self._done.wait()
        except GeneratorExit as closing:
            # The scope around this may raise something else in its place.
            self.closing = closing
            raise

    async def _wait_for_anyio(self) -> None:
        try:
            await anyio.to_thread.run_sync(
                self.run, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(math.inf)
            )
        except RuntimeError as error:
            # The function's own errors do not come this way.
            if self._taken.locked():
                raise  # pragma: no cover - nothing of trio is known to
            raise NoThreadError(str(error)) from error

    def give_up(self) -> None:
        """
        Do not begin any more. Gives the slot back if no thread has begun.
        """
        self._given_up, self.error = True, None
        self._drop_result()
        if self._taken.acquire(blocking=False):
            self._fn = None
            self._slots.release()

    @binds_arguments
    def run(self) -> None:
        """
        The thread's part.
        """
        if not self._taken.acquire(blocking=False):
            return
        fn, self._fn = self._fn, None
        assert fn is not None
        self.running = True
        try:
            value = fn()
            # A generator's body is the tool's too, and has no business in the loop.
            self._result = drained(value) if issubclass(type(value), Generator) else value
        except BaseException as error:
            # Nobody takes it any more, and its traceback holds this object.
            if not self._given_up:
                self.error = error
        else:
            if self._given_up:
                self._drop_result()
        finally:
            self.running = False
            self._slots.release()

    def _drop_result(self) -> None:
        """
        Nobody takes what the function has returned, or will return. A coroutine that is
        never awaited would be complained of.
        """
        value, self._result = self._result, None
        if inspect.iscoroutine(value):
            value.close()

    def run_as_daemon(self) -> None:
        """
        The thread's part, in a thread of ours.
        """
        assert self._context is not None
        assert self._token is not None
        assert self._done is not None
        with _anyio_thread(self._token, self._scope):
            self._context.run(self._run_outside)
        _loop.wake(self._token, self._done.set)

    def _run_outside(self) -> None:
        # The context was copied inside the loop, and says so; a tool that runs a loop
        # of its own in this thread would be told that one runs already.
        _loop.leave()
        self.run()


@contextmanager
def _anyio_thread(
    token: EventLoopToken, scope: anyio.CancelScope | None
) -> Generator[None, None, None]:
    """
    Make ``anyio.from_thread`` work in this thread as in one of anyio's own.

    The only way to that are private names; without them, ``from_thread`` needs to be
    given the token, and a thread cannot ask whether its call was given up.
    """
    try:
        from anyio._core._eventloop import claim_worker_thread, threadlocals
    except ImportError:  # pragma: no cover - an anyio without these names
        yield
        return
    with claim_worker_thread(token.backend_class, token.native_token):
        threadlocals.current_cancel_scope = scope
        try:
            yield
        finally:
            del threadlocals.current_cancel_scope


_idle: deque[_Worker] = deque()


class _Worker(threading.Thread):
    def __init__(self) -> None:
        # Imported here, with the first thread: many programs never make one.
        import queue

        super().__init__(name="orchestrator_async worker", daemon=True)
        self.inbox: SimpleQueue[ThreadedCall] = queue.SimpleQueue()

    def run(self) -> None:
        from queue import Empty

        while True:
            try:
                call = self.inbox.get(timeout=_IDLE_SECONDS)
            except Empty:
                if self._retires():
                    return
                continue
            call.run_as_daemon()
            del call
            _idle.append(self)

    def _retires(self) -> bool:
        """
        Leave the list of idle workers; not if somebody has just taken this one.
        """
        try:
            _idle.remove(self)
        except ValueError:
            return False
        return True


def _submit(call: ThreadedCall) -> None:
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        try:
            worker.start()
        except RuntimeError as error:
            raise NoThreadError(str(error)) from error
    worker.inbox.put(call)


# A forked child has the list, but not the threads.
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows does not fork
    os.register_at_fork(after_in_child=_idle.clear)
