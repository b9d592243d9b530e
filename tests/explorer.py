"""
Every order in which a few calls, the time and an operator can act on one breaker.

``explore`` starts from a ``Scenario`` and takes every step that is possible, then every
step after each of those, and so on until none is left: every interleaving, breadth
first, so that a broken rule is found by a shortest schedule. After each step the rules
are checked against a record of what has happened (who was let in, until when), which is
kept here and not in the breaker; in each new situation it is seen that the circuit still
finds back by itself.

Two schedules that lead to the same situation go on as one, and their number is carried
along: ``schedules`` counts the complete orders of steps, ``situations`` what was left of
them. What a situation is misses nothing: all that the breaker and its permits hold,
which permit is which, and the whole record. ``count_plainly`` runs schedule after
schedule from the start and merges nothing, to show that this is true.

An event is added in ``_possible`` and ``_take``, a rule where a step or a situation is
checked; say ``_broken`` if it does not hold. A fault to be found goes into ``faults``.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from orchestrator_async._breaker import Breaker, CircuitState, Permit, Refusal, Ruling
from orchestrator_async._policy import BreakerSettings

RESET = 10.0
BACK = 7.0  # how far the clock goes back
VERDICTS = ("success", "failure", "none")
LETTING = (CircuitState.CLOSED, CircuitState.DISABLED)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    Args:
        awaits: For each call, how many awaits its tool has. It can fail and be
            cancelled at each; after the last it can succeed.
        begins_open: Whether the circuit has opened just now; else it is closed.
        threshold: Failures in a row that open it.
        lease: Seconds that a probe holds its place.
        asks: How often a call that is refused asks in all.
        ticks: How often time passes: each time to the next moment at which a circuit
            may be probed or a lease ends.
        nearly: How often it passes to just before that.
        back: How often the clock goes back.
        by_hand: What an operator does, each once at most, in any order.
    """

    name: str
    awaits: tuple[int, ...]
    begins_open: bool = False
    threshold: int = 1
    lease: float = 4.0
    asks: int = 1
    ticks: int = 0
    nearly: int = 0
    back: int = 0
    by_hand: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    schedules: int
    situations: int
    steps: int
    longest: int


class RuleBrokenError(AssertionError):
    """
    A rule does not hold, and this is a shortest way to see it.
    """

    def __init__(self, rule: str, detail: str, schedule: tuple[str, ...]) -> None:
        super().__init__(rule, detail)
        self.rule, self.detail, self.schedule = rule, detail, schedule

    def __str__(self) -> str:
        return f"{self.rule} ({self.detail}): {', '.join(self.schedule)}"


@dataclass(slots=True, eq=False)
class Call:
    name: str
    awaits: int
    asks: int
    at: int = 0  # the await that it is at; none before it was let in, -1 at its end
    permit: Permit | None = None
    probe: bool = False
    ends: float = math.inf  # of its lease
    outage: int = -1
    moves: int = -1

    @property
    def running(self) -> bool:
        return self.at > 0


@dataclass(slots=True, eq=False)
class World:
    """
    A breaker, the calls, and the record that the breaker is held against.
    """

    breaker: Breaker
    calls: list[Call]
    now: float
    ticks: int
    nearly: int
    back: int
    by_hand: list[str]
    age: float = 0.0  # seconds that have passed, whatever the clock says
    moves: int = 0  # changes of state so far, and what an operator did
    outage: int = 0  # grows whenever the circuit opens, or is closed or disabled
    shut_until: float = 0.0
    isolated: bool = False

    def live_probes(self) -> list[Call]:
        """
        The calls in flight that hold a lease of this outage.
        """
        return [
            each
            for each in self.calls
            if each.running
            and each.probe
            and each.outage == self.outage
            and each.ends > self.age
        ]

    def next_deadline(self) -> float | None:
        deadlines = [each.ends for each in self.live_probes()]
        if self.shut_until > self.age:
            deadlines.append(self.shut_until)
        return min(deadlines, default=None)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.age += seconds


