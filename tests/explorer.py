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

from orchestrator_async._breaker import (
    Breaker,
    CircuitState,
    Permit,
    Refusal,
    Ruling,
    Transition,
)
from orchestrator_async._policy import BreakerSettings

RESET = 10.0
BACK = 7.0  # how far the clock goes back
SLOW = 2.0  # seconds from which on a call is slow
ASKED, MAX_PAUSE = 60.0, 6.0  # seconds: how long a pause is asked for, and granted


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
        successes: Probes in a row that close it.
        window: How many calls the count window holds; 0 for none.
        rate: The share of failures, and of slow calls, that opens it.
        multiplier: By what the time that it is open grows.
        max_reset: What that time does not outgrow.
        others: What else can become of a call: that it ``is slow`` or ``is throttled``.
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
    successes: int = 1
    window: int = 0
    rate: float = 0.6
    multiplier: float = 1.0
    max_reset: float = RESET
    others: tuple[str, ...] = ()

    def settings(self) -> BreakerSettings:
        return BreakerSettings(
            failure_threshold=self.threshold,
            reset_timeout=RESET,
            probe_lease=self.lease,
            success_threshold=self.successes,
            failure_rate=self.rate if self.window else math.inf,
            slow_duration=SLOW if "is slow" in self.others else math.inf,
            slow_rate=self.rate,
            window_calls=self.window,
            minimum_calls=2,
            reset_multiplier=self.multiplier,
            max_reset_timeout=self.max_reset,
            jitter_source=_no_chance,
            max_pause=MAX_PAUSE,
        )


def _no_chance() -> float:
    """
    The usual source cannot be told from another once it was pickled.
    """
    return 0.0


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
    bystander: bool = False  # let in only because the circuit is disabled

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
    outage: int = 0  # grows whenever the circuit opens or closes
    shut_until: float = 0.0
    isolated: bool = False
    disabled: bool = False
    beneath: CircuitState = CircuitState.CLOSED  # what these two cover
    row: int = 0  # probes in a row that have succeeded
    reopenings: int = 0  # and that have failed
    paused: bool = False
    window: tuple[str, ...] = ()  # the verdicts in it

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

    def visible(self) -> CircuitState:
        if self.isolated:
            return CircuitState.ISOLATED
        return CircuitState.DISABLED if self.disabled else self.beneath

    def would_refuse(self) -> bool:
        """
        Whether the circuit beneath lets nobody in now.
        """
        if self.beneath is CircuitState.OPEN:
            return self.age < self.shut_until
        return bool(self.live_probes())

    def move(self, to: CircuitState) -> None:
        """
        Record that the circuit beneath is in another state.
        """
        self.beneath = to
        self.moves += 1
        if to is not CircuitState.HALF_OPEN:
            self.outage += 1
            self.row = 0

    def open(self, scenario: Scenario) -> None:
        grown = RESET * scenario.multiplier**self.reopenings
        self.paused = False
        self.shut_until = self.age + min(grown, scenario.max_reset)
        self.move(CircuitState.OPEN)

    def pause(self) -> None:
        self.paused = True
        self.shut_until = self.age + MAX_PAUSE
        self.move(CircuitState.OPEN)

    def close(self) -> None:
        if not self.paused:
            self.window = ()
        self.paused, self.reopenings = False, 0
        self.move(CircuitState.CLOSED)


def begin(scenario: Scenario, kind: type[Breaker] = Breaker) -> World:
    breaker = kind(scenario.settings())
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
        world.beneath, world.shut_until = CircuitState.OPEN, RESET
        world.window = (("failure",) * scenario.threshold)[: scenario.window]
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
            events = list(_possible(world, scenario))
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
        events = list(_possible(world, scenario))
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
        kind = (call.running, call.probe, call.bystander)
        record = (held, kind, call.ends, current)
        records.append((program[index] if program else (), record, index))
    records.sort()

    # Which permits are one and the same is part of it. Numbers are given in an order
    # that calls with equal records may stand in either way: two worlds may then be taken
    # for different though they are not, never the other way round.
    numbers: dict[int, int] = {}

    def value(thing: object) -> object:
        if type(thing) is tuple:  # of windows
            return tuple((each.counts, each._next, bytes(each._ring)) for each in thing)
        if not isinstance(thing, Permit):
            return thing if thing == thing else "no number"
        number = numbers.setdefault(id(thing), len(numbers))
        return (number, thing.generation, thing.spent)

    return (
        *[value(each) for each in _attributes(world.breaker)],
        *[(record[:2], value(world.calls[record[2]].permit)) for record in records],
        (world.now, world.age, world.shut_until, world.isolated, world.disabled),
        (world.beneath, world.row, world.reopenings, world.paused, world.window),
    )


