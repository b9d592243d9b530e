"""
The rules by which one run of an agent is kept from going round in circles.

No await, clock or log: ``now`` is an argument, in seconds of one monotonic clock. The rules
are asked before each call and told after it. They run nothing, and call back nobody; who
runs the tools stands above, and texts that are safe to show below.

A model can only heed what it has read. So what happens in one turn, in which it asks for
many calls at a time, is held against it once, and so is what runs side by side.
"""

from __future__ import annotations

import enum
import fnmatch
import json
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from ._checks import Inherit, bad, check_seconds
from ._known import MOST_TEXT, digest, plain_text
from ._measure import holds_more_values
from ._names import MAX_NAME
from ._text import quote_name

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")

MOST_KEPT: Final = 512
"""Tools, and calls that differ, that are remembered: of more, those that were asked for last."""

OVER: Final = "This conversation is over, so no more tools are run in it."

_LEAST: Final = {"patience": 0, "same_results": 2}
"""What a count may be at the least, where that is not 1: one result repeats nothing."""

_MOST_PARSED: Final = 100_000
_TOO_MANY_VALUES: Final = 5_001
_MOST_VALUES_PARSED: Final = 3_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationPolicy:
    """
    How often a run may do what leads nowhere, and how much it may do at all.

    For each limit the same happens. What reaches the limit has a warning in its result.
    From then on it is refused, with advice. When it was refused ``patience`` times, the
    next time ends the run: with a limit of 3 and a patience of 3 the third failure warns,
    the fourth to sixth call is refused, and the seventh ends it.

    ==================  ====================================  ==============================
    field               counts, warned at the limit           begins anew
    ==================  ====================================  ==============================
    ``same_failures``   the same call failing in a row        when it succeeds
    ``tool_failures``   a tool failing in a row, whatever     when it succeeds
                        its arguments
    ``same_results``    the same call with the same result,   with another result, or after
                        in a row                              anything new
    ``refusals``        a tool refused in a row by its        when it runs
                        circuit, a limit or while draining,
                        or the same call by a guard or the
                        circuit of its key
    ``unknown``         calls of tools that do not exist      never
    ``calls_per_tool``  calls of one tool                     never
    ``calls``           calls of all tools, and of none       never
    ``seconds``         time since the run began              never
    ==================  ====================================  ==============================

    Two calls are the same if their tool and arguments are; with very large arguments (over
    500,000 characters, or 5,000 names and values) they never are. Arguments that do not
    fit are a failure. Something is new when a call succeeds for the first time, or with another
    result than the last time: the world may have changed. So what has failed, or was
    refused, may then be tried once more, and is warned of again if that is no better; a
    refusal that named a time may be tried when it has passed. The last three limits warn
    twice: when a tenth is left (of the time, only then), and with the last call.

    Args:
        same_failures: Failures of the same call, in a row. Default 3. More where tools
            fail by chance, and to call them again is the cure.
        tool_failures: Failures of the same tool, in a row. Default 6. More where failing is
            part of the work: a shell, a compiler.
        same_results: Times that the same call gives the same result, in a row. Default 3.
            Tools that are marked ``polling`` are exempt; mark what waits for something. What
            ``call`` and ``stream`` give is the same only if it is plain all through.
        refusals: Refusals in a row. Default 3. Fewer where each turn is dear.
        unknown: Calls of tools that do not exist, the same or not. Default 5. More for
            small models in long runs.
        calls_per_tool: Calls that a tool may have in one run. Default 100. Fewer for tools
            that cost; more for an agent with one tool that does everything.
        calls: Calls that a run may have, those included that are running, that fail, and
            that are of no tool, or that are cancelled when their tool has begun; not those
            that are refused by these rules. Default 200. More for runs of hours.
        seconds: Seconds that a run may last: what comes later is refused, and what is
            running is left alone. Default 3,600. ``None`` where it waits for people.
        patience: Times that the run is refused for one reason before the next ends it; 0 to
            end it rather than refuse, ``None`` to go on refusing. Default 3.

    Each limit may be ``None``, which turns it off.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    same_failures: int | None = 3
    tool_failures: int | None = 6
    same_results: int | None = 3
    refusals: int | None = 3
    unknown: int | None = 5
    calls_per_tool: int | None = 100
    calls: int | None = 200
    seconds: float | None = 3600.0
    patience: int | None = 3

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), _LEAST.get(each.name, 1)
            if value is None or each.name == "seconds":
                continue
            if type(value) is not int or value < least:
                raise bad(self, each.name, f"a whole number of at least {least}, or None")
        check_seconds(self, "seconds", optional=True)
        if isinstance(self.seconds, Inherit):
            raise bad(self, "seconds", "a finite number of seconds above 0, or None")


class Action(enum.StrEnum):
    """
    What is to be done with a call.
    """

    RUN = "run"
    UNKNOWN = "unknown"
    """Not to be run: there is no such tool, or none that this run may call. To be answered
    so, and to be told of."""
    REFUSE = "refuse"
    STOP = "stop"


class Reason(enum.StrEnum):
    """
    Why a call is not run: the field of the policy that says so.
    """

    SAME_FAILURES = "same_failures"
    TOOL_FAILURES = "tool_failures"
    SAME_RESULTS = "same_results"
    REFUSALS = "refusals"
    UNKNOWN = "unknown"
    CALLS_PER_TOOL = "calls_per_tool"
    CALLS = "calls"
    SECONDS = "seconds"


class Ending(enum.StrEnum):
    """
    How a call has ended.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    REFUSAL = "refusal"
    UNKNOWN = "unknown"
    INVALID = "invalid"


