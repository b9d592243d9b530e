"""
A circuit's link to the fleet: what the fleet is known to have, what it has to be told, and
the lease of a probe. Without I/O of its own: what it says is carried by ``_sharing``.

A process moves its circuit at once, and tells the fleet after; whoever else has moved it
meanwhile was first, and this one follows. Only a probe is asked for before it runs.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from ._breaker import CircuitState, Permit, Refusal, Ruling, Standing, Tally
from ._hands import Hands
from ._lease import Lease, Pending, shared_of, standing_of
from ._log import logger
from ._store import (
    NOTHING_KNOWN,
    Answer,
    Change,
    Claim,
    Count,
    Isolate,
    Move,
    Renew,
    Run,
    SharedState,
)

if TYPE_CHECKING:
    from ._circuit import Circuit

_NEAR: Final = 0.25
"""Seconds by which what two processes know of one time may differ."""

_NEW: Final = 5.0
"""Seconds for which an opening is told to a fleet of which nothing was known."""

_POCKETED: Final = 2.0
"""Seconds for which a lease is kept for the next caller."""

_LITTLE: Final = 0.25
"""Seconds of a lease with which no probe is begun any more."""

_HEARD: Final = {
    CircuitState.CLOSED: "closed by the fleet",
    CircuitState.OPEN: "opened by the fleet",
    CircuitState.HALF_OPEN: "the fleet probes",
}


class Carrier(Protocol):
    """
    Whoever talks to the store.
    """

    @property
    def process(self) -> str:
        """By which the store knows this process."""

    @property
    def longest_lease(self) -> float:
        """Seconds that a lease may last before it is renewed."""

    @property
    def engine_patience(self) -> float:
        """Seconds for which asks may be in vain."""

    def is_up(self, now: float) -> bool:
        """Whether the store is to be asked; else the process is on its own."""

    async def ask(self, link: Link, lease: float) -> Refusal | bool:
        """
        Ask for the lease of a probe, and wait for a moment: why it has not come; or whether
        the call is to probe without one.
        """

    def wake(self, link: Link) -> None:
        """It has something to tell the fleet."""

    def forget(self, link: Link) -> None:
        """Its circuit is in use no more."""

    def renew(self, link: Link, lease: Lease, *, at_once: bool = False) -> None:
        """A probe runs that may take longer than its lease, or whose lease is lost."""

    def release(self, lease: Lease) -> None:
        """Its probe does not run any more, or is no longer the fleet's."""

    @property
    def quorum(self) -> int:
        """How many processes must have a run of failures."""


