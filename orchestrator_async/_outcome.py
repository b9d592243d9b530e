"""
What a finished call says of its tool, and what the model reads of it.

Judges look at an ``Outcome`` and give a ``Verdict``; the rest of the verdict table,
where the caller and the loop have a say, is in ``_settle``. pydantic-core is imported
when a result has to be read or written as JSON, not before.
"""

from __future__ import annotations

import enum
import functools
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeGuard, TypeVar
from weakref import WeakKeyDictionary

from . import _media
from ._callbacks import is_its_own
from ._errors import (
    CallRefusedError,
    CircuitOpenError,
    DrainingError,
    InvalidArgumentsError,
    InvalidResultError,
    LimitExceededError,
)
from ._foreign import bare_type_name, is_a, members_of
from ._frozen import quick
from ._generators import drained

if TYPE_CHECKING:
    from ._calls import ToolContext


class Verdict(enum.StrEnum):
    """
    What a finished call tells its circuit.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORE = "ignore"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcome:
    """
    What a judge sees of a finished call.

    Attributes:
        value: What the tool returned; ``None`` if it raised.
        error: What it raised, or ``None`` if it returned.
        duration: Seconds that it took.
        context: The call's ``ToolContext``.
    """

    value: Any = field(default=None, repr=False)
    error: BaseException | None = None
    duration: float = 0.0
    context: ToolContext | None = field(default=None, repr=False)


outcome_of: Final = quick(Outcome)

Judge = Callable[[Outcome], Verdict | bool | None]
"""A verdict, or true for a failure and false for a success, or ``None``: no opinion."""

REFUSALS: Final = (
    CallRefusedError,
    CircuitOpenError,
    DrainingError,
    LimitExceededError,
)
"""What is raised to a tool whose own call was turned away."""

_FORBIDDEN: Final = ("refused", "draining")
"""What is true in the JSON of such a one that was not to be made at all."""

_REFUSED: Final = ("circuit_breaker", *_FORBIDDEN)
"""What is true in the JSON of such a one, but for limits."""


def any_error(outcome: Outcome) -> Verdict:
    """
    The default judge: what is raised is a failure, and so is a returned object (a
    mapping, a model, a dataclass, the text of a JSON object) whose ``error`` is true.
    """
    if outcome.error is not None:
        return judge_error(outcome.error)
    return judge_value(outcome.value)


def exceptions_only(outcome: Outcome) -> Verdict:
    """
    The judge for tools that return other people's content (files, pages): what is
    raised is a failure, and what is returned a success, whatever it says.
    """
    if outcome.error is not None:
        return judge_error(outcome.error)
    return Verdict.SUCCESS


def judge_error(
    error: BaseException,
    *,
    tool_name: str | None = None,
    ignore: tuple[type[BaseException], ...] = (),
) -> Verdict:
    """
    The table's row for what was raised: nothing is held against a tool that was itself
    refused, or that blames the arguments. A group is what all of its members are.
    """
    if issubclass(type(error), (*REFUSALS, *ignore)):
        return Verdict.IGNORE
    if is_a(error, BaseExceptionGroup):
        verdicts = {
            judge_error(each, tool_name=tool_name, ignore=ignore)
            for each in members_of(error)
        }
        return Verdict.FAILURE if Verdict.FAILURE in verdicts else Verdict.IGNORE
    return Verdict.IGNORE if blames_arguments(error, tool_name) else Verdict.FAILURE


def blames_arguments(
    error: BaseException, tool_name: str | None
) -> TypeGuard[InvalidArgumentsError]:
    """
    Whether it says that this call's arguments make no sense, and not those of another
    call that the tool has made.
    """
    if not is_a(error, InvalidArgumentsError):
        return False
    return error.tool_name in (None, tool_name)


def judge_value(value: Any) -> Verdict:
    """
    The table's row for what was returned.
    """
    if type(value) is dict and value.get("error") is None:
        return Verdict.SUCCESS
    try:
        if issubclass(type(value), str):
            value = read_object(str.__str__(value), _may_hold_error)
            if value is None:
                return Verdict.SUCCESS
        error = field_of(value, "error")
        if error is None or not _is_true(error):
            return Verdict.SUCCESS
        return Verdict.IGNORE if is_refusal(value) else Verdict.FAILURE
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return Verdict.SUCCESS  # it raises when it is looked at, and tells of nothing


MAY_OPEN_AN_OBJECT: Final = frozenset("{ \t\n\r")
"""What the text of a JSON object can begin with. No other text is ever parsed."""


def _may_hold_error(text: str) -> bool:
    """
    Whether parsing is worth its cost: the key is there, plain or in escapes.
    """
    return '"error"' in text or "\\u00" in text


def read_object(text: str, is_worth_it: Callable[[str], bool]) -> Mapping[str, Any] | None:
    """
    The object that a JSON text is; ``None`` for other JSON, and for what is not worth
    the parsing. Text that is no JSON raises.
    """
    if text[:1] not in MAY_OPEN_AN_OBJECT or not is_worth_it(text):
        return None
    from pydantic_core import from_json

    try:
        value = from_json(text)
    except (ValueError, TypeError):
        # The standard library's parser also takes lone surrogates, and others do
        # write them. Text that holds some itself is a type error. Neither parser takes
        # a number of thousands of digits for one; as a float it is one. What this parser
        # does not take either, and raises for, tells of nothing.
        value = json.loads(text, parse_int=float)
    return value if isinstance(value, dict) else None


def field_of(value: Any, name: str) -> Any:
    """
    What a model reads under the name at the top of a mapping, a pydantic model or a
    dataclass; ``None`` if there is nothing. A property of the value's may raise.
    """
    if isinstance(value, Mapping):
        return value.get(name)
    kind = type(value)
    if getattr(kind, "__pydantic_root_model__", False):
        return field_of(value.root, name)
    known = _field_names.get(kind)
    if known is None:
        known = _field_names[kind] = {}
    if name not in known:
        known[name] = _field_name(kind, name)
    attribute = known[name]
    if attribute is not None:
        return getattr(value, attribute, None)
    return (getattr(value, "__pydantic_extra__", None) or {}).get(name)


_field_names: Final[WeakKeyDictionary[type, dict[str, str | None]]] = WeakKeyDictionary()
"""What ``_field_name`` says of the types that were seen, while they live."""


def _field_name(kind: type, name: str) -> str | None:
    """
    The field that the model reads under the name, in a class that has one.
    """
    declared = getattr(kind, "__pydantic_fields__", {})
    computed = getattr(kind, "__pydantic_decorators__", None)
    computed = {} if computed is None else computed.computed_fields
    for fields in (getattr(kind, "__dataclass_fields__", {}), declared, computed):
        if name in fields:
            return name
    aliases = {each: info.serialization_alias for each, info in declared.items()}
    aliases |= {each: made.info.alias for each, made in computed.items()}
    return next((each for each, alias in aliases.items() if alias == name), None)


def _is_true(error: Any) -> bool:
    try:
        return bool(error)
    except Exception:
        # Some arrays have no truth. There is something under the key, then.
        return True


def is_refusal(value: Any) -> bool:
    """
    Whether the object is an answer of an orchestrator that refused an inner call.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("tool_name"), str):
        return False
    if any(value.get(word) is True for word in _REFUSED):
        return True
    return isinstance(value.get("limit"), str) and "retry_after" in value


