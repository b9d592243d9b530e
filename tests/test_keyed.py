"""
The circuits of a tool that has one for each key: who has one, who goes, who shares.
"""

from __future__ import annotations

import copy
import gc
import math
from dataclasses import dataclass

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator_async import (
    CircuitState,
    OrchestratorError,
    Registry,
    ToolOrchestrator,
    ToolPolicy,
)
from orchestrator_async._breaker import Breaker, Permit, Transition
from orchestrator_async._circuit import GOOD_OTHERS, OTHERS, Circuit
from orchestrator_async._keyed import KeyedCircuits, _Place, _Shelf
from orchestrator_async._policy import BreakerPolicy, BreakerSettings

RESET = 10.0


@dataclass(eq=False)
class InFlight:
    """
    A call that has taken its circuit. Without a permit it was refused.
    """

    key: str
    circuit: Circuit
    permit: Permit | None


class Bench:
    """
    Circuits by key, their clock, and who calls. It is also what the circuits tell.
    """

    def __init__(
        self,
        capacity: int,
        *,
        threshold: int = 2,
        successes: int = 1,
        kind: type[KeyedCircuits] = KeyedCircuits,
    ) -> None:
        self.now = 0.0
        self.settings = BreakerSettings(
            threshold, RESET, RESET, success_threshold=successes, max_keys=capacity
        )
        self.made = 0
        self.keyed = kind(self.make, capacity)

    def make(self, key: str) -> Circuit:
        self.made += 1
        return Circuit("fetch", self.settings, self, key)

    def configure(self, capacity: int, reset_timeout: float = RESET) -> None:
        self.settings = self.settings._replace(
            max_keys=capacity, reset_timeout=reset_timeout
        )
        self.keyed.configure(self.settings, self.now)

    def begin(self, key: str, now: float | None = None) -> InFlight:
        now = self.now if now is None else now
        circuit = self.keyed.take(key, now)
        permit, _ = circuit.breaker.admit(now, RESET)
        return InFlight(key, circuit, permit if isinstance(permit, Permit) else None)

    def end(self, flight: InFlight, verdict: str, now: float | None = None) -> bool | None:
        """
        What the circuits were told of it.
        """
        now = self.now if now is None else now
        breaker, permit, succeeded = flight.circuit.breaker, flight.permit, None
        if permit is not None and verdict == "success":
            succeeded = None if breaker.succeeded(permit, now).late else True
        elif permit is not None and verdict == "failure":
            breaker.failed(permit, now)
            succeeded = False
        elif permit is not None:
            breaker.ignored(permit, now)
        self.keyed.give_back(flight.circuit, flight.key, now, succeeded)
        return succeeded

    def call(self, key: str, *verdicts: str) -> Circuit:
        """
        One call for each verdict; the circuit of the last.
        """
        for verdict in verdicts or ("success",):
            flight = self.begin(key)
            self.end(flight, verdict)
        return flight.circuit

    def has(self, keys: str) -> str:
        """
        Those of the keys that have a circuit of their own.
        """
        return "".join(key for key in keys if self.keyed.get(key) is not None)

    # What a circuit tells

    def changed(self, circuit: Circuit, transition: Transition) -> None: ...

    def time_for(self, circuit: Circuit) -> float:
        return self.now

    def complain(self, circuit: Circuit, what: str, error: BaseException) -> None: ...

    def reload(self, circuit: Circuit, policy: BreakerPolicy | None) -> None: ...

    def has_moved(self, circuit: Circuit) -> None: ...


class Row:
    """
    Some who wait for a circuit, in a loop that may be dropped.
    """

    def __init__(self) -> None:
        self.is_alive = True
        self.woken = 0
        self.groups: list[int] = []

    def wake(self) -> None:
        self.woken += 1

    def wake_group(self, group: int) -> None:
        self.groups.append(group)


def wait_for(circuit: Circuit) -> Row:
    row = Row()
    circuit.waiters = row  # type: ignore[assignment]
    return row


def wait_no_more(circuit: Circuit) -> None:
    circuit.waiters = None
    circuit.stir()


def shared(bench: Bench) -> list[str | None]:
    return [each.key for each in bench.keyed if each.key in (OTHERS, GOOD_OTHERS)]


# A key's circuit


def test_a_key_has_one_circuit_and_another_key_another() -> None:
    bench = Bench(2)
    first = bench.call("a")
    assert bench.call("a") is first is bench.keyed.get("a")
    assert bench.call("b") is not first
    assert first.key == "a"
    assert len(bench.keyed) == 2
    assert [each.key for each in bench.keyed] == ["a", "b"]


def test_a_circuit_is_in_use_until_each_of_its_calls_has_given_it_back() -> None:
    bench = Bench(1)
    one, two = bench.begin("a"), bench.begin("a")
    assert one.circuit.holders == 2
    bench.end(one, "success")
    assert bench.call("b").key == OTHERS
    bench.end(two, "success")
    assert two.circuit.holders == 0
    assert bench.call("b").key == "b"


def test_an_empty_key_is_a_key() -> None:
    bench = Bench(1)
    assert bench.call("").key == ""
    assert bench.call("b").key == "b"
    assert bench.keyed.get("") is None


def test_a_key_that_comes_back_has_a_fresh_circuit() -> None:
    bench = Bench(1)
    first = bench.call("a", "failure")
    bench.call("b")
    again = bench.call("a", "none")
    assert again is not first
    assert again.failures == 0


@pytest.mark.parametrize("times", [1, 2])
def test_giving_back_what_was_dropped_or_given_back_does_no_harm(times: int) -> None:
    bench = Bench(1)
    old = bench.call("a")
    bench.call("b")
    fresh = bench.begin("a")
    for _ in range(times):
        bench.keyed.give_back(old, "a", bench.now, None)
    assert (old.holders, fresh.circuit.holders) == (0, 1)
    assert bench.call("c").key == OTHERS
    bench.end(fresh, "success")
    for _ in range(times):
        bench.keyed.give_back(fresh.circuit, "a", bench.now, None)
    assert bench.call("c").key == "c"


# Who goes


