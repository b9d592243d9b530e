"""
What may be set: frozen, keyword-only records that check themselves.

Every field defaults to ``INHERIT``. A setting comes from the tool, else from the
orchestrator, else from the defaults at the end of this module, field by field.
"""

from __future__ import annotations

import functools
import math
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from ._callable import is_stream
from ._checks import (
    INHERIT,
    Inherit,
    bad,
    check_count,
    check_number,
    check_predicate,
    check_seconds,
    check_types,
    is_async,
)
from ._cut import LEAST
from ._names import MAX_NAME

if TYPE_CHECKING:
    from ._calls import ToolCall, ToolContext, ToolResult
    from ._outcome import Judge


Guard = Callable[["ToolCall", "ToolContext"], "str | None | Awaitable[str | None]"]
"""What is asked before a call is made: text refuses it."""

Fallback = Callable[["ToolCall", "ToolResult"], Any]
"""What answers in a tool's place: plain, or async."""

ExceptionTypes = tuple[type[BaseException], ...]

_MOST_BURST: Final = 10**9

MOST_CALLS: Final = 1_000_000
"""What a count window can hold: its memory is taken at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerPolicy:
    """
    How a circuit opens and closes. Each part works alone, and costs nothing unused.

    Args:
        failure_threshold: Failures in a row that open the circuit. Default 3.
        failure_rate: The share of failures among the calls of a window that opens it,
            above 0 and up to 1. Default 0.5 where a window is set and no ``slow_rate``
            or ``slow_duration``, else none.
        slow_duration: Seconds from which on a call is slow, whatever it returns. A
            probe that is slow opens the circuit again. Default: none is; where only a
            ``slow_rate`` is set, 60.
        slow_rate: The share of slow calls among those of a window that opens it, above
            0 and up to 1. Default 1.
        window_calls: How many calls the count window holds, the last ones; or
            ``None`` for no such window. Default 100 where a rate is set and no
            ``window_seconds``.
        window_seconds: Seconds that the time window looks back, in ten buckets; or
            ``None`` for no such window. Both windows may be set: whichever trips first.
        minimum_calls: Calls that a window must hold before a rate can open the circuit
            (at most ``window_calls``, for that window). Default 10.
        reset_timeout: Seconds that it stays open before one call may probe. Default
            300.
        reset_multiplier: By what the time that it stays open grows with each probe in
            a row that fails, at least 1. Default 1: it does not grow.
        max_reset_timeout: What that time does not exceed, also where another level has
            a longer ``reset_timeout``. Default: 3600, or the ``reset_timeout`` where that
            is more.
        jitter: The share of that time, from 0 to 1, by which it is shortened at the
            most, by chance, so that many processes do not probe at once. Default 0.
        jitter_source: What tells the chance, a number from 0 to below 1. Default:
            ``random.random``; a seeded ``random.Random(7).random`` repeats itself.
        success_threshold: Probes in a row that must succeed to close the circuit, one
            at a time. Default 1.
        probe_lease: Seconds after which a probe that has not come back is given up
            and the next caller probes, for tools without a timeout. Default: the
            ``reset_timeout``. A tool with a timeout has that and a grace instead.
        max_pause: A failure that says when to come back (``retry_after``, HTTP's
            ``Retry-After``, a 429) pauses the circuit for that long, but for no more
            seconds than these, and is not counted; or ``None`` to count it like any
            other. Default 300.
        max_keys: Circuits that a tool may have whose ``circuit`` is a function.
            Default 1,000.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    failure_threshold: int | Inherit = INHERIT
    failure_rate: float | None | Inherit = INHERIT
    slow_duration: float | None | Inherit = INHERIT
    slow_rate: float | Inherit = INHERIT
    window_calls: int | None | Inherit = INHERIT
    window_seconds: float | None | Inherit = INHERIT
    minimum_calls: int | Inherit = INHERIT
    reset_timeout: float | Inherit = INHERIT
    reset_multiplier: float | Inherit = INHERIT
    max_reset_timeout: float | Inherit = INHERIT
    jitter: float | Inherit = INHERIT
    jitter_source: Callable[[], float] | Inherit = INHERIT
    success_threshold: int | Inherit = INHERIT
    probe_lease: float | Inherit = INHERIT
    max_pause: float | None | Inherit = INHERIT
    max_keys: int | Inherit = INHERIT

    def __post_init__(self) -> None:
        check_count(self, "failure_threshold", "minimum_calls", "success_threshold")
        check_count(self, "max_keys")
        check_count(self, "window_calls", optional=True)
        if type(self.window_calls) is int and self.window_calls > MOST_CALLS:
            raise bad(self, "window_calls", f"at most {MOST_CALLS:,}, or window_seconds")
        check_seconds(self, "reset_timeout", "max_reset_timeout", "probe_lease")
        check_seconds(self, "slow_duration", "window_seconds", "max_pause", optional=True)
        check_number(self, "failure_rate", 0, 1, above=True, optional=True)
        check_number(self, "slow_rate", 0, 1, above=True)
        check_number(self, "reset_multiplier", 1, sys.float_info.max)
        check_number(self, "jitter", 0, 1)
        check_predicate(self, "jitter_source")
        longest, reset = self.max_reset_timeout, self.reset_timeout
        if INHERIT not in (longest, reset) and cast("float", longest) < cast(
            "float", reset
        ):
            raise bad(self, "max_reset_timeout", f"at least reset_timeout={reset!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """
    How a call is tried again. Only tools that are marked ``idempotent`` are run again;
    what was turned away before the tool ran, by a limit, is tried again for any tool.

    Waits grow from one to the next, as in stamina, whose names these are:
    ``min(wait_max, wait_initial * wait_exp_base ** n + chance * wait_jitter)``.

    Args:
        attempts: Attempts in all, the first included. Default 3.
        wait_initial: Seconds of the first wait, before chance. Default 0.1.
        wait_max: Seconds that no wait exceeds. Where a failure says when to come back
            (``retry_after``), that is the wait, and one beyond this ends the attempts:
            the caller is told when to come back instead. Default 5.
        wait_exp_base: By what each wait is longer than the one before. Default 2.
        wait_jitter: Seconds that chance adds to a wait at the most. Default 1.
        jitter_source: What tells the chance, a number from 0 to below 1. Default:
            ``random.random``; a seeded ``random.Random(7).random`` repeats itself.
        on: What is tried again: types of exceptions, or a function of the exception
            that returns true. Default: every exception that is a failure of the tool.
            What is no failure (an exception that blames the arguments, say) is tried
            again only where a type or the function says so.
        on_result: A function of the returned value that returns true where it is to be
            tried again. Default: what was judged a failure.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    attempts: int = 3
    wait_initial: float = 0.1
    wait_max: float = 5.0
    wait_exp_base: float = 2.0
    wait_jitter: float = 1.0
    jitter_source: Callable[[], float] = random.random
    on: ExceptionTypes | Callable[[BaseException], bool] | None = None
    on_result: Callable[[Any], bool] | None = None

    def __post_init__(self) -> None:
        check_count(self, "attempts")
        check_number(self, "wait_initial", 0, sys.float_info.max)
        check_number(self, "wait_max", 0, sys.float_info.max)
        check_number(self, "wait_exp_base", 1, sys.float_info.max)
        check_number(self, "wait_jitter", 0, sys.float_info.max)
        check_predicate(self, "jitter_source")
        on: object = self.on
        if isinstance(on, tuple):
            check_types(self, "on")
        elif on is not None and (not callable(on) or isinstance(on, type) or is_async(on)):
            raise bad(self, "on", "a tuple of exception types, a plain function, or None")
        if self.on_result is not None:
            check_predicate(self, "on_result")


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetPolicy:
    """
    How many attempts after the first all calls of an orchestrator may make together, so
    that retries never multiply an outage. They may all be those of one tool, which is
    dead while others are well. Without a retry in the budget, the outcome of the attempt
    before is the answer.

    Args:
        share: Retries for each call, of the calls of the last ten seconds whose tool has
            a ``RetryPolicy``. Default 0.2.
        a_second: Retries that are made whatever the share allows, in any one second.
            Default 3.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    share: float = 0.2
    a_second: int = 3

    def __post_init__(self) -> None:
        check_number(self, "share", 0, sys.float_info.max)
        if type(self.a_second) is not int or not 0 <= self.a_second <= MOST_CALLS:
            raise bad(self, "a_second", f"a whole number from 0 to {MOST_CALLS:,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitPolicy:
    """
    How many calls there may be: at one time, and in a time. For one tool, for a group of
    tools, or for an orchestrator.

    Args:
        max_concurrent: Calls that may run at one time, or ``None`` for no limit.
        max_queue: Calls that may wait for a place. One that finds the queue full is
            refused at once. Default 100.
        calls: Calls that there may be in ``seconds``, or ``None`` for no limit.
        seconds: See there. Default 1.
        burst: Calls that may come at once where none have come for a while. Default:
            ``calls``.
        max_wait: Seconds that a call may wait for its place, and again for its turn by
            rate; 0 to refuse at once. Default 30.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    max_concurrent: int | None = None
    max_queue: int = 100
    calls: int | None = None
    seconds: float = 1.0
    burst: int | None = None
    max_wait: float = 30.0

    def __post_init__(self) -> None:
        check_count(self, "max_concurrent", "calls", "burst", optional=True)
        check_number(self, "seconds", 1e-9, 1e10)
        check_number(self, "max_wait", 0, sys.float_info.max)
        if type(self.max_queue) is not int or self.max_queue < 0:
            raise bad(self, "max_queue", "a whole number of at least 0")
        if self.calls is None:
            if self.burst is not None:
                raise bad(self, "burst", "None where no calls are set")
        elif max(self.calls, self.burst or 0) > _MOST_BURST:
            name = "calls" if self.calls > _MOST_BURST else "burst"
            raise bad(self, name, f"at most {_MOST_BURST:,}")
        elif self.seconds / self.calls < 1e-9:
            raise bad(self, "calls", "at most a billion a second")


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetPolicy:
    """
    How processes share their circuits through a store.

    Args:
        probe_wait: Seconds that a call which would be the probe waits for the store to say
            so, at the most; it is refused if that takes longer. No other call waits for the
            store. Default 0.05.
        engine_patience: Seconds for which a store that does not answer is waited for, or
            until five calls that would be the probe have asked in vain, of which one is
            counted in a fifth of that time; then each process goes on by itself, until the
            store answers again. One that is known not to be there is not waited for.
            Default 5.
        lease: Seconds for which a probe has its place at the most before that is renewed,
            and after which a process that has died in a probe is given up. Default 30; for a
            tool whose timeout and a grace are shorter, these.
        quorum: The share of all processes, from 0 to 1, that must have failures in a row
            now for the failures of all to add up; at least two must. Default 0.5.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    probe_wait: float = 0.05
    engine_patience: float = 5.0
    lease: float = 30.0
    quorum: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "probe_wait", 0, 60)
        check_number(self, "engine_patience", 0, sys.float_info.max)
        check_number(self, "lease", 0.1, 1e9)
        check_number(self, "quorum", 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolPolicy:
    """
    How a tool is run and judged.

    Args:
        timeout: Seconds that one execution may take, or ``None`` for no timeout.
            Default ``None``.
        hang_after: A call that its caller gives up after so many seconds counts as a
            failure of the tool, or ``None`` for never; so does one that is cut off by the
            ``total_timeout``. Default: 95 % of the timeout, or of the ``total_timeout``
            where that is less.
        judge: What an outcome says of the tool; see ``any_error``, the default.
        is_failure: A judge in short: of returned values alone, true for a failure.
        ignore: Exception types that blame the arguments or the world, not the tool:
            they give no verdict. Default none.
        control_flow: Exception types that are no error at all, but how a framework
            interrupts a run (an approval, a deferred call): they are raised on, also
            by ``dispatch``. Default none.
        max_args_size: Characters (bytes, for bytes) of JSON text that the arguments
            may have. Default 1,000,000.
        max_args_values: Values that such text may hold, at any depth, counted by its
            commas and opening brackets. Default 3,000: they are checked in one piece on
            the event loop, in milliseconds.
        max_threads: Executions of a plain function at one time, those included that
            were given up and still run. Default 40.
        total_timeout: Seconds that a whole call may take, with its waits and all of its
            attempts, or ``None`` for no limit. Default ``None``.
        first_chunk_timeout: Seconds until an async generator's first chunk, or ``None``
            for no limit. Default: the ``timeout``.
        chunk_timeout: Seconds from one chunk that is asked for to that one's coming, or
            ``None`` for no limit. What the consumer does in between does not count.
            Default: the ``timeout``.
        retry: How it is tried again, or ``None`` for not at all. Default ``None``.
        limits: How many calls of the tool there may be, or ``None`` for no limit.
            Default ``None``.
        group: Name of a group of tools that have limits together, which the orchestrator
            has in its ``groups``; or ``None``. Default ``None``.
        guard: A function of a ``ToolCall``, with the arguments as the tool would have
            them, and its ``ToolContext``, plain or async. It is asked before all else;
            where it returns text, the call is refused with that text, and where it
            raises, too. ``None`` lets the call go on. Default: no guard.
        fallback: What answers where the tool has failed, is refused by its circuit or a
            limit, or is out of time: the name of another tool, which gets the same
            arguments, or a function of the ``ToolCall`` and the ``ToolResult`` that would
            be given, plain or async. Where that fails too, the tool's own result is
            given. Default: none.
        max_result_size: Characters that the model reads of a result at the most, from
            200 on, or ``None`` for all of them. What is left of JSON is JSON. The value
            that programs get is whole. Default ``None``.
        breaker: The settings of the tool's circuit.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    timeout: float | None | Inherit = INHERIT
    hang_after: float | None | Inherit = INHERIT
    judge: Judge | Inherit = INHERIT
    is_failure: Callable[[Any], bool] | Inherit = INHERIT
    ignore: ExceptionTypes | Inherit = INHERIT
    control_flow: ExceptionTypes | Inherit = INHERIT
    max_args_size: int | Inherit = INHERIT
    max_args_values: int | Inherit = INHERIT
    max_threads: int | Inherit = INHERIT
    total_timeout: float | None | Inherit = INHERIT
    first_chunk_timeout: float | None | Inherit = INHERIT
    chunk_timeout: float | None | Inherit = INHERIT
    retry: RetryPolicy | None | Inherit = INHERIT
    limits: LimitPolicy | None | Inherit = INHERIT
    group: str | None | Inherit = INHERIT
    guard: Guard | None | Inherit = INHERIT
    fallback: str | Fallback | None | Inherit = INHERIT
    max_result_size: int | None | Inherit = INHERIT
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)

    def __post_init__(self) -> None:
        seconds = ("timeout", "hang_after", "total_timeout")
        check_seconds(self, *seconds, optional=True)
        check_seconds(self, "first_chunk_timeout", "chunk_timeout", optional=True)
        check_count(self, "max_args_size", "max_args_values", "max_threads")
        check_types(self, "ignore", "control_flow")
        check_predicate(self, "judge", "is_failure")
        if self.judge is not INHERIT and self.is_failure is not INHERIT:
            raise ValueError("judge and is_failure are one setting: give one of them")
        if not isinstance(self.breaker, BreakerPolicy):
            raise bad(self, "breaker", "a BreakerPolicy")
        if not isinstance(self.retry, RetryPolicy | None | Inherit):
            raise bad(self, "retry", "a RetryPolicy, or None")
        if not isinstance(self.limits, LimitPolicy | None | Inherit):
            raise bad(self, "limits", "a LimitPolicy, or None")
        if not isinstance(self.group, str | None | Inherit):
            raise bad(self, "group", "the name of a group, or None")
        for name, text in (("guard", ""), ("fallback", "the name of a tool, ")):
            value = getattr(self, name)
            if value is INHERIT or value is None:
                continue
            if callable(value) and not is_stream(value):
                continue
            if not text or type(value) is not str or not 0 < len(value) <= MAX_NAME:
                raise bad(self, name, f"{text}a function, or None")
        check_count(self, "max_result_size", optional=True)
        if type(self.max_result_size) is int and self.max_result_size < LEAST:
            raise bad(self, "max_result_size", f"at least {LEAST}, or None")


