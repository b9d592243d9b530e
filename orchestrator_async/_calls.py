"""
The records of a call: what was asked for, what the tool is told, what came of it.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ._breaker import CircuitState
from ._errors import InvalidArgumentsError
from ._frozen import quick
from ._log import log_with_traceback
from ._outcome import Verdict
from ._text import clean

if TYPE_CHECKING:
    from ._conversation import Call
    from ._settle import Flight

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """
    A tool call as a model asks for it.

    Attributes:
        name: Name of the tool.
        args: The arguments: a mapping, JSON text, or ``None``.
        id: The model's id of the call, given back with its result.
    """

    name: str
    args: Any = field(default=None, repr=False)
    id: str | None = None


class _Reporting:
    """
    Has what tells of a call's progress beside its fields: not to be compared, nor written
    down with them.
    """

    __slots__ = ("_report",)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolContext(_Reporting):
    """
    What a tool is told beside its arguments, in a parameter annotated with this class.

    Attributes:
        tool_name: The name that it was called by.
        call_id: The caller's id of the call, or ``None``.
        attempt: 1 for the first execution of the call.
        deadline: When the call will be cancelled, on the loop's clock
            (``anyio.current_time()``); infinite where nothing limits it.
        timeout: Seconds that the tool itself may take, of which the deadline may leave it
            less; ``None`` where it has no timeout.
        idempotency_key: A key that is new for every call, and the same in each of its
            attempts.
        data: The keyword arguments of ``dispatch``.
    """

    tool_name: str
    call_id: str | None = None
    attempt: int = 1
    deadline: float = float("inf")
    timeout: float | None = None
    idempotency_key: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def report_progress(
        self, done: float, total: float | None = None, message: str | None = None
    ) -> None:
        """
        Tell the orchestrator's observers how far the tool has come.

        It raises for nothing, also not in a worker thread or after the call has ended,
        and it does not make the tool's timeout any longer. What cannot be told (a number
        that is not finite, a message that is no text) is left out, and logged once a tool.

        Args:
            done: How much is done, in any unit: the more, the further.
            total: How much there is to do, in the same unit; ``None`` if nobody knows.
            message: What is being done, for people. It is cleaned like all foreign text.
        """
        report = getattr(self, "_report", None)
        if report is not None:
            report(done, total, message)

    def __copy__(self) -> ToolContext:
        return reporting(replace(self), getattr(self, "_report", None))

    def __deepcopy__(self, memo: Any) -> ToolContext:
        again = replace(self, data=copy.deepcopy(self.data, memo))
        return reporting(again, getattr(self, "_report", None))


_context: Final = quick(ToolContext)


def context_for_judges(
    tool_name: str, call_id: str | None, data: Mapping[str, Any]
) -> ToolContext:
    """
    What whoever is asked of a call is told of it, who is not to report its progress.
    """
    return _context(tool_name, call_id, data=data)


def reporting(
    context: ToolContext, report: Callable[[Any, Any, Any], None] | None
) -> ToolContext:
    """
    The context, with what tells of its call's progress.
    """
    object.__setattr__(context, "_report", report)
    return context


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ToolResult:
    """
    Everything that came of a call.

    Attributes:
        name: Name of the tool.
        call_id: The caller's id of the call, or ``None``.
        content: What the model reads.
        value: What the tool returned, as it was.
        error: What it raised, or why it was not run; ``None`` if it returned.
        ok: Whether the tool did what it was asked. A tool that returns an error has
            ``ok=False``, ``error=None`` and its value.
        verdict: What the circuit was told, or would have been by a call that runs
            under the probe which made it.
        late: Whether that came after the circuit had moved on.
        state: The circuit's state afterwards; ``None`` where there is no circuit.
        source: Name of what answered: the tool, the tool that is its fallback, or
            ``"fallback"`` for a function that is.
        duration: Seconds that the tool ran.
        attempts: Executions; 0 where the tool was not run.
        retry_after: Seconds after which a refused call may be tried again.
        stop: Whether the program is to end the run of the agent, as its conversation has
            gone round in circles; see ``Conversation.stop_reason``.
    """

    name: str
    call_id: str | None = None
    content: str = field(default="", repr=False)
    value: Any = field(default=None, repr=False)
    error: BaseException | None = field(default=None, repr=False)
    ok: bool = False
    verdict: Verdict = Verdict.IGNORE
    late: bool = False
    state: CircuitState | None = None
    source: str = ""
    duration: float = 0.0
    attempts: int = 0
    retry_after: float | None = None
    stop: bool = False

    def message(self, format: str = "openai") -> dict[str, Any]:
        """
        The message that hands the result to the model.

        Args:
            format: ``"openai"`` (chat completions), ``"openai-responses"``,
                ``"anthropic"`` (a content block of a user message), ``"gemini"`` (a part
                of a user's content) or ``"mcp"`` (a ``CallToolResult``).

        Images and PDFs that the tool has returned (``Media``, or an MCP result) come after
        the text, as blocks of that API; ``"openai"`` has no place for them. Gemini's client
        takes their bytes, and they are bytes there; everything else is JSON.

        Raises:
            ValueError: There is no such format.
        """
        from . import _messages

        return _messages.message_of(self, format)


result: Final = quick(ToolResult)


class Course:
    """
    What the parts around a call tell its attempts, and what they are told of the last one.

    Attributes:
        tool: What the call was made for, and what alone it runs.
        attempt: Its number, from 1.
        total_timeout: Seconds that the whole call may take, or ``None``.
        deadline: When the whole call is to be over, on the loop's clock.
        idempotency_key: That of the call, the same in all of its attempts.
        made: The keyword arguments, once they have been made, which is once a call.
        arguments: Those of the attempt, if it has asked for them already.
        key: The key of its circuit, if that has been asked for already.
        ran: Whether the tool was entered.
        was_probe: Whether its circuit's fate hung on it.
        failed: Whether the last attempt that ran the tool was judged a failure.
        blamed: Whether it returned an error that its judge did not hold against it.
        pause: Seconds for which its circuit only pauses; 0 where it does not.
        opened: Whether it is a stream that has come to its first chunk.
    """

    __slots__ = (
        "arguments",
        "attempt",
        "blamed",
        "deadline",
        "failed",
        "idempotency_key",
        "key",
        "made",
        "opened",
        "pause",
        "ran",
        "tool",
        "total_timeout",
        "was_probe",
    )

    def __init__(self, tool: object, total_timeout: float | None = None) -> None:
        self.tool = tool
        self.attempt = 1
        self.total_timeout = total_timeout
        self.deadline = math.inf
        self.idempotency_key = os.urandom(16).hex()
        self.failed = self.blamed = False
        self.made: Mapping[str, Any] | None = None
        self.begin()

    def begin(self) -> None:
        """
        An attempt begins.
        """
        self.arguments: Mapping[str, Any] | None = None
        self.key: tuple[str | None] | None = None
        # Not the failure: where this one is turned away, the one before is the answer.
        self.ran = self.was_probe = self.opened = False
        self.pause = 0.0

    def ended(self, *, failed: bool, blamed: bool, pause: float) -> None:
        """
        It has ended, and its circuit was told.
        """
        self.failed, self.blamed, self.pause = failed, blamed, pause


def copied(args: Any) -> Any:
    """
    Arguments as they are now, whatever becomes of those that were given. What cannot be
    copied (an open file, say) is in it as it is, and all that is beside it is copied.

    Raises:
        RecursionError: They are nested too deep.
    """
    if type(args) is not dict and isinstance(args, Mapping):
        # Another mapping may be a view of something, and its copy another view.
        try:
            args = dict(args)
        except Exception:
            return args  # whoever binds it will say so
    if not isinstance(args, dict | bytearray):
        return args
    made = _whole_copy(args)
    return _copied_in_parts(args) if made is None else made


def _whole_copy(value: T) -> T | None:
    """
    A copy that has nothing in common with the value, or ``None`` if there can be none.
    """
    try:
        return copy.deepcopy(value)
    except Exception:
        return None


def _copied_in_parts(value: Any) -> Any:
    kind = type(value)
    if kind in (dict, MappingProxyType):
        return {key: _copied_in_parts(each) for key, each in value.items()}
    if kind in (list, tuple, set, frozenset):
        return kind(_copied_in_parts(each) for each in value)
    made = _whole_copy(value)
    return value if made is None else made


class Request:
    """
    What a caller asked for, as it was asked.

    Attributes:
        course: Where it stands, for a tool with parts around its calls.
        allows: Which tools the caller may be told of; ``None`` for all.
        counted: What it is for the rules of its conversation, if it is in one.
        kept: Whether the arguments are its own, and to stay as they are.
        streams: Whether the caller takes the chunks of a stream one by one.
        opened: The execution that has come to its first chunk, if there is one.
        is_empty: Whether it has ended without any.
    """

    __slots__ = (
        "allows",
        "args",
        "call_id",
        "context",
        "counted",
        "course",
        "is_empty",
        "kept",
        "name",
        "opened",
        "streams",
    )

    def __init__(
        self,
        name: Any,
        args: Any,
        call_id: str | None,
        context: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.args = args
        self.call_id = call_id
        self.context = context
        self.allows: Callable[[str], bool] | None = None
        self.counted: Call | None = None
        self.kept = self.streams = self.is_empty = False
        self.opened: Flight | None = None
        self.course: Course | None = None

    def keep_arguments(self) -> None:
        """
        Have arguments of its own, which nobody else can change.
        """
        if not self.kept:
            self.args = copied(self.args)
            self.kept = True


_RESERVED: Final = frozenset({"timeout", "limit", "policy", "circuit"})


def check_context(context: Mapping[str, Any]) -> None:
    """
    Raise ``TypeError`` for a word that looks like an option, lest it be swallowed.
    """
    if context and not _RESERVED.isdisjoint(context):
        words = ", ".join(sorted(_RESERVED.intersection(context)))
        raise TypeError(
            f"{words}: not an option of a call. Set it for the tool or the orchestrator; "
            "as context for the tool, give it another name."
        )


def given(source: Any) -> Any:
    """
    What a function gives that stands in the place of a mapping. Where it raises, which is
    logged, there is nothing: that keeps no call from being made, or from being ended.
    """
    if not callable(source):
        return source
    try:
        return source()
    except Exception as error:
        log_with_traceback("what a call is told of cannot be had", error, clean)
        return {}


def read_call(entry: object) -> ToolCall:
    """
    A tool call from our own record, or from what a model's API or a framework hands over,
    as a dict or as the object of its client.

    Raises:
        InvalidArgumentsError: It is none of those; the message says what is missing.
    """
    if isinstance(entry, ToolCall):
        return _checked(entry.name, entry.args, entry.id)
    try:
        function = _get(entry, "function")
        if function is not None:
            name, args = _get(function, "name"), _get(function, "arguments")
            return _checked(name, args, _get(entry, "id"))
        kind, name = _get(entry, "type"), _get(entry, "name")
        if kind == "tool_use":
            return _checked(name, _get(entry, "input"), _get(entry, "id"))
        if kind == "function_call":
            return _checked(name, _get(entry, "arguments"), _get(entry, "call_id"))
        if (inner := _function_call_of(entry)) is not None:
            return _checked(_get(inner, "name"), _get(inner, "args"), _get(inner, "id"))
    except InvalidArgumentsError:
        raise
    except Exception:
        what = f"a {type(entry).__name__} that cannot be looked at"
        raise _malformed(what) from None
    raise _malformed(f"a {type(entry).__name__}")


def calls_of_message(message: object) -> list[Any] | None:
    """
    The tool calls of an assistant's message, as a dict or as the object of a client:
    OpenAI's ``tool_calls``, Anthropic's blocks of ``content``, the items of ``output`` of
    OpenAI's responses, or the ``parts`` of Gemini's content. ``None`` where it is no such
    message.
    """
    try:
        if _get(message, "role") == "assistant" or not isinstance(message, Mapping):
            calls = _get(message, "tool_calls")
            if isinstance(calls, list | tuple):
                return list(calls)
        for key, kind in (("content", "tool_use"), ("output", "function_call")):
            blocks = _get(message, key)
            if isinstance(blocks, list | tuple):
                return [each for each in blocks if _get(each, "type") == kind]
        parts = _get(message, "parts")
        if isinstance(parts, list | tuple):
            return [each for each in parts if _function_call_of(each) is not None]
        # A message that only speaks has no calls, and says so.
        is_message = _get(message, "role") == "assistant"
        return [] if is_message else None
    except Exception:
        return None  # it raises when it is looked at


def _function_call_of(entry: object) -> object:
    """
    A call of Gemini's API, bare or as a part of a message; LangChain has the former, too.
    """
    for key in ("function_call", "functionCall"):
        if (inner := _get(entry, key)) is not None:
            return inner
    if isinstance(entry, Mapping):
        return entry if "name" in entry and "args" in entry else None
    return entry if hasattr(entry, "name") and hasattr(entry, "args") else None


def _get(thing: object, key: str) -> Any:
    if isinstance(thing, Mapping):
        return thing.get(key)
    return getattr(thing, key, None)


def _checked(name: object, args: object, call_id: object) -> ToolCall:
    if not isinstance(name, str):
        raise _malformed("one without a name")
    return ToolCall(name, args, _as_id(call_id))


def call_id_of(entry: object) -> str | None:
    """
    The id of a call, if it can be made out, also of one that cannot be read.
    """
    for key in ("call_id", "id"):
        with suppress(Exception):
            if (found := _as_id(_get(entry, key))) is not None:
                return found
    return None


def _as_id(value: object) -> str | None:
    # No API has numbers for ids, but some models count. Python makes no text of huge ones.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 65:
        return str(int(value))
    return value if isinstance(value, str) else None


def _malformed(what: str) -> InvalidArgumentsError:
    expected = (
        "a ToolCall, or a tool call of the OpenAI API ({'id', 'function': {'name', "
        "'arguments'}}), of the Anthropic API ({'type': 'tool_use', 'id', 'name', 'input'}) "
        "or of the Gemini API ({'name', 'args'})"
    )
    return InvalidArgumentsError(
        f"This tool call cannot be read: expected {expected}, not {what}.",
        errors=[{"argument": "(all)", "expected": expected}],
    )
