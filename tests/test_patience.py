from __future__ import annotations

import logging

import pytest

from orchestrator_async._patience import Patience
from orchestrator_async.stores import StoreDownError, StoreError

SLOW = StoreError("too slow")


def answering(seconds: float = 5.0) -> Patience:
    patience = Patience(seconds)
    patience.answered()
    return patience


def test_a_store_is_given_up_until_it_has_answered() -> None:
    patience = Patience(5.0)
    assert patience.is_over
    assert patience.answered()
    assert not patience.is_over
    assert not patience.answered()
    patience.begin()
    assert patience.is_over


def test_one_that_does_not_answer_is_waited_for_from_when_it_was_asked() -> None:
    patience = answering()
    patience.missed(SLOW, 10.0, 12.0)
    patience.missed(SLOW, 9.0, 13.9)  # asked before, and given up later
    assert not patience.is_over
    patience.look(13.9)
    assert not patience.is_over
    patience.look(14.0)
    assert patience.is_over
    assert patience.answered()
    patience.look(1e9)
    assert not patience.is_over


def test_what_is_missed_can_be_what_ends_it() -> None:
    patience = answering()
    patience.missed(SLOW, 10.0, 15.0)
    assert patience.is_over


def test_an_answer_begins_it_anew() -> None:
    patience = answering()
    patience.missed(SLOW, 10.0, 12.0)
    assert not patience.answered()
    patience.missed(SLOW, 14.0, 16.0)
    patience.look(18.9)
    assert not patience.is_over


def test_five_asks_without_an_answer_end_it() -> None:
    patience = answering()
    for _ in range(20):
        patience.missed(SLOW, 1.0, 1.0)  # no ask
    for _ in range(4):
        patience.missed(SLOW, 1.0, 1.0, ask=True)
    assert not patience.is_over
    assert patience.wants_a_change
    patience.answered()
    assert patience.wants_a_change
    patience.changed()
    assert not patience.wants_a_change
    for number in range(1, 6):
        for _ in range(10):  # many may ask in a moment, and be refused
            patience.missed(SLOW, 1.0 + number, 1.0 + number, ask=True)
        assert patience.is_over is (number == 5)


def test_one_that_is_not_there_is_not_waited_for() -> None:
    patience = answering()
    patience.missed(StoreDownError("refused"), 1.0, 1.0)
    assert patience.is_over


def test_none_at_all() -> None:
    patience = answering(0.0)
    patience.missed(SLOW, 1.0, 1.0)
    assert patience.is_over


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (lambda it: it.missed(StoreDownError("refused"), 1, 1), "StoreDownError: refused"),
        (lambda it: it.missed(SLOW, 1, 7), "for 6 s: StoreError: too slow"),
        (lambda it: [it.missed(SLOW, n, n, ask=True) for n in range(5)], "5 asks in a row"),
        (lambda it: it.lose("it was asked to"), "it was asked to"),
    ],
)
def test_it_is_said_once_that_it_is_gone_and_once_that_it_is_back(
    lose, said, caplog
) -> None:
    caplog.set_level(logging.INFO)
    patience = answering()
    assert not caplog.records
    for _ in range(2):
        lose(patience)
        lose(patience)
        assert len(caplog.records) == 1
        assert said in caplog.text
        assert caplog.records[0].levelno == logging.WARNING
        patience.answered()
        patience.answered()
        assert [each.getMessage() for each in caplog.records[1:]] == [
            "the store of shared circuits answers again"
        ]
        caplog.clear()