Policy = TypeVar("Policy", BreakerPolicy, ToolPolicy)


def as_tool_policy(policy: ToolPolicy | BreakerPolicy | None) -> ToolPolicy:
    """
    The policy that was given, where either kind may be.
    """
    if policy is None:
        return INHERITED
    if isinstance(policy, BreakerPolicy):
        return ToolPolicy(breaker=policy)
    if isinstance(policy, ToolPolicy):
        return policy
    raise ValueError(f"policy={policy!r}: expected a ToolPolicy or a BreakerPolicy")


def join(one: Policy, other: Policy) -> Policy:
    """
    Two policies of one level as one.

    Raises:
        ValueError: Both have a say in the same field.
    """
    changes: dict[str, Any] = {}
    for each in fields(other):
        mine, theirs = getattr(one, each.name), getattr(other, each.name)
        if isinstance(theirs, BreakerPolicy):
            changes[each.name] = join(mine, theirs)
        elif theirs is INHERIT:
            continue
        elif mine is not INHERIT:
            raise ValueError(f"{each.name} is given twice, as {mine!r} and as {theirs!r}")
        else:
            changes[each.name] = theirs
    return replace(one, **changes) if changes else one


def layered(*levels: ToolPolicy) -> ToolPolicy:
    """
    The levels as one policy, the first that has a say in a field deciding it; but for the
    circuit's part, which has levels of its own.
    """
    merged = levels[0]
    for level in levels[1:]:
        changes: dict[str, Any] = {}
        for each in fields(level):
            mine, theirs = getattr(merged, each.name), getattr(level, each.name)
            if mine is INHERIT and not _settled_by_twin(merged, each.name):
                changes[each.name] = theirs
        merged = replace(merged, **changes)
    return merged


