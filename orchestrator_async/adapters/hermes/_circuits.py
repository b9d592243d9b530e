"""
Our circuits inside hermes.

Hermes is synchronous, and calls tools from several threads. Each call is a task on one event
loop in a thread of ours; the tool itself runs in the thread that has called, which waits
meanwhile for word from the loop. So what hermes keeps by thread goes on working: the flag
that interrupts a tool, who is asked for approvals and passwords, who is told that a command
still runs, which tools a forked agent may use, and the event loops of its own; and so do its
context variables, and Ctrl-C.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from logging import getLogger
from queue import Empty, SimpleQueue
from typing import Any, Final

import anyio
from anyio.from_thread import BlockingPortal

from orchestrator_async import (
    BreakerPolicy,
    OrchestratorError,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    ToolTimeoutError,
)
from orchestrator_async._loop import Bell
from orchestrator_async._policy import as_tool_policy
from orchestrator_async.adapters._guarding import Guarding

from . import _hermes
from ._judge import hermes_errors
from ._known import READ_ONLY
from ._stopping import Stoppable
from ._tools import over

logger: Final = getLogger("orchestrator_async.hermes")

_TOLD: Final = ("task_id", "session_id", "turn_id", "api_request_id")
_POLL: Final = 0.05
"""Seconds after which a thread that waits for its turn looks whether it is interrupted."""


class HermesCircuits:
    """
    Circuits for the tools that hermes runs: middleware for ``tool_execution``.

    ``ctx.register_middleware("tool_execution", circuits.middleware)`` in a plugin of your
    own, or have hermes load ours. What a tool returns reaches hermes as it was. A call that
    is refused, has failed or is out of time has our text for an answer, JSON with an
    ``error``. Where something of ours fails, the tool is run as if we were not there.

    Args:
        orch: The orchestrator. It runs on a loop of its own from now on: use it elsewhere
            for figures alone. Default: one with a registry of its own.
        policy: How tools are run and judged, before the judge ``hermes_errors``. A timeout
            interrupts the tool, which ends when it looks; hermes waits until then, and is
            told of the timeout and of what came in the end. Nothing is run twice, for
            hermes runs a call once: only what was turned away is tried again.
        backend: The event loop: ``"asyncio"`` or ``"trio"``.

    Raises:
        ImportError: hermes-agent is not installed, or in another version.
        TypeError: ``orch`` is none.
        ValueError: ``policy`` is none, or there is no such backend.
    """

    def __init__(
        self,
        orch: ToolOrchestrator | None = None,
        *,
        policy: ToolPolicy | BreakerPolicy | None = None,
        backend: str = "asyncio",
    ) -> None:
        if backend not in ("asyncio", "trio"):
            raise ValueError(f"backend={backend!r}: expected 'asyncio' or 'trio'")
        _hermes.check()
        if orch is None:
            orch = ToolOrchestrator(Registry())
        usual = ToolPolicy(judge=hermes_errors)
        self._guarding = Guarding(
            orch,
            framework="hermes",
            policy=over(as_tool_policy(policy), usual),
            control_flow=(InterruptedCallError,),
            default=usual,
        )
        self._loop = _Loop(backend)
        self._nested = threading.local()

    @property
    def orch(self) -> ToolOrchestrator:
        """
        The orchestrator, for its figures.
        """
        return self._guarding.orch

    def middleware(
        self, *, tool_name: str, args: Any, next_call: Callable[[Any], Any], **told: Any
    ) -> Any:
        """
        Run a call of a tool, or refuse it.

        Args:
            tool_name: The tool's name.
            args: Its arguments.
            next_call: Runs it, once.
            told: What hermes tells of the call besides.
        """
        this = (tool_name, told.get("tool_call_id") or None)
        calls: list[Any] = self._nested.__dict__.setdefault("calls", [])
        if this in calls and this[1] is not None:
            return next_call(args)  # hermes' loop passes here twice in one call
        calls.append(this)
        try:
            return self._run(tool_name, args, next_call, this[1], told)
        finally:
            calls.pop()

    def _run(
        self,
        name: str,
        args: Any,
        next_call: Callable[[Any], Any],
        call_id: str | None,
        told: Mapping[str, Any],
    ) -> Any:
        call = _Call(name, lambda: next_call(args))
        context = {key: told[key] for key in _TOLD if told.get(key)}

        async def guarded() -> ToolResult | None:
            return await self._guarding.run(
                name,
                args,
                call.wait,
                call_id=call_id,
                described=lambda: _described(name),
                context=context,
            )

        try:
            result = call.drive(self._loop.portal().start_task_soon(guarded))
        except InterruptedCallError as error:
            return call.outcome() if call.has_run else json.dumps({"error": str(error)})
        except Exception as error:
            if error is not call.error:  # which it is where it is control flow
                logger.warning("%s has no circuit: %s", name, error, exc_info=True)
            return call.outcome()
        return call.answer(result)

    def close(self) -> None:
        """
        End the event loop. Calls that still run go on without a circuit; the next one has
        a new loop.
        """
        self._loop.close()


class InterruptedCallError(Exception):
    """
    The user has interrupted hermes while a call waited for its turn, or while it ran: then
    what came of it says nothing of the tool.
    """


class _Call:
    """
    One call. Its thread waits in ``drive``, and the task for it in ``wait``.
    """

    def __init__(self, name: str, run: Callable[[], Any]) -> None:
        flag, self._is_interrupted = _hermes.interrupts()
        self._name, self._run = name, run
        self._stop = Stoppable(flag)
        self._inbox: SimpleQueue[bool] = SimpleQueue()
        self._ended: Bell | None = None
        self.has_run = False
        self._was_interrupted = False
        self._raised: Exception | None = None
        self.value: Any = None

    @property
    def error(self) -> BaseException | None:
        """
        What the tool has raised. Hermes wraps what comes from below a plugin, to tell it
        from what the plugin raises.
        """
        raised = self._raised
        wrapped = type(raised).__name__ == "_DownstreamExecutionError"
        return getattr(raised, "original", raised) if wrapped else raised

    # On the loop

    async def wait(self) -> Any:
        """
        Have the call's thread run the tool.
        """
        if self._ended is not None:
            raise OrchestratorError(
                f"{self._name} was run already, and hermes runs a call once.",
                tool_name=self._name,
            )
        self._ended = Bell()
        self._inbox.put(True)
        try:
            await self._ended.wait()
        finally:
            self._stop.give_up()  # which does nothing where it has ended
        if self._was_interrupted or self._stop.told:  # told with the script that calls it
            raise InterruptedCallError(self._name)
        if self.error is not None:
            raise self.error
        return self.value

    # In the thread of the call

    def drive(self, task: Future[ToolResult | None]) -> ToolResult | None:
        """
        Wait for the result, and run the tool when it is its turn.

        Raises:
            InterruptedCallError: The user did not want to wait for that, or for the tool.
            BaseException: What ends the thread's work altogether, such as Ctrl-C.
        """
        task.add_done_callback(lambda _: self._inbox.put(False))
        try:
            while self._is_its_turn():
                self._run_now()
                assert self._ended is not None
                self._ended.ring()
            return task.result()
        except BaseException:
            task.cancel()
            raise

    def _is_its_turn(self) -> bool:
        """
        Wait until it is, or the result is there.
        """
        while True:
            try:
                return self._inbox.get(timeout=_POLL)
            except Empty:
                if not self.has_run and self._is_interrupted():
                    raise InterruptedCallError(
                        f"{self._name} was not run: the user interrupted while it waited."
                    ) from None

    def _run_now(self) -> None:
        if not self._stop.begin():
            return
        self.has_run = True
        try:
            self.value = self._run()
        except Exception as error:
            self._raised = error
        finally:
            self._stop.end()
            self._was_interrupted = self._is_interrupted()

    def outcome(self) -> Any:
        """
        What the tool returns or raises, without a circuit.
        """
        if not self.has_run:
            return self._run()
        if self._raised is not None:
            raise self._raised
        return self.value

    def answer(self, result: ToolResult | None) -> Any:
        """
        What hermes is told: what the tool has returned, if that is the result, or a
        fallback; else text.
        """
        if result is None:
            return self.value
        value, error = result.value, result.error
        if error is None and (
            (self.has_run and value is self.value) or _is_envelope(value)
        ):
            return value
        if self.has_run and isinstance(error, ToolTimeoutError):
            return self._late(error.timeout)
        return result.content

    def _late(self, timeout: float) -> str:
        """
        The thread has waited until the tool ended, so what came of that can be told.
        """
        came = self.value if self.error is None else f"It raised {self.error!r}."
        told = {
            "error": f"{self._name} did not finish within its {timeout:g} s, and was told "
            "to stop. What it has returned then is the late_result: it may be cut short, "
            "or whole. Do not repeat the call blindly.",
            "tool_name": self._name,
            "timeout": True,
            "late_result": came,
        }
        return json.dumps(told, ensure_ascii=False, default=str)


class _Loop:
    """
    An event loop in a thread, begun when it is first asked for. A forked process has none
    of its parent's threads, and begins its own.

    The thread is a daemon and nothing waits for it when the program ends: anyio's own way
    to such a loop would, and hang, for by then no other thread gets on.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    def portal(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None or self._process != os.getpid():
                self._portal = self._begun()
            return self._portal

    def _begun(self) -> BlockingPortal:
        ready: Future[BlockingPortal] = Future()
        self._process = os.getpid()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="orchestrator_async loop", daemon=True
        )
        self._thread.start()
        return ready.result()

    def _run(self, ready: Future[BlockingPortal]) -> None:
        try:
            anyio.run(_serve, ready, backend=self._backend)
        except BaseException as error:
            if ready.done():  # pragma: no cover - it ends when it is closed, and by itself
                raise
            ready.set_exception(error)

    def close(self) -> None:
        with self._lock:
            portal, self._portal = self._portal, None
            if portal is not None and self._process == os.getpid():
                assert self._thread is not None
                portal.start_task_soon(portal.stop, True)
                self._thread.join()


async def _serve(ready: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        ready.set_result(portal)
        await portal.sleep_until_stopped()


def _described(name: str) -> dict[str, Any]:
    """
    What hermes knows of a tool.
    """
    told = _hermes.registry().get_schema(name) or {}
    return {
        "description": told.get("description") or "",
        "parameters": told.get("parameters") or {"type": "object"},
        "read_only": name in READ_ONLY,
    }


def _is_envelope(value: Any) -> bool:
    """
    Whether it is what hermes takes besides text, for images.
    """
    return isinstance(value, dict) and value.get("_multimodal") is True