def put(bench: Bench, key: str, how: str) -> None:
    """
    Bring a key's circuit into a condition, so that it is idle if that can be.
    """
    match how:
        case "good" | "open":
            bench.call(key)
        case "fresh":
            bench.call(key, "none")
        case "failing":
            bench.call(key, "failure")
        case "failed of late":
            bench.call(key, "failure", "success")
            assert bench.keyed.ensure(key, bench.now).failures == 0
        case "waited for":
            wait_for(bench.call(key))
        case "waited for and due":
            wait_for(bench.call(key, "failure", "failure"))
        case "due":
            bench.call(key, "failure", "failure")
        case "not probed":
            bench.call(key, "failure", "failure")
            bench.now += RESET
            bench.call(key, "none")
            assert bench.keyed.ensure(key, bench.now).state == "half_open"
        case "in use":
            bench.begin(key)
        case "probed":
            bench.call(key, "failure", "failure")
            bench.now += RESET
            assert bench.begin(key).permit is not None
        case "isolated":
            bench.call(key).isolate()
        case "forced open":
            bench.call(key).force_open()
        case "disabled":
            bench.call(key).disable()
        case "tripped":
            bench.call(key).trip()
        case "disabled and open":
            bench.call(key, "failure", "failure").disable()
        case "isolated and due":
            bench.call(key, "failure", "failure").isolate()
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    ("conditions", "order"),
    [
        (["good", "good", "good"], "abc"),
        (["fresh", "good", "fresh"], "abc"),
        (["failing", "good", "fresh"], "bca"),
        (["failing", "failing", "good"], "cab"),
        (["due", "failing", "good"], "cba"),
        (["due", "due", "failing"], "cab"),
        (["tripped", "due", "good"], "cba"),  # it counts from when it is found
        (["not probed", "due", "failing"], "cab"),
        (["due", "not probed", "good"], "cab"),
        (["open", "due", "good"], "cb"),
        (["open", "open", "open"], ""),
        (["in use", "good", "in use"], "b"),
        (["probed", "good", "due"], "bc"),
        (["isolated", "forced open", "disabled"], ""),
        (["disabled and open", "isolated and due", "due"], "c"),
        (["failed of late", "good", "failing"], "bac"),
        (["due", "failed of late", "good"], "cba"),
        (["waited for", "failing", "failing"], "bc"),
        (["waited for", "due", "good"], "cb"),
        (["waited for and due", "due", "failing"], "cb"),
        (["waited for", "waited for and due", "in use"], ""),
    ],
)
def test_who_goes_for_new_keys(conditions: list[str], order: str) -> None:
    bench = Bench(3)
    bench.settings = bench.settings._replace(window_calls=5)
    for key, how in zip("abc", conditions, strict=True):
        put(bench, key, how)
        bench.now += 0.25
    bench.now += 2 * RESET
    for key, how in zip("abc", conditions, strict=True):
        if how == "open":
            bench.call(key, "failure", "failure")
    gone = ""
    for new in "xyz":
        before = bench.has("abc")
        bench.begin(new)
        gone += "".join(set(before) - set(bench.has("abc")))
    assert gone == order
    assert shared(bench) == ([] if len(order) == 3 else [OTHERS])


def test_a_call_puts_off_the_turn_of_its_key() -> None:
    bench = Bench(2)
    bench.call("a")
    bench.call("b")
    bench.call("a")
    bench.call("c")
    assert bench.has("abc") == "ac"


def test_what_is_open_may_go_when_its_time_has_come_and_not_before() -> None:
    bench = Bench(1)
    bench.call("a", "failure", "failure")
    bench.now = RESET - 0.25
    assert bench.call("b").key == OTHERS
    bench.now = RESET
    assert bench.call("b").key == "b"


def test_an_open_circuit_that_is_asked_again_and_again_is_one_entry() -> None:
    bench = Bench(1)
    bench.call("a", "failure", "failure")
    for _ in range(100):
        bench.now += 0.01
        bench.call("a")
        assert len(bench.keyed._due) == 1
    bench.now = RESET
    assert bench.call("b").key == "b"


def test_who_opened_again_has_waited_for_less_long() -> None:
    bench = Bench(2)
    bench.call("a", "failure", "failure")
    bench.now += 5
    bench.call("b", "failure", "failure")
    bench.now += RESET
    bench.call("a", "failure")
    bench.now += RESET
    bench.call("c")
    assert bench.has("ab") == "a"


def test_a_slow_call_of_late_counts_like_a_failure() -> None:
    bench = Bench(2)
    bench.settings = bench.settings._replace(slow_duration=1.0, window_calls=5)
    flight = bench.begin("a")
    assert flight.permit is not None
    flight.circuit.breaker.succeeded(flight.permit, bench.now, 2.0)
    bench.keyed.give_back(flight.circuit, "a", bench.now, True)
    bench.call("b")
    bench.begin("c")
    assert bench.has("ab") == "a"
    bench.begin("d")
    assert bench.begin("a").circuit.key == GOOD_OTHERS  # its last call succeeded


def test_what_a_hand_has_closed_goes_before_what_has_failures() -> None:
    bench = Bench(3)
    bench.call("a", "failure")
    bench.call("b", "failure").reset()
    bench.call("c", "failure", "failure")
    bench.call("x")
    assert bench.has("abc") == "ac"
    bench.begin("x")
    bench.keyed.ensure("c", bench.now).reset()
    bench.call("y")
    assert bench.has("abc") == "a"


def test_a_call_that_moves_its_circuit_has_its_turn_as_ever() -> None:
    bench = Bench(3)
    bench.call("a", "failure", "failure")
    bench.now += RESET
    for key in "abc":
        bench.call(key)
    bench.call("d")
    assert bench.has("abc") == "bc"


@pytest.mark.parametrize("verdicts", [["success"], ["failure"], ["failure"] * 2])
def test_what_is_not_waited_for_any_more_may_go(verdicts: list[str]) -> None:
    bench = Bench(2)
    circuit = bench.call("a", *verdicts)
    wait_for(circuit)
    bench.begin("b")
    bench.now += 2 * RESET
    assert bench.call("c", "none").key == OTHERS
    wait_no_more(circuit)
    assert bench.call("c").key == "c"


@pytest.mark.parametrize("verdicts", [["success"], ["failure"], ["failure"] * 2])
def test_who_waited_in_a_loop_that_was_dropped_keeps_nothing(verdicts: list[str]) -> None:
    bench = Bench(2)
    row = wait_for(bench.call("a", *verdicts))
    bench.begin("b")
    bench.now += 2 * RESET
    assert bench.call("c", "none").key == OTHERS
    row.is_alive = False
    bench.call("c", "none")  # an open one is put in its order first
    assert bench.call("c", "none").key == "c"


def test_those_who_wait_for_a_place_are_told_when_there_may_be_one() -> None:
    bench = Bench(2)
    flight = bench.begin("a")
    circuit = bench.begin("b").circuit
    row = wait_for(bench.call("c", "none"))
    bench.call("d", "none")
    bench.end(flight, "success")
    assert row.woken == 1
    circuit.isolate()
    assert row.woken == 2
    bench.end(bench.begin("a"), "failure")
    bench.end(bench.begin("a"), "failure")
    told = row.woken
    bench.end(bench.begin("a"), "none")  # it is open, and makes no room
    assert row.woken == told


