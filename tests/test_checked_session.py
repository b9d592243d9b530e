"""
A session whose store is a stranger's: it does not even answer in the right types.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestrator_async._checked_session import CheckedSession
from orchestrator_async.stores import Answer, Isolate, SharedState, StoreError

from .clock import virtual_time

pytestmark = virtual_time

STATE = SharedState(generation=5)


class Says:
    """
    A session that answers the same to everything.
    """

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __getattr__(self, name: str) -> Any:
        async def answer(*asked: Any) -> Any:
            return self.answer

        return answer


def told(answer: Any) -> CheckedSession:
    return CheckedSession(Says(answer))


@pytest.mark.parametrize("answer", [None, 3, [], [STATE, STATE], {"a": STATE}])
async def test_what_is_no_list_of_states_is_an_error(answer: Any) -> None:
    with pytest.raises(StoreError, match="makes no sense"):
        await told(answer).read(["a"])


async def test_a_state_that_is_none_is_as_if_it_were_not_there() -> None:
    assert await told([STATE, "state", None]).read(["a", "b", "c"]) == [STATE, None, None]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        (True, STATE),
        Answer(done=1, state=STATE),  # type: ignore[arg-type]
        Answer(done=True, state=None),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_answer_to_a_change_is_an_error(answer: Any) -> None:
    with pytest.raises(StoreError, match="makes no sense"):
        await told(answer).change("a", Isolate(known=STATE))


@pytest.mark.parametrize("answer", [None, True, -1, 1.5, "3", 2**60])
async def test_what_is_no_number_of_processes_is_an_error(answer: Any) -> None:
    with pytest.raises(StoreError, match="makes no sense"):
        await told(answer).beat("me", {})
    assert await told(3).beat("me", {}) == 3


@pytest.mark.parametrize("answer", [None, [], "figures"])
async def test_what_are_no_figures_is_an_error(answer: Any) -> None:
    with pytest.raises(StoreError, match="makes no sense"):
        await told(answer).figures()


async def test_figures_that_are_none_are_left_out() -> None:
    long = "x" * 2001
    answer = {
        "one": {"tool": "[1]", 3: "[1]", "other": 4, long: "[1]", "more": long},
        "two": None,
        3: {"tool": "[1]"},
    }
    assert await told(answer).figures() == {"one": {"tool": "[1]"}}


@pytest.mark.parametrize(
    ("answer", "is_down"), [(True, True), (False, False), (1, False), (None, False)]
)
async def test_whether_it_is_down(answer: Any, is_down: bool) -> None:
    assert await told(answer).is_down() is is_down


class Hangs(Says):
    def __getattr__(self, name: str) -> Any:
        async def answer(*asked: Any) -> Any:
            await anyio.sleep_forever()

        return answer


async def test_one_that_never_answers_is_not_waited_for_for_ever() -> None:
    session = CheckedSession(Hangs(None))
    began = anyio.current_time()
    assert not await session.is_down()
    assert anyio.current_time() - began == pytest.approx(0.5)
    with pytest.raises(StoreError, match="no answer"):
        await session.leave("me")
    assert anyio.current_time() - began == pytest.approx(60.5)


async def test_who_asks_can_be_cancelled() -> None:
    with anyio.move_on_after(1) as scope:
        await CheckedSession(Hangs(None)).beat("me", {})
    assert scope.cancelled_caught