def begin(scenario: Scenario, kind: type[Breaker] = Breaker) -> World:
    breaker = kind(BreakerSettings(scenario.threshold, RESET, scenario.lease))
    world = World(
        breaker,
        [
            Call(name, awaits, scenario.asks)
            for name, awaits in zip("ABCD", scenario.awaits, strict=False)
        ],
        now=100.0,
        ticks=scenario.ticks,
        nearly=scenario.nearly,
        back=scenario.back,
        by_hand=list(scenario.by_hand),
    )
    if scenario.begins_open:
        for _ in range(scenario.threshold):
            assert breaker.closed_permit is not None
            breaker.failed(breaker.closed_permit, world.now)
        world.shut_until = RESET
    return world


def explore(
    scenario: Scenario, kind: type[Breaker] = Breaker, *, ahead: bool = True
) -> Report:
    """
    Take every order of steps there is, and look ahead in each new situation.

    Args:
        ahead: Whether to look ahead. Without it a rule is broken by a step or not at
            all, and the schedule that shows it is the whole story.

    Raises:
        RuleBrokenError: With a shortest schedule that breaks a rule.
    """
    start = begin(scenario, kind)
    layer = {_situation(start): (pickle.dumps(start), 1, ())}
    schedules = situations = steps = depth = 0
    looked_at: set[Any] = set()
    while layer:
        following: dict[Any, tuple[bytes, int, Any]] = {}
        for frozen, orders, trail in layer.values():
            situations += 1
            world = pickle.loads(frozen)
            events = list(_possible(world))
            if not events:
                schedules += orders
            for index, event in enumerate(events):
                if index:
                    world = pickle.loads(frozen)
                steps += 1
                here = (trail, event)
                try:
                    _take(world, scenario, event)
                    key = _situation(world)
                    known = following.get(key)
                    if ahead and known is None:
                        _look_at(world, scenario, looked_at)
                except RuleBrokenError as broken:
                    broken.schedule = _schedule(here) + broken.schedule
                    raise
                if known is None:
                    following[key] = (pickle.dumps(world), orders, here)
                else:
                    following[key] = (known[0], known[1] + orders, known[2])
        depth += bool(following)
        layer = following
    return Report(schedules=schedules, situations=situations, steps=steps, longest=depth)


def count_plainly(scenario: Scenario, kind: type[Breaker] = Breaker) -> int:
    """
    How many schedules there are, found by running each one from the start.
    """
    count = 0
    pending: list[tuple[str, ...]] = [()]
    while pending:
        schedule = pending.pop()
        world = begin(scenario, kind)
        for event in schedule:
            _take(world, scenario, event)
        events = list(_possible(world))
        count += not events
        pending += [(*schedule, event) for event in events]
    return count


def _schedule(trail: Any) -> tuple[str, ...]:
    events: list[str] = []
    while trail:
        trail, event = trail
        events.append(event)
    return tuple(reversed(events))


def _broken(rule: str, detail: str, *then: str) -> NoReturn:
    raise RuleBrokenError(rule, detail, then)


# --- what a situation is ------------------------------------------------------------------


def _situation(world: World) -> tuple[Any, ...]:
    """
    All there is, as a value. Two worlds with one value have one future, but for the
    names of the calls: those are put in an order of their own.
    """
    program = [(each.at, each.asks, each.awaits) for each in world.calls]
    left = (world.ticks, world.nearly, world.back, *world.by_hand)
    return (*_circuit(world, program), left)


def _circuit(world: World, program: Sequence[Any] = ()) -> tuple[Any, ...]:
    """
    The same without what the calls and the operator are still to do.
    """
    records = []
    for index, call in enumerate(world.calls):
        permit = call.permit
        held = (-1, False) if permit is None else (permit.generation, permit.spent)
        # The two numbers are only ever held against the world's, which only grow.
        current = (call.outage == world.outage, call.moves == world.moves)
        record = (held, call.running, call.probe, call.ends, current)
        records.append((program[index] if program else (), record, index))
    records.sort()

    # Which permits are one and the same is part of it. Numbers are given in an order
    # that calls with equal records may stand in either way: two worlds may then be taken
    # for different though they are not, never the other way round.
    numbers: dict[int, int] = {}

    def value(thing: object) -> object:
        if not isinstance(thing, Permit):
            return thing if thing == thing else "no number"
        number = numbers.setdefault(id(thing), len(numbers))
        return (number, thing.generation, thing.spent)

    return (
        *[value(each) for each in _attributes(world.breaker)],
        *[(record[:2], value(world.calls[record[2]].permit)) for record in records],
        (world.now, world.age, world.shut_until, world.isolated),
    )