def test_what_was_changed_by_hand_is_found_when_its_turn_comes() -> None:
    bench = Bench(3)
    bench.call("a").isolate()
    bench.call("b", "failure").trip()
    bench.call("c").disable()
    assert bench.call("d").key == OTHERS
    handle = bench.keyed.get("a")
    assert handle is not None
    handle.unisolate()
    assert bench.call("d").key == "d"
    assert bench.has("abc") == "bc"


def test_a_good_one_by_the_shelf_that_fails_by_its_breaker_waits_for_its_turn() -> None:
    bench = Bench(2)
    first = bench.call("a")
    bench.call("b", "failure")
    first.breaker.restore(bench.call("b", "none").breaker.saved(bench.now), bench.now)
    assert first.failures == 1
    bench.begin("c")
    assert bench.has("ab") == "a"


def test_looks_are_few_however_much_was_changed_by_hand() -> None:
    bench = Bench(100)
    for number in range(100):
        bench.call(str(number)).isolate()
    assert len(bench.keyed._stirred) == 100
    calls = 0
    while bench.keyed._stirred:
        bench.call("new", "none")
        calls += 1
    assert 100 / (8 + 8 + 4) <= calls <= 100 / 8
    handle = bench.keyed.get("50")
    assert handle is not None
    for _ in range(5):
        handle.isolate()
        handle.unisolate()
    assert len(bench.keyed._stirred) == 1
    handle.unisolate()
    assert bench.call("new", "none").key == "new"
    assert not bench.keyed._stirred


def test_looks_are_few_however_many_are_waited_for() -> None:
    bench = Bench(100)
    rows = [wait_for(bench.call(str(number))) for number in range(100)]
    for _ in range(30):
        bench.call("new", "none")
    rows[50].is_alive = False
    keys = [bench.call("new", "none").key for _ in range(25)]
    assert keys[0] == OTHERS
    assert keys[-1] == "new"


# Those who share


def test_new_keys_share_one_circuit_where_nobody_may_go() -> None:
    bench = Bench(1)
    bench.begin("a")
    one = bench.call("b", "failure")
    assert bench.call("c", "failure") is one
    assert one.state is CircuitState.OPEN
    assert bench.made == 2
    assert len(bench.keyed) == 1
    assert bench.keyed.get("b") is None
    assert bench.keyed.get(OTHERS) is one


def test_who_shares_has_a_place_as_soon_as_there_is_one() -> None:
    bench = Bench(1)
    held = bench.begin("a")
    sharing = bench.begin("b")
    bench.end(held, "success")
    assert bench.call("b").key == "b"
    bench.end(sharing, "failure")
    assert sharing.circuit.holders == 0
    assert bench.keyed.get("b").failures == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [OTHERS, GOOD_OTHERS])
def test_a_key_that_reads_like_those_who_share_is_one_of_them(name: str) -> None:
    bench = Bench(2)
    assert bench.keyed.peek(name, 0.0) is None
    assert bench.call(name, "failure").key == OTHERS
    assert bench.keyed.peek(name, 0.0) is bench.keyed.get(OTHERS)
    assert len(bench.keyed) == 0
    assert bench.keyed.ensure(name, 0.0).key == name


def open_all(bench: Bench) -> None:
    """
    What a model can do that makes up keys: all places are taken by open circuits, and so
    is the one that others share.
    """
    number = 0
    while bench.call(f"made up {number}", "failure", "failure").key != OTHERS:
        number += 1
    assert bench.keyed.get(OTHERS).state is CircuitState.OPEN  # type: ignore[union-attr]


def test_made_up_keys_take_nothing_from_a_good_one() -> None:
    bench = Bench(3)
    bench.call("good")
    open_all(bench)
    assert bench.has("good") == ""
    flight = bench.begin("good")
    assert flight.circuit.key == GOOD_OTHERS
    assert flight.permit is not None
    bench.end(flight, "success")
    assert bench.begin("not known").permit is None


def test_who_fails_is_known_good_no_longer() -> None:
    bench = Bench(3)
    bench.call("good")
    open_all(bench)
    bench.call("good", "failure")
    assert bench.begin("good").circuit.key == OTHERS


def test_who_fails_on_its_own_circuit_is_known_good_no_longer() -> None:
    bench = Bench(1)
    bench.call("a", "success", "failure").reset()
    bench.begin("b")
    assert bench.begin("a").circuit.key == OTHERS


@pytest.mark.parametrize("verdict", ["none", "failure"])
def test_who_has_not_succeeded_is_not_known_good(verdict: str) -> None:
    bench = Bench(1)
    bench.call("a", verdict)
    bench.begin("b")
    assert bench.begin("a").circuit.key == OTHERS


def test_a_call_without_a_verdict_leaves_a_key_as_good_as_it_was() -> None:
    bench = Bench(1)
    bench.call("a", "success", "none")
    held = bench.begin("b")
    assert bench.call("a", "none").key == GOOD_OTHERS
    assert bench.call("a", "none").key == GOOD_OTHERS
    bench.end(held, "none")


def test_who_was_open_by_hand_when_it_went_is_not_known_good() -> None:
    bench = Bench(1)
    bench.call("a").trip()
    bench.now += RESET
    bench.begin("b")
    assert bench.has("a") == ""
    assert bench.call("a", "none").key == OTHERS


def test_who_succeeds_among_the_others_is_known_good() -> None:
    bench = Bench(1)
    bench.begin("a")
    assert bench.call("b").key == OTHERS
    assert bench.call("b").key == GOOD_OTHERS


def test_a_slow_success_that_opens_the_circuit_does_not_count_for_good() -> None:
    bench = Bench(1)
    bench.settings = bench.settings._replace(
        slow_duration=1.0, slow_rate=0.5, window_calls=2, minimum_calls=1
    )
    bench.begin("a")
    bench.call("b", "success", "success")
    flight = bench.begin("b")
    assert flight.permit is not None
    assert flight.circuit.key == GOOD_OTHERS
    flight.circuit.breaker.succeeded(flight.permit, bench.now, 5.0)
    flight.circuit.breaker.trip(bench.now)
    bench.keyed.give_back(flight.circuit, "b", bench.now, True)
    assert bench.begin("b").circuit.key == OTHERS


