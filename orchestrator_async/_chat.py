"""
One run of an agent: its tools, its context, and an end to going round in circles.

What is counted and when it ends stands in ``_conversation``; here each call is asked about
before it is made and told of when it has ended, on whatever path.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from anyio.lowlevel import checkpoint

from ._answers import Answers
from ._calls import Request, ToolCall, ToolResult, call_id_of, check_context, read_call
from ._completed import CompletedCalls
from ._conversation import (
    OVER,
    Action,
    Call,
    ConversationPolicy,
    ConversationRules,
    Decision,
    Ending,
    call_key,
)
from ._errors import (
    CallRefusedError,
    CircuitOpenError,
    InvalidArgumentsError,
    UnknownToolError,
)
from ._execution import Execution
from ._fleet import Fleet
from ._foreign import is_a
from ._known import Heard, result_key, value_key
from ._outcome import REFUSALS
from ._streams import Told, ToolStream
from ._tool import Format
from ._turn import Turn, check_limit, listed

_MOST_PARSED: Final = 50_000
"""Characters that are parsed to see whether they are an object: half a millisecond."""

_NAMES: Final = ("warning", "warning_of_run")
"""What a warning is called in an object: the first that the tool has not used."""


class Conversation:
    """
    One run of an agent, which has tools, a context and limits of its own.

    It is what ``ToolOrchestrator.conversation`` returns, and is used in an ``async with``.
    Calls that a tool makes on its own account are not calls of the run.

    Attributes:
        stop_reason: Why the run is to end: the field of the ``ConversationPolicy`` whose
            limit it has gone far beyond, as text. ``None`` as long as it may go on. Every
            result from then on has ``stop=True``.
    """

    def _begin(
        self,
        fleet: Fleet,
        execution: Execution,
        answers: Answers,
        offered: Callable[..., list[dict[str, Any]]],
        raises: Callable[[BaseException, str], NoReturn],
        policy: ConversationPolicy,
        tools: Iterable[str] | None,
        context: Mapping[str, Any],
    ) -> Self:
        """
        Begin. Not by the constructor, which would show users what it is made of, and it is
        not for them to make.
        """
        self._fleet = fleet
        self._execution = execution
        self._answers = answers
        self._offered = offered
        self._raises = raises
        self._context = dict(context)
        self._rules: ConversationRules | None = ConversationRules(
            policy, fleet.time(), tools
        )
        self._reason: str | None = None
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reason = self.stop_reason
        if self._rules is not None:
            self._rules.close()
        self._rules = None

    @property
    def stop_reason(self) -> str | None:
        """
        Why the run is to end, or ``None``.
        """
        if self._rules is None or self._rules.stop_reason is None:
            return self._reason
        return self._rules.stop_reason.value

    async def dispatch(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> str:
        """
        Run a tool of this conversation and return what the model reads.

        As ``ToolOrchestrator.dispatch``; so are the others below.
        """
        request = self._request(name, args, call_id, context)
        return (await self._run(request)).content

    async def run(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> ToolResult:
        """
        Run a tool of this conversation and return everything that came of it.
        """
        return await self._run(self._request(name, args, call_id, context))

    async def call(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> Any:
        """
        Run a tool of this conversation and return its own value.

        Raises:
            CallRefusedError: The rules of the conversation refuse the call.
            Exception: What ``ToolOrchestrator.call`` raises.
        """
        request = self._request(name, args, call_id, context)
        result, call = await self._made(request, render=False)
        if call is not None:
            self._tell(call, result, value_key(result.value) if result.ok else None)
        try:
            if result.error is not None:
                self._raises(result.error, result.name)
            return result.value
        finally:
            del result

    def stream(
        self, name: str, args: Any = None, /, *, call_id: str | None = None, **context: Any
    ) -> ToolStream:
        """
        Run a tool of this conversation and give its chunks one by one.

        What the conversation's rules say is told by ``stop_reason`` alone, or raised as a
        ``CallRefusedError``: there is no text to put a warning into.
        """
        request = self._request(name, args, call_id, context)
        counted = _Counted(self)
        return ToolStream()._begin(
            request, self._execution, counted.run, self._raises, counted
        )

    async def dispatch_all(
        self, calls: Iterable[Any], *, limit: int | None = 16, **context: Any
    ) -> list[ToolResult]:
        """
        Run a turn's tool calls side by side. They count as one turn: what they do wrong
        together is done once.
        """
        check_context(context)
        entries = listed(calls)
        check_limit(limit)
        turn = None if self._rules is None else self._rules.new_turn()
        both = {**self._context, **context}
        return await self._turn(both, turn, limit).results(entries)

    def as_completed(
        self, calls: Iterable[Any], *, limit: int | None = 16, **context: Any
    ) -> CompletedCalls:
        """
        Run a turn's tool calls side by side, and give each result as soon as it is there.
        They count as one turn.
        """
        check_context(context)
        entries = listed(calls)
        check_limit(limit)
        both = {**self._context, **context}

        def make(tell: Callable[[ToolResult], object]) -> Turn:
            turn = None if self._rules is None else self._rules.new_turn()
            return self._turn(both, turn, limit, tell)

        return CompletedCalls()._begin(entries, make)

    def offered_tools(
        self, format: Format = "openai", *, hide_open: bool = False
    ) -> list[dict[str, Any]]:
        """
        The tools of this conversation as a model's API wants to be told of them.
        """
        return self._offered(format, hide_open=hide_open, allows=self._allows)

    # Beneath

    def _turn(
        self,
        context: Mapping[str, Any],
        turn: int | None,
        limit: int | None,
        tell: Callable[[ToolResult], object] | None = None,
    ) -> Turn:
        def broken_off(entry: Any, **how: bool) -> ToolResult:
            result = self._answers.broken_off(context, entry, **how)
            return replace(result, stop=self.stop_reason is not None)

        run = functools.partial(self._run_one, context, turn)
        return Turn(run, broken_off, limit, self._fleet.line_of, tell)

    def _allows(self, name: str) -> bool:
        return self._rules is not None and self._rules.allows(name)

    def _request(
        self, name: Any, args: Any, call_id: str | None, context: Mapping[str, Any]
    ) -> Request:
        check_context(context)
        return Request(name, args, call_id, {**self._context, **context})

    async def _run_one(
        self, context: Mapping[str, Any], turn: int | None, entry: Any
    ) -> ToolResult:
        try:
            call: ToolCall = read_call(entry)
        except InvalidArgumentsError as error:
            request = Request("", None, call_id_of(entry), context)
            return await self._run(request, turn, error)
        return await self._run(Request(call.name, call.args, call.id, context), turn)

    async def _run(
        self,
        request: Request,
        turn: int | None = None,
        unread: InvalidArgumentsError | None = None,
    ) -> ToolResult:
        result, call = await self._made(request, turn, unread)
        if call is None:
            return result
        content = result.content
        warning = self._tell(call, result, result_key(content) if result.ok else None)
        stop = self.stop_reason is not None
        if warning is None and not stop:
            return result
        if warning is not None:
            content = warned(content, warning)
        return replace(result, content=content, stop=stop)

    async def _made(
        self,
        request: Request,
        turn: int | None = None,
        unread: InvalidArgumentsError | None = None,
        *,
        render: bool = True,
    ) -> tuple[ToolResult, Call | None]:
        """
        The result of a call, and the call that is to be told of it, if the rules let it be
        made. One that cannot be read is one of a tool that there is not, for them.
        """
        rules = self._rules
        if rules is None:
            result = self._answers.stopped(OVER, "over", request, stop=True)
            await checkpoint()
            return result, None
        decision = self._asked(rules, request, turn)
        if decision.call is None:
            assert decision.reason is not None
            stop = rules.stop_reason is not None
            reason = decision.reason.value
            result = self._answers.stopped(decision.advice, reason, request, stop=stop)
            await checkpoint()
            return result, None
        try:
            if unread is not None:
                result = self._answers.malformed(unread, request)
                await checkpoint()
            elif decision.action is Action.UNKNOWN:
                unknown = self._fleet.registry.unknown(request.name, self._allows)
                result = self._answers.unknown(unknown, request)
                await checkpoint()
            else:
                request.allows, request.counted = self._allows, decision.call
                result = await self._execution.run(request, render=render)
        except BaseException:
            rules.give_back(decision.call)
            raise
        if result.stop:  # the run has ended while it waited
            rules.give_back(decision.call)
            return result, None
        return result, decision.call

    def _asked(
        self, rules: ConversationRules, request: Request, turn: int | None
    ) -> Decision:
        tool = self._fleet.registry.get(request.name)
        return rules.before(
            request.name if is_a(request.name, str) else "",
            call_key(request.args),
            self._fleet.time(),
            polling=tool is not None and tool.polling,
            known=tool is not None,
            turn=turn,
        )

    def _tell(self, call: Call, result: ToolResult, digest: str | None) -> str | None:
        """
        Tell the rules how the call has ended; what they warn of.
        """
        error = result.error
        return call.rules.after(
            call,
            _ending(result),
            self._fleet.time(),
            digest=digest,
            retry_after=result.retry_after,
            whole_tool=not (
                is_a(error, CallRefusedError)
                or (is_a(error, CircuitOpenError) and error.key is not None)
            ),
        )


class _Counted(Told):
    """
    A stream that is a call of a conversation.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._call: Call | None = None
        self._heard = Heard()

    async def run(self, request: Request) -> ToolResult:
        """
        Make the call, if the rules let it be made.
        """
        result, self._call = await self._conversation._made(request, render=False)
        return result

    def heard(self, chunk: Any) -> None:
        self._heard.add(chunk)

    def ended(self, result: ToolResult | None) -> ToolResult | None:
        call, self._call = self._call, None
        if call is None:
            return result
        if result is None:
            call.rules.give_back(call)
            return None
        if self._heard.is_empty:
            # What was there on entry, and is no stream, is known by its value.
            self._heard.add(result.value)
        self._conversation._tell(call, result, self._heard.key())
        return replace(result, stop=self._conversation.stop_reason is not None)


def _ending(result: ToolResult) -> Ending:
    if result.ok:
        return Ending.SUCCESS
    if result.attempts == 0:
        if is_a(result.error, UnknownToolError):
            return Ending.UNKNOWN
        if is_a(result.error, InvalidArgumentsError):
            return Ending.INVALID
        if is_a(result.error, REFUSALS):
            return Ending.REFUSAL
    return Ending.FAILURE


def warned(content: str, warning: str) -> str:
    """
    What the model reads, with a warning: in a JSON object as one more member, else as a
    last line. A tool's text may only look like an object.
    """
    name = _free_name(content)
    if name is None:
        return f"{content}\n\n[Warning: {warning}]"
    inside = content.rstrip()[:-1].rstrip()
    comma = "" if inside.endswith("{") else ", "
    return f'{inside}{comma}"{name}": {json.dumps(warning, ensure_ascii=False)}}}'


def _free_name(content: str) -> str | None:
    """
    By what name an object takes a warning; ``None`` for what is none, and where the tool
    has both names in use.
    """
    if len(content) > _MOST_PARSED or not content.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return next((name for name in _NAMES if name not in value), None)
