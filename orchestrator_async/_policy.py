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


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerPolicy:
    """
    How a circuit opens and closes.

    Args:
        failure_threshold: Failures in a row that open the circuit. Default 3.
        reset_timeout: Seconds that it stays open before one call may probe. Default
            300.
        probe_lease: Seconds after which a probe that has not come back is given up
            and the next caller probes, for tools without a timeout. Default: the
            ``reset_timeout``. A tool with a timeout has that and a grace instead.

    Raises:
        ValueError: Naming the field and the value that cannot be.
    """

    failure_threshold: int | Inherit = INHERIT
    reset_timeout: float | Inherit = INHERIT
    probe_lease: float | Inherit = INHERIT

    def __post_init__(self) -> None:
        _check_count(self, "failure_threshold")
        _check_seconds(self, "reset_timeout", "probe_lease")


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


def layered(*levels: Policy) -> Policy:
    """
    The levels as one policy, the first that has a say in a field deciding it.
    """
    merged = levels[0]
    for level in levels[1:]:
        changes: dict[str, Any] = {}
        for each in fields(level):
            mine, theirs = getattr(merged, each.name), getattr(level, each.name)
            if isinstance(theirs, BreakerPolicy):
                changes[each.name] = layered(mine, theirs)
            elif mine is INHERIT and not _settled_by_twin(merged, each.name):
                changes[each.name] = theirs
        merged = replace(merged, **changes)
    return merged


def _settled_by_twin(policy: BreakerPolicy | ToolPolicy, name: str) -> bool:
    """
    ``judge`` and ``is_failure`` are one setting: who has said one, inherits neither.
    """
    twin = {"judge": "is_failure", "is_failure": "judge"}.get(name)
    return twin is not None and getattr(policy, twin) is not INHERIT


class BreakerSettings(NamedTuple):
    """
    A breaker's policy once every field is decided.
    """

    failure_threshold: int = 3
    reset_timeout: float = 300.0
    probe_lease: float = 300.0

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def of(*levels: BreakerPolicy) -> BreakerSettings:
        """
        What the levels come to. Those who ask for the same share it.
        """
        policy = layered(*levels, _BREAKER_DEFAULTS)
        reset_timeout = cast("float", policy.reset_timeout)
        lease = policy.probe_lease
        return BreakerSettings(
            failure_threshold=cast("int", policy.failure_threshold),
            reset_timeout=float(reset_timeout),
            probe_lease=float(reset_timeout if lease is INHERIT else lease),
        )


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


def _check_count(policy: object, *names: str) -> None:
    for name in names:
        value = getattr(policy, name)
        if value is INHERIT:
            continue
        if type(value) is not int or value < 1:
            raise _bad(policy, name, "a whole number of at least 1")


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


_BREAKER_DEFAULTS: Final = BreakerPolicy(failure_threshold=3, reset_timeout=300.0)

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