def test_one_probe_of_several_leaves_a_key_as_good_as_it_was() -> None:
    bench = Bench(2, threshold=1, successes=2)
    bench.begin("a")
    bench.begin("d")
    bench.call("b")
    bench.call("c")
    assert bench.call("c", "failure").key == GOOD_OTHERS
    bench.now += RESET
    assert bench.call("b").state is CircuitState.HALF_OPEN
    assert bench.call("b").key == GOOD_OTHERS
    assert bench.keyed.get(GOOD_OTHERS).state is CircuitState.CLOSED  # type: ignore[union-attr]


def test_as_many_are_remembered_as_there_are_places_the_last_ones() -> None:
    bench = Bench(2)
    for key in "abcdef":
        bench.call(key)
    held = [bench.begin("x"), bench.begin("y")]
    kept = {key: bench.call(key, "none").key for key in "abcdef"}
    assert [key for key, name in kept.items() if name == GOOD_OTHERS] == ["e", "f"]
    bench.configure(1)
    assert bench.call("e", "none").key == OTHERS
    assert bench.call("f", "none").key == GOOD_OTHERS
    del held


def test_a_good_key_takes_what_is_known_of_it_back_to_its_place() -> None:
    bench = Bench(1)
    bench.call("a")
    bench.call("b", "none")
    bench.call("a", "none")
    bench.begin("c")
    assert bench.call("a").key == GOOD_OTHERS


# By hand


def test_looking_at_a_circuit_takes_nothing() -> None:
    bench = Bench(1)
    assert bench.keyed.get("a") is None
    assert bench.keyed.peek("a", 0.0) is None
    assert len(bench.keyed) == 0
    circuit = bench.call("a")
    assert bench.keyed.peek("a", 0.0) is bench.keyed.get("a") is circuit
    assert bench.keyed.peek("b", 0.0) is None  # it would take the other's place
    assert bench.has("ab") == "a"
    circuit.isolate()
    assert bench.keyed.peek("b", 0.0) is None  # nobody has shared yet
    assert bench.call("b", "none") is bench.keyed.peek("b", 0.0)


def test_looking_counts_on_no_place_that_is_not_there_any_more() -> None:
    bench = Bench(2)
    bench.begin("a")
    bench.call("b", "failure", "failure")
    bench.configure(1)
    shared = bench.call("c", "none")
    bench.now += RESET
    assert bench.keyed.peek("c", bench.now) is shared
    assert bench.call("c", "none") is shared


def test_looking_finds_no_room_among_hundreds_that_stay() -> None:
    bench = Bench(300)
    for number in range(300):
        bench.call(str(number), "failure", "failure")
    assert bench.keyed.peek("new", bench.now) is None  # those who share have no circuit yet
    others = bench.call("new", "none")
    bench.configure(300)
    assert bench.keyed.peek("new", bench.now) is others
    bench.configure(299)
    assert len(bench.keyed) == 300


def test_a_handle_is_made_where_there_is_room() -> None:
    bench = Bench(1)
    circuit = bench.keyed.ensure("a", 0.0)
    assert bench.keyed.ensure("a", 0.0) is circuit
    assert circuit.holders == 0
    circuit.isolate()
    with pytest.raises(LookupError, match=r"of the key 'b'.* 1 other.* max_keys is 1\."):
        bench.keyed.ensure("b", 0.0)
    circuit.unisolate()
    assert bench.keyed.ensure("b", 0.0).key == "b"


def test_a_circuit_that_is_made_for_those_who_wait_is_not_in_use() -> None:
    bench = Bench(1)
    circuit = bench.keyed.make("a", bench.now)
    assert circuit is bench.keyed.make("a", bench.now) is bench.keyed.get("a")
    assert (circuit.untried, circuit.holders) == (True, 0)
    bench.begin("b")
    assert bench.has("ab") == "b"
    for key in ("a", OTHERS):
        assert bench.keyed.make(key, bench.now) is bench.keyed.get(OTHERS)
    assert bench.keyed.make("b", bench.now).holders == 1


def test_a_circuit_that_was_made_so_is_untried_until_a_call_has_succeeded() -> None:
    bench = Bench(1)
    circuit = bench.keyed.make("a", bench.now)
    row = wait_for(circuit)
    bench.call("a", "failure", "none")
    assert (circuit.untried, row.woken) == (True, 0)
    bench.call("a")
    assert (circuit.untried, row.woken) == (False, 1)
    bench.call("a")
    assert row.woken == 1


def test_a_circuit_that_begins_open_is_not_untried() -> None:
    bench = Bench(1)
    bench.keyed = KeyedCircuits(bench.make, 1, begin=lambda circuit: circuit.trip())
    circuit = bench.keyed.make("a", bench.now)
    assert circuit.state is CircuitState.OPEN
    assert not circuit.untried


def test_those_who_share_are_told_whose_circuit_is_another_now() -> None:
    bench = Bench(1)
    flight = bench.begin("a")
    row = wait_for(bench.call("b"))
    bench.call("b", "failure", "failure")  # known good no more: told once
    bench.call("c", "success")
    bench.call("d", "success")  # one is remembered, and it is not c any more
    assert row.groups == [hash("b"), hash("c")]
    bench.end(flight, "none")
    bench.call("b", "none")
    assert row.groups == [hash("b"), hash("c"), hash("b")]


def test_a_circuit_that_has_gone_says_no_more() -> None:
    bench = Bench(1)
    told: list[str | None] = []
    bench.changed = lambda circuit, transition: told.append(circuit.key)  # type: ignore[method-assign]
    old = bench.call("a")
    isolation = old.isolate()
    assert told == ["a"]
    bench.keyed._drop("a")
    isolation.release()
    with pytest.raises(OrchestratorError, match="given up"):
        old.isolate()
    assert told == ["a"]
    assert old.state is CircuitState.CLOSED
    assert not bench.keyed._stirred


def test_a_place_can_be_had_beyond_those_that_there_are() -> None:
    bench = Bench(1)
    held = bench.begin("a")
    circuit = bench.keyed.ensure("b", bench.now, beyond=True)
    circuit.isolate()
    assert bench.keyed.ensure(OTHERS, bench.now, beyond=True).key == OTHERS
    assert bench.has("ab") == "ab"
    assert bench.begin("c").circuit.key == OTHERS
    bench.end(held, "success")
    assert bench.has("ab") == "b"
    assert bench.keyed.ensure("b", bench.now) is circuit


# Other settings


def test_all_go_on_with_other_settings() -> None:
    bench = Bench(1)
    bench.begin("a")
    bench.call("b")
    bench.configure(1, reset_timeout=3.0)
    assert [each.breaker.settings.reset_timeout for each in bench.keyed] == [3.0, 3.0]


