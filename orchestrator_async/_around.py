"""
A tool's way around its circuit, put together once, from the parts that it needs alone.

    guard -> fallback -> retry -> [ queue and rate -> circuit, timeout, tool, verdict ]

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

from collections.abc import Callable

from ._answers import Answers
from ._calls import Course, Request, ToolResult
from ._entry import Entry, Step
from ._events import Observers
from ._execution import Execution
from ._fleet import Fleet
from ._policy import BudgetPolicy
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
    """

    def __init__(
        self,
        fleet: Fleet,
        execution: Execution,
        answers: Answers,
        observers: Observers,
        budget: BudgetPolicy | None,
    ) -> None:
        self._fleet = fleet
        self._execution = execution
        self._answers = answers
        self._observers = observers
        self.budget = None if budget is None else Budget(budget)

    def of(self, entry: Entry) -> Step | None:
        """
        The way of a tool's calls, or ``None`` where it is the execution alone.
        """
        settings, tool = entry.settings, entry.tool
        step: Step = self._execution.attempt
        alone = step
        if settings.retry is not None:
            step = Retrying(
                step,
                entry,
                settings.retry,
                self.budget,
                self._fleet.time,
                lambda: self._fleet.registry.get(tool.name) is tool,
                self._observers,
            )
        if step is alone and settings.total_timeout is None:
            return None
        return Whole(step, settings.total_timeout, self._fleet.time)


class Whole:
    """
    The whole call, which has one time and one idempotency key for all of its attempts.
    """

    def __init__(
        self, step: Step, total_timeout: float | None, time: Callable[[], float]
    ) -> None:
        self._step = step
        self._total_timeout = total_timeout
        self._time = time

    async def __call__(self, request: Request, render: bool) -> ToolResult:
        """
        Make the call.
        """
        request.course = course = Course()
        if self._total_timeout is not None:
            course.deadline = self._time() + self._total_timeout
        return await self._step(request, render)
