"""
A circuit's link to its fleet, told by hand what the store says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator_async import BreakerPolicy, CircuitState, Registry, ToolOrchestrator
from orchestrator_async._breaker import Permit, Refusal
from orchestrator_async._circuit import Circuit
from orchestrator_async._lease import Lease
from orchestrator_async._shared import Link
from orchestrator_async._store import Answer, Claim, Move, Renew, Run, SharedState

from .support import HandClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
NOW = 1000.0


class Carrier:
    """
    It carries nothing, and remembers what it was asked to.
    """

    def __init__(self) -> None:
        self.process = "me"
        self.quorum = 2
        self.longest_lease = 30.0
        self.engine_patience = 5.0
        self.up = True
        self.woken = 0
        self.asked: list[float] = []
        self.renewed: list[tuple[Lease, bool]] = []
        self.released: list[Lease] = []

    def is_up(self, now: float) -> bool:
        return self.up

    async def ask(self, link: Link, lease: float) -> Refusal | bool:
        self.asked.append(lease)
        return False

    def wake(self, link: Link) -> None:
        self.woken += 1

    def forget(self, link: Link) -> None:
        pass

    def renew(self, link: Link, lease: Lease, *, at_once: bool = False) -> None:
        self.renewed.append((lease, at_once))

    def release(self, lease: Lease) -> None:
        self.released.append(lease)


class Rig:
    """
    A circuit with its link, and a clock turned by hand.
    """

    def __init__(self) -> None:
        self.clock = HandClock(NOW)
        registry = Registry()

        @registry.tool
        async def tool() -> str:
            return "fine"

        self.orch = ToolOrchestrator(registry, reset_timeout=10.0, clock=self.clock)
        self.circuit: Circuit = self.orch.circuit("tool")
        self.carrier = Carrier()
        self.link = self.circuit.link = Link("tool", self.circuit, self.carrier)

    def hear(self, state: CircuitState, generation: int, **more: Any) -> None:
        told = SharedState(generation=generation, state=state, length=10.0, **more)
        self.link.hear(told, self.clock.now)

    def granted(self, generation: int = 6, lease: float = 3.0) -> Claim:
        claim = self.link.claim(self.clock.now, lease)
        state = SharedState(generation=generation, state=HALF_OPEN, rest=lease, length=10.0)
        answer = Answer(done=True, state=state)
        assert self.link.claimed(claim, answer, self.clock.now, self.clock.now)
        return claim

    def probe(self, lease: float = 60.0) -> Permit:
        permit = self.circuit.admit(self.clock.now, lease, 0.0)
        assert isinstance(permit, Permit)
        return permit

    def change(self) -> Any:
        return self.link.next_change(self.clock.now)

    def answer(self, change: Any, done: bool, **state: Any) -> None:
        told = SharedState(length=10.0, **state)
        self.link.answered(change, Answer(done=done, state=told), self.clock.now)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def open_rig(rig: Rig) -> Rig:
    """
    One whose circuit the fleet has had open until now.
    """
    rig.hear(OPEN, 5, rest=10.0, failures=3)
    rig.clock.turn(10.0)
    return rig


def test_a_lease_that_nobody_uses_is_kept_for_two_seconds(open_rig: Rig) -> None:
    open_rig.granted()
    for passed in (0.0, 1.0, 1.9):
        open_rig.clock.now = NOW + 10 + passed
        open_rig.link.tidy(open_rig.clock.now)
        assert open_rig.link.pocket is not None
    open_rig.clock.now = NOW + 12
    open_rig.link.tidy(open_rig.clock.now)
    assert open_rig.link.pocket is None
    move = open_rig.change()
    assert isinstance(move, Move)
    assert move.to.state is HALF_OPEN


def test_those_two_seconds_are_from_when_it_came(open_rig: Rig) -> None:
    asked = open_rig.clock.now
    claim = open_rig.link.claim(asked, 9.0)
    state = SharedState(generation=6, state=HALF_OPEN, rest=9.0, length=10.0)
    open_rig.link.claimed(claim, Answer(done=True, state=state), asked, asked + 1.5)
    open_rig.link.tidy(asked + 3.4)
    assert open_rig.link.pocket is not None
    open_rig.link.tidy(asked + 3.5)
    assert open_rig.link.pocket is None


def test_a_lease_covers_what_its_answer_takes(open_rig: Rig) -> None:
    asked = open_rig.clock.now
    claim = open_rig.link.claim(asked, 3.0)
    assert claim.lease == 3.0
    state = SharedState(generation=6, state=HALF_OPEN, rest=30.0, length=10.0)
    refused = Answer(done=False, state=state)
    open_rig.link.claimed(claim, refused, asked, asked + 1.5)
    claim = open_rig.link.claim(asked + 2, 3.0)
    assert claim.lease == 4.5
    open_rig.link.claimed(claim, refused, asked + 2, asked + 2.5)
    assert open_rig.link.claim(asked + 3, 3.0).lease == 3.5
    assert open_rig.link.claim(asked + 3, 29.9).lease == 30.0  # the longest


def test_who_is_closed_where_nobody_probes_says_so(rig: Rig) -> None:
    rig.hear(OPEN, 5, rest=10.0)
    rig.circuit.breaker.reset()  # by a probe of its own, while the store was away
    rig.hear(HALF_OPEN, 6, rest=3.0)
    rig.hear(HALF_OPEN, 6, rest=0.1)
    assert rig.circuit.state is CLOSED
    assert rig.change() is None  # somebody may still probe
    rig.hear(HALF_OPEN, 6, rest=0.0)
    move = rig.change()
    assert isinstance(move, Move)
    assert (move.to.state, move.token, move.force) == (CLOSED, None, False)
    assert move.known.generation == 6
    rig.circuit.disable()
    rig.link.answered(move, Answer(done=True, state=replace(move.to, generation=7)), NOW)
    rig.hear(HALF_OPEN, 8, rest=0.0)
    rig.hear(HALF_OPEN, 8, rest=0.0)
    assert rig.change() is None  # how it stands is nobody's business


def test_no_probe_is_begun_with_the_little_that_is_left_of_a_lease(open_rig: Rig) -> None:
    open_rig.granted(lease=3.0)
    open_rig.clock.turn(2.74)
    assert open_rig.link.before_probe(open_rig.clock.now) is False
    open_rig.clock.turn(0.02)
    assert open_rig.link.before_probe(open_rig.clock.now) is True


def test_what_is_left_of_a_lease_the_fleet_has_back(open_rig: Rig) -> None:
    claim = open_rig.granted(lease=3.0)
    open_rig.clock.turn(2.76)
    open_rig.link.before_probe(open_rig.clock.now)
    move = open_rig.change()
    assert isinstance(move, Move)
    assert (move.token, move.to.state) == (claim.token, HALF_OPEN)


def test_a_lease_that_comes_too_late_to_be_used_the_fleet_has_back(open_rig: Rig) -> None:
    asked = open_rig.clock.now
    claim = open_rig.link.claim(asked, 3.0)
    open_rig.clock.turn(2.76)
    now = open_rig.clock.now
    state = SharedState(generation=6, state=HALF_OPEN, rest=3.0, length=10.0)
    assert open_rig.link.claimed(claim, Answer(done=True, state=state), asked, now)
    assert open_rig.link.pocket is None
    move = open_rig.change()
    assert isinstance(move, Move)
    assert (move.token, move.to.state) == (claim.token, HALF_OPEN)
    assert open_rig.link.goes_alone(now + 5.0)  # it was wasted


async def test_what_has_failed_since_goes_before_a_lease(open_rig: Rig) -> None:
    asked = open_rig.clock.now
    claim = open_rig.link.claim(asked, 3.0)
    open_rig.carrier.up = False  # so it has probed alone
    open_rig.clock.turn(0.1)
    permit = open_rig.probe()
    open_rig.clock.turn(0.5)
    now = open_rig.clock.now
    open_rig.circuit.failed(permit, now, 0.1, "OSError")
    state = SharedState(generation=6, state=HALF_OPEN, rest=3.0, length=10.0)
    assert open_rig.link.claimed(claim, Answer(done=True, state=state), asked, now)
    assert open_rig.circuit.state is OPEN
    assert open_rig.link.pocket is None
    move = open_rig.change()
    assert isinstance(move, Move)
    assert (move.token, move.to.state) == (claim.token, OPEN)
    assert move.to.rest > 5.0


def test_of_a_short_lease_less_has_to_be_left(open_rig: Rig) -> None:
    open_rig.granted(lease=0.4)
    open_rig.clock.turn(0.29)
    assert open_rig.link.before_probe(open_rig.clock.now) is False
    open_rig.clock.turn(0.02)
    assert open_rig.link.before_probe(open_rig.clock.now) is True


def test_one_asks_at_a_time(open_rig: Rig) -> None:
    assert open_rig.link.before_probe(open_rig.clock.now) is True
    open_rig.link.asking = True
    assert open_rig.link.before_probe(open_rig.clock.now) == Refusal(OPEN, 1.0)
    open_rig.carrier.up = False
    assert open_rig.link.before_probe(open_rig.clock.now) is False


def test_a_lease_whose_answer_was_lost_is_not_taken_for_anothers(open_rig: Rig) -> None:
    claim = open_rig.link.claim(open_rig.clock.now, 3.0)
    assert open_rig.link.has_lost_an_answer
    open_rig.hear(HALF_OPEN, 6, rest=3.0)
    assert open_rig.circuit.state is OPEN
    assert open_rig.link.before_probe(open_rig.clock.now) is True
    assert open_rig.link.claim(open_rig.clock.now, 3.0).token == claim.token


def test_where_asks_are_in_vain_for_too_long_a_call_goes_alone(open_rig: Rig) -> None:
    now = open_rig.clock.now
    open_rig.link.unanswered(now)
    open_rig.link.unanswered(now + 3)
    open_rig.link.asking = True
    assert isinstance(open_rig.link.before_probe(now + 4.9), Refusal)
    assert open_rig.link.before_probe(now + 5.0) is False
    open_rig.granted()  # an answer, at last
    open_rig.link.give_up_lease(now)
    open_rig.link.asking = True
    assert isinstance(open_rig.link.before_probe(now + 5.0), Refusal)


@pytest.mark.parametrize("state", [OPEN, CLOSED])
def test_nor_where_somebody_has_probed_since(open_rig: Rig, state: CircuitState) -> None:
    now = open_rig.clock.now
    open_rig.link.unanswered(now)
    open_rig.hear(state, 7)
    assert not open_rig.link.goes_alone(now + 60.0)
    open_rig.granted(generation=8)
    open_rig.link.tidy(now + 2.0)
    open_rig.hear(state, 9)
    assert not open_rig.link.goes_alone(now + 60.0)


def test_but_not_beside_another_that_asks_where_leases_were_only_wasted(
    open_rig: Rig,
) -> None:
    now = open_rig.clock.now
    open_rig.granted()
    open_rig.link.tidy(now + 2.0)
    open_rig.link.asking = True  # who asks may well be answered
    assert isinstance(open_rig.link.before_probe(now + 60.0), Refusal)
    assert open_rig.link.goes_alone(now + 60.0)  # it was not


def test_a_lease_that_is_wasted_again_and_again_lets_a_call_go_alone(
    open_rig: Rig,
) -> None:
    now = open_rig.clock.now
    assert not open_rig.link.goes_alone(now)  # nothing was wasted yet
    open_rig.granted()
    open_rig.link.tidy(now + 2.0)
    assert not open_rig.link.goes_alone(now + 6.9)
    assert open_rig.link.goes_alone(now + 7.0)
    open_rig.link.in_time()
    assert not open_rig.link.goes_alone(now + 60.0)


async def test_it_asks_for_what_the_tool_may_take(open_rig: Rig) -> None:
    assert await open_rig.link.ask(7.0) is False
    assert open_rig.carrier.asked == [7.0]


async def test_a_probe_may_go_on_if_its_lease_is_renewed_and_else_not(
    open_rig: Rig,
) -> None:
    open_rig.granted(lease=3.0)
    permit = open_rig.probe(lease=60.0)
    [(lease, at_once)] = open_rig.carrier.renewed
    assert not at_once
    now = open_rig.clock.now
    renew = open_rig.link.renewal(lease, now + 1)
    assert isinstance(renew, Renew)
    assert renew.lease == 30.0
    state = SharedState(generation=6, state=HALF_OPEN, rest=30.0, length=10.0)
    open_rig.link.renewed(lease, renew, Answer(done=False, state=state), now + 1)
    assert open_rig.link.is_overdue(permit, now + 3)
    open_rig.link.renewed(lease, renew, Answer(done=True, state=state), now + 1)
    assert not open_rig.link.is_overdue(permit, now + 30)
    assert open_rig.link.is_overdue(permit, now + 31)
    renew = open_rig.link.renewal(lease, now + 40)
    assert renew is not None
    assert renew.lease == 20.0  # in all no more than it was given
    assert open_rig.link.renewal(lease, now + 60) is None
    assert open_rig.carrier.released == []
    open_rig.circuit.ignored(permit, now + 40)
    assert open_rig.carrier.released == [lease]
    assert open_rig.link.renewal(lease, now + 40) is None


def test_an_answer_that_contradicts_what_it_was_told_is_none(open_rig: Rig) -> None:
    open_rig.circuit.trip()
    claim = open_rig.link.claim(open_rig.clock.now, 3.0)
    now = open_rig.clock.now
    state = SharedState(generation=5, state=CLOSED)
    assert not open_rig.link.claimed(claim, Answer(done=False, state=state), now, now)
    news = replace(state, generation=7)
    assert open_rig.link.claimed(claim, Answer(done=False, state=news), now, now)


def test_a_refusal_is_an_answer(open_rig: Rig) -> None:
    claim = open_rig.link.claim(open_rig.clock.now, 3.0)
    now = open_rig.clock.now
    state = SharedState(generation=5, state=OPEN, rest=0.4, length=10.0)
    assert open_rig.link.claimed(claim, Answer(done=False, state=state), now, now)
    refusal = open_rig.circuit.breaker.refusal(now)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(0.4)


def test_a_time_that_is_nearly_the_same_is_not_followed_anew(rig: Rig) -> None:
    rig.hear(OPEN, 5, rest=10.0)
    generation = rig.circuit.breaker.generation
    rig.hear(OPEN, 6, rest=9.9)
    assert rig.circuit.breaker.generation == generation
    rig.hear(OPEN, 7, rest=5.0)
    assert rig.circuit.breaker.generation > generation


def test_a_run_is_told_once_and_again_when_its_state_has_moved(rig: Rig) -> None:
    rig.hear(CLOSED, 4)
    permit = rig.circuit.breaker.closed_permit
    assert permit is not None
    rig.circuit.failed(permit, NOW, 0.0, "no")
    run = rig.change()
    assert isinstance(run, Run)
    assert (run.failures, run.process, run.processes, run.threshold) == (1, "me", 2, 3)
    rig.answer(run, False, generation=4)
    assert rig.change() is None
    assert not rig.link.has_news
    rig.circuit.succeeded(permit, NOW, 0.0)
    ended = rig.change()
    assert isinstance(ended, Run)
    assert ended.failures == 0


def test_an_isolation_by_hand_is_no_reset(rig: Rig) -> None:
    rig.hear(CLOSED, 4)
    permit = rig.circuit.breaker.closed_permit
    assert permit is not None
    rig.circuit.failed(permit, NOW, 0.0, "no")
    rig.hear(CLOSED, 5, isolations=1)
    assert rig.circuit.failures == 1
    rig.hear(CLOSED, 6, isolations=0)
    assert rig.circuit.failures == 1
    rig.hear(CLOSED, 7)
    assert rig.circuit.failures == 0


def test_an_older_generation_changes_nothing(rig: Rig) -> None:
    rig.hear(OPEN, 5, rest=10.0)
    rig.hear(CLOSED, 4)
    assert rig.circuit.state is OPEN
    assert rig.link.known.generation == 5


def test_what_is_known_grows_old(rig: Rig) -> None:
    rig.hear(OPEN, 5, rest=10.0)
    assert rig.link.known_now(NOW + 4).rest == pytest.approx(6.0)
    assert rig.link.known_now(NOW + 40).rest == 0.0


async def test_a_lease_of_whose_renewal_nothing_is_heard_is_not_taken_for_anothers(
    open_rig: Rig,
) -> None:
    open_rig.granted(lease=3.0)
    permit = open_rig.probe(lease=60.0)
    [(lease, _)] = open_rig.carrier.renewed
    renew = open_rig.link.renewal(lease, open_rig.clock.now + 1)
    assert renew is not None
    open_rig.clock.turn(3.5)
    now = open_rig.clock.now
    assert open_rig.link.before_probe(now) is True  # nobody here knows that it was renewed
    claim = open_rig.link.claim(now, 3.0)
    state = SharedState(generation=6, state=HALF_OPEN, rest=27.5, length=10.0)
    denied = Answer(done=False, state=state)
    assert open_rig.link.claimed(claim, denied, now, now + 0.1)
    assert open_rig.link.lease is lease
    assert not open_rig.link.is_overdue(permit, now + 27.4)
    assert open_rig.link.is_overdue(permit, now + 27.6)
    assert open_rig.carrier.released == []


@pytest.mark.parametrize("state", [{"generation": 7, "rest": 3.0}, {"rest": 0.0}])
async def test_a_lease_that_another_process_has_got_since_is_not_ours(
    open_rig: Rig, state: dict[str, Any]
) -> None:
    open_rig.granted(lease=3.0)
    open_rig.probe(lease=60.0)
    open_rig.clock.turn(3.5)
    now = open_rig.clock.now
    claim = open_rig.link.claim(now, 3.0)
    told = replace(SharedState(generation=6, state=HALF_OPEN, length=10.0), **state)
    assert open_rig.link.claimed(claim, Answer(done=False, state=told), now, now + 0.1)
    assert open_rig.link.lease is None


async def test_a_verdict_is_told_with_the_token_of_its_lease(open_rig: Rig) -> None:
    claim = open_rig.granted()
    permit = open_rig.probe()
    open_rig.circuit.succeeded(permit, open_rig.clock.now, 0.1)
    assert open_rig.circuit.state is CLOSED
    move = open_rig.change()
    assert isinstance(move, Move)
    assert (move.token, move.to.state, move.force) == (claim.token, CLOSED, False)
    assert move.known.generation == 6
    open_rig.answer(move, True, generation=7, state=CLOSED)
    assert open_rig.change() is None


async def test_a_verdict_after_the_lease_is_asked_for_first(open_rig: Rig) -> None:
    open_rig.granted(lease=3.0)
    permit = open_rig.probe(lease=3.0)
    open_rig.clock.turn(3.0)
    assert open_rig.circuit.succeeded(permit, open_rig.clock.now, 3.0)  # late
    assert open_rig.circuit.state is HALF_OPEN
    move = open_rig.change()
    assert move.to.state is CLOSED
    open_rig.answer(move, True, generation=7, state=CLOSED)
    assert open_rig.circuit.state is CLOSED


async def test_nor_is_it_given_where_somebody_else_probes(open_rig: Rig) -> None:
    open_rig.granted(lease=3.0)
    permit = open_rig.probe(lease=3.0)
    open_rig.clock.turn(3.0)
    open_rig.circuit.succeeded(permit, open_rig.clock.now, 3.0)
    open_rig.answer(open_rig.change(), False, generation=9, state=HALF_OPEN, rest=3.0)
    assert open_rig.circuit.state is HALF_OPEN
    assert open_rig.circuit.breaker.refusal(open_rig.clock.now) is not None


async def test_of_probes_in_a_row_one_that_is_late_counts_for_one(open_rig: Rig) -> None:
    policy = BreakerPolicy(success_threshold=2)
    open_rig.circuit.reload(policy)
    open_rig.granted(lease=3.0)
    permit = open_rig.probe(lease=3.0)
    open_rig.clock.turn(3.0)
    open_rig.circuit.succeeded(permit, open_rig.clock.now, 3.0)
    move = open_rig.change()
    assert (move.to.state, move.to.successes) == (HALF_OPEN, 1)


async def test_a_failure_after_the_lease_is_told_to_nobody(open_rig: Rig) -> None:
    open_rig.granted(lease=3.0)
    permit = open_rig.probe(lease=3.0)
    open_rig.clock.turn(3.0)
    assert open_rig.circuit.failed(permit, open_rig.clock.now, 3.0, "no")  # late
    assert open_rig.change() is None
    assert open_rig.circuit.state is HALF_OPEN


def test_a_shorter_time_is_told_and_a_longer_one_is_not(rig: Rig) -> None:
    rig.hear(OPEN, 5, rest=10.0)
    rig.circuit.reload(BreakerPolicy(reset_timeout=60.0))
    assert rig.change() is None
    rig.circuit.reload(BreakerPolicy(reset_timeout=4.0))
    move = rig.change()
    assert isinstance(move, Move)
    assert move.to.rest == pytest.approx(4.0)


def test_a_store_that_knows_less_than_it_was_told_begins_anew(open_rig: Rig) -> None:
    claim = open_rig.link.claim(open_rig.clock.now, 3.0)
    now = open_rig.clock.now
    state = SharedState(generation=2, state=OPEN, rest=6.0, length=10.0)
    assert open_rig.link.claimed(claim, Answer(done=False, state=state), now, now)
    assert open_rig.link.known.generation == 2
    refusal = open_rig.circuit.breaker.refusal(now)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(6.0)


def test_what_is_done_by_hand_is_told_in_its_order(rig: Rig) -> None:
    rig.hear(CLOSED, 4)
    held = rig.circuit.isolate()
    first = rig.change()
    held.release()
    assert rig.change() == first  # it was not answered yet
    rig.answer(first, True, generation=5, isolations=1)
    second = rig.change()
    assert (len(first.add), first.remove) == (1, ())
    assert (second.add, second.remove) == ((), first.add)
    rig.answer(second, True, generation=6)
    assert rig.change() is None
    rig.answer(second, True, generation=7)  # the same once more changes nothing
    assert rig.circuit.state is CLOSED