def test_with_fewer_places_they_go_in_their_order() -> None:
    bench = Bench(50)
    for number in range(50):
        bench.call(str(number), "failure" if number % 2 else "success")
    bench.configure(3)
    assert [each.key for each in bench.keyed] == ["45", "47", "49"]


def test_with_fewer_places_those_who_may_not_go_do_so_later() -> None:
    bench = Bench(20)
    flights = [bench.begin(str(number)) for number in range(20)]
    bench.configure(2)
    assert len(bench.keyed) == 20
    assert bench.call("new").key == OTHERS
    for flight in flights:
        bench.end(flight, "failure")
    assert len(bench.keyed) == 2


def test_with_fewer_places_no_more_go_later_than_have_to() -> None:
    bench = Bench(3)
    flight = bench.begin("a")
    bench.call("b", "failure", "failure")
    bench.begin("c")
    bench.configure(2)
    bench.now += RESET
    bench.end(flight, "success")
    assert bench.has("abc") == "bc"


def test_what_may_go_goes_a_few_at_a_time() -> None:
    bench = Bench(100, threshold=1)
    for number in range(100):
        bench.call(str(number), "failure")
    bench.configure(1)
    bench.now += RESET
    assert bench.call("new").key == OTHERS
    assert len(bench.keyed) == 92
    while bench.call("new").key == OTHERS:
        pass
    assert bench.made == 102


def test_a_few_are_enough_where_no_more_are_needed() -> None:
    bench = Bench(15, threshold=1)
    for number in range(15):
        bench.call(str(number), "failure")
    bench.configure(8)
    bench.now += RESET
    assert bench.call("new").key == "new"
    assert len(bench.keyed) == 8


def test_an_open_time_that_was_made_shorter_is_found_in_time() -> None:
    bench = Bench(8)
    for number in range(8):
        bench.call(str(number), "failure", "failure")
    bench.configure(8, reset_timeout=2.0)
    bench.now += 2.0
    new = [bench.begin(f"new {number}").circuit.key for number in range(8)]
    assert new == [f"new {number}" for number in range(8)]


# Clocks


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_clock_that_tells_no_time_does_no_harm(odd: float) -> None:
    bench = Bench(2)
    bench.now = 100.0
    bench.call("a", "failure", "failure")
    bench.end(bench.begin("b", odd), "success", odd)
    assert bench.begin("c", odd).circuit.key == "c"
    assert bench.begin("d", odd).circuit.key == OTHERS
    bench.now += RESET
    assert bench.begin("d").circuit.key == "d"


def test_without_any_clock_what_is_open_stays() -> None:
    bench = Bench(1)
    bench.now = math.nan
    bench.call("a", "failure", "failure")
    assert bench.call("b", "none").key == OTHERS
    bench.now = 5.0
    assert bench.call("b", "none").key == OTHERS
    bench.now += RESET
    assert bench.call("b").key == "b"


def test_a_clock_that_goes_back_leaves_what_was_left() -> None:
    bench = Bench(2)
    bench.now = 1e6
    bench.call("a", "failure", "failure")
    bench.call("b", "failure", "failure")
    bench.now = 0.0
    assert bench.call("c").key == OTHERS
    bench.now = RESET
    assert bench.begin("c").circuit.key == "c"
    assert bench.begin("d").circuit.key == "d"


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_who_is_due_is_found_among_many(late: float) -> None:
    bench = Bench(100)
    bench.call("first", "failure", "failure")
    bench.now += RESET / 2
    for number in range(99):
        bench.call(f"host-{number}", "failure", "failure")
    bench.call("first")
    bench.now = RESET - 0.5
    for _ in range(3):
        assert bench.call("new").key != "new"
    bench.now = RESET + late
    assert bench.call("new").key == "new"
    assert "first" not in [circuit.key for circuit in bench.keyed]


def test_who_is_due_is_found_among_many_when_the_clock_has_gone_back() -> None:
    bench = Bench(100)
    bench.now = 1000.0
    bench.call("first", "failure", "failure")
    bench.now += RESET / 2
    for number in range(99):
        bench.call(f"host-{number}", "failure", "failure")
    bench.call("first")  # refused, so that all others come before it but by its time
    for bench.now in (0.0, RESET / 2):  # where its circuit is asked, and learns of it
        assert bench.call("new").key != "new"
    bench.now = RESET
    assert bench.call("new").key == "new"
    assert "first" not in [circuit.key for circuit in bench.keyed]


@pytest.mark.parametrize("kept", ["waited for", "isolated", "disabled"])
def test_who_is_due_is_found_behind_one_that_has_to_stay(kept: str) -> None:
    bench = Bench(100)
    for key in ("first", "second"):
        bench.call(key, "failure", "failure")
        bench.now += 1.0
    bench.now = RESET / 2
    for number in range(98):
        bench.call(f"host-{number}", "failure", "failure")
    circuit = bench.call("first", "none")
    if kept == "waited for":
        wait_for(circuit)
    elif kept == "isolated":
        circuit.isolate()
    else:
        circuit.disable()
    bench.call("second", "none")
    bench.now = RESET + 1.0
    assert bench.call("new").key == "new"
    names = [circuit.key for circuit in bench.keyed]
    assert "first" in names
    assert "second" not in names


@pytest.mark.parametrize("reset", [RESET, RESET - 0.5], ids=["the same", "a little less"])
def test_who_is_due_is_found_among_many_after_a_reload(reset: float) -> None:
    bench = Bench(100)
    bench.call("first", "failure", "failure")
    bench.now = RESET / 2
    for number in range(99):
        bench.call(f"host-{number}", "failure", "failure")
    bench.call("first", "none")
    bench.configure(100, reset_timeout=reset)
    bench.now = reset
    assert bench.call("new").key == "new"
    assert "first" not in [circuit.key for circuit in bench.keyed]


@pytest.mark.parametrize("was_due", [True, False])
def test_who_is_found_to_be_waited_for_no_longer_is_found_among_many_when_due(
    was_due: bool,
) -> None:
    bench = Bench(100)
    flights = [bench.begin("first") for _ in range(2)]
    if was_due:
        for flight in flights:
            bench.end(flight, "failure")
    row = wait_for(flights[0].circuit)
    if was_due:
        bench.configure(100)  # and is no longer
    else:
        for flight in flights:
            bench.end(flight, "failure")
    bench.now = RESET / 2
    for number in range(99):
        bench.call(f"host-{number}", "failure", "failure")
    row.is_alive = False
    assert bench.call("new", "none").key != "new"  # who looks around, and finds that out
    bench.now = RESET
    assert bench.call("new").key == "new"
    assert "first" not in [circuit.key for circuit in bench.keyed]


