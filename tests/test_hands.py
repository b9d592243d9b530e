"""
Isolations by hand, told by hand what the fleet has.
"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator_async import CircuitState
from orchestrator_async._hands import ByHand, Hands

CLOSED, ISOLATED = CircuitState.CLOSED, CircuitState.ISOLATED


class Circuit:
    """
    It counts what is done to it.
    """

    def __init__(self) -> None:
        self.held = False
        self.lifted = 0

    def hold(self, held: bool) -> None:
        self.held = held

    def lift(self, number: int) -> None:
        self.lifted += number


@pytest.fixture
def circuit() -> Circuit:
    return Circuit()


@pytest.fixture
def hands(circuit: Any) -> Hands:
    return Hands(circuit)


def tell_all(hands: Hands) -> list[ByHand]:
    told = []
    while (news := hands.news) is not None:
        told.append(news)
        hands.told(news)
    return told


def test_what_is_done_is_told_in_its_order(hands: Hands) -> None:
    one, other = hands.isolate(), hands.isolate()
    assert hands.release(one)
    hands.lift()
    assert [(each.add, each.remove) for each in tell_all(hands)] == [
        ((one,), ()),
        ((other,), ()),
        ((), (one,)),
        ((), None),
    ]


def test_tokens_are_all_different_and_cannot_be_guessed(hands: Hands) -> None:
    tokens = {hands.isolate() for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {16}


def test_one_thing_that_is_told_twice_is_not_taken_for_two(hands: Hands) -> None:
    hands.isolate()
    first = hands.news
    hands.told(first)
    hands.told(first)
    hands.isolate()
    hands.told(first)
    assert hands.news is not None


def test_an_isolation_ends_once(hands: Hands) -> None:
    token = hands.isolate()
    assert hands.release(token)
    assert not hands.release(token)
    again = hands.isolate()
    hands.lift()
    assert not hands.release(again)


def test_those_of_others_are_those_that_are_not_held_here(hands: Hands) -> None:
    assert hands.others(2) == 2
    hands.isolate()
    assert [hands.others(each) for each in (0, 1, 2)] == [0, 0, 1]


def test_what_others_hold_isolates_here(hands: Hands, circuit: Circuit) -> None:
    hands.hear(1)
    assert circuit.held
    hands.hear(0)
    assert not circuit.held


def test_what_is_held_here_is_not_held_for_others(hands: Hands, circuit: Circuit) -> None:
    hands.isolate()
    tell_all(hands)
    hands.hear(1)
    assert not circuit.held
    hands.hear(2)
    assert circuit.held
    assert circuit.lifted == 0


def test_where_the_fleet_has_fewer_somebody_has_lifted_all(
    hands: Hands, circuit: Circuit
) -> None:
    tokens = [hands.isolate(), hands.isolate()]
    tell_all(hands)
    hands.hear(0)
    assert circuit.lifted == 2
    assert not any(hands.release(token) for token in tokens)
    assert hands.news is None


def test_one_that_is_left_then_is_of_somebody_else(hands: Hands, circuit: Circuit) -> None:
    hands.isolate()
    hands.isolate()
    tell_all(hands)
    hands.hear(1)
    assert circuit.lifted == 2
    assert circuit.held


def test_nothing_is_made_of_what_is_older_than_what_was_done_here(
    hands: Hands, circuit: Circuit
) -> None:
    hands.isolate()
    hands.hear(0)
    assert circuit.lifted == 0


def test_a_circuit_that_is_retired_is_not_isolated_from_here(hands: Hands) -> None:
    hands.retire()
    assert hands.news is None
    token = hands.isolate()
    tell_all(hands)
    hands.retire()
    assert tell_all(hands) == [ByHand((), (token,))]
    hands.retire()
    assert hands.news is None


def test_a_store_that_has_lost_them_is_told_again(hands: Hands) -> None:
    hands.missing(0)
    assert hands.news is None
    hands.missing(1)  # of others: a change tells what is known
    assert tell_all(hands) == [ByHand((), ())]
    token = hands.isolate()
    hands.missing(0)
    assert len(tell_all(hands)) == 1  # it is on its way
    hands.missing(0)
    assert tell_all(hands) == [ByHand((token,), ())]