class Decision(NamedTuple):
    """
    The answer to a call that was asked for.

    Attributes:
        action: What is to be done.
        reason: Why it is not to be run; ``None`` where it is, and for ``UNKNOWN``.
        advice: What the model is told, where it is refused or the run stops.
        call: What is to be handed to ``after``, or to ``give_back``; ``None`` for a call
            that is refused, of which nothing more needs to be told.
    """

    action: Action
    reason: Reason | None = None
    advice: str = ""
    call: Call | None = None


class Call:
    """
    A call that was let through, until it is told how it has ended. Its other parts are of
    no concern to others.

    Attributes:
        rules: Those that have let it through.
        entered: Whether a tool was begun for it. From then on it is one of the calls that
            the run has had, however it ends; to be set by who begins the tool.
    """

    __slots__ = (
        "asked",
        "ended",
        "entered",
        "name",
        "number",
        "number_of_tool",
        "polling",
        "rules",
        "tool",
        "turn",
    )

    number: int
    number_of_tool: int

    def __init__(
        self,
        rules: ConversationRules,
        name: str,
        tool: _Tool | None,
        asked: _Asked | None,
        polling: bool,
        turn: int,
    ) -> None:
        self.rules = rules
        self.name = name
        self.tool = tool
        self.asked = asked
        self.polling = polling
        self.turn = turn
        self.ended = self.entered = False


class _Streak:
    """
    What has happened so often, and was refused so often since.

    Attributes:
        reason: What is counted.
        whole: Whether it is counted for a tool or the run, and not for one call of it.
        heeded: The last turn that began before the model could read of it. What happens
            in that one or an earlier one is not held against it.
        news: How much was new when it was last counted.
        until: When the time that a refusal named has passed.
    """

    __slots__ = ("count", "heeded", "news", "reason", "refused", "until", "whole")

    def __init__(self, reason: Reason, *, whole: bool = True) -> None:
        self.reason = reason
        self.whole = whole
        self.count = self.refused = self.heeded = self.news = 0
        self.until = math.inf


class _Asked:
    """
    A call as it was asked for: one tool with one set of arguments.
    """

    __slots__ = ("digest", "failures", "refusals", "results")

    def __init__(self) -> None:
        self.failures: _Streak | None = None
        self.refusals: _Streak | None = None
        self.results: _Streak | None = None
        self.digest: str | None = None


class _Tool:
    """
    What is known of a tool.
    """

    __slots__ = ("budget", "calls", "failures", "refusals")

    def __init__(self) -> None:
        self.calls = 0
        self.budget = _Streak(Reason.CALLS_PER_TOOL)
        self.failures: _Streak | None = None
        self.refusals: _Streak | None = None