def test_the_heap_is_not_tidied_for_every_entry() -> None:
    class Counting(KeyedCircuits):
        tidied = 0

        def _tidy(self) -> None:
            Counting.tidied += 1
            super()._tidy()

    bench = Bench(50, threshold=1, kind=Counting)
    for _ in range(20):
        for number in range(50):
            bench.call(f"host-{number}", "failure")
        bench.now += RESET
    assert 5 <= Counting.tidied <= 25


# Memory


def test_a_hundred_thousand_keys_leave_a_thousand_circuits() -> None:
    bench = Bench(1000)
    for number in range(100_000):
        verdicts = {0: ["failure", "failure"], 1: ["failure"], 2: ["none"]}
        bench.now += 0.005
        bench.call(f"host-{number}", *verdicts.get(number % 7, ["success"]))
        if number % 1000 == 0:
            assert_bounded(bench.keyed, 1000)
    assert_bounded(bench.keyed, 1000)
    gc.collect()
    alive = [each for each in gc.get_objects() if type(each) is Circuit]
    assert sum(each.name == "fetch" and each in list(bench.keyed) for each in alive) <= 1002
    assert len(alive) < 2000


def assert_bounded(keyed: KeyedCircuits, most: int) -> None:
    assert len(keyed) <= most
    assert len(list(keyed)) <= most + 2
    assert len(keyed._clean) + len(keyed._failing) + len(keyed._kept) <= most
    assert len(keyed._good) <= most
    assert len(keyed._due) <= 2 * most + 8
    assert len(keyed._stirred) <= most


def test_the_heap_of_hundreds_is_tidied() -> None:
    bench = Bench(300, threshold=1)
    for _ in range(4):
        for number in range(300):
            bench.call(str(number), "failure")
            assert len(bench.keyed._due) <= 601
        bench.now += RESET


def test_the_heap_is_tidied_of_those_who_went_on() -> None:
    bench = Bench(2, threshold=1)
    for _ in range(100):
        for key in "ab":
            bench.call(key, "failure")
        bench.now += RESET
        for key in "ab":
            bench.call(key)
        assert len(bench.keyed._due) <= 12
    bench.call("a", "failure")
    bench.call("b", "failure")
    bench.now += RESET
    assert bench.begin("c").circuit.key == "c"
    assert bench.begin("d").circuit.key == "d"


# Against a model


verdicts = st.sampled_from(["success", "success", "failure", "failure", "none"])
keys = st.sampled_from([*"abcdef", GOOD_OTHERS])
odd_times = st.sampled_from([None] * 15 + [math.nan, math.inf, -math.inf])
Rank = tuple[int, float, str]