class Link:
    """
    One circuit among the fleet's.

    Attributes:
        id: What it is called in the store.
        circuit: The circuit.
        known: What the fleet was last known to have.
        lease: That of the probe which runs here.
        pocket: One that came, and that nobody has used yet.
        asking: Whether a lease is being asked for.
        due: Whether calls are to be counted by the fleet.
    """

    __slots__ = (
        "_carrier",
        "_hands",
        "_heard_at",
        "_is_in_touch",
        "_latency",
        "_pending",
        "_probe",
        "_sent",
        "_tally",
        "_token",
        "_told",
        "_unanswered_since",
        "_wasted_since",
        "asking",
        "circuit",
        "due",
        "id",
        "known",
        "lease",
        "pocket",
    )

    def __init__(self, id: str, circuit: Circuit, carrier: Carrier) -> None:
        self.id: str = id
        self.circuit: Circuit = circuit
        self.known: SharedState = NOTHING_KNOWN
        self.lease: Lease | None = None
        self.pocket: Lease | None = None
        self.asking: bool = False
        self.due: bool = False
        self._carrier = carrier
        self._heard_at = 0.0
        self._latency = 0.0  # seconds that the last claim took
        self._pending: Pending | None = None
        self._sent: object = None  # what of it is on its way
        self._hands = Hands(circuit)
        self._told = 0  # of the run of failures
        self._wasted_since: float | None = None  # leases that nobody has used
        self._unanswered_since: float | None = None  # asks
        self._is_in_touch = False  # whether the fleet has said anything of it yet
        self._token: str | None = None  # of a claim whose answer is not known
        self._probe: Permit | None = None  # one that runs without a lease
        self._tally = Tally()
        breaker = circuit.breaker
        breaker.ran = self._ran
        self.configure()

    def configure(self, now: float | None = None) -> None:
        """
        The circuit has other settings: since now, or from the beginning.
        """
        breaker = self.circuit.breaker
        breaker.tally = self._tally if breaker.has_windows else None
        if now is None or self._pending is not None:
            return
        here, there = breaker.standing(now), self.known_now(now)
        if (
            here.state is there.state is CircuitState.OPEN
            and here.rest < there.rest - _NEAR
        ):
            self._move(now, None)  # it is open for less

    def retire(self) -> None:
        """
        The circuit is in use no more.
        """
        self.circuit.breaker.ran = self.circuit.breaker.tally = None
        if self.lease is not None:
            self.pocket = self._let_go()  # nobody judges that probe
        self._hands.retire()
        self._carrier.forget(self)

    @property
    def has_last_words(self) -> bool:
        """
        Whether there is something that the fleet has to be told though the circuit is gone.
        """
        return self.pocket is not None or self._hands.news is not None

    # Before a probe

    def before_probe(self, now: float) -> Refusal | bool:
        """
        Whether the fleet has to be asked before a call can be the probe, or why it cannot be
        now.
        """
        breaker = self.circuit.breaker
        if breaker.closed_permit is not None or breaker.is_disabled:
            return False
        if not self._carrier.is_up(now):
            return False
        if breaker.refusal(now) is not None or self._has_pocket(now):
            return False
        if not self.asking:
            return True
        in_vain = self._is_too_long(self._unanswered_since, now)
        return False if in_vain else Refusal(breaker.state, 1.0)

    def goes_alone(self, now: float) -> bool:
        """
        Whether a call that has waited in vain is to be the probe of this process all the
        same: leases came too late for every caller, or did not come, for too long.
        """
        wasted = self._is_too_long(self._wasted_since, now)
        return wasted or self._is_too_long(self._unanswered_since, now)

    def _is_too_long(self, since: float | None, now: float) -> bool:
        return since is not None and now - since >= self._carrier.engine_patience

    def unanswered(self, began: float) -> None:
        """
        An ask of that time was not answered.
        """
        if self._unanswered_since is None:
            self._unanswered_since = began

    def in_time(self) -> None:
        """
        An ask was answered while its caller waited.
        """
        self._wasted_since = None

    def _has_pocket(self, now: float) -> bool:
        pocket = self.pocket
        # With little of it left, it could not be renewed before it ends.
        if pocket is not None and not now < pocket.until - min(_LITTLE, pocket.length / 4):
            self._waste(now)
        return self.pocket is not None

    async def ask(self, lease: float) -> Refusal | bool:
        """
        Ask the fleet, and wait for a moment. Whoever calls next has the lease, if it comes.

        Returns:
            Why nobody may probe now; or whether this call is to probe without a lease.
        """
        return await self._carrier.ask(self, lease)

    def claim(self, now: float, lease: float) -> Claim:
        """
        What to ask. The same token as before, where what became of that is not known. As a
        lease is counted from now, it lasts for what its answer takes as well.
        """
        if self._token is None:
            self._token = secrets.token_hex(8)
        longest = self._carrier.longest_lease
        return Claim(
            known=self.known_now(now),
            token=self._token,
            lease=min(lease + self._latency, longest),
            longest=longest,
        )

    def claimed(self, claim: Claim, answer: Answer, began: float, now: float) -> bool:
        """
        The answer to that; whether it is one. A store may say that the circuit is closed
        only because it has not done what it was told, and may not be able to.
        """
        self._token, self.asking = None, False
        self._unanswered_since, self._latency = None, now - began
        self._begin_anew(claim, answer)
        state = answer.state
        if not answer.done and self._is_ours(state):
            self._prolong(state.rest, began)
            return True
        if not answer.done or state.generation < self.known.generation:
            is_news = state.generation > self.known.generation
            self.hear(state, now, sure=True)
            return is_news or self._pending is None
        self._granted(claim, state, began, now)
        return True

    def _granted(self, claim: Claim, state: SharedState, began: float, now: float) -> None:
        self._know(state, now)
        breaker = self.circuit.breaker
        if self._goes_first(began):
            assert self._pending is not None
            self._pending.token = claim.token
            self._carrier.wake(self)
            return
        self._pending = None
        # It may be the answer to an ask of before, whose lease is half over.
        length = min(claim.lease, state.rest)
        lease = Lease(claim.token, length, began + length, now)
        if self._probe is not None and breaker.probe is self._probe:
            lease.permit, self._probe = self._probe, None
            self.lease = lease
            breaker.lease(lease.permit, now, max(0.0, lease.until - now))
            return
        self.pocket = lease
        open_to_all = replace(state, rest=0.0)
        self.circuit.adopt(standing_of(open_to_all), now, "a caller probes")
        self._has_pocket(now)  # else it has come too late, and the fleet has it back

    def _goes_first(self, began: float) -> bool:
        """
        Whether something has happened here that goes before a lease, which was asked for
        at that time.
        """
        pending = self._pending
        if pending is None:
            return False
        closed = self.circuit.breaker.is_closed_beneath
        return pending.force or closed or pending.since > began

    def _is_ours(self, state: SharedState) -> bool:
        """
        Whether the lease that is in force is that of the probe which runs here, of whose
        renewal this process has not heard yet.
        """
        half_open = state.state is CircuitState.HALF_OPEN and state.rest > 0.0
        same = state.generation == self.known.generation
        return self.lease is not None and half_open and same

    def _prolong(self, seconds: float, began: float) -> None:
        """
        The lease of the probe which runs here lasts for so long from that time on.
        """
        lease = self.lease
        assert lease is not None
        lease.until, lease.length = began + seconds, seconds
        self.circuit.breaker.lease(lease.permit, began, seconds)

    def lease_for(self, lease: float, now: float) -> float:
        """
        Seconds that a probe may take that begins now, of those that its tool is given.
        """
        if not self._has_pocket(now):
            return lease
        assert self.pocket is not None
        return min(lease, self.pocket.until - now)

    def took(self, permit: Permit, now: float, lease: float) -> None:
        """
        A probe has begun now, whose tool is given so many seconds.
        """
        taken, self.pocket = self.pocket, None
        self._wasted_since = self._unanswered_since = None
        self.lease, self._probe = taken, permit
        if taken is not None:
            self._probe = None
            taken.permit, taken.last = permit, now + lease
            if taken.last > taken.until:
                self._carrier.renew(self, taken)

    def lacks_lease(self, now: float) -> float:
        """
        For how many seconds a probe may go on that runs here, and of which the fleet does
        not know; 0 where there is none.
        """
        breaker = self.circuit.breaker
        if self._probe is None or breaker.probe is not self._probe:
            return 0.0
        return breaker.rest_of_lease(now)

    @property
    def has_lost_an_answer(self) -> bool:
        """
        Whether a lease may be this process's without its knowing.
        """
        return self._token is not None and not self.asking

    def renewal(self, lease: Lease, now: float) -> Renew | None:
        """
        What to ask for a probe that runs, or ``None`` if there is nothing to ask.
        """
        if self.lease is not lease or not now < lease.last:
            return None
        seconds = min(self._carrier.longest_lease, lease.last - now)
        return Renew(known=self.known_now(now), token=lease.token, lease=seconds)

    def renewed(self, lease: Lease, renew: Renew, answer: Answer, began: float) -> None:
        """
        The answer to that.
        """
        self._begin_anew(renew, answer)
        self.hear(answer.state, began)
        if not answer.done or self.lease is not lease:
            return
        self._prolong(renew.lease, began)

    # What has happened here

    def is_overdue(self, permit: Permit, now: float) -> bool:
        """
        Whether the permit is a probe's whose lease has ended: another process may probe.
        """
        has_lease = self.lease is not None and self.lease.permit is permit
        return has_lease and self.circuit.breaker.is_overdue(permit, now)

    def succeeded_late(self, permit: Permit, now: float) -> None:
        """
        Such a probe has succeeded after all. That closes the circuit (rule C4), if nobody
        probes meanwhile, which the store knows.
        """
        lease = self._let_go()
        assert lease is not None
        standing = self.circuit.breaker.standing(now)
        successes = standing.successes + 1
        if successes < self.circuit.breaker.settings.success_threshold:
            standing = standing._replace(successes=successes)
        else:
            standing = Standing()
        self._pending = Pending(standing, now, lease.token, False)
        self._carrier.wake(self)

    def ruled(self, permit: Permit, now: float, ruling: Ruling) -> None:
        """
        A call has given its permit back.
        """
        if permit is self._probe:
            self._probe = None
        token = None
        if self.lease is not None and permit is self.lease.permit:
            token = self.lease.token
            self._let_go()
            if ruling.late:
                return
        elif ruling.transition is None or not ruling.transition.enforced:
            return
        self._move(now, token)

    def _let_go(self) -> Lease | None:
        """
        Have no lease of a probe that runs any more; the one that there was.
        """
        lease, self.lease = self.lease, None
        if lease is not None:
            self._carrier.release(lease)
        return lease

    def moved(self, now: float, *, force: bool = False) -> None:
        """
        It was moved without a call: by hand, if that is to be so in any case; else by what
        was known of it before.
        """
        # In one go: a thread may do it, while the loop's own hears the answer.
        self._move(now, None, force, is_old=not force)

    def isolated(self) -> str:
        """
        It was isolated by hand; the token by which that ends.
        """
        token = self._hands.isolate()
        self._carrier.wake(self)
        return token

    def released(self, token: str) -> bool:
        """
        An isolation is to end; whether it has not ended before.
        """
        is_held = self._hands.release(token)
        self._carrier.wake(self)
        return is_held

    def unisolated(self) -> None:
        """
        All isolations have ended.
        """
        self._hands.lift()
        self._carrier.wake(self)

    def _move(
        self,
        now: float,
        token: str | None,
        force: bool = False,
        *,
        is_old: bool = False,
    ) -> None:
        before = self._pending
        if before is not None:  # the fleet has not heard of that
            token, force = token or before.token, force or before.force
        standing = self.circuit.breaker.standing(now)
        self._pending = Pending(standing, now, token, force, is_old)
        self.pocket = None
        self._carrier.wake(self)

    def _ran(self) -> None:
        if self._run != self._told:
            self._carrier.wake(self)

    @property
    def _run(self) -> int:
        breaker = self.circuit.breaker
        counts = breaker.is_closed_beneath and not breaker.is_disabled
        return breaker.failures if counts else 0

    @property
    def _counts(self) -> bool:
        """
        Whether there are calls for the fleet to count.
        """
        if self.circuit.breaker.is_disabled:
            self._tally.clear()  # they are nobody's business
        return self.due and self._tally.calls > 0

    # What the fleet is told

    @property
    def has_news(self) -> bool:
        """
        Whether there is something to tell the fleet.
        """
        return bool(
            self._hands.news is not None
            or self._pending is not None
            or self._run != self._told
            or self._counts
        )

    def next_change(self, now: float) -> Change | None:
        """
        What the fleet is to be told next. ``answered`` is to be called with the answer.
        """
        known = self.known_now(now)
        if (by_hand := self._hands.news) is not None:
            self._sent = by_hand
            return Isolate(known=known, add=by_hand.add, remove=by_hand.remove)
        if self._pending is not None:
            pending = self._sent = self._pending
            to = shared_of(pending.standing, now - pending.since)
            return Move(known=known, to=to, token=pending.token, force=pending.force)
        if self._counts:
            return self._count(known)
        return self._run_change(known) if self._run != self._told else None

    def _count(self, known: SharedState) -> Count:
        tally, self._tally = self._tally, Tally()
        self.due = False
        self.configure()
        breaker = self.circuit.breaker
        settings = breaker.settings
        return Count(
            known=known,
            calls=tally.calls,
            failures=tally.failures,
            slow=tally.slow,
            window_calls=settings.window_calls,
            window_seconds=settings.window_seconds,
            minimum_calls=settings.minimum_calls,
            failure_rate=settings.failure_rate,
            slow_rate=settings.slow_rate,
            to=shared_of(breaker.would_open()),
        )

    def _run_change(self, known: SharedState) -> Run:
        breaker = self.circuit.breaker
        return Run(
            known=known,
            process=self._carrier.process,
            failures=self._run,
            threshold=breaker.settings.failure_threshold,
            processes=self._carrier.quorum,
            lasts=max(60.0, breaker.settings.reset_timeout),
            to=shared_of(breaker.would_open()),
        )

    def answered(self, change: Change, answer: Answer, now: float) -> None:
        """
        The answer to what the fleet was told.
        """
        self._begin_anew(change, answer)
        if isinstance(change, Isolate):
            self._hands.told(self._sent)
        elif isinstance(change, Run):
            if answer.state.generation == change.known.generation:
                self._told = change.failures
        elif isinstance(change, Move) and self._pending is self._sent is not None:
            self._sent = None
            self._told = 0
            if not self._is_to_be_told_again(change, answer, now):
                self._pending = None
            if answer.done:
                self._know(answer.state, now)
                self._follow_own(answer.state, now)
                return
        self.hear(answer.state, now)

    def _follow_own(self, state: SharedState, now: float) -> None:
        """
        Close, where the fleet has agreed to the success of a probe whose lease had ended.
        """
        here = self.circuit.breaker.standing(now).state
        waits = self._pending is None and here is CircuitState.HALF_OPEN
        if waits and state.state is CircuitState.CLOSED:
            self.circuit.adopt(standing_of(state), now, _HEARD[CircuitState.CLOSED])

    def _is_to_be_told_again(self, move: Move, answer: Answer, now: float) -> bool:
        """
        Whether a move was turned down only because this process had not heard yet how the
        circuit stood, or was overtaken by a lease for this process.
        """
        assert self._pending is not None
        if self._pending.token != move.token:
            return True
        # Once: a store that says so again has not understood.
        is_first = self._is_first(answer.state, move.known, now)
        return not answer.done and is_first and answer.state.generation > 0

    # What the fleet says

    def known_now(self, now: float) -> SharedState:
        """
        What the fleet was last known to have, as of now.
        """
        known = self.known
        others = self._hands.others(known.isolations)
        rest = max(0.0, known.rest - max(0.0, now - self._heard_at))
        return replace(known, rest=rest, isolations=others)

    def hear(self, state: SharedState, now: float, *, sure: bool = False) -> None:
        """
        What the fleet has now, or had: whoever knows of a later generation knows better.

        Args:
            state: It.
            now: Seconds on the circuit's clock.
            sure: Whether it is to be followed also if it is not news.
        """
        before = self.known
        if state.generation < before.generation:
            return
        asks = self.asking or self.has_lost_an_answer
        if asks and state.state is CircuitState.HALF_OPEN and not sure:
            return  # it may be this process that probes: an answer will tell
        news = state.generation > before.generation
        self._know(state, now)
        was_in_touch, self._is_in_touch = self._is_in_touch, True
        if news and not (state.state is before.state is CircuitState.CLOSED):
            self._told = 0
        self._hands.hear(state.isolations)
        if self._pending is not None:
            if not news or self._pending.force or self._is_first(state, before, now):
                return
            self._pending = None
        if news or sure:
            self._follow(state, now, before if was_in_touch else None, sure)
            return
        if self._is_left(state, now):
            self._move(now, None)
            return
        # It may have been renewed. What is longer than any is not to be believed again and
        # again: who asks has it cut.
        is_elsewhere = (
            state.state is CircuitState.HALF_OPEN and self.lease is self.pocket is None
        )
        if is_elsewhere and state.rest <= self._carrier.longest_lease:
            self.circuit.breaker.lease(None, now, max(0.0, state.rest))

    def _is_left(self, state: SharedState, now: float) -> bool:
        """
        Whether the fleet has it half-open where nobody probes, and it is closed here, by a
        probe of this process's own.
        """
        if state.state is not CircuitState.HALF_OPEN or state.rest > 0.0:
            return False
        breaker = self.circuit.breaker
        closed = breaker.standing(now).state is CircuitState.CLOSED
        return closed and self._pending is None and not breaker.is_disabled

    def _is_first(self, state: SharedState, before: SharedState, now: float) -> bool:
        """
        Whether the fleet has it closed, of which this process had only not heard before it
        opened it, just now.
        """
        assert self._pending is not None
        is_new = not self._pending.is_old and now - self._pending.since < _NEW
        closed = state.state is CircuitState.CLOSED
        return is_new and closed and before.generation == 0

    def _of_lease(self, rest: float) -> float:
        """
        Seconds for which another process may probe, of those that it is said to.
        """
        return min(max(0.0, rest), self._carrier.longest_lease)

    def _begin_anew(self, change: Change, answer: Answer) -> None:
        """
        A store does not answer with less than it was told, unless it could not believe that:
        its clock has gone back by more than a day, say. Then what it has counts.
        """
        if answer.state.generation < change.known.generation:
            self.known = NOTHING_KNOWN

    def _know(self, state: SharedState, now: float) -> None:
        if state.generation < self.known.generation:
            return  # answers overtake each other
        is_news = state.generation > self.known.generation
        if is_news and state.state is not CircuitState.HALF_OPEN:
            self._wasted_since = self._unanswered_since = None  # somebody has probed
        self.known, self._heard_at = state, now

    def _follow(
        self, state: SharedState, now: float, before: SharedState | None, sure: bool
    ) -> None:
        breaker = self.circuit.breaker
        standing = standing_of(state)
        if standing.state is CircuitState.HALF_OPEN:
            standing = standing._replace(rest=self._of_lease(standing.rest))
        here = breaker.standing(now)
        was = CircuitState.CLOSED if before is None else before.state
        on_its_own = here.state is CircuitState.CLOSED is not was
        if on_its_own and standing.state is CircuitState.HALF_OPEN:
            # It was closed by a probe of its own, while the store did not answer. What a
            # store that wakes up does of what it was asked long ago does not undo that.
            return
        if here.state is standing.state:
            if here.state is CircuitState.CLOSED:
                if before is not None:
                    self._follow_reset(state, now, before)
                return
            near = abs(here.rest - standing.rest) < _NEAR
            if here.state is CircuitState.OPEN and near and not sure:
                return
        self._let_go()
        self.pocket = self._probe = None
        longest = breaker.longest(standing.paused, standing.reopenings)
        self.circuit.adopt(standing, now, _HEARD[standing.state])
        if standing.state is CircuitState.OPEN and standing.rest > longest + _NEAR:
            logger.warning(
                "circuit %s: the store has it open for %g s, and its settings allow %g",
                self.circuit.name,
                standing.rest,
                longest,
            )
            self._move(now, None)

    def _follow_reset(self, state: SharedState, now: float, before: SharedState) -> None:
        """
        The fleet has it closed, and had it so before: somebody has closed it by hand, so that
        all forget what has failed; or it was open in between.
        """
        by_hand = state.isolations != before.isolations
        is_news = state.generation > before.generation
        was_closed = before.state is CircuitState.CLOSED
        if is_news and was_closed and not by_hand and self.circuit.breaker.has_bad_calls:
            self.circuit.adopt(Standing(), now, _HEARD[CircuitState.CLOSED])

    def missing(self, now: float) -> None:
        """
        The store has nothing of it: it has lost its data, or has never had any. It is told
        what has to be known.
        """
        self._is_in_touch = True
        if self.known.generation:
            self._told = 0
        self._hands.missing(self.known_now(now).isolations)
        if self.has_news:
            self._carrier.wake(self)
        breaker = self.circuit.breaker
        if self.lease is not None:
            self._carrier.renew(self, self.lease, at_once=True)
            return
        is_open = breaker.standing(now).state is CircuitState.OPEN
        if is_open and self._pending is None and not breaker.is_disabled:
            self._move(now, None)

    def tidy(self, now: float) -> None:
        """
        Let the fleet have a lease that nobody has used here.
        """
        if self._has_pocket(now):
            assert self.pocket is not None
            if now - self.pocket.came >= _POCKETED:
                self._waste(now)

    def _waste(self, now: float) -> None:
        self._wasted_since = self._wasted_since or now
        self.give_up_lease(now)

    def give_up_lease(self, now: float) -> None:
        """
        Let the fleet have the lease, if there is one without a probe.
        """
        if self.pocket is not None:
            self._move(now, self.pocket.token)