def _settled_by_twin(policy: ToolPolicy, name: str) -> bool:
    """
    ``judge`` and ``is_failure`` are one setting: who has said one, inherits neither.
    """
    twin = {"judge": "is_failure", "is_failure": "judge"}.get(name)
    return twin is not None and getattr(policy, twin) is not INHERIT


class BreakerSettings(NamedTuple):
    """
    A breaker's policy once every field is decided. What is off is infinite, or 0.
    """

    failure_threshold: int = 3
    reset_timeout: float = 300.0
    probe_lease: float = 300.0
    success_threshold: int = 1
    failure_rate: float = math.inf
    slow_duration: float = math.inf
    slow_rate: float = 1.0
    window_calls: int = 0
    window_seconds: float = 0.0
    minimum_calls: int = 10
    reset_multiplier: float = 1.0
    max_reset_timeout: float = 3600.0
    jitter: float = 0.0
    jitter_source: Callable[[], float] = random.random
    max_pause: float | None = 300.0
    max_keys: int = 1000

    @staticmethod
    def of(*levels: BreakerPolicy) -> BreakerSettings:
        """
        What the levels come to. Those who ask for the same share it.
        """
        # A source may belong to an object that is not to be kept.
        if all(level.jitter_source is INHERIT for level in levels):
            return _breaker_settings(*levels)
        return _breaker_settings.__wrapped__(*levels)

    def open_time(self, reopenings: int) -> float:
        """
        Seconds that the circuit stays open after so many probes in a row have failed,
        before chance shortens it.
        """
        try:
            grown = self.reset_timeout * self.reset_multiplier**reopenings
        except OverflowError:
            return self.max_reset_timeout
        return min(grown, self.max_reset_timeout)