_NAMES: dict[type, list[str]] = {}


def _attributes(breaker: Breaker) -> Iterator[object]:
    kind = type(breaker)
    if kind not in _NAMES:
        _NAMES[kind] = [
            name
            for each in kind.__mro__
            for name in getattr(each, "__slots__", ())
            if name != "settings"  # these do not change
        ]
    for name in _NAMES[kind]:
        yield getattr(breaker, name)
    yield from sorted(getattr(breaker, "__dict__", {}).items())


# --- steps ----------------------------------------------------------------------------


def _possible(world: World, scenario: Scenario) -> Iterator[str]:
    for call in world.calls:
        if call.running:
            yield f"{call.name} {'goes on' if call.at < call.awaits else 'succeeds'}"
            yield f"{call.name} fails"
            yield f"{call.name} is cancelled"
            for what in scenario.others:
                if what != "is slow" or call.at == call.awaits:
                    yield f"{call.name} {what}"
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
            _by_hand(world, scenario, event.partition(": ")[2])
        case _:
            call = next(each for each in world.calls if each.name == who)
            match what:
                case "asks":
                    _ask(world, scenario, call)
                case "goes on":
                    call.at += 1
                case "succeeds":
                    _end(world, scenario, call, "success")
                case "fails":
                    _end(world, scenario, call, "failure")
                case "is cancelled":
                    _end(world, scenario, call, "none")
                case "is slow":
                    _end(world, scenario, call, "slow")
                case "is throttled":
                    _end(world, scenario, call, "throttle")
    if breaker.generation < generation:
        _broken("generations never decrease", f"{generation} to {breaker.generation}")
    if breaker.state is not state and breaker.generation == generation:
        _broken("every transition starts a generation", f"{state} to {breaker.state}")


def _check_told(world: World, old: CircuitState, told: Transition | None) -> None:
    """
    What is told of a change beneath, be it enforced or not.
    """
    want = None if world.beneath is old else (old, world.beneath, not world.disabled)
    got = None if told is None else (told.old, told.new, told.enforced)
    if got != want:
        _broken("what has changed is told", f"{want} wanted, got {got}")


def _by_hand(world: World, scenario: Scenario, deed: str) -> None:
    world.by_hand.remove(deed)
    breaker = world.breaker
    breaker.trip(world.now) if deed == "trip" else getattr(breaker, deed)()
    match deed:
        case "isolate" | "release":
            world.isolated = deed == "isolate"
        case "disable":
            world.disabled = True
        case "reset":
            world.disabled = world.paused = False
            world.close()
        case "trip":
            world.disabled = False
            world.open(scenario)
    world.moves += 1
    if (breaker.state is CircuitState.ISOLATED) != world.isolated:
        _broken("an isolation holds until it is lifted", str(breaker.state))
    if breaker.state is not world.visible():
        _broken("what is done by hand has its effect", f"{deed}: {breaker.state}")


def _ask(world: World, scenario: Scenario, call: Call) -> None:
    breaker = world.breaker
    before, generation = breaker.state, breaker.generation
    got, told = breaker.admit(world.now, scenario.lease)
    call.asks -= 1
    if isinstance(got, Refusal):
        _check_refusal(world, scenario, got)
        if (breaker.state, breaker.generation) != (before, generation):
            _broken("a refusal changes nothing", f"{before} to {breaker.state}")
        return
    if before is CircuitState.ISOLATED:
        _broken("an isolated circuit lets nobody in", call.name)
    call.bystander = world.disabled and world.would_refuse()
    if got.is_bystanders != call.bystander:
        _broken("who would have been refused is a bystander", call.name)
    beneath = world.beneath
    call.probe = beneath is not CircuitState.CLOSED and not call.bystander
    if call.probe:
        _claim(world, call)
    _check_told(world, beneath, told)
    call.permit, call.at, call.asks = got, 1, 0
    call.outage, call.moves = world.outage, world.moves
    if call.probe:
        call.ends = world.age + scenario.lease