class ConversationRules:
    """
    What one run has done so far, and what it may do next.

    Attributes:
        stop_reason: Why the run is to end; ``None`` as long as it may go on. Once set, it
            stays as it is, and each call is answered by ``STOP``.
        stop: That answer, or after ``close`` that the run is over; also for calls which
            were let through before and still wait for their tool to begin. ``None``
            likewise.
        calls: Calls that were let through and not given back.
    """

    def __init__(
        self,
        policy: ConversationPolicy,
        began: float,
        tools: Iterable[str] | None = None,
    ) -> None:
        """
        Args:
            policy: The limits.
            began: When the run began, in seconds on the clock that tells ``now``.
            tools: Patterns such as ``"files_*"`` of the tools that the run may call; case
                matters. Default ``None``, for all. Without a pattern in it: none.

        Raises:
            ValueError: The patterns are one text, or not all of them are text.
        """
        self.stop_reason: Reason | None = None
        self.calls = 0
        self._policy = policy
        self._began = began
        self._allows = None if tools is None else _matcher(tools)
        self._turn = 0
        self._news = 0
        self._tools: dict[str, _Tool] = {}
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._unknown = _Streak(Reason.UNKNOWN)
        self._call_budget = _Streak(Reason.CALLS)
        self._time_budget = _Streak(Reason.SECONDS)
        self._time_is_short = False
        self.stop: Decision | None = None

    def allows(self, name: str) -> bool:
        """
        Whether the run may be offered a tool of that name, be told of it, and call it.
        """
        if self._allows is None:
            return True
        return len(name) <= MAX_NAME and self._allows(name) is not None

    def close(self) -> None:
        """
        The run is over: what still waits for its tool to begin is not run any more.
        """
        self.stop = self.stop or Decision(Action.STOP, None, OVER)

    def new_turn(self) -> int:
        """
        The number of a new turn, for the calls that a model asks for at one time.
        """
        self._turn += 1
        return self._turn

    # Before and after a call

    def before(
        self,
        name: str,
        key: str | None,
        now: float,
        *,
        polling: bool = False,
        known: bool = True,
        turn: int | None = None,
    ) -> Decision:
        """
        Whether a call may run now. If so it counts as running, and as one of the calls
        that the run may have, until it is told how it has ended or is given back.

        Args:
            name: The tool's name, as it was asked for.
            key: What ``call_key`` makes of the arguments; ``None`` for those that are not
                known again, so that no other call is the same.
            now: Seconds on the clock of the run.
            polling: Whether the tool may give the same result for ever.
            known: Whether there is such a tool. To be asked of the registry each time: what
                is not known is never to be run, and takes no memory.
            turn: The number of the turn to which it belongs. Default: one of its own.
        """
        if self.stop is not None:
            return self.stop
        if turn is None:
            turn = self.new_turn()
        tool = asked = None
        action = Action.UNKNOWN
        if known and self.allows(name):
            tool = _recalled(self._tools, name, _Tool)
            asked = _Asked()
            if key is not None:
                asked = _recalled(self._asked, (name, key), _Asked)
            action = Action.RUN
        call = Call(self, name, tool, asked, polling, turn)
        refusal = self._over_budget(call, now) or self._going_round(call, now)
        if refusal is not None:
            return refusal
        self.calls = call.number = self.calls + 1
        if tool is not None:
            tool.calls = call.number_of_tool = tool.calls + 1
        return Decision(action, None, "", call)

    def after(
        self,
        call: Call,
        ending: Ending,
        now: float,
        *,
        digest: str | None = None,
        retry_after: float | None = None,
        whole_tool: bool = True,
    ) -> str | None:
        """
        A call has ended. A second time, or after it was given back, it changes nothing.

        Args:
            call: What ``before`` has handed out.
            ending: How it has ended.
            now: Seconds on the clock of the run.
            digest: What the result is known again by, if it succeeded; ``None`` for one
                that is not, and that is taken for another each time.
            retry_after: Seconds after which a refused call may be tried again, or ``None``
                where nobody knows.
            whole_tool: Whether it was the tool that was refused, and not only these
                arguments of it: the circuit of a key, or a person who was asked.

        Returns:
            A warning, to be put into the result; or ``None``.
        """
        if call.ended:
            return None
        call.ended = True
        if call.tool is None or call.asked is None or ending is Ending.UNKNOWN:
            warning = self._count(self._unknown, call)
        elif ending is Ending.SUCCESS:
            warning = self._succeeded(call, call.tool, call.asked, digest)
        elif ending is Ending.REFUSAL:
            until = math.inf if retry_after is None else now + retry_after
            whose = call.tool if whole_tool else call.asked
            warning = self._refused(call, whose, until, whole=whole_tool)
        else:
            if ending is Ending.FAILURE:
                call.tool.refusals = call.asked.refusals = None
            warning = self._failed(call, call.tool, call.asked)
        said = [warning, *self._little_left(call, now)]
        return " ".join(filter(None, said)) or None

    def give_back(self, call: Call) -> None:
        """
        A call was cancelled, or the run ended while it waited: nothing is learned, and
        another may have its place, unless a tool was begun for it. Awaits nothing, and
        changes nothing where the call has ended.
        """
        if call.ended:
            return
        call.ended = True
        if call.entered:
            return
        self.calls -= 1
        if call.tool is not None:
            call.tool.calls -= 1

    # What has happened

    def _succeeded(
        self, call: Call, tool: _Tool, asked: _Asked, digest: str | None
    ) -> str | None:
        tool.failures = tool.refusals = asked.failures = asked.refusals = None
        if digest is None or digest != asked.digest:
            asked.digest = digest
            self._news += 1
        elif call.polling:
            return None
        results = asked.results
        if results is None or results.news != self._news:
            results = asked.results = _Streak(Reason.SAME_RESULTS, whole=False)
        return self._count(results, call)

    def _refused(
        self, call: Call, whose: _Tool | _Asked, until: float, *, whole: bool
    ) -> str | None:
        if whose.refusals is None:
            whose.refusals = _Streak(Reason.REFUSALS, whole=whole)
        whose.refusals.until = until
        return self._count(whose.refusals, call)

    def _failed(self, call: Call, tool: _Tool, asked: _Asked) -> str | None:
        if asked.failures is None:
            asked.failures = _Streak(Reason.SAME_FAILURES, whole=False)
        if tool.failures is None:
            tool.failures = _Streak(Reason.TOOL_FAILURES)
        same = self._count(asked.failures, call)
        tool_fails = self._count(tool.failures, call)
        return same or tool_fails

    def _count(self, streak: _Streak, call: Call) -> str | None:
        """
        Count what has happened; the warning if that is too often.
        """
        if call.turn <= streak.heeded:
            return None
        streak.count += 1
        streak.heeded = self._turn
        streak.news = self._news
        limit: int | None = getattr(self._policy, streak.reason)
        if limit is None or streak.count < limit:
            return None
        return _told(streak.reason, _subject(call.name, streak.whole), streak.count)

    def _little_left(self, call: Call, now: float) -> list[str | None]:
        """
        The warnings that a budget is all but used up. Those who came before this call may
        have given their places back since, and what is said is to be true.
        """
        said: list[str | None] = []
        policy = self._policy
        if policy.calls is not None:
            number = min(call.number, self.calls)
            said.append(_left(number, policy.calls, Reason.CALLS, ""))
        if policy.calls_per_tool is not None and call.tool is not None:
            number = min(call.number_of_tool, call.tool.calls)
            limit = policy.calls_per_tool
            said.append(_left(number, limit, Reason.CALLS_PER_TOOL, call.name))
        if policy.seconds is not None and not self._time_is_short:
            left = policy.seconds - (now - self._began)
            if left <= policy.seconds / 10:
                self._time_is_short = True
                rest = math.floor(max(0.0, left))
                said.append(f"{rest} s are left of this run. {_INSTEAD[Reason.SECONDS]}")
        return said

    # What may not run

    def _over_budget(self, call: Call, now: float) -> Decision | None:
        policy, tool = self._policy, call.tool
        if policy.seconds is not None and now - self._began >= policy.seconds:
            return self._refuse(self._time_budget, call, math.ceil(policy.seconds))
        if policy.calls is not None and self.calls >= policy.calls:
            return self._refuse(self._call_budget, call, self.calls)
        limit = policy.calls_per_tool
        if tool is not None and limit is not None and tool.calls >= limit:
            return self._refuse(tool.budget, call, tool.calls)
        return None

    def _going_round(self, call: Call, now: float) -> Decision | None:
        tool, asked = call.tool, call.asked
        streaks: tuple[_Streak | None, ...] = (self._unknown,)
        if tool is not None and asked is not None:
            # The same call first, for what is said of it is easier to heed.
            streaks = asked.failures, tool.failures, asked.refusals, tool.refusals
            streaks = (*streaks, asked.results)
        for streak in streaks:
            if streak is None:
                continue
            limit: int | None = getattr(self._policy, streak.reason)
            if limit is None or streak.count < limit:
                continue
            forgiven = streak.news != self._news or now >= streak.until
            if streak is self._unknown or not forgiven:
                return self._refuse(streak, call, streak.count)
        return None

    def _refuse(self, streak: _Streak, call: Call, count: int) -> Decision:
        patience = self._policy.patience
        subject = _subject(call.name, streak.whole)
        if call.turn > streak.heeded:
            if patience is not None and streak.refused >= patience:
                return self._end(streak.reason, subject, count)
            streak.refused += 1
            streak.heeded = self._turn
        advice = f"Not run. {_told(streak.reason, subject, count)}"
        if patience is not None and streak.refused >= patience:
            advice += " If you ask for it once more, this run is ended."
        return Decision(Action.REFUSE, streak.reason, advice)

    def _end(self, reason: Reason, subject: str, count: int) -> Decision:
        happened = _happened(reason, subject, count)
        advice = f"This run is ended. {happened} Call no more tools."
        self.stop_reason = reason
        self.stop = Decision(Action.STOP, reason, advice)
        return self.stop