@functools.lru_cache(maxsize=256)
def _breaker_settings(*levels: BreakerPolicy) -> BreakerSettings:
    has: dict[str, Any] = {}
    for level in levels:  # each is right by itself; together they need not be
        for each in fields(level):
            value = getattr(level, each.name)
            if value is not INHERIT:
                has.setdefault(each.name, value)
    usual: dict[str, Any] = BreakerSettings._field_defaults
    reset_timeout = has.get("reset_timeout", usual["reset_timeout"])
    longest = has.setdefault(
        "max_reset_timeout", max(usual["max_reset_timeout"], reset_timeout)
    )
    has["reset_timeout"] = reset_timeout = min(reset_timeout, longest)
    has.setdefault("probe_lease", reset_timeout)
    _complete_rates(has)
    for name in ("failure_rate", "slow_duration", "window_calls", "window_seconds"):
        if has.get(name, 0) is None:
            del has[name]  # it is off where nothing is said
    return BreakerSettings(**{name: _as_float(name, has[name]) for name in has})


def _complete_rates(has: dict[str, Any]) -> None:
    """
    A rate needs a window, and a window a rate: what was not said is filled in.
    """
    if "slow_rate" in has:
        has.setdefault("slow_duration", 60.0)
    rates = has.get("failure_rate"), has.get("slow_duration")
    windows = has.get("window_calls"), has.get("window_seconds")
    if rates == (None, None) and windows != (None, None):
        has.setdefault("failure_rate", 0.5)
    if rates != (None, None) and windows == (None, None):
        has.setdefault("window_calls", 100)