def _claim(world: World, call: Call) -> None:
    """
    A call has become the probe of a circuit that may also be disabled.
    """
    if world.beneath is CircuitState.OPEN:
        if world.age < world.shut_until:
            _broken("an open circuit lets nobody in before its time", call.name)
        world.move(CircuitState.HALF_OPEN)
    if world.live_probes():
        others = [each.name for each in world.live_probes()]
        _broken("one probe in flight a lease", f"{call.name} beside {others}")
    if world.breaker.state is not world.visible():
        _broken("a claim makes an open circuit half-open", str(world.breaker.state))


def _check_refusal(world: World, scenario: Scenario, got: Refusal) -> None:
    if world.disabled and not world.isolated:
        _broken("while it is disabled nobody is refused", str(got))
    if got.state is not world.breaker.state:
        _broken("a refusal names the state", f"{got.state} for {world.breaker.state}")
    if got.state is CircuitState.CLOSED:
        _broken("a closed circuit refuses nobody", str(got))
    if got.state is CircuitState.ISOLATED:
        if got.retry_after is not None:
            _broken("an isolation has no time", str(got.retry_after))
        return
    if got.retry_after is None or not 0 < got.retry_after < math.inf:
        _broken("every refusal is finite but an isolation's", str(got.retry_after))
    is_open = got.state is CircuitState.OPEN
    most = world.shut_until - world.age if is_open else scenario.lease
    if got.retry_after > most:
        longer = "than it may be" if world.paused else "than was set"
        rule = f"a {'pause' if world.paused else 'wait'} is no longer {longer}"
        _broken(rule, f"{got.retry_after} of {most}")


def _seen(world: World) -> tuple[Any, ...]:
    """
    What a user can see of the circuit.
    """
    breaker = world.breaker
    lets_all_run = breaker.closed_permit is not None
    state = (str(breaker.state), breaker.failures, breaker.generation)
    return (*state, lets_all_run, breaker.paused), breaker.refusal(world.now)


def _vote(world: World, permit: Permit, verdict: str) -> Ruling:
    breaker = world.breaker
    match verdict:
        case "success":
            return breaker.succeeded(permit, world.now)
        case "slow":
            return breaker.succeeded(permit, world.now, SLOW)
        case "failure":
            return breaker.failed(permit, world.now)
        case "throttle":
            return breaker.throttled(permit, world.now, ASKED)
        case _:
            return breaker.ignored(permit, world.now)


def _end(world: World, scenario: Scenario, call: Call, verdict: str) -> None:
    assert call.permit is not None
    stale = call.moves != world.moves and not call.bystander
    late = stale or (call.ends <= world.age and verdict != "success")
    held_the_place = call in world.live_probes()
    beneath = world.beneath
    before, refusal = _seen(world)
    ruling = _vote(world, call.permit, verdict)
    after, refusal_after = _seen(world)
    call.at = -1
    has_effect = not late and verdict != "none" and not call.bystander
    if has_effect:
        _apply(world, scenario, verdict, before[1] + 1, probe=call.probe)
    call.ends, call.outage, call.moves = math.inf, -1, -1
    if not call.probe:
        call.permit = None  # it was shared, and is not to be told from others' any more

    what = f"{before} to {after}"
    if after != before and not has_effect:
        _broken(_what_changes_nothing(call, verdict, stale=stale), what)
    want = world.visible()
    closes = call.probe and has_effect and world.beneath is CircuitState.CLOSED
    if closes and (after[0], after[1], after[3]) != (want, 0, True):
        _broken("a probe's success closes the circuit, expired or not", what)
    if ruling.late != late:
        _broken("late is what comes after the circuit has moved on", str(ruling))
    freed = held_the_place and after[0] == want == CircuitState.HALF_OPEN
    if freed and refusal_after is not None:
        _broken("a place that was given back is free", str(refusal_after))
    if not has_effect:
        if not freed and refusal_after != refusal:
            _broken("a stale permit changes nothing", f"{refusal} to {refusal_after}")
        return
    if after[0] != want or after[3] != (world.beneath is CircuitState.CLOSED):
        _broken("a verdict in time has its effect", f"{want} wanted, got {after[0]}")
    if after[4] != world.paused:
        _broken("a pause lasts until it closes or opens for another reason", what)
    _check_failures(call, verdict, before[1], after[1])
    _check_told(world, beneath, ruling.transition)