# What the model reads

_HAPPENED: Final = {
    Reason.SAME_FAILURES: "{subject} has failed {times} in a row.",
    Reason.TOOL_FAILURES: "{subject} has failed {times} in a row, whatever its arguments.",
    Reason.SAME_RESULTS: "{subject} has given the same result {times} in a row.",
    Reason.REFUSALS: "{subject} was refused {times} in a row.",
    Reason.UNKNOWN: "You have asked {times} for tools that do not exist.",
    Reason.CALLS_PER_TOOL: "{subject} was called {times}, which is all that it may be.",
    Reason.CALLS: "You have called tools {times}, which is all that you may.",
    Reason.SECONDS: "The {count} s that you had have passed.",
}

_INSTEAD: Final = {
    Reason.SAME_FAILURES: (
        "Do not repeat it: change the arguments, use another tool, or answer with what you "
        "have."
    ),
    Reason.TOOL_FAILURES: (
        "Do not go on guessing: find out by other tools what is wrong, or answer without it."
    ),
    Reason.SAME_RESULTS: (
        "Do not repeat it: use the result that you have, do something else, or answer."
    ),
    Reason.REFUSALS: "Do not ask for it again now: use another tool, or answer without it.",
    Reason.UNKNOWN: (
        "Call only tools that you were given, by their exact names, or answer without them."
    ),
    Reason.CALLS_PER_TOOL: "Use another tool, or answer with what you have.",
    Reason.CALLS: "Answer now with what you have.",
    Reason.SECONDS: "Answer now with what you have.",
}


