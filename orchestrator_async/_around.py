"""
A tool's way around its circuit, put together once, from the parts that it needs alone.

    guard -> fallback -> whole -> retry -> [ queue, rate -> circuit, timeout, tool ]

What is within the brackets is an attempt. From the outside to the inside:

- The guard comes first, for what it refuses is not to happen in any way: it is not tried
  again, and no other tool does it instead.
- The fallback answers where all attempts have come to nothing, so it is around them.
- Each attempt stands in the queue anew and asks its circuit for a permit of its own.
  Between two attempts nothing is held.
- A place is taken before the permit, as waiting for one can take long: a probe's lease
  would run out in the queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import checkpoint

from ._answers import Answers
from ._calls import (
    Request,
    ToolCall,
    ToolContext,
    ToolResult,
    copied,
)
from ._cut import cut
from ._endings import is_made
from ._entry import Entry, Step
from ._errors import (
    CircuitOpenError,
    InvalidArgumentsError,
    InvalidResultError,
    LimitExceededError,
    ToolTimeoutError,
)
from ._events import Observers
from ._execution import Execution
from ._fleet import Fleet
from ._foreign import bare_type_name, is_a
from ._gates import Gate, Gated
from ._hooks import NoAnswerError, ask
from ._marks import Marks, put, take_off
from ._outcome import Verdict, is_forbidden, judge_value, to_text
from ._policy import BudgetPolicy, Fallback, Guard, LimitPolicy
from ._retry import Budget, Retrying


class Surroundings:
    """
    Puts together the ways of one orchestrator's tools.

    Args:
        fleet: The tools.
        execution: Makes attempts.
        answers: To calls that were turned away.
        observers: Those who are told.
        budget: The retries that all calls have together; ``None`` for no bound.
        limits: How many calls there may be in all, if that is limited.
        groups: The same of groups of tools, by their names.

    Raises:
        ValueError: A tool is of a group that there is not (when its way is asked for).
    """

    def __init__(
        self,
        fleet: Fleet,
        execution: Execution,
        answers: Answers,
        observers: Observers,
        budget: BudgetPolicy | None,
        limits: LimitPolicy | None,
        groups: Mapping[str, LimitPolicy],
    ) -> None:
        self._fleet = fleet
        self._execution = execution
        self._answers = answers
        self._observers = observers
        self._budget = None if budget is None else Budget(budget)
        self._limits = limits
        self._groups = dict(groups)
        # Kept alive by the ways of tools and by the calls on them; what tools share, also
        # where none of them is there at the moment.
        self._gates: WeakValueDictionary[tuple[str, str], Gate] = WeakValueDictionary()
        self._lasting: dict[tuple[str, str], Gate] = {}

    def reload(
        self,
        budget: BudgetPolicy | None,
        limits: LimitPolicy | None,
        groups: Mapping[str, LimitPolicy],
    ) -> None:
        """
        Go on with other settings of what all tools share; their ways are to be made anew.
        """
        if budget is None or self._budget is None:
            self._budget = None if budget is None else Budget(budget)
        else:
            self._budget.configure(budget)
        self._limits = limits
        self._groups = dict(groups)

    def configure_gates(self) -> None:
        """
        Have those who wait, and those who come, find the settings as they are now.
        """
        for at, gate in list(self._gates.items()):
            policy = self._policy(*at)
            gate.configure(policy, self._fleet.time())
            if policy is None:
                self._lasting.pop(at, None)

    def _policy(self, kind: str, name: str) -> LimitPolicy | None:
        if kind == "all":
            return self._limits
        if kind == "group":
            return self._groups.get(name)
        tool = self._fleet.registry.get(name)
        return None if tool is None else self._fleet.settings(tool).limits

    def of(self, entry: Entry) -> Step | None:
        """
        The way of a tool's calls, or ``None`` where it is the execution alone.
        """
        settings = entry.settings
        step: Step = self._execution.attempt
        gates = tuple(self._gates_of(entry))
        if gates:
            step = Gated(
                step, entry, gates, self._execution, self._answers, self._fleet.time
            )
        if settings.retry is not None:
            step = Retrying(
                step,
                entry,
                settings.retry,
                self._budget,
                self._fleet.time,
                self._observers,
            )
        if not gates and not settings.is_surrounded:
            return None
        if settings.total_timeout is not None:
            step = Whole(step, settings.total_timeout)
        if settings.fallback is not None:
            step = FallingBack(step, entry, settings.fallback, self._execution, self._fleet)
        if settings.guard is not None:
            step = Guarded(step, entry, settings.guard, self._execution, self._answers)
        return step

    def _gates_of(self, entry: Entry) -> Iterator[Gate]:
        settings = entry.settings
        if settings.limits is not None:
            yield self._gate("tool", entry.name, "", settings.limits)
        if settings.group is not None:
            if settings.group not in self._groups:
                known = ", ".join(sorted(self._groups)) or "none"
                raise ValueError(
                    f"{entry.name}: group={settings.group!r}: the orchestrator's groups "
                    f"are {known}"
                )
            limits = self._groups[settings.group]
            yield self._gate("group", settings.group, f"group {settings.group}", limits)
        if self._limits is not None:
            yield self._gate("all", "", "all tools", self._limits)

    def _gate(self, kind: str, name: str, scope: str, policy: LimitPolicy) -> Gate:
        gate = self._gates.get((kind, name))
        if gate is None:
            gate = self._gates[kind, name] = Gate(scope)
            if kind != "tool":
                self._lasting[kind, name] = gate
        gate.configure(policy, self._fleet.time())
        return gate


class Whole:
    """
    The whole call, which has one time for all of its attempts.
    """

    def __init__(self, step: Step, total_timeout: float) -> None:
        self._step = step
        self._total_timeout = total_timeout

    async def __call__(self, request: Request, render: bool) -> ToolResult:
        """
        Make the call.
        """
        assert request.course is not None
        # On the loop's clock, by which the timeouts of attempts and all waits go.
        request.course.deadline = anyio.current_time() + self._total_timeout
        return await self._step(request, render)


class _Falling:
    """
    A call that something else answers at the moment, in place of its tool.
    """

    __slots__ = ("execution", "name")

    def __init__(self, execution: Execution, name: str) -> None:
        self.execution: Execution | None = execution
        self.name = name

    @property
    def is_over(self) -> bool:
        return self.execution is None

    def end(self) -> None:
        """
        It has been answered, also for a task that was begun meanwhile and still runs.
        """
        self.execution = None


_falling: ContextVar[Marks[_Falling]] = ContextVar("orchestrator_async_falling")
"""The calls for which this code runs as a fallback. What has failed does not fall back
again in what answers for it: two tools that call each other would never end."""


_LONGEST_CHAIN: Final = 32
"""Fallbacks that answer for one another. A chain without an end is found by its names, but
one of hundreds would use up Python's stack, which must not come out of a call."""