class KeyedAgainstModel(RuleBasedStateMachine):
    """
    Callers, an operator, and a model that keeps lists and looks at all of them each time.

    It knows which keys have a place, what came of their last verdicts, and in which order
    they were given back; whether a circuit is open it asks a copy of its breaker. Who goes
    is told exactly, but for those whose circuit was changed without a call (``touched``):
    they may go at any time when none of a better class is there. Nobody of a worse class
    goes before them, unless that they are not waited for any more is told by nobody
    (``hidden``).
    """

    kind: type[KeyedCircuits] = KeyedCircuits

    def __init__(self) -> None:
        super().__init__()
        self.flights: list[InFlight] = []
        self.own: dict[str, Circuit] = {}
        self.filed: dict[str, tuple[int, float]] = {}
        self.touched: set[str] = set()
        self.hidden: set[str] = set()
        self.good: dict[str, bool] = {}  # of keys that have a place
        self.known: list[str] = []  # of those that have none
        self.last: dict[str, bool] = {}
        self.turn = 0

    @initialize(
        capacity=st.integers(1, 4),
        successes=st.integers(1, 2),
        window=st.sampled_from([0, 3]),
    )
    def begin(self, capacity: int, successes: int, window: int) -> None:
        self.bench = Bench(capacity, successes=successes, kind=self.kind)
        self.bench.settings = self.bench.settings._replace(window_calls=window)
        self.keyed = self.bench.keyed
        self.capacity = capacity

    # --- callers -----------------------------------------------------------------------

    @rule(key=keys, odd=odd_times, peeks=st.booleans())
    def take(self, key: str, odd: float | None, peeks: bool) -> None:
        now = self._now(odd)
        peeked = self.keyed.peek(key, now) if peeks else None
        known = list(self.keyed)
        flight = self.bench.begin(key, now)
        circuit = flight.circuit
        if peeks:
            assert peeked is (circuit if circuit in known else None)
        self._newcomer(key, circuit, now)
        self.flights.append(flight)
        if circuit.key == GOOD_OTHERS:
            assert self.last[key]

    def _newcomer(self, key: str, circuit: Circuit | None, now: float) -> None:
        if key in self.own:
            assert circuit is self.own[key]
            return
        if key != GOOD_OTHERS:
            self._some_go(self.capacity - 1, now)
        if key != GOOD_OTHERS and len(self.own) < self.capacity:
            assert circuit is not None
            assert circuit.key == key
            assert circuit.failures == 0
            self.own[key] = circuit
            self.good[key] = key in self.known
            self.known = [each for each in self.known if each != key]
        elif circuit is not None:
            assert circuit.key == (GOOD_OTHERS if key in self.known else OTHERS)

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), verdict=verdicts, odd=odd_times)
    def give_back(self, data: st.DataObject, verdict: str, odd: float | None) -> None:
        now = self._now(odd)
        flight = data.draw(st.sampled_from(self.flights))
        self.flights.remove(flight)
        self._given_back(flight, self.bench.end(flight, verdict, now), now)

    @rule(key=keys, verdict=verdicts, times=st.integers(1, 2))
    def call(self, key: str, verdict: str, times: int) -> None:
        """
        Nothing comes between, so that most circuits are idle at most times.
        """
        for _ in range(times):
            self.take(key, None, False)
            flight = self.flights.pop()
            now = self.bench.now
            self._given_back(flight, self.bench.end(flight, verdict, now), now)

    def _given_back(self, flight: InFlight, told: bool | None, now: float) -> None:
        key, breaker = flight.key, flight.circuit.breaker
        probing = breaker.state == "half_open"
        if told is not None and not (told and probing):
            closed = breaker.closed_permit is not None and not breaker.failures
            self.last[key] = good = told and closed
            if key in self.own:
                self.good[key] = good
            else:
                self.known = [each for each in self.known if each != key]
                if good:
                    self._remember(key)
        if self.own.get(key) is flight.circuit and not self._in_use(key):
            self.turn += 1
            self.filed[key] = self.turn, self.bench.now
            self.touched.discard(key)
            self.hidden.discard(key)
            if not math.isfinite(now) or self._is_waited_for(key):
                self.touched.add(key)
        if self.own.get(key) is flight.circuit:
            self._some_go(self.capacity, now)

    def _remember(self, key: str) -> None:
        self.known = [*self.known, key][-self.capacity :]

    # --- who goes ----------------------------------------------------------------------

    def _some_go(self, most: int, now: float) -> None:
        """
        Those whom the circuits have let go must be those who had to.
        """
        gone = {key for key in self.own if self.keyed.get(key) is not self.own[key]}
        is_loose = len(gone) > 1 and bool(gone & self.touched)
        while len(self.own) > most:
            ranks = [rank for key in self.own if (rank := self._rank(key, now))]
            if not ranks:
                break
            fixed = sorted(rank for rank in ranks if rank[2] not in self.touched)
            loose = [rank for rank in ranks if rank[2] in self.touched]
            seen = [rank[0] for rank in ranks if rank[2] not in self.hidden]
            best = [
                each
                for each in [*fixed[:1], *loose]
                if not seen
                or each[0] == min(seen)
                or (each[2] in self.hidden and each[0] < min(seen))
            ]
            who = next((rank for rank in best if rank[2] in gone), None)
            assert who is not None, f"one of {best} had to go, and not {gone}"
            gone.remove(who[2])
            self._go(*who)
        assert not gone
        if is_loose:  # several at once, in an order that is not told exactly
            names = {hash(key): key for key in [*"abcdef", GOOD_OTHERS]}
            told = [names[number] for number in self.keyed._good]
            assert len(told) == len(self.known) or len(told) == self.capacity
            assert all(self.last[key] for key in told)
            self.known = told

    def _go(self, group: int, _: float, key: str) -> None:
        failures = self.own[key].failures
        del self.own[key], self.filed[key]
        self.touched.discard(key)
        self.hidden.discard(key)
        if self.good.pop(key) and group < 2 and not failures:
            self._remember(key)

    def _rank(self, key: str, now: float) -> Rank | None:
        breaker = copy.copy(self.own[key].breaker)
        turn, time = self.filed.get(key, (0, 0.0))
        by_hand = breaker.state in ("isolated", "disabled") or breaker.is_forced_open
        if self._in_use(key) or self._is_waited_for(key) or by_hand:
            return None
        if breaker.state == "closed":
            failed = breaker.failures or any(each.failures for each in breaker._windows)
            return (1 if failed else 0), turn, key
        # It waits from when its time has come, or it was given back after that.
        due = max(breaker._reopen_at, time) if breaker.state == "open" else time
        return (2, due, key) if breaker.available_in(now) == 0 else None

    def _in_use(self, key: str) -> bool:
        return any(each.circuit is self.own[key] for each in self.flights)

    def _is_waited_for(self, key: str) -> bool:
        row = self.own[key].waiters
        return row is not None and row.is_alive

    # --- those who wait ----------------------------------------------------------------

    @precondition(lambda self: self.own)
    @rule(data=st.data())
    def somebody_waits(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.own)))
        wait_for(self.own[key])
        self.touched.add(key)

    @precondition(lambda self: self.own)
    @rule(data=st.data(), told=st.booleans())
    def nobody_waits(self, data: st.DataObject, told: bool) -> None:
        """
        They have gone, or their loop was dropped, of which nobody tells.
        """
        key = data.draw(st.sampled_from(sorted(self.own)))
        circuit = self.own[key]
        if told:
            wait_no_more(circuit)
        elif circuit.waiters is not None:
            circuit.waiters.is_alive = False  # type: ignore[misc]
            self.hidden.add(key)
        self.touched.add(key)

    # --- the clock and the operator ----------------------------------------------------

    def _now(self, odd: float | None) -> float:
        if odd is None:
            return self.bench.now
        self._all_touched()
        return odd

    def _all_touched(self) -> None:
        """
        Of what is not closed, it is not told exactly how long it has waited.
        """
        self.touched |= {
            key for key, circuit in self.own.items() if circuit.state != "closed"
        }

    @rule(quarters=st.sampled_from([1, 4, 20, 40, 80]))
    def time_passes(self, quarters: int) -> None:
        self.bench.now += quarters / 4

    @rule(seconds=st.sampled_from([0.25, 5.0, 1000.0]))
    def the_clock_goes_back(self, seconds: float) -> None:
        self.bench.now -= seconds
        self._all_touched()

    @precondition(lambda self: any(True for _ in self.keyed))
    @rule(
        data=st.data(),
        deed=st.sampled_from("isolate force_open unisolate disable reset trip".split()),
    )
    def the_operator_acts(self, data: st.DataObject, deed: str) -> None:
        circuit = data.draw(st.sampled_from(list(self.keyed)))
        getattr(circuit, deed)()
        if circuit.key in self.own:
            self.touched.add(circuit.key)

    @rule(key=keys)
    def the_operator_asks(self, key: str) -> None:
        now = self.bench.now
        was_there = key in self.own
        try:
            circuit = self.keyed.ensure(key, now)
        except LookupError:
            self._newcomer(key, None, now)
            assert not was_there
            return
        if key == GOOD_OTHERS:
            assert circuit.key == GOOD_OTHERS
            return
        self._newcomer(key, circuit, now)
        assert circuit is self.own[key]
        if not was_there:
            self.turn += 1
            self.filed[key] = self.turn, now

    @rule(capacity=st.integers(1, 4), reset_timeout=st.sampled_from([RESET, 2.0, 20.0]))
    def the_settings_change(self, capacity: int, reset_timeout: float) -> None:
        self.bench.configure(capacity, reset_timeout)
        self.capacity = capacity
        self._all_touched()
        self._some_go(capacity, self.bench.now)
        self.known = self.known[-capacity:]

    # --- always ------------------------------------------------------------------------

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "keyed"):
            return
        assert len(self.keyed) == len(self.own)
        for key in "abcdef":
            assert self.keyed.get(key) is self.own.get(key)
        assert [each for each in self.keyed if each.key not in (OTHERS, GOOD_OTHERS)] == [
            *self.own.values()
        ]
        for circuit in self.keyed:
            held = [each for each in self.flights if each.circuit is circuit]
            assert circuit.holders == len(held)
        assert [*self.keyed._good] == [hash(key) for key in self.known]
        assert_bounded(self.keyed, 4)


def test_the_circuits_do_what_the_model_does() -> None:
    run_state_machine_as_test(
        KeyedAgainstModel,
        settings=settings(max_examples=300, stateful_step_count=50),
    )