def _happened(reason: Reason, subject: str, count: int) -> str:
    times = "once" if count == 1 else f"{count} times"
    text = _HAPPENED[reason].format(subject=subject, count=count, times=times)
    return text.replace("once in a row", "once")


def _told(reason: Reason, subject: str, count: int) -> str:
    return f"{_happened(reason, subject, count)} {_INSTEAD[reason]}"


def _subject(name: str, whole: bool) -> str:
    name = quote_name(name)
    return name if whole else f"This same call of {name}"


def _left(number: int, limit: int, reason: Reason, name: str) -> str | None:
    """
    The warning with the last call that a limit allows, and with the one that leaves a tenth.
    """
    left = limit - number
    if left == 0:
        return _told(reason, quote_name(name), limit)
    if left != limit // 10:
        return None
    what = "1 call" if left == 1 else f"{left} calls"
    of = f" of {quote_name(name)}" if name else ""
    return f"You have {what}{of} left, of {limit}. Use them well."


def _matcher(patterns: Iterable[str]) -> Callable[[str], re.Match[str] | None]:
    """
    What tells whether a name fits one of the patterns.
    """
    listed = [] if isinstance(patterns, str) else list(patterns)
    if isinstance(patterns, str) or not all(isinstance(each, str) for each in listed):
        raise ValueError(f"tools={patterns!r} cannot be; expected a list of patterns")
    # Of no pattern at all it makes what nothing fits.
    either = "|".join(fnmatch.translate(each) for each in listed) or "(?!)"
    return re.compile(either).match