def is_forbidden(value: Any) -> bool:
    """
    Whether the refusal of an inner call that a tool has returned, as an object, as text or
    among the chunks of a stream, is one by a guard, by a conversation or while draining:
    that call was not to be made, and no other in its place.
    """
    return any(map(_forbids, value if type(value) is list else [value]))


def _forbids(value: Any) -> bool:
    try:
        if issubclass(type(value), str):
            value = read_object(str.__str__(value), _may_hold_error)
        return is_refusal(value) and any(value.get(word) is True for word in _FORBIDDEN)
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return False  # it raises when it is looked at, and tells of nothing


def opinion(judge: Judge, outcome: Outcome) -> Verdict | None:
    """
    What the judge says, or ``None`` where it says nothing that can be understood.
    """
    said: object = judge(outcome)
    if said is None or isinstance(said, Verdict):
        return said
    if isinstance(said, bool):
        return Verdict.FAILURE if said else Verdict.SUCCESS
    if hasattr(said, "close"):
        said.close()  # a coroutine that nobody will await
    raise TypeError(
        f"a judge returned a {type(said).__name__}; expected a Verdict, a bool or None"
    )


JudgeT = TypeVar("JudgeT")


def looks_at_values_alone(
    of_value: Callable[[Any], Verdict | None],
) -> Callable[[JudgeT], JudgeT]:
    """
    Note of a judge what it says of a value that was returned, for which it needs nothing
    else: it is then asked for that without an ``Outcome``, which costs more than most of
    what judges do.
    """

    def note(judge: JudgeT) -> JudgeT:
        setattr(judge, _OF_VALUE, of_value)
        return judge

    return note