class LetsGoWhatIsInUse(KeyedCircuits):
    __slots__ = ()

    def take(self, key: str, now: float) -> Circuit:
        circuit = super().take(key, now)
        place = self._places.get(key)
        if place is not None:
            self._file(key, place, now)
        return circuit


class LetsGoWhatIsOpen(KeyedCircuits):
    __slots__ = ()

    def _may_go(self, place: _Place, now: float) -> bool:
        by_hand = place.circuit.breaker.refusal_by_hand() is not None
        return (place.circuit.state == "open" and not by_hand) or super()._may_go(
            place, now
        )


class LetsGoWhatIsDisabled(KeyedCircuits):
    __slots__ = ()

    def _may_go(self, place: _Place, now: float) -> bool:
        return place.circuit.state == "disabled" or super()._may_go(place, now)


class TheNewestGoFirst(KeyedCircuits):
    __slots__ = ()

    def _first(self, now: float) -> str | None:
        shelf = self._clean or self._failing
        return next(reversed(shelf)) if shelf else super()._first(now)


class TheFailingGoFirst(KeyedCircuits):
    __slots__ = ()

    def _first(self, now: float) -> str | None:
        return next(iter(self._failing), None) or super()._first(now)


class BelievesTheShelf(KeyedCircuits):
    __slots__ = ()

    def _next_to_go(self, now: float) -> str | None:
        return self._first(now)


class LooksAtNobodyElse(KeyedCircuits):
    """
    Who waited in a loop that was dropped is never found.
    """

    __slots__ = ()

    def _next_to_go(self, now: float) -> str | None:
        key = super()._next_to_go(now)
        found = key is not None and self._places[key].shelf is self._kept
        return None if found and key != self._first(now) else key


class HearsNoHand(KeyedCircuits):
    __slots__ = ()

    def _stir(self, circuit: Circuit) -> None:
        pass


class WaitsForWhoIsWaitedFor(KeyedCircuits):
    """
    One who may not go is looked at again and again, and none of a worse class.
    """

    __slots__ = ()

    def _shelf_of(self, circuit: Circuit) -> _Shelf:
        waiters, circuit.waiters = circuit.waiters, None
        shelf = super()._shelf_of(circuit)
        circuit.waiters = waiters
        return shelf

    def _may_go(self, place: _Place, now: float) -> bool:
        return not place.circuit.is_waited_for and super()._may_go(place, now)


class LetsGoWhatIsWaitedFor(KeyedCircuits):
    __slots__ = ()

    def _may_go(self, place: _Place, now: float) -> bool:
        closed = place.circuit.breaker.closed_permit is not None
        return closed or super()._may_go(place, now)


class WaitsForLoopsThatWereDropped(KeyedCircuits):
    __slots__ = ()

    def _may_go(self, place: _Place, now: float) -> bool:
        return place.circuit.waiters is None and super()._may_go(place, now)


class LooksAtFailuresInARow(KeyedCircuits):
    __slots__ = ()

    def _shelf_of(self, circuit: Circuit) -> _Shelf:
        shelf = super()._shelf_of(circuit)
        is_clean = shelf is self._failing and not circuit.failures
        return self._clean if is_clean else shelf


class TakesTheCancelledForGood(KeyedCircuits):
    __slots__ = ()

    def give_back(
        self, circuit: Circuit, key: str, now: float, succeeded: bool | None
    ) -> None:
        good = succeeded is None and circuit.breaker.closed_permit is not None
        super().give_back(circuit, key, now, good or succeeded)


class ForgivesFailures(KeyedCircuits):
    __slots__ = ()

    def _note(
        self, key: str, place: _Place | None, breaker: Breaker, succeeded: bool
    ) -> None:
        if succeeded:
            super()._note(key, place, breaker, succeeded)


class ForgetsWhoWasGood(KeyedCircuits):
    __slots__ = ()

    def _drop(self, key: str) -> None:
        self._places[key].good = False
        super()._drop(key)


class RemembersTheOldest(KeyedCircuits):
    __slots__ = ()

    def _remember(self, key: str) -> None:
        if len(self._good) < self._capacity:
            super()._remember(key)


class HasOneForAllOthers(KeyedCircuits):
    __slots__ = ()

    def _name_for(self, key: str) -> str:
        return OTHERS


class LetsAnybodyShareWithTheGood(KeyedCircuits):
    __slots__ = ()

    def _name_for(self, key: str) -> str:
        return key if key == GOOD_OTHERS else super()._name_for(key)


class NeverShrinks(KeyedCircuits):
    __slots__ = ()

    def _has_room(self, now: float, newcomers: int = 1) -> bool:
        return newcomers == 0 or super()._has_room(now, newcomers)


FAULTS = [
    LetsGoWhatIsInUse,
    LetsGoWhatIsOpen,
    LetsGoWhatIsDisabled,
    TheNewestGoFirst,
    TheFailingGoFirst,
    BelievesTheShelf,
    LooksAtNobodyElse,
    HearsNoHand,
    WaitsForWhoIsWaitedFor,
    LetsGoWhatIsWaitedFor,
    WaitsForLoopsThatWereDropped,
    LooksAtFailuresInARow,
    TakesTheCancelledForGood,
    ForgivesFailures,
    ForgetsWhoWasGood,
    RemembersTheOldest,
    HasOneForAllOthers,
    LetsAnybodyShareWithTheGood,
    NeverShrinks,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_model_disagrees_with_a_planted_fault(fault: type[KeyedCircuits]) -> None:
    machine = type("Faulty", (KeyedAgainstModel,), {"kind": fault})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=10_000,  # far more than most need: it ends with the first
                stateful_step_count=50,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                database=None,
            ),
        )


# Through an orchestrator


async def test_calls_take_the_circuits_of_their_keys_and_give_them_back() -> None:
    registry = Registry()
    policy = ToolPolicy(breaker=BreakerPolicy(failure_threshold=1, max_keys=1))

    @registry.tool(circuit=lambda arguments, context: arguments["host"], policy=policy)
    async def fetch(host: str) -> str:
        if host != "good":
            raise OSError("down")
        return host

    orch = ToolOrchestrator(registry)
    assert (await orch.run("fetch", {"host": "good"})).ok
    for host in ("made up", "made up too"):
        assert not (await orch.run("fetch", {"host": host})).ok
    keyed = orch._fleet.keyed["fetch"]
    assert [each.key for each in keyed] == ["made up", OTHERS]
    assert (await orch.run("fetch", {"host": "good"})).ok
    assert [each.key for each in keyed] == ["made up", OTHERS, GOOD_OTHERS]
    assert [each.holders for each in keyed] == [0, 0, 0]
