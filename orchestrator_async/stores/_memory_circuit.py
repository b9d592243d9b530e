"""
One circuit of the store in memory: what ``_redis_change.lua`` does, in Python.

Synchronous and without I/O; ``now`` is an argument, in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator_async._breaker import CircuitState
from orchestrator_async._store import (
    NOTHING_KNOWN,
    Change,
    Claim,
    Count,
    Isolate,
    Move,
    Renew,
    Run,
)

from ._record import (
    BUCKETS,
    DAY,
    LAST_GENERATION,
    LONGEST_LEASE,
    MONTH,
    Record,
    bucket_width,
    count,
    milliseconds,
    record_of,
    share,
)

_NOTHING = record_of(NOTHING_KNOWN)

UNKNOWN = object()
"""The token of a lease of which only others have told."""


@dataclass(slots=True)
class Outcome:
    """
    What came of a change: whether it was done, and whether everybody is to be told.
    """

    done: bool = False
    told: bool = False


class Calls:
    """
    The calls of one bucket.
    """

    __slots__ = ("calls", "failures", "slow")

    def __init__(self, calls: int = 0, failures: int = 0, slow: int = 0) -> None:
        self.calls = calls
        self.failures = failures
        self.slow = slow

    def add(self, calls: int, failures: int, slow: int) -> None:
        self.calls = count(self.calls + calls)
        self.failures = count(self.failures + failures)
        self.slow = count(self.slow + slow)


class MemoryCircuit:
    """
    A circuit, and what the processes of a fleet have said of it.

    Attributes:
        is_known: Whether there is a state of it to be read, and not runs or calls alone.
        expires: When all of it may be forgotten.
    """

    __slots__ = (
        "_buckets",
        "_hands",
        "_record",
        "_runs",
        "_token",
        "_until",
        "_width",
        "expires",
        "is_known",
    )

    def __init__(self) -> None:
        self.is_known = False
        self.expires = 0
        self._record: Record = replace(_NOTHING)
        self._until = 0  # when it may be probed, or the lease ends
        self._token: object = None  # of the last lease
        self._runs: dict[str, tuple[int, int]] = {}  # failures, and until when they count
        self._width = 0  # of a bucket
        self._buckets: dict[int, Calls] = {}
        self._hands: set[str] = set()  # of those who hold it isolated

    def record(self, now: int) -> Record:
        """
        The circuit as it is now.
        """
        return replace(self._record, rest=max(0, self._until - now))

    def record_for(self, change: Change, now: int) -> Record:
        """
        The same, after a change that may have changed nothing: then as its sender knows it,
        if that is newer.
        """
        known = _known(change, now)
        return known if self._is_news(known) else self.record(now)

    def change(self, change: Change, now: int) -> Outcome:
        """
        Make a change.
        """
        known = _known(change, now)
        if type(change) is Claim:
            return self._claim(change, known, now)
        self._learn(known, now)
        match change:
            case Renew():
                outcome = self._renew(change, known, now)
            case Move():
                outcome = self._move(change, known, now)
            case Run():
                outcome = self._run(change, known, now)
            case Count():
                outcome = self._count(change, known, now)
            case Isolate():
                outcome = self._isolate(change, now)
            case _:
                raise TypeError(f"no such change: {type(change).__name__}")
        self._extend(now)
        return outcome

    def _learn(self, known: Record, now: int) -> None:
        """
        Go on from what somebody knows, if that is newer.
        """
        if not self._is_news(known):
            return
        if known.isolations < len(self._hands):
            self._hands.clear()
        if known.generation > self._record.generation:
            self._forget()
            self.is_known = True
        self._record = known
        self._until = now + known.rest
        self._token = UNKNOWN if known.rest else None

    def _is_news(self, known: Record) -> bool:
        return not self.is_known or known.generation > self._record.generation

    def _claim(self, claim: Claim, known: Record, now: int) -> Outcome:
        mine = self._record
        if self._is_news(known):
            mine = known
            until, token = now + known.rest, None
        else:
            until, token = self._until, self._token
        if mine.state is CircuitState.HALF_OPEN:
            until = min(until, now + milliseconds(claim.longest, LONGEST_LEASE))
            if mine is self._record:
                self._until = until
        in_force = until > now
        if mine.state is CircuitState.HALF_OPEN and in_force and token == claim.token:
            return Outcome(done=True)
        if mine.state is CircuitState.CLOSED or in_force or mine.isolations:
            return Outcome()
        self._learn(known, now)
        self._begin(replace(mine, state=CircuitState.HALF_OPEN), now)
        self._until = now + milliseconds(claim.lease, LONGEST_LEASE)
        self._token = claim.token
        self._extend(now)
        return Outcome(done=True, told=True)

    def _renew(self, renew: Renew, known: Record, now: int) -> Outcome:
        if not self._is_probe(known, renew.token):
            return Outcome()
        if self._record.state is not CircuitState.HALF_OPEN:
            return Outcome()
        self._until = now + milliseconds(renew.lease, LONGEST_LEASE)
        self._token = renew.token
        return Outcome(done=True)

    def _move(self, move: Move, known: Record, now: int) -> Outcome:
        may = self._is_probe(known, move.token) or (
            move.token is None and self._is_left(known, now)
        )
        if not move.force and not may:
            return Outcome()
        self._become(record_of(move.to), now)
        return Outcome(done=True, told=True)

    def _is_probe(self, known: Record, token: str | None) -> bool:
        """
        Whether somebody knows of this generation, and is the probe if there is one.
        """
        if known.generation != self._record.generation:
            return False
        if self._record.state is not CircuitState.HALF_OPEN:
            return True
        return token is not None and self._token in (UNKNOWN, token)

    def _is_left(self, known: Record, now: int) -> bool:
        """
        Whether somebody knows of this generation, in which nobody probes any more.
        """
        return known.generation == self._record.generation and self._until <= now

    def _run(self, run: Run, known: Record, now: int) -> Outcome:
        if known.generation < self._record.generation:
            return Outcome()
        runs = {who: each for who, each in self._runs.items() if each[1] > now}
        runs.pop(run.process, None)
        if failures := count(run.failures):
            lasts = milliseconds(run.lasts, LONGEST_LEASE)
            runs[run.process] = failures, now + lasts
        self._runs = runs
        together = count(sum(each for each, _ in runs.values()))
        if not self._may_open or len(runs) < run.processes or together < run.threshold:
            return Outcome()
        self._become(replace(record_of(run.to), failures=together), now)
        return Outcome(done=True, told=True)

    def _count(self, counted: Count, known: Record, now: int) -> Outcome:
        if known.generation < self._record.generation:
            return Outcome()
        width = bucket_width(counted.window_seconds)
        if width != self._width:
            self._width, self._buckets = width, {}
        newest = now // width
        kept = range(newest - BUCKETS + 1, newest + 1)
        self._buckets = {n: each for n, each in self._buckets.items() if n in kept}
        self._buckets.setdefault(newest, Calls()).add(
            count(counted.calls), count(counted.failures), count(counted.slow)
        )
        if not self._may_open or not self._is_too_bad(counted, newest):
            return Outcome()
        self._become(record_of(counted.to), now)
        return Outcome(done=True, told=True)

    def _is_too_bad(self, counted: Count, newest: int) -> bool:
        if counted.window_seconds > 0:
            window = self._last(newest, 10, calls=0)
            if _exceeds(window, counted, counted.minimum_calls):
                return True
        if counted.window_calls <= 0:
            return False
        window = self._last(newest, BUCKETS, calls=counted.window_calls)
        least = min(counted.minimum_calls, counted.window_calls)
        return _exceeds(window, counted, least)

    def _last(self, newest: int, buckets: int, *, calls: int) -> Calls:
        """
        What so many of the last buckets hold, or fewer that have so many calls.
        """
        window = Calls()
        for number in range(newest, newest - buckets, -1):
            if (each := self._buckets.get(number)) is not None:
                window.add(each.calls, each.failures, each.slow)
            if calls and window.calls >= calls:
                break
        return window

    def _isolate(self, isolate: Isolate, now: int) -> Outcome:
        before = self._record.isolations
        unnamed = before - len(self._hands)
        if isolate.remove is None:
            self._hands.clear()
            unnamed = 0
        for token in isolate.remove or ():
            if token in self._hands:
                self._hands.discard(token)
            elif unnamed:
                unnamed -= 1
        for token in isolate.add:
            # One that is known, but not by its token, may be this one; a store that has
            # lost its data learns of it from several.
            if token not in self._hands and unnamed:
                unnamed -= 1
            self._hands.add(token)
        isolations = count(unnamed + len(self._hands))
        if isolations == before:
            return Outcome(done=True)
        until, token_of_lease = self._until, self._token
        self._begin(replace(self._record, isolations=isolations), now)
        self._until, self._token = until, token_of_lease
        return Outcome(done=True, told=True)

    @property
    def _may_open(self) -> bool:
        return self._record.state is CircuitState.CLOSED and not self._record.isolations

    def _become(self, to: Record, now: int) -> None:
        """
        Be in another state, which nobody probes.
        """
        is_open = to.state is CircuitState.OPEN
        self._begin(replace(to, isolations=self._record.isolations), now)
        self._until = now + to.rest if is_open else 0
        self._token = None
        self._forget()

    def _begin(self, record: Record, now: int) -> None:
        """
        Begin a generation.
        """
        generation = max(now, self._record.generation + 1)
        record.generation = now if generation > LAST_GENERATION else generation
        self._record = record
        self.is_known = True

    def _forget(self) -> None:
        self._runs = {}
        self._buckets = {}

    def _extend(self, now: int) -> None:
        life = MONTH if self._record.isolations else DAY
        self.expires = max(now, self._until) + life


def _known(change: Change, now: int) -> Record:
    known = record_of(change.known)
    if known.generation > now + DAY:
        known.generation = 0  # nobody can have that
    return known


def _exceeds(window: Calls, counted: Count, least: int) -> bool:
    if window.calls < least:
        return False
    failed = counted.failures > 0 and (
        window.failures / window.calls >= share(counted.failure_rate)
    )
    return failed or (
        counted.slow > 0 and window.slow / window.calls >= share(counted.slow_rate)
    )