class FallingBack:
    """
    Another answer where the tool has none.
    """

    def __init__(
        self,
        step: Step,
        entry: Entry,
        fallback: str | Fallback,
        execution: Execution,
        fleet: Fleet,
    ) -> None:
        self._step = step
        self._entry = entry
        self._fallback = fallback
        self._execution = execution
        self._fleet = fleet

    async def __call__(self, request: Request, render: bool) -> ToolResult:
        """
        The tool's result, or what answers in its place if that has an answer.
        """
        with suppress(RecursionError):  # nested too deep to be copied
            request.keep_arguments()
        result = await self._step(request, render)
        if not _calls_for_another(self._entry, request, result):
            return result
        if self._fleet.drain is not None:
            return result
        if self._is_falling(self._entry.name) or self._is_too_deep():
            return result
        empty, request.is_empty = request.is_empty, False
        other = await self._answer(request, result, render)
        if other is None or not other.ok:
            request.is_empty = empty
            return result
        text = self._cut(other.content, other.value)
        return replace(other, name=result.name, call_id=result.call_id, content=text)

    async def _answer(
        self, request: Request, result: ToolResult, render: bool
    ) -> ToolResult | None:
        falling = _Falling(self._execution, self._entry.name)
        token = put(_falling, (falling,))
        try:
            if isinstance(self._fallback, str):
                return await self._other(self._fallback, request, render)
            return await self._made(self._fallback, request, result, render)
        finally:
            opened = request.opened
            if opened is None or opened.steps is None:
                falling.end()
            else:  # a stream answers until it ends
                opened.steps.hand_over(falling.end, _falling, (falling,))
            take_off(_falling, token)

    def _is_falling(self, name: str) -> bool:
        return any(
            each.name == name and each.execution is self._execution
            for each in _falling.get(())
        )

    def _is_too_deep(self) -> bool:
        if sum(not each.is_over for each in _falling.get(())) < _LONGEST_CHAIN:
            return False
        error = RecursionError(f"{_LONGEST_CHAIN} calls wait for their fallbacks already")
        self._entry.complain("its fallback is not asked", error)
        return True

    async def _other(self, name: str, request: Request, render: bool) -> ToolResult | None:
        if self._is_falling(name):
            return None  # the orchestrator's policy names it for all tools, itself too
        if request.allows is not None and not request.allows(name):
            return None  # a conversation runs its own tools alone
        registry = self._fleet.registry
        if name not in registry:
            error = registry.unknown(name)
            self._entry.complain("its fallback is no tool that there is", error)
            return None
        another = Request(name, request.args, request.call_id, request.context)
        another.allows, another.counted = request.allows, request.counted
        another.streams = request.streams
        try:
            return await self._execution.run(another, render=render)
        finally:
            request.opened, request.is_empty = another.opened, another.is_empty

    async def _made(
        self, make: Fallback, request: Request, result: ToolResult, render: bool
    ) -> ToolResult | None:
        entry = self._entry
        try:
            arguments = dict(self._execution.arguments(entry, request))
        except Exception:
            return None  # the circuit refused the call before they were looked at
        call = ToolCall(entry.name, arguments, request.call_id)
        try:
            with self._fleet.answering(entry.name):
                value = await ask(entry, "its fallback raised", make, call, result)
        except NoAnswerError:
            return None
        try:
            text = to_text(value, tool_name=entry.name) if render else ""
        except InvalidResultError as error:
            entry.complain("its fallback returned what cannot be made JSON", error)
            return None
        return replace(
            result,
            content=text,
            value=value,
            error=None,
            ok=judge_value(value) is Verdict.SUCCESS,
            source=FALLBACK,
            retry_after=None,
        )

    def _cut(self, text: str, value: object) -> str:
        most = self._entry.settings.max_result_size
        return text if most is None else cut(text, most, is_json=is_made(value))