def _as_float(name: str, value: Any) -> Any:
    is_float = type(BreakerSettings._field_defaults[name]) is float
    return float(value) if is_float and type(value) is int else value


_WITH_FUNCTIONS: Final = ("judge", "is_failure", "retry", "guard", "fallback")


class StandIn:
    """
    A function that stands for a tool of a framework, which interrupts runs by exception types
    of its own: they hold besides those of any policy.
    """

    control_flow: ExceptionTypes = ()
    ignore: ExceptionTypes = ()

    def may_go_on(self) -> bool:
        """
        Whether what it has run may still be running, though it was given up.
        """
        return False


class ToolSettings(NamedTuple):
    """
    A tool's policy once every field is decided, but for its circuit's part.
    """

    timeout: float | None
    hang_after: float
    judge: Judge | None
    is_failure: Callable[[Any], bool] | None
    ignore: ExceptionTypes
    control_flow: ExceptionTypes
    max_args_size: int
    max_args_values: int
    max_threads: int
    total_timeout: float | None
    first_chunk_timeout: float | None
    first_chunk_hang_after: float
    chunk_timeout: float | None
    chunk_hang_after: float
    retry: RetryPolicy | None
    limits: LimitPolicy | None
    group: str | None
    guard: Guard | None
    fallback: str | Fallback | None
    max_result_size: int | None

    @staticmethod
    def of(*levels: ToolPolicy) -> ToolSettings:
        """
        What the levels come to. Those who ask for the same share it.
        """
        # A function may belong to an object that is not to be kept, nor is it always one
        # that can be hashed.
        if all(
            getattr(level, name) is INHERIT for level in levels for name in _WITH_FUNCTIONS
        ):
            return _tool_settings(*levels)
        return _tool_settings.__wrapped__(*levels)

    def besides(self, fn: object) -> ToolSettings:
        """
        These, with the types that the tool's function brings along.
        """
        if not issubclass(type(fn), StandIn):
            return self
        brought = cast("StandIn", fn)
        return self._replace(
            control_flow=(*brought.control_flow, *self.control_flow),
            ignore=(*brought.ignore, *self.ignore),
        )

    def lease(self, breaker: BreakerSettings) -> float:
        """
        Seconds that a probe by this tool may hold its place (rule C4).
        """
        longest = self.longest
        if longest is None:
            return breaker.probe_lease
        return longest + max(1.0, 0.1 * longest)

    @property
    def is_surrounded(self) -> bool:
        """
        Whether there is any part around its calls.
        """
        parts = (self.total_timeout, self.retry, self.limits, self.group, self.guard)
        return any(part is not None for part in (*parts, self.fallback))

    @property
    def longest(self) -> float | None:
        """
        Seconds that one execution may take, or ``None`` where nothing limits it.
        """
        return shorter(self.timeout, self.total_timeout)


