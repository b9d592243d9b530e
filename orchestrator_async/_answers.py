"""
What a caller is told where the tool was not run.

Each answer that turns a call away is counted and told to the observers here. None of it
awaits: who asked for the answer passes a checkpoint after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ._breaker import CircuitState, Refusal
from ._calls import Request, ToolResult, call_id_of, read_call, result
from ._circuit import Circuit
from ._endings import Endings, invalid_text
from ._entry import Entry, unusable
from ._errors import (
    CallRefusedError,
    DrainingError,
    InvalidArgumentsError,
    LimitExceededError,
    OrchestratorError,
    ToolCancelledError,
    UnknownToolError,
)
from ._events import Observers, rejected
from ._foreign import is_a
from ._log import log_with_traceback
from ._outcome import error_text
from ._text import quote_name
from ._tool import Tool


class Answers:
    """
    Makes the answers of one orchestrator.

    Attributes:
        endings: Those to calls that have ended.

    Args:
        clean: What foreign text passes through.
        observers: Those who are told.
    """

    def __init__(self, clean: Callable[[str], str], observers: Observers) -> None:
        self.endings = Endings(clean)
        self._clean = clean
        self._observers = observers
        self._complained: set[str] = set()

    # To a call that was turned away

    def refused(
        self, entry: Entry, circuit: Circuit, refusal: Refusal, request: Request
    ) -> ToolResult:
        """
        By its circuit.
        """
        entry.figures.rejected += 1
        self.tell(entry.name, "circuit", request, refusal.retry_after, refusal.state)
        return result(
            name=entry.name,
            call_id=request.call_id,
            content=entry.refusal_text(
                refusal.state, refusal.retry_after, circuit, request.allows
            ),
            error=entry.refusal_error(refusal, circuit, request.allows),
            state=refusal.state,
            source=entry.name,
            retry_after=refusal.retry_after,
        )

    def limited(
        self,
        entry: Entry,
        circuit: Circuit,
        request: Request,
        error: LimitExceededError | None = None,
    ) -> ToolResult:
        """
        By a limit: by default that of the worker threads that the tool may have.
        """
        entry.figures.rejected += 1
        if error is None:
            error = self.no_thread(entry, entry.settings.max_threads, "threads")
        more: dict[str, Any] = {
            "limit": error.limit,
            "retry_after": math.ceil(error.retry_after),
        }
        names = filter(request.allows or bool, entry.alternatives)
        if alternatives := list(names):
            more["alternatives"] = alternatives
        text = error_text(str(error), entry.name, **more)
        return self._turn_away(entry.name, error, "limit", text, request, circuit)

    def no_thread(self, entry: Entry, size: int, limit: str) -> LimitExceededError:
        """
        There is no thread for the tool, by its own limit or by the system's.
        """
        wait = max(1.0, entry.figures.average)
        return LimitExceededError(
            tool_name=entry.name, limit=limit, size=size, retry_after=wait
        )

    def guarded(self, entry: Entry, said: str, request: Request) -> ToolResult:
        """
        By its guard.
        """
        entry.figures.rejected += 1
        said = self._clean(said)
        if not said.strip():
            said = f"{entry.name} was not run: the call was refused. Do not repeat it."
        error = CallRefusedError(said, tool_name=entry.name)
        text = error_text(str(error), entry.name, refused=True)
        return self._turn_away(entry.name, error, "guard", text, request, entry.circuit)

    def invalid(
        self, entry: Entry, error: InvalidArgumentsError, request: Request
    ) -> ToolResult:
        """
        Because of its arguments.
        """
        entry.figures.invalid += 1
        text = invalid_text(error, entry.name, self._clean)
        reason = "invalid_arguments"
        return self._turn_away(entry.name, error, reason, text, request, entry.circuit)

    def malformed(self, error: InvalidArgumentsError, request: Request) -> ToolResult:
        """
        Because it cannot be read as a tool call at all.
        """
        text = invalid_text(error, "", self._clean)
        return self._turn_away("", error, "invalid_arguments", text, request)

    def unknown(self, error: UnknownToolError, request: Request) -> ToolResult:
        """
        Because no tool has that name.
        """
        name = quote_name(request.name)
        more = {"unknown_tool": True, "did_you_mean": list(error.did_you_mean)}
        text = error_text(str(error), name, **more)
        return self._turn_away(name, error, "unknown_tool", text, request)

    def stopped(
        self, advice: str, reason: str, request: Request, *, stop: bool
    ) -> ToolResult:
        """
        By the rules of its conversation.
        """
        name = quote_name(request.name)
        error = CallRefusedError(advice, tool_name=name)
        more = {"refused": True, "reason": reason, **({"stop": True} if stop else {})}
        text = error_text(advice, name, **more)
        result = self._turn_away(name, error, "conversation", text, request)
        return replace(result, stop=stop)

    def draining(self, tool: Tool, request: Request) -> ToolResult:
        """
        Because the orchestrator takes no calls any more.
        """
        error = DrainingError(tool_name=tool.name)
        text = error_text(str(error), tool.name, draining=True)
        return self._turn_away(tool.name, error, "draining", text, request)

    def unusable(self, tool: Tool, error: Exception, request: Request) -> ToolResult:
        """
        Because the tool, or its circuit, cannot be used; logged once a tool.
        """
        if tool.name not in self._complained:
            self._complained.add(tool.name)
            log_with_traceback(f"{tool.name} cannot be called", error, self._clean)
        if not is_a(error, OrchestratorError):
            error = unusable(tool.name, error)
        kind = type(error).__name__
        text = error_text(str(error), tool.name, error_type=kind)
        return self._turn_away(tool.name, error, "unusable", text, request)

    def replaced(self, tool: Tool, request: Request) -> ToolResult:
        """
        Because another tool has taken the tool's place while the call waited.
        """
        message = f"{tool.name} was replaced while the call waited. It was not run; call it again."
        error = OrchestratorError(message, tool_name=tool.name)
        text = error_text(message, tool.name, error_type=type(error).__name__)
        return self._turn_away(tool.name, error, "unusable", text, request)

    def broken_off(
        self,
        context: Mapping[str, Any],
        entry: Any,
        *,
        begun: bool = True,
        late: bool = False,
    ) -> ToolResult:
        """
        To a call whose task was cancelled, by its tool, before it began, or because the
        time of the turn was over.
        """
        try:
            call = read_call(entry)
        except InvalidArgumentsError as unread:
            return self.malformed(unread, Request("", entry, call_id_of(entry), context))
        name = quote_name(call.name)
        error = ToolCancelledError(tool_name=name, begun=begun, late=late)
        kind = type(error).__name__
        return result(
            name=call.name,
            call_id=call.id,
            content=error_text(str(error), call.name, error_type=kind),
            error=error,
            source=call.name,
            attempts=int(begun),
        )

    def tell(
        self,
        name: str,
        reason: str,
        request: Request,
        retry_after: float | None,
        state: CircuitState | None,
    ) -> None:
        """
        Tell the observers of a call that did not run its tool.
        """
        if self._observers.listening:
            args, call_id, context = request.args, request.call_id, request.context
            self._observers.tell(
                rejected(name, call_id, args, context, reason, retry_after, state)
            )

    # Beneath

    def _turn_away(
        self,
        name: str,
        error: OrchestratorError,
        reason: str,
        text: str,
        request: Request,
        circuit: Circuit | None = None,
    ) -> ToolResult:
        state = None if circuit is None else circuit.state
        retry_after: float | None = getattr(error, "retry_after", None)
        self.tell(name, reason, request, retry_after, state)
        return result(
            name=name,
            call_id=request.call_id,
            content=text,
            error=error,
            state=state,
            source=name,
            retry_after=retry_after,
        )
