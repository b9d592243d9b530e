"""
How many calls there may be, of a tool, of a group and in all: what an attempt passes before
it asks its circuit.

It asks the circuit first whether there is any use in waiting. Then it takes a place in each
limit, those of the tool before those of its group and of the orchestrator: who waits in a
narrow queue takes no room in a wide one. Then it takes the tokens of all rates at one moment,
as a rate is of the moments at which calls begin: tokens that are kept while their calls wait
could all be used at once. So a call that waits for its turn has its places already.

As all take them in this order, no two wait for each other. A tool that calls tools holds its
places meanwhile, and what it calls needs no second one of the same limit: it would wait for
itself. But where it holds a place of all tools, say, and waits for one of the inner tool,
which somebody holds who waits for one of all, only ``max_wait`` ends that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from ._answers import Answers
from ._calls import Request, ToolResult
from ._entry import Entry, Step
from ._errors import LimitExceededError
from ._execution import Execution
from ._limits import Limit
from ._marks import Marks, put, take_off
from ._policy import LimitPolicy
from ._rate import Late, Rate, RateLimit, Token, acquire

_MANY: Final = 10**9
"""As good as no limit, for those who still wait for one."""

_OFTEN: Final = RateLimit(calls=_MANY, seconds=1.0, burst=_MANY)


class Gate:
    """
    The limits of one scope: a tool, a group, or all tools.

    Attributes:
        scope: Which, as a message says it; empty for a tool's own.
        limit: How many calls may run at one time, if that is limited.
        rate: How many there may be in a time, if that is limited.
    """

    __slots__ = ("__weakref__", "_places", "limit", "rate", "scope")

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.limit: Limit | None = None
        self.rate: Rate | None = None
        self._places: Limit | None = None

    def configure(self, policy: LimitPolicy | None, now: float) -> None:
        """
        Go on with other settings, with the places that are taken and what was used. Who
        waits for what is not limited any more goes on at once.
        """
        self.limit = self._limit(policy, now)
        self.rate = self._rate(policy, now)

    def _limit(self, policy: LimitPolicy | None, now: float) -> Limit | None:
        places = self._places
        if policy is None or policy.max_concurrent is None:
            if places is not None:
                # Kept, so that places which are taken count when there is a limit again.
                wait = places.max_wait
                places.reload(_MANY, max_queue=places.max_queue, max_wait=wait, now=now)
            return None
        size, most, wait = policy.max_concurrent, policy.max_queue, float(policy.max_wait)
        if places is None:
            places = self._places = Limit(self.scope, size, max_queue=most, max_wait=wait)
        else:
            places.reload(size, max_queue=most, max_wait=wait, now=now)
        return places

    def _rate(self, policy: LimitPolicy | None, now: float) -> Rate | None:
        rate = self.rate
        if policy is None or policy.calls is None:
            if rate is not None:
                rate.reload(_OFTEN, now)
            return None
        limit = RateLimit(
            calls=policy.calls,
            seconds=float(policy.seconds),
            burst=policy.burst or policy.calls,
            max_wait=float(policy.max_wait),
        )
        if rate is None:
            return Rate(limit)
        if rate.limit != limit:
            rate.reload(limit, now)
        return rate


class _Holding:
    """
    A place that a call has, for as long as it has it.
    """

    __slots__ = ("limit",)

    def __init__(self, limit: Limit) -> None:
        self.limit: Limit | None = limit

    @property
    def is_over(self) -> bool:
        return self.limit is None

    def release(self, now: float) -> None:
        """
        Give it back, once.
        """
        limit, self.limit = self.limit, None
        assert limit is not None
        limit.release(now)


_held: ContextVar[Marks[_Holding]] = ContextVar("orchestrator_async_places")
"""The places of the calls that this code runs under."""


class Gated:
    """
    Has each attempt pass the gates.
    """

    def __init__(
        self,
        step: Step,
        entry: Entry,
        gates: tuple[Gate, ...],
        execution: Execution,
        answers: Answers,
        time: Callable[[], float],
    ) -> None:
        self._step = step
        self._entry = entry
        self._gates = gates
        self._execution = execution
        self._answers = answers
        self._time = time

    async def __call__(self, request: Request, render: bool) -> ToolResult:
        """
        Make the attempt once it has all that it needs, and give everything back.
        """
        course = request.course
        assert course is not None
        places: list[_Holding] = []
        tokens: list[Token] = []
        before = None
        try:
            refused = self._execution.turned_away(self._entry, request)
            if refused is None:
                refused = await self._pass(request, places, tokens)
            if refused is not None:
                await checkpoint()
                return refused
            if places:
                before = put(_held, tuple(places))
            return await self._step(request, render)
        finally:
            opened = request.opened
            if opened is None or opened.steps is None:
                self._release(places)
            else:  # a stream has them until it ends
                release = functools.partial(self._release, places)
                opened.steps.hand_over(release, _held, tuple(places))
            if not course.ran:
                for token in tokens:
                    token.give_back()
            take_off(_held, before)

    def _release(self, places: list[_Holding]) -> None:
        now = self._time()
        for place in places:
            place.release(now)

    async def _pass(
        self, request: Request, places: list[_Holding], tokens: list[Token]
    ) -> ToolResult | None:
        """
        Wait for a place in each limit and then for a turn in all rates, or say why there
        is none in time.
        """
        for gate in self._gates:
            limit = gate.limit
            if limit is None or _is_held(limit):
                continue
            said = await limit.acquire(self._time(), wait=self._rest(request))
            if said is not None:
                return self._too_many(gate, limit, request)
            places.append(_Holding(limit))
        rated = {gate.rate: gate for gate in self._gates if gate.rate is not None}
        if rated:
            rest = functools.partial(self._patience, request)
            answer = await acquire(tuple(rated), self._time, rest)
            if isinstance(answer, Late):
                return self._too_often(rated[answer.rate], answer, request)
            tokens.append(answer)
        return None

    def _rest(self, request: Request) -> float:
        """
        Seconds that are left of the whole call.
        """
        assert request.course is not None
        return request.course.deadline - anyio.current_time()

    def _patience(self, request: Request) -> float:
        """
        Seconds after which a turn would come too late: for its caller, or for the whole call.
        """
        own = anyio.current_effective_deadline() - anyio.current_time()
        return min(own, self._rest(request))

    def _too_many(self, gate: Gate, limit: Limit, request: Request) -> ToolResult:
        error = LimitExceededError(
            tool_name=self._entry.name,
            limit="concurrency",
            size=limit.size,
            retry_after=limit.retry_after(self._time()),
            scope=gate.scope,
        )
        return self._limited(error, request)

    def _too_often(self, gate: Gate, late: Late, request: Request) -> ToolResult:
        limit = late.rate.limit
        error = LimitExceededError(
            tool_name=self._entry.name,
            limit="rate",
            size=limit.calls,
            retry_after=late.wait,
            scope=gate.scope,
            seconds=limit.seconds,
        )
        return self._limited(error, request)

    def _limited(self, error: LimitExceededError, request: Request) -> ToolResult:
        entry = self._entry
        circuit = self._execution.circuit_of(entry, request) or entry.circuit
        return self._answers.limited(entry, circuit, request, error)


def _is_held(limit: Limit) -> bool:
    return any(place.limit is limit for place in _held.get(()))