def value_judge(judge: Judge | None) -> Callable[[Any], Verdict | None] | None:
    """
    What was noted of it, if anything was.
    """
    found: Callable[[Any], Verdict | None] | None = getattr(judge, _OF_VALUE, None)
    return found


_OF_VALUE: Final = "_orchestrator_of_value"


def of_value(predicate: Callable[[Any], bool]) -> Judge:
    """
    The judge that ``is_failure`` is short for: of returned values alone.
    """

    def judge(outcome: Outcome) -> Verdict | bool | None:
        return None if outcome.error is not None else predicate(outcome.value)

    return judge


# What the model reads


def to_text(
    value: Any, *, tool_name: str, render: Callable[[Any], str] | None = None
) -> str:
    """
    A tool's value as text: a ``str`` as it is (of a class of its own, what it holds),
    anything else as the tool renders it, or as JSON.

    Raises:
        InvalidResultError: It cannot be made JSON, or rendering it raised.
    """
    if issubclass(type(value), str):  # what only says that it is one is no text
        return str.__str__(value)
    try:
        if render is not None:
            return _rendered(render, value)
        return _media.text_of(value) if _media.is_media(value) else _as_json(value)
    except BaseException as error:
        if not is_its_own(error):
            raise
        reason = _reason(error)
    kind = bare_type_name(value)
    del value  # the error keeps this frame, and is to keep no more
    raise InvalidResultError(tool_name=tool_name, result_type=kind, reason=reason)


def _rendered(render: Callable[[Any], str], value: Any) -> str:
    text: object = render(value)
    if issubclass(type(text), str):
        return str.__str__(text)
    raise _NotJsonError(f"rendering it gave {bare_type_name(text)}, and not text")


class _NotJsonError(TypeError):
    """
    Says what of a value JSON has no place for.
    """


def _as_json(value: Any) -> str:
    """
    JSON that any parser reads: NaN as text, and bytes as text or else as base64.
    """
    from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

    if type(value) is not dict:
        value = _prepared(value)
    try:
        return to_json(value, inf_nan_mode="strings", fallback=_fallback).decode()
    except (PydanticSerializationError, UnicodeError) as error:
        if "utf-8" not in str(error):
            raise
    options: dict[str, Any] = {
        "inf_nan_mode": "strings",
        "fallback": _fallback,
        "bytes_mode": "base64",
    }
    try:
        return to_json(value, **options).decode()
    except (PydanticSerializationError, UnicodeError) as error:
        if "surrogates" not in str(error):
            raise
    default = functools.partial(to_jsonable_python, **options)
    text = json.dumps(value, default=default)
    # Read once more, as there is no other way to have this writer put NaN as text.
    return json.dumps(json.loads(text, parse_constant=str), separators=(",", ":"))


def _prepared(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, Generator):
        return value
    return drained(value)


def _fallback(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Sequence, AbstractSet)):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise _NotJsonError(f"no JSON for {bare_type_name(value)}")


def _reason(error: BaseException) -> str:
    try:
        said = str.__str__(str(error)).partition("\n")[0]
    except BaseException as raised:
        if not is_its_own(raised):
            raise
        return "it raises when it is read"
    if "ircular" in said:
        return "it holds itself"
    return said.rpartition(": ")[2][:200]


def error_text(message: str, tool_name: str, **more: Any) -> str:
    """
    An error as the JSON object that the model reads.
    """
    return json.dumps(
        {"error": message, "tool_name": tool_name, **more}, ensure_ascii=False
    )