_NAMES: dict[type, list[str]] = {}


def _attributes(breaker: Breaker) -> Iterator[object]:
    kind = type(breaker)
    if kind not in _NAMES:
        _NAMES[kind] = [
            name for each in kind.__mro__ for name in getattr(each, "__slots__", ())
        ]
    for name in _NAMES[kind]:
        yield getattr(breaker, name)
    yield from sorted(getattr(breaker, "__dict__", {}).items())


# --- steps ----------------------------------------------------------------------------


def _possible(world: World) -> Iterator[str]:
    for call in world.calls:
        if call.running:
            yield f"{call.name} {'goes on' if call.at < call.awaits else 'succeeds'}"
            yield f"{call.name} fails"
            yield f"{call.name} is cancelled"
        elif call.asks:
            yield f"{call.name} asks"
    deadline = world.next_deadline()
    if deadline is not None:
        if world.ticks:
            yield "time passes"
        if world.nearly and deadline - world.age > 1:
            yield "time nearly passes"
        if world.back:
            yield "the clock goes back"
    for deed in world.by_hand:
        if deed != "release" or world.isolated:
            yield f"the operator: {deed}"


def _take(world: World, scenario: Scenario, event: str) -> None:
    breaker = world.breaker
    state, generation = breaker.state, breaker.generation
    who, _, what = event.partition(" ")
    deadline = world.next_deadline()
    match event:
        case "time passes":
            assert deadline is not None
            world.ticks -= 1
            world.wait(deadline - world.age)
        case "time nearly passes":
            assert deadline is not None
            world.nearly -= 1
            world.wait(deadline - world.age - 1)
        case "the clock goes back":
            # Somebody asks before and after: what nobody saw has not happened.
            world.back -= 1
            breaker.refusal(world.now)
            world.now -= BACK
            breaker.refusal(world.now)
        case _ if who == "the":
            _by_hand(world, event.partition(": ")[2])
        case _:
            call = next(each for each in world.calls if each.name == who)
            match what:
                case "asks":
                    _ask(world, scenario, call)
                case "goes on":
                    call.at += 1
                case "succeeds":
                    _end(world, call, "success")
                case "fails":
                    _end(world, call, "failure")
                case "is cancelled":
                    _end(world, call, "none")
    if breaker.generation < generation:
        _broken("generations never decrease", f"{generation} to {breaker.generation}")
    if breaker.state is not state and breaker.generation == generation:
        _broken("every transition starts a generation", f"{state} to {breaker.state}")


def _note_change(world: World, before: CircuitState) -> None:
    """
    Record what has become of the circuit.
    """
    after = world.breaker.state
    if after is before:
        return
    world.moves += 1
    if after in (CircuitState.OPEN, *LETTING):
        world.outage += 1
    if after is CircuitState.OPEN and before is not CircuitState.ISOLATED:
        world.shut_until = world.age + RESET


def _by_hand(world: World, deed: str) -> None:
    world.by_hand.remove(deed)
    before = world.breaker.state
    getattr(world.breaker, deed)()
    world.isolated = {"isolate": True, "release": False}.get(deed, world.isolated)
    _note_change(world, before)
    world.moves += 1
    if deed in ("disable", "reset"):
        world.outage += 1
        world.shut_until = 0.0
    if (world.breaker.state is CircuitState.ISOLATED) != world.isolated:
        _broken("an isolation holds until it is lifted", str(world.breaker.state))