def _recalled(kept: dict[Key, Kept], key: Key, make: Callable[[], Kept]) -> Kept:
    """
    What is kept under the key, and is now the last to go.
    """
    found = kept.pop(key, None)
    if found is None:
        if len(kept) >= MOST_KEPT:
            del kept[next(iter(kept))]
        found = make()
    kept[key] = found
    return found


# Digests


def call_key(arguments: Any) -> str | None:
    """
    A digest of a call's arguments, the same however they are written: the order of names
    and the spacing do not matter, ``1``, ``1.0`` and ``true`` are three values, and no
    arguments are an empty object. Raises nothing, whatever it is given.

    Its time is bounded. JSON text over 100,000 characters or 3,000 values, or that cannot
    be parsed, is taken as it is written. What JSON does not have is known by
    ``plain_text``.

    Args:
        arguments: A mapping, JSON text (or bytes), or ``None``.

    Returns:
        ``None`` for arguments that cannot be known again: over ``MOST_TEXT`` characters or
        5,000 names and values, or with something in them that is not plain. No other call is the
        same as one with those.
    """
    try:
        if isinstance(arguments, (bytes, bytearray)):
            arguments = _as_text(arguments)
        if isinstance(arguments, str):
            return _key_of_text(str.__str__(arguments))
        return digest(_canonical({} if arguments is None else arguments))
    except Exception:
        return None


def _key_of_text(text: str) -> str | None:
    if not text or text.isspace():
        return digest(_canonical({}))
    if len(text) > MOST_TEXT:
        return None
    if len(text) <= _MOST_PARSED and not holds_more_values(text, _MOST_VALUES_PARSED):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            return digest(_canonical({} if value is None else value))
    return digest(f"! {text}")


def _as_text(data: bytes | bytearray) -> str:
    """
    Bytes as text. Those that are no UTF-8 stay apart from each other.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _canonical(value: Any) -> str:
    """
    A value as text, the same for the same value. Each part says what it is and how long,
    so that no two values have one text.

    Raises:
        ValueError: It is too large, or holds what is not plain.
    """
    parts: list[str] = []
    todo: list[Any] = [value]
    characters, values = MOST_TEXT, _TOO_MANY_VALUES
    while todo:
        each = todo.pop()
        kind = type(each)
        if kind is str:
            characters -= len(each)
            parts.append(f"s{len(each)}:{each}")
        elif each is None or kind is bool:
            parts.append(str(each))
        elif kind is int:
            parts.append(f"i{each:x};")
        elif kind is float:
            parts.append(f"f{each!r};")
        elif kind is list:
            values -= len(each)
            parts.append(f"l{len(each)};")
        elif kind is dict:
            values -= 2 * len(each)
            parts.append(f"d{len(each)};")
        else:
            todo.append(_plain(each))
        if characters < 0 or values <= 0:
            raise ValueError("it is too large")
        if kind is list:
            todo += each
        elif kind is dict:
            for member in _in_order(each):
                todo += member
    return "".join(parts)


def _in_order(members: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """
    The members of an object by their names.
    """
    found = list(members.items())
    try:
        found.sort(key=itemgetter(0))
    except Exception:  # no JSON has names that cannot be compared
        pass
    return found


def _plain(value: Any) -> Any:
    """
    What JSON would make of it, or else a text that tells it from others.

    Raises:
        ValueError: It is not plain.
        Exception: It raises when it is looked at.
    """
    kind = type(value)
    for plain in (str, int, float):
        if issubclass(kind, plain):
            return getattr(plain, f"__{plain.__name__}__")(value)
    # Of what has too many no more than shows it.
    if issubclass(kind, (list, tuple)):
        return list(islice(value, _TOO_MANY_VALUES))
    if issubclass(kind, Mapping):
        return dict(islice(value.items(), _TOO_MANY_VALUES))
    if issubclass(kind, (bytes, bytearray)):
        return f"<bytes> {_as_text(value)}"
    text = plain_text(value)
    if text is None:
        raise ValueError("it is not plain")
    return f"<plain> {text}"