def _what_changes_nothing(call: Call, verdict: str, *, stale: bool) -> str:
    if stale:
        return "a stale permit changes nothing"
    if call.bystander:
        return "a bystander's verdict changes nothing"
    if verdict == "none":
        return "no verdict changes no state"
    return "an expired probe's failure changes nothing"


def _check_failures(call: Call, verdict: str, before: int, after: int) -> None:
    what = f"{before}, then {after}"
    if verdict == "throttle" and after != before:
        _broken("a pause is no failure", what)
    if verdict == "slow" and call.probe and after != before:
        _broken("a slow probe is no failure", what)
    want = {"success": 0, "failure": before + 1, "throttle": before}
    if after != want.get(verdict, before if call.probe else 0):
        _broken("failures in a row are counted", what)


def _apply(
    world: World, scenario: Scenario, verdict: str, failures: int, *, probe: bool
) -> None:
    """
    Record what a verdict has to change.
    """
    if verdict == "throttle":
        world.pause()
    elif not probe:
        if scenario.window:
            world.window = (*world.window, verdict)[-scenario.window :]
        in_a_row = verdict == "failure" and failures >= scenario.threshold
        if in_a_row or _is_too_often(world.window, verdict, scenario):
            world.open(scenario)
    elif verdict == "success":
        world.row += 1
        if world.row >= scenario.successes:
            world.close()
    else:
        world.reopenings += 1
        world.open(scenario)


def _is_too_often(window: tuple[str, ...], verdict: str, scenario: Scenario) -> bool:
    if verdict == "success" or len(window) < 2:
        return False
    return window.count(verdict) / len(window) >= scenario.rate


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
    verdicts = ["success", "failure", "none"]
    verdicts += ["slow"] * ("is slow" in scenario.others)
    verdicts += ["throttle"] * ("is throttled" in scenario.others)
    for index, call in enumerate(world.calls):
        if call.probe and call.at < 0:
            for verdict in verdicts:
                _vote_again(pickle.loads(frozen), index, verdict)
    for ending in (_all_hang, _all_are_cancelled, _well_again, _well_but_slow):
        ahead: World = pickle.loads(frozen)
        ahead.breaker.release_all()
        ahead.isolated = False
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
    world.wait(max(scenario.max_reset, scenario.lease))
    got, _ = world.breaker.admit(world.now, scenario.lease)
    if isinstance(got, Refusal) or got.generation < 0:
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
    probes, then = 0, "many ask, and succeed at once"
    for _ in range(60):
        closed = world.breaker.closed_permit is not None
        got, _ = world.breaker.admit(world.now, scenario.lease)
        if isinstance(got, Refusal):
            _check_refusal(world, scenario, got)
            world.wait(got.retry_after or 0.0)
            continue
        probes += not closed and got.generation >= 0
        world.breaker.succeeded(got, world.now)
        if world.breaker.closed_permit is not None and world.breaker.failures == 0:
            if probes > scenario.successes:
                rule = "a circuit whose tool is well again closes after so many probes"
                _broken(rule, f"{probes} for {scenario.successes}", then)
            return
        if got.generation < 0:  # it is disabled, and says nothing of when to come back
            world.wait(1.0)
    rule = "a circuit whose tool is well again closes"
    _broken(rule, str(_seen(world)), then)


def _well_but_slow(world: World, scenario: Scenario) -> None:
    """
    Those who are let in succeed, but each after two leases and a half.
    """
    if world.disabled:
        return  # all run, and beside the probe there are many that are none
    flying: list[tuple[float, Permit]] = []
    for _ in range(60):
        if world.breaker.closed_permit is not None:
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
            world.breaker.succeeded(permit, world.now)
        else:
            world.wait(wait)
    rule = "a circuit whose tool is well but slow closes"
    _broken(rule, str(_seen(world)), "many ask, and succeed slowly")
