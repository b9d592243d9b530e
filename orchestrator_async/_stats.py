"""
Figures of one tool: counted in place by the orchestrator, shown as frozen snapshots.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolStats:
    """
    One tool's figures at one moment.

    ``calls`` is the sum of ``successes``, ``total_failures``, ``cancelled``,
    ``ignored`` and ``in_flight``.

    Attributes:
        state: The state of the tool's circuit.
        failures: Failures in a row of its circuit, now.
        total_failures: Executions that failed, ever.
        successes: Executions that succeeded, ever.
        avg_time: Seconds an execution took on average, over the ended ones.
        calls: Executions that were begun.
        rejected: Calls that its circuit, a limit or its guard refused, by attempt: also
            where another attempt, or a fallback, had an answer.
        invalid: Calls that were refused because of their arguments.
        late: Executions whose verdict came after the circuit had moved on.
        throttled: Executions that failed by asking for a pause, which their circuit
            was given and did not count. They are among ``total_failures``.
        timeouts: Executions that ran over the tool's own timeout.
        cancelled: Executions without a verdict because the caller was cancelled.
        ignored: Executions without a verdict for another reason.
        in_flight: Executions that are going on.
        oldest_in_flight: Seconds that the oldest of these has been going on.
        last_error: The last failure of its circuit as text, or ``None``.
        would_reject: Calls that its circuit would have refused, had it not been
            disabled.
        keys: Circuits of its own that it has by key.
        retries: Attempts that were made after another.
    """

    state: str
    failures: int
    total_failures: int
    successes: int
    avg_time: float
    calls: int
    rejected: int
    invalid: int
    late: int
    timeouts: int
    cancelled: int
    ignored: int
    in_flight: int
    oldest_in_flight: float
    last_error: str | None
    throttled: int = 0
    would_reject: int = 0
    keys: int = 0
    retries: int = 0


class Figures:
    """
    The counters behind ``ToolStats``.

    Attributes:
        begun: Executions that were begun; also the number of the latest.
        not_run: Those of them that the arguments kept from entering the tool.
        alone: The number of an execution that is going on and began while there was
            no other such one, or 0. A call that nobody shares the tool with costs no
            entry in a dict.
        alone_since: When that one began.
        flights: When each of the others that are going on began, by its number, oldest
            first. It is never copied or searched while calls are made.
    """

    __slots__ = (
        "alone",
        "alone_since",
        "begun",
        "cancelled",
        "flights",
        "ignored",
        "invalid",
        "late",
        "not_run",
        "rejected",
        "retries",
        "throttled",
        "timeouts",
        "total_failures",
        "total_time",
        "would_reject",
    )

    def __init__(self) -> None:
        self.begun = self.not_run = self.rejected = self.invalid = 0
        self.total_failures = self.cancelled = self.ignored = 0
        self.late = self.timeouts = self.throttled = self.would_reject = 0
        self.retries = 0
        self.total_time = 0.0
        self.alone = 0
        self.alone_since = 0.0
        self.flights: dict[int, float] = {}

    def begin(self, now: float) -> int:
        """
        An execution begins; its number. ``dispatch`` has this written out.
        """
        number = self.begun = self.begun + 1
        if self.alone:
            self.flights[number] = now
        else:
            self.alone, self.alone_since = number, now
        return number

    def end(self, number: int) -> None:
        """
        That execution has ended, which may have been said already: where ``dispatch`` was
        interrupted after it had said so.
        """
        if number == self.alone:
            self.alone = 0
        elif number in self.flights:
            del self.flights[number]

    @property
    def in_flight(self) -> int:
        """
        Executions that are going on.
        """
        return len(self.flights) + (self.alone > 0)

    @property
    def calls(self) -> int:
        """
        Executions of the tool.
        """
        return self.begun - self.not_run

    @property
    def successes(self) -> int:
        """
        Executions that succeeded: those that did not end in another way. What is most
        frequent is not counted, which a call is cheaper for.
        """
        ended = self.calls - self.in_flight
        return ended - self.total_failures - self.cancelled - self.ignored

    @property
    def average(self) -> float:
        """
        Seconds an execution took on average; 0 before the first has ended.
        """
        ended = self.calls - self.in_flight
        return max(0.0, self.total_time / ended) if ended > 0 else 0.0

    def snapshot(
        self,
        *,
        state: str,
        failures: int,
        last_error: str | None,
        now: float | None,
        keys: int = 0,
    ) -> ToolStats:
        """
        The figures as they are; ``now`` is the clock's, ``None`` where it has none.
        """
        began = [self.alone_since] if self.alone else []
        began.extend(itertools.islice(self.flights.values(), 1))
        oldest = max(0.0, now - min(began)) if began and now is not None else 0.0
        return ToolStats(
            state=state,
            failures=failures,
            total_failures=self.total_failures,
            successes=self.successes,
            avg_time=self.average,
            calls=self.calls,
            rejected=self.rejected,
            invalid=self.invalid,
            late=self.late,
            timeouts=self.timeouts,
            cancelled=self.cancelled,
            ignored=self.ignored,
            in_flight=self.in_flight,
            oldest_in_flight=oldest,
            last_error=last_error,
            throttled=self.throttled,
            would_reject=self.would_reject,
            keys=keys,
            retries=self.retries,
        )