def _calls_for_another(entry: Entry, request: Request, result: ToolResult) -> bool:
    """
    Whether the tool has given no answer, and that is not because the call was wrong, or
    for what its policy calls no failure.
    """
    course, error = request.course, result.error
    assert course is not None
    if result.ok:
        return False
    if course.failed:
        return True
    if (
        error is None
    ):  # it gave the refusal of a call of its own for one, or its caller's fault
        return not (course.blamed or is_forbidden(result.value))
    if is_a(error, ToolTimeoutError):
        return error.tool_name == entry.name  # the whole call's; another's was judged
    if not is_a(error, (CircuitOpenError, LimitExceededError)):
        return False
    return not (course.ran and is_a(error, entry.settings.ignore))


class Guarded:
    """
    Asks whether the call may be made, before all else.

    What is asked about is what will be run: the arguments are made once, and nobody can
    change them while the guard waits for somebody's word. The guard has a copy.
    """

    def __init__(
        self,
        step: Step,
        entry: Entry,
        guard: Guard,
        execution: Execution,
        answers: Answers,
    ) -> None:
        self._step = step
        self._entry = entry
        self._guard = guard
        self._execution = execution
        self._answers = answers

    async def __call__(self, request: Request, render: bool) -> ToolResult:
        """
        Make the call, if the guard lets it.
        """
        refused = await self._refused(request)
        if refused is None:
            return await self._step(request, render)
        await checkpoint()
        return refused

    async def _refused(self, request: Request) -> ToolResult | None:
        entry, course = self._entry, request.course
        assert course is not None
        try:
            shown = self._shown(request)
        except InvalidArgumentsError as error:
            return self._answers.invalid(entry, error, request)
        except Exception as error:
            return self._answers.unusable(entry.tool, error, request)
        call = ToolCall(entry.name, shown, request.call_id)
        context = ToolContext(
            tool_name=entry.name,
            call_id=request.call_id,
            deadline=anyio.current_effective_deadline(),
            idempotency_key=course.idempotency_key,
            data=dict(request.context),
        )
        try:
            said: object = await ask(entry, _UNASKED, self._guard, call, context)
        except NoAnswerError:
            return self._answers.guarded(entry, _NOT_KNOWN.format(entry.name), request)
        if said is None:
            return None
        if is_a(said, str):
            why = str.__str__(said)
        else:
            wrong = TypeError(f"expected text or None, not a {bare_type_name(said)}")
            entry.complain(_UNASKED, wrong)
            why = _NOT_KNOWN.format(entry.name)
        return self._answers.guarded(entry, why, request)

    def _shown(self, request: Request) -> Mapping[str, Any]:
        """
        The arguments that the tool will get, in a copy for the guard.
        """
        entry = self._entry
        try:
            request.keep_arguments()
            shown: Mapping[str, Any] = copied(self._execution.made(entry, request))
            return shown
        except RecursionError:
            deep = {"argument": "(all)", "expected": "values that are nested less deep"}
            raise InvalidArgumentsError(tool_name=entry.name, errors=[deep]) from None


FALLBACK: Final = "fallback"
"""The source of a result that a fallback function has made."""

_UNASKED: Final = "its guard gave no answer, so the call is refused"
_NOT_KNOWN: Final = (
    "{} was not run: whether it may be could not be found out, which is not your mistake. "
    "Use another tool or answer without it."
)