def _ask(world: World, scenario: Scenario, call: Call) -> None:
    breaker = world.breaker
    before, generation = breaker.state, breaker.generation
    got, _ = breaker.admit(world.now, scenario.lease)
    call.asks -= 1
    if isinstance(got, Refusal):
        _check_refusal(world, scenario, got)
        if (breaker.state, breaker.generation) != (before, generation):
            _broken("a refusal changes nothing", f"{before} to {breaker.state}")
        return
    if before is CircuitState.ISOLATED:
        _broken("an isolated circuit lets nobody in", call.name)
    if before is CircuitState.OPEN and world.age < world.shut_until:
        _broken("an open circuit lets nobody in before its time", call.name)
    _note_change(world, before)
    call.probe = before not in LETTING
    if call.probe and world.live_probes():
        others = [each.name for each in world.live_probes()]
        _broken("one probe in flight a lease", f"{call.name} beside {others}")
    if breaker.state is not (CircuitState.HALF_OPEN if call.probe else before):
        _broken("a claim makes an open circuit half-open", str(breaker.state))
    call.permit, call.at, call.asks = got, 1, 0
    call.outage, call.moves = world.outage, world.moves
    if call.probe:
        call.ends = world.age + scenario.lease


def _check_refusal(world: World, scenario: Scenario, got: Refusal) -> None:
    if got.state is not world.breaker.state:
        _broken("a refusal names the state", f"{got.state} for {world.breaker.state}")
    if got.state in LETTING:
        _broken("a closed circuit refuses nobody", str(got))
    if got.state is CircuitState.ISOLATED:
        if got.retry_after is not None:
            _broken("an isolation has no time", str(got.retry_after))
    elif got.retry_after is None or not 0 < got.retry_after <= max(RESET, scenario.lease):
        _broken("every refusal is finite but an isolation's", str(got.retry_after))


def _seen(world: World) -> tuple[Any, ...]:
    """
    What a user can see of the circuit.
    """
    breaker = world.breaker
    state = (str(breaker.state), breaker.failures, breaker.generation)
    return state, breaker.refusal(world.now)


def _vote(world: World, permit: Permit, verdict: str) -> Ruling:
    match verdict:
        case "success":
            return world.breaker.succeeded(permit)
        case "failure":
            return world.breaker.failed(permit, world.now)
        case _:
            return world.breaker.ignored(permit, world.now)


def _end(world: World, call: Call, verdict: str) -> None:
    assert call.permit is not None
    stale = call.moves != world.moves
    expired = call.ends <= world.age
    held_the_place = call in world.live_probes()
    state = world.breaker.state
    before, refusal = _seen(world)
    ruling = _vote(world, call.permit, verdict)
    call.at = -1
    call.ends, call.outage, call.moves = math.inf, -1, -1
    if not call.probe:
        call.permit = None  # it was shared, and is not to be told from others' any more
    after, refusal_after = _seen(world)
    _note_change(world, state)

    what = f"{before} to {after}"
    late = stale or (expired and verdict != "success")
    if stale and after != before:
        _broken("a stale permit changes nothing", what)
    if verdict == "none" and after != before:
        _broken("no verdict changes no state", what)
    if late and after != before:
        _broken("an expired probe's failure changes nothing", what)
    if call.probe and verdict == "success" and not stale and after[:2] != ("closed", 0):
        _broken("a probe's success closes the circuit, expired or not", what)
    if ruling.late != late:
        _broken("late is what comes after the circuit has moved on", str(ruling))
    if late or verdict == "none":
        freed = held_the_place and after[0] == CircuitState.HALF_OPEN
        if freed and refusal_after is not None:
            _broken("a place that was given back is free", str(refusal_after))
        if not freed and refusal_after != refusal:
            _broken("a stale permit changes nothing", f"{refusal} to {refusal_after}")
        return
    if call.probe:
        want = CircuitState.CLOSED if verdict == "success" else CircuitState.OPEN
    elif verdict == "failure" and state is CircuitState.CLOSED:
        trips = before[1] + 1 >= world.breaker.settings.failure_threshold
        want = CircuitState.OPEN if trips else CircuitState.CLOSED
    else:
        want = state
    if after[0] != want:
        _broken("a verdict in time has its effect", f"{want} wanted, got {after[0]}")
    if after[1] != (0 if verdict == "success" else before[1] + 1):
        _broken("failures in a row are counted", what)


