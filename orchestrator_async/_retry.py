"""
Trying again: when, how long to wait, and how often all callers together may.

stamina makes the attempts and waits between them, on both loops; whoever has switched it
off or into its test mode has done so for these as well. What is decided here is whether
there is to be another attempt at all:

- A tool that was entered is entered again only if it is idempotent, and a stream only
  before its first chunk.
- A circuit that has opened ends it. One that was asked for a pause does not, for the
  failure has said when to come back; the attempt after that may be the probe.
- A probe is not tried again: its circuit has the next one made when it is time.
- No wait goes past the end of the call's time, nor past the deadline of its caller.
- Each attempt but the first comes out of the ``Budget`` that all calls share.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from ._breaker import CircuitState
from ._callbacks import is_its_own
from ._calls import Course, Request, ToolResult
from ._entry import Entry, Step
from ._errors import LimitExceededError, ToolTimeoutError
from ._events import Observers, RetryScheduled
from ._foreign import is_a
from ._policy import BudgetPolicy, RetryPolicy
from ._window import TimeWindow

if TYPE_CHECKING:
    from stamina import Attempt

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
        self._recent: deque[float] = deque()
        self._seen = 0.0

    def configure(self, policy: BudgetPolicy) -> None:
        """
        Go on with other settings, with what was counted.
        """
        self._policy = policy

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
        while recent and now - recent[0] >= 1.0:
            recent.popleft()
        if len(recent) < self._policy.a_second:
            recent.append(now)
            return True
        return False

    def _time(self, now: float) -> float:
        """
        The time, as time that only goes on: where the clock has gone back, all that is
        remembered goes with it.
        """
        if not math.isfinite(now):
            now = self._seen
        if now < self._seen:
            by = now - self._seen
            self._window.shift(by)
            self._recent = deque(each + by for each in self._recent)
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
        observers: Those who are told.
    """

    def __init__(
        self,
        attempt: Step,
        entry: Entry,
        policy: RetryPolicy,
        budget: Budget | None,
        time: Callable[[], float],
        observers: Observers,
    ) -> None:
        import stamina  # by the first tool that has retries

        # It logs each retry, which Python would print on stderr where nobody has asked.
        logger = logging.getLogger(stamina.__name__)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        self._stamina = stamina
        self._attempt = attempt
        self._entry = entry
        self._policy = policy
        self._budget = budget
        self._time = time
        self._observers = observers

    async def __call__(self, request: Request, render: bool) -> ToolResult:
        """
        Make attempts until one is not to be tried again. The result is that of the last
        one that ran the tool, with the attempts and the seconds of all.
        """
        course = request.course
        assert course is not None
        if self._budget is not None:
            self._budget.called(self._time())
        if self._entry.tool.idempotent:
            # What the tool makes of its arguments is not to reach the next attempt.
            with suppress(RecursionError):  # nested too deep to be copied
                request.keep_arguments()
        result = await self._attempt(request, render)
        wait = self._wait(course, result)
        if wait is None:
            return result
        return await self._go_on(request, render, result, wait)

    async def _go_on(
        self,
        request: Request,
        render: bool,
        result: ToolResult,
        wait: float | None,
    ) -> ToolResult:
        """
        The attempts after the first one: most calls have none, and do not pay for them.
        """
        course, last, stamina = request.course, result, self._stamina
        assert course is not None
        most = self._policy.attempts if stamina.is_active() else 1
        # A test does not wait, and has its own number of attempts, which stamina keeps
        # to itself: whether there is another one is known when it comes.
        in_test = stamina.is_testing()
        attempts = aiter(stamina.retry_context(_wait_of, attempts=most, timeout=None))
        attempt = await anext(attempts)  # that was the first
        while wait is not None:
            if in_test:
                wait = 0.0
            elif course.attempt >= most or not self._schedule(request, result, wait):
                break
            _end(attempt, _AgainError(result.name, wait))
            following = await self._next(attempts)
            if following is None or anyio.current_time() >= course.deadline:
                break  # or the loop was held up for so long
            if in_test and not self._schedule(request, result, wait):
                break
            attempt, failed = following, course.failed
            course.begin()
            course.attempt += 1
            # Not within the attempt's block: that takes whatever comes out of it for the
            # attempt's outcome, a cancellation too.
            result = await self._attempt(request, render)
            if not result.attempts:
                course.failed = failed  # the result's attempt is the one before
            last = _both(last, result)
            wait = self._wait(course, result)
        return last

    async def _next(self, attempts: AsyncIterator[Attempt]) -> Attempt | None:
        """
        Wait for the next attempt; ``None`` where there is none.
        """
        try:
            return await anext(attempts)
        except _AgainError:
            return None  # a test has no more
        except (Exception, SystemExit) as error:
            self._entry.complain("a hook of stamina's raised, so it ends here", error)
            return None

    def _wait(self, course: Course, result: ToolResult) -> float | None:
        """
        Seconds until there is to be another attempt, if there is.
        """
        policy = self._policy
        if not self._may_run_again(course, result):
            return None
        least = max(result.retry_after or 0.0, course.pause)
        if least > policy.wait_max:
            return None
        wait = max(self._backoff(course.attempt), least)
        end = min(course.deadline, anyio.current_effective_deadline())
        return wait if wait < end - anyio.current_time() else None

    def _schedule(self, request: Request, result: ToolResult, wait: float) -> bool:
        """
        Take the next attempt out of the budget, and tell of it; whether there was one.
        """
        if self._budget is not None and not self._budget.take(self._time()):
            return False
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
        return True

    def _may_run_again(self, course: Course, result: ToolResult) -> bool:
        # With circuits by key the result tells of another one than that of the tool.
        if self._entry.breaker.refusal_by_hand() is not None:
            return False
        if not course.ran:
            return is_a(result.error, LimitExceededError)
        if course.opened or not self._entry.tool.idempotent or course.was_probe:
            return False
        if is_a(result.error, ToolTimeoutError) and result.error.still_running:
            return False  # another thread beside that one would be of no use
        if not course.pause and result.state not in _ADMITTING:
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
            if not is_its_own(raised, self._entry.settings.control_flow):
                raise
            self._entry.complain("what says whether to try again raised", raised)
            return False

    def _backoff(self, attempt: int) -> float:
        policy = self._policy
        jitter = self._chance() * policy.wait_jitter if policy.wait_jitter else 0.0
        try:
            wait = policy.wait_initial * float(policy.wait_exp_base) ** (attempt - 1)
        except OverflowError:
            return policy.wait_max
        return min(policy.wait_max, wait + jitter)

    def _chance(self) -> float:
        try:
            drawn = float(self._policy.jitter_source())
            if 0.0 <= drawn <= 1.0:
                return drawn
            raise ValueError(f"{drawn!r} is not a number from 0 to 1")
        except BaseException as raised:
            if not is_its_own(raised):
                raise
            self._entry.complain("its retry's jitter_source is of no use", raised)
            return 0.0


_ADMITTING: Final = (CircuitState.CLOSED, CircuitState.DISABLED)


class _AgainError(Exception):
    """
    What stamina is told: that there is to be another attempt, and when. It may log what
    it is told, so there is nothing in it but the tool's name.
    """

    def __init__(self, tool_name: str, wait: float) -> None:
        super().__init__(tool_name)
        self.wait = wait


def _end(attempt: Attempt, again: _AgainError) -> None:
    """
    Tell stamina how the attempt ended, as a ``with`` would. But an error that is raised
    keeps the frames that it was raised in, and those have the call.
    """
    attempt.__enter__()
    attempt.__exit__(type(again), again, None)


def _wait_of(error: Exception) -> float:
    assert isinstance(error, _AgainError)
    return error.wait


def _both(before: ToolResult, now: ToolResult) -> ToolResult:
    """
    What to say of two attempts: that of the later one, if it ran the tool.
    """
    attempts = before.attempts + now.attempts
    duration = before.duration + now.duration
    if now.attempts or not before.attempts:
        return replace(now, attempts=attempts, duration=duration)
    state = before.state if now.state is None else now.state
    return replace(before, retry_after=now.retry_after, state=state)
