"""
Trying again: when, how long to wait, and how often all callers together may.

stamina makes the attempts and waits between them, on both loops; whoever has switched it
off or into its test mode has done so for these as well. What is decided here is whether
there is to be another attempt at all:

- A tool that was entered is entered again only if it is idempotent.
- A circuit that has opened ends it. One that was asked for a pause does not, for the
  failure has said when to come back; the attempt after that may be the probe.
- A probe is not tried again: its circuit has the next one made when it is time.
- No wait goes past the end of the call's time, nor past the deadline of its caller.
- Each attempt but the first comes out of the ``Budget`` that all calls share.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, cast

import anyio

from ._breaker import CircuitState
from ._callbacks import is_its_own
from ._calls import Course, Request, ToolResult
from ._entry import Entry, Step
from ._errors import LimitExceededError
from ._events import Observers, RetryScheduled
from ._foreign import is_a
from ._policy import BudgetPolicy, RetryPolicy
from ._window import TimeWindow

_SHARED_SECONDS: Final = 10.0
"""How long a call counts for the share of retries."""


class Budget:
    """
    The attempts that all calls of an orchestrator may make beside their first ones: a
    share of the calls of the last ten seconds, and so many in any second beside these.

    The idea is that of Finagle's retry budgets and of Envoy's.
    """

    __slots__ = ("_policy", "_recent", "_seen", "_window")

    def __init__(self, policy: BudgetPolicy) -> None:
        self._policy = policy
        # In the window a retry out of the share is a failure among the calls.
        self._window = TimeWindow(_SHARED_SECONDS)
        self._recent: deque[float] = deque(maxlen=policy.a_second)
        self._seen = -math.inf

    def configure(self, policy: BudgetPolicy) -> None:
        """
        Go on with other settings, with what was counted.
        """
        self._policy = policy
        self._recent = deque(self._recent, maxlen=policy.a_second)

    def called(self, now: float) -> None:
        """
        A call is made that may be tried again.
        """
        self._window.record(self._time(now), False, False)

    def take(self, now: float) -> bool:
        """
        Take one retry; whether there was one.
        """
        now = self._time(now)
        self._window.advance(now)
        retries = self._window.failures
        calls = self._window.calls - retries
        if retries + 1 <= calls * self._policy.share:
            self._window.record(now, True, False)
            return True
        recent = self._recent
        if len(recent) < self._policy.a_second or (recent and now - recent[0] >= 1.0):
            recent.append(now)
            return True
        return False

    def _time(self, now: float) -> float:
        """
        The time, as time that only goes on: where the clock has gone back, all that is
        remembered goes with it.
        """
        if not math.isfinite(now):
            return self._seen if math.isfinite(self._seen) else 0.0
        if now < self._seen:
            by = now - self._seen
            self._window.shift(by)
            self._recent = deque((each + by for each in self._recent), self._recent.maxlen)
        self._seen = now
        return now


class Retrying:
    """
    Makes the attempts of one tool's calls.

    Args:
        attempt: Makes one.
        entry: The tool.
        policy: How it is tried again.
        budget: What all calls have together, or ``None`` where nothing bounds that.
        time: Seconds on the orchestrator's clock.
        is_current: Whether the tool has not been replaced or removed since.
        observers: Those who are told.
    """

    def __init__(
        self,
        attempt: Step,
        entry: Entry,
        policy: RetryPolicy,
        budget: Budget | None,
        time: Callable[[], float],
        is_current: Callable[[], bool],
        observers: Observers,
    ) -> None:
        self._attempt = attempt
        self._entry = entry
        self._policy = policy
        self._budget = budget
        self._time = time
        self._is_current = is_current
        self._observers = observers

    async def __call__(self, request: Request, render: bool) -> ToolResult:
        """
        Make attempts until one is not to be tried again. The result is that of the last
        one that ran the tool, with the attempts and the seconds of all.
        """
        import stamina

        course = request.course
        assert course is not None
        if self._budget is not None:
            self._budget.called(self._time())
        last: ToolResult | None = None
        attempts = stamina.retry_context(
            on=_wait_of, attempts=self._policy.attempts, timeout=None
        )
        try:
            async for attempt in attempts:
                if last is not None and not self._is_current():
                    return last
                course.attempt = attempt.num
                # Not within the attempt's block: that takes whatever comes out of it
                # for the attempt's outcome, a cancellation too.
                result = await self._attempt(request, render)
                last = _both(last, result)
                again = self._again(course, result)
                if again is None:
                    return last
                self._tell(request, result, again.wait)
                with attempt:
                    raise again
        except _AgainError:
            pass  # stamina is switched off, or makes fewer attempts, as in a test
        assert last is not None
        return last

    def _again(self, course: Course, result: ToolResult) -> _AgainError | None:
        """
        When there is to be another attempt, if there is.
        """
        policy = self._policy
        if course.attempt >= policy.attempts or not self._may_run_again(course, result):
            return None
        wait = self._backoff(course.attempt)
        if result.retry_after is not None:
            if result.retry_after > policy.wait_max:
                return None
            wait = max(wait, result.retry_after)
        now = self._time()
        own = anyio.current_effective_deadline() - anyio.current_time()
        if not wait < min(course.deadline - now, own):
            return None
        if self._budget is not None and not self._budget.take(now):
            return None
        return _AgainError(result.name, wait)

    def _may_run_again(self, course: Course, result: ToolResult) -> bool:
        if not course.ran:
            return is_a(result.error, LimitExceededError)
        if not self._entry.tool.idempotent or course.was_probe:
            return False
        if getattr(result.error, "still_running", False):
            return False  # another thread beside that one would be of no use
        if not course.paused and result.state not in _ADMITTING:
            return False
        return self._is_chosen(course, result)

    def _is_chosen(self, course: Course, result: ToolResult) -> bool:
        policy = self._policy
        try:
            if result.error is None:
                if policy.on_result is None:
                    return course.failed
                return bool(policy.on_result(result.value))
            if policy.on is None:
                return course.failed
            if isinstance(policy.on, tuple):
                return is_a(result.error, policy.on)
            return bool(policy.on(result.error))
        except BaseException as raised:
            if not is_its_own(raised):
                raise
            self._entry.complain("what says whether to try again raised", raised)
            return False

    def _backoff(self, attempt: int) -> float:
        policy = self._policy
        chance = 0.0
        if policy.wait_jitter:
            try:
                drawn: object = policy.jitter_source()
                good = type(drawn) in (int, float) and 0 <= cast("float", drawn) <= 1
                chance = cast("float", drawn) if good else 1.0
            except BaseException as raised:
                if not is_its_own(raised):
                    raise
                self._entry.complain("its jitter_source raised", raised)
        try:
            wait = policy.wait_initial * policy.wait_exp_base ** (attempt - 1)
        except OverflowError:
            return policy.wait_max
        return min(policy.wait_max, wait + chance * policy.wait_jitter)

    def _tell(self, request: Request, result: ToolResult, wait: float) -> None:
        assert request.course is not None
        self._entry.figures.retries += 1
        if self._observers.listening:
            self._observers.tell(
                RetryScheduled(
                    tool_name=result.name,
                    call_id=request.call_id,
                    attempt=request.course.attempt,
                    wait=wait,
                    error=result.error,
                )
            )


_ADMITTING: Final = (CircuitState.CLOSED, CircuitState.DISABLED)


class _AgainError(Exception):
    """
    What stamina is told: that there is to be another attempt, and when. It may log what
    it is told, so there is nothing in it but the tool's name.
    """

    def __init__(self, tool_name: str, wait: float) -> None:
        super().__init__(tool_name)
        self.wait = wait


def _wait_of(error: Exception) -> float:
    assert isinstance(error, _AgainError)
    return error.wait


def _both(before: ToolResult | None, now: ToolResult) -> ToolResult:
    """
    What to say of two attempts: that of the later one, if it ran the tool.
    """
    if before is None:
        return now
    attempts = before.attempts + now.attempts
    duration = before.duration + now.duration
    if now.attempts or not before.attempts:
        return replace(now, attempts=attempts, duration=duration)
    return replace(before, retry_after=now.retry_after, state=now.state)