# --- what must be so in each situation ----------------------------------------------------


def _look_at(world: World, scenario: Scenario, looked_at: set[Any]) -> None:
    """
    Look ahead. What the calls and the operator are still to do plays no part in it.
    """
    key = _circuit(world)
    if key in looked_at:
        return
    looked_at.add(key)
    frozen = pickle.dumps(world)
    for index, call in enumerate(world.calls):
        if call.probe and call.at < 0:
            for verdict in VERDICTS:
                _vote_again(pickle.loads(frozen), index, verdict)
    for ending in (_all_hang, _all_are_cancelled, _well_again, _well_but_slow):
        ahead: World = pickle.loads(frozen)
        ahead.breaker.release_all()
        ending(ahead, scenario)


def _vote_again(world: World, index: int, verdict: str) -> None:
    before = _seen(world)
    permit = world.calls[index].permit
    assert permit is not None
    _vote(world, permit, verdict)
    if _seen(world) != before:
        detail = f"{verdict}: {before} to {_seen(world)}"
        who = world.calls[index].name
        _broken("a permit has one effect, once", detail, f"{who} votes again")


def _all_hang(world: World, scenario: Scenario) -> None:
    """
    No call ever ends. Once all times are over the next caller is let in.
    """
    world.breaker.refusal(world.now)
    world.wait(max(RESET, scenario.lease))
    got, _ = world.breaker.admit(world.now, scenario.lease)
    if isinstance(got, Refusal):
        rule = "the circuit can always be probed again"
        _broken(rule, str(got), "all hang until all times are over", "one more asks")


def _all_are_cancelled(world: World, scenario: Scenario) -> None:
    """
    Nobody is left. The next caller is let in at once, or when it was told to come back.
    """
    for call in world.calls:
        if call.running and call.permit is not None:
            world.breaker.ignored(call.permit, world.now)
    refusal = world.breaker.refusal(world.now)
    then = ("all are cancelled", "one more asks")
    if refusal is not None:
        if refusal.state is not CircuitState.OPEN:
            _broken("a place that was given back is free", str(refusal), *then)
        _check_refusal(world, scenario, refusal)
        world.wait(refusal.retry_after or 0.0)
    got, _ = world.breaker.admit(world.now, scenario.lease)
    if isinstance(got, Refusal):
        rule, detail = "who comes back when told is let in", f"{refusal}, then {got}"
        _broken(rule, detail, *then, "it comes back when told")


def _well_again(world: World, scenario: Scenario) -> None:
    """
    Those who are let in succeed at once. Calls that were in flight hang.
    """
    for _ in range(40):
        got, _ = world.breaker.admit(world.now, scenario.lease)
        if isinstance(got, Refusal):
            _check_refusal(world, scenario, got)
            world.wait(got.retry_after or 0.0)
            continue
        world.breaker.succeeded(got)
        if world.breaker.state in LETTING and world.breaker.failures == 0:
            return
    rule = "a circuit whose tool is well again closes"
    _broken(rule, str(_seen(world)), "many ask, and succeed at once")


def _well_but_slow(world: World, scenario: Scenario) -> None:
    """
    Those who are let in succeed, but each after two leases and a half.
    """
    flying: list[tuple[float, Permit]] = []
    for _ in range(60):
        if world.breaker.state in LETTING:
            return
        got, _ = world.breaker.admit(world.now, scenario.lease)
        if isinstance(got, Permit):
            taken_until = flying[-1][0] - 1.5 * scenario.lease if flying else 0.0
            if world.age < taken_until:
                rule = "one probe in flight a lease"
                _broken(rule, "a slow one and the next", "many ask, and are slow")
            flying.append((world.age + 2.5 * scenario.lease, got))
            continue
        _check_refusal(world, scenario, got)
        wait = got.retry_after or 0.0
        if flying and flying[0][0] <= world.age + wait:
            done, permit = flying.pop(0)
            world.wait(done - world.age)
            world.breaker.succeeded(permit)
        else:
            world.wait(wait)
    rule = "a circuit whose tool is well but slow closes"
    _broken(rule, str(_seen(world)), "many ask, and succeed slowly")