@functools.lru_cache(maxsize=256)
def _tool_settings(*levels: ToolPolicy) -> ToolSettings:
    policy = layered(*levels, _TOOL_DEFAULTS)
    timeout = cast("float | None", policy.timeout)
    total_timeout = cast("float | None", policy.total_timeout)
    first, chunk = (
        timeout if said is INHERIT else said
        for said in (policy.first_chunk_timeout, policy.chunk_timeout)
    )
    judge, is_failure = policy.judge, policy.is_failure
    return ToolSettings(
        timeout=timeout,
        hang_after=_hang_after(policy.hang_after, shorter(timeout, total_timeout)),
        judge=None if judge is INHERIT else judge,
        is_failure=None if is_failure is INHERIT else is_failure,
        ignore=cast("ExceptionTypes", policy.ignore),
        control_flow=cast("ExceptionTypes", policy.control_flow),
        max_args_size=cast("int", policy.max_args_size),
        max_args_values=cast("int", policy.max_args_values),
        max_threads=cast("int", policy.max_threads),
        total_timeout=total_timeout,
        first_chunk_timeout=first,
        first_chunk_hang_after=_hang_after(
            policy.hang_after, shorter(first, total_timeout)
        ),
        chunk_timeout=chunk,
        chunk_hang_after=_hang_after(policy.hang_after, shorter(chunk, total_timeout)),
        retry=cast("RetryPolicy | None", policy.retry),
        limits=cast("LimitPolicy | None", policy.limits),
        group=cast("str | None", policy.group),
        guard=cast("Guard | None", policy.guard),
        fallback=cast("str | Fallback | None", policy.fallback),
        max_result_size=cast("int | None", policy.max_result_size),
    )


HANGS: Final = 0.95
"""The part of its time after which a tool that has not ended is one that hangs."""


def shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def _hang_after(set_to: float | None | Inherit, timeout: float | None) -> float:
    if set_to is INHERIT:
        return math.inf if timeout is None else HANGS * timeout
    return math.inf if set_to is None else set_to


_TOOL_DEFAULTS: Final = ToolPolicy(
    timeout=None,
    ignore=(),
    control_flow=(),
    max_args_size=1_000_000,
    max_args_values=3_000,
    max_threads=40,
    total_timeout=None,
    retry=None,
    limits=None,
    group=None,
    guard=None,
    fallback=None,
    max_result_size=None,
)

INHERITED: Final = ToolPolicy()
"""The policy that has no say in anything. One for all, as every tool keeps one."""
