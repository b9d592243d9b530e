"""
What may be set: frozen, keyword-only records that check themselves.

Every field defaults to ``INHERIT``. A setting comes from the tool, else from the
orchestrator, else from the defaults at the end of this module, field by field.
"""

from __future__ import annotations

import enum
import functools
import inspect
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from ._outcome import Judge


class Inherit(enum.Enum):
    """
    The type of ``INHERIT``: what a field says that leaves the choice to the next level.
    """

    INHERIT = "inherit"

    def __repr__(self) -> str:
        return "INHERIT"


INHERIT: Final = Inherit.INHERIT

ExceptionTypes = tuple[type[BaseException], ...]

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
        _check_count(self, "failure_threshold", "minimum_calls", "success_threshold")
        _check_count(self, "max_keys")
        _check_count(self, "window_calls", optional=True)
        if type(self.window_calls) is int and self.window_calls > MOST_CALLS:
            raise _bad(self, "window_calls", f"at most {MOST_CALLS:,}, or window_seconds")
        _check_seconds(self, "reset_timeout", "max_reset_timeout", "probe_lease")
        _check_seconds(self, "slow_duration", "window_seconds", "max_pause", optional=True)
        _check_number(self, "failure_rate", 0, 1, above=True, optional=True)
        _check_number(self, "slow_rate", 0, 1, above=True)
        _check_number(self, "reset_multiplier", 1, sys.float_info.max)
        _check_number(self, "jitter", 0, 1)
        _check_predicate(self, "jitter_source")
        longest, reset = self.max_reset_timeout, self.reset_timeout
        if INHERIT not in (longest, reset) and cast("float", longest) < cast(
            "float", reset
        ):
            raise _bad(self, "max_reset_timeout", f"at least reset_timeout={reset!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolPolicy:
    """
    How a tool is run and judged.

    Args:
        timeout: Seconds that one execution may take, or ``None`` for no timeout.
            Default ``None``.
        hang_after: A call that its caller gives up after so many seconds counts as a
            failure of the tool, or ``None`` for never. Default: 95 % of the timeout.
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
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)

    def __post_init__(self) -> None:
        _check_seconds(self, "timeout", "hang_after", optional=True)
        _check_count(self, "max_args_size", "max_args_values", "max_threads")
        _check_types(self, "ignore", "control_flow")
        _check_predicate(self, "judge", "is_failure")
        if self.judge is not INHERIT and self.is_failure is not INHERIT:
            raise ValueError("judge and is_failure are one setting: give one of them")
        if not isinstance(self.breaker, BreakerPolicy):
            raise _bad(self, "breaker", "a BreakerPolicy")


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

    @staticmethod
    def of(*levels: ToolPolicy) -> ToolSettings:
        """
        What the levels come to. Those who ask for the same share it.
        """
        # A judge may belong to an object that is not to be kept, nor is it always one
        # that can be hashed.
        if all(level.judge is level.is_failure is INHERIT for level in levels):
            return _tool_settings(*levels)
        return _tool_settings.__wrapped__(*levels)

    def lease(self, breaker: BreakerSettings) -> float:
        """
        Seconds that a probe by this tool may hold its place (rule C4).
        """
        if self.timeout is None:
            return breaker.probe_lease
        return self.timeout + max(1.0, 0.1 * self.timeout)


@functools.lru_cache(maxsize=256)
def _tool_settings(*levels: ToolPolicy) -> ToolSettings:
    policy = layered(*levels, _TOOL_DEFAULTS)
    timeout = cast("float | None", policy.timeout)
    judge, is_failure = policy.judge, policy.is_failure
    return ToolSettings(
        timeout=timeout,
        hang_after=_hang_after(policy.hang_after, timeout),
        judge=None if judge is INHERIT else judge,
        is_failure=None if is_failure is INHERIT else is_failure,
        ignore=cast("ExceptionTypes", policy.ignore),
        control_flow=cast("ExceptionTypes", policy.control_flow),
        max_args_size=cast("int", policy.max_args_size),
        max_args_values=cast("int", policy.max_args_values),
        max_threads=cast("int", policy.max_threads),
    )


def _hang_after(set_to: float | None | Inherit, timeout: float | None) -> float:
    if set_to is INHERIT:
        return math.inf if timeout is None else 0.95 * timeout
    return math.inf if set_to is None else set_to


def _bad(policy: object, name: str, expected: str) -> ValueError:
    value = getattr(policy, name)
    return ValueError(
        f"{type(policy).__name__}: {name}={value!r} cannot be; expected {expected}"
    )


def _check_count(policy: object, *names: str, optional: bool = False) -> None:
    expected = "a whole number of at least 1" + (", or None" if optional else "")
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT or (optional and value is None):
            continue
        if type(value) is not int or value < 1:
            raise _bad(policy, name, expected)


def _check_number(
    policy: object,
    name: str,
    least: float,
    most: float,
    *,
    above: bool = False,
    optional: bool = False,
) -> None:
    value = getattr(policy, name)
    if value is INHERIT or (optional and value is None):
        return
    good = type(value) in (int, float) and least <= value <= most
    if good and not (above and value == least):
        return
    expected = f"a number {'above' if above else 'of at least'} {least}"
    if most < sys.float_info.max:
        expected += f" and at most {most}"
    raise _bad(policy, name, expected + (", or None" if optional else ""))


def _check_seconds(policy: object, *names: str, optional: bool = False) -> None:
    expected = "a finite number of seconds above 0" + (", or None" if optional else "")
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT or (optional and value is None):
            continue
        if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
            raise _bad(policy, name, expected)


def _check_types(policy: object, *names: str) -> None:
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT:
            continue
        if not isinstance(value, tuple) or not all(
            isinstance(each, type) and issubclass(each, BaseException) for each in value
        ):
            raise _bad(policy, name, "a tuple of exception types")


def _check_predicate(policy: object, *names: str) -> None:
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT:
            continue
        if not callable(value) or is_async(value):
            raise _bad(policy, name, "a plain function, not a coroutine function")


def is_async(fn: object) -> bool:
    """
    Whether calling it gives a coroutine, for functions and for callable objects.
    """
    if isinstance(fn, type):
        return False
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004
    )


_TOOL_DEFAULTS: Final = ToolPolicy(
    timeout=None,
    ignore=(),
    control_flow=(),
    max_args_size=1_000_000,
    max_args_values=3_000,
    max_threads=40,
)

INHERITED: Final = ToolPolicy()
"""The policy that has no say in anything. One for all, as every tool keeps one."""
