"""
What the protocol says of a store, sentence by sentence, of each store on each loop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from orchestrator_async.stores import (
    NOTHING_KNOWN,
    Change,
    MemoryStore,
    Move,
    SharedState,
    Store,
    StoreError,
    StoreSession,
)
from orchestrator_async.stores.redis import RedisStore

from .parts import (
    CLOSED,
    HALF_OPEN,
    LONG,
    NEAR,
    OPEN,
    REAL_LOOPS,
    SHORT,
    Listener,
    calls,
    claim,
    half_open,
    is_like,
    isolate,
    moved,
    opened,
    pass_by,
    probed,
    renew,
    run,
    state_of,
    without_rest,
)

pytestmark = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)

# As long as the engine's clock is right, one that comes later does not happen.
C = "circuit"
CLEAR = SharedState()  # closed, and nothing counted


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    engine = request.getfixturevalue("shared_engine")
    return RedisStore(engine.url, prefix=request.getfixturevalue("prefix"))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def session(store: Store, listener: Listener) -> AsyncIterator[StoreSession]:
    async with store.session(listener) as it:
        yield it


# What is known of a circuit


async def test_of_a_circuit_that_nobody_has_changed_nothing_can_be_read(
    session: StoreSession,
) -> None:
    assert await session.read([C]) == [None]
    assert await session.read([]) == []


async def test_what_is_read_is_in_the_order_of_what_was_asked(
    session: StoreSession,
) -> None:
    names = [f"circuit {number}" for number in range(1201)]
    await moved(session, names[0], opened(failures=7))
    await moved(session, names[499], opened(failures=8))
    await moved(session, names[1200], opened(failures=9))
    read = await session.read([*names, names[0]])
    found = {at: state.failures for at, state in enumerate(read) if state is not None}
    assert found == {0: 7, 499: 8, 1200: 9, 1201: 7}


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "{a}b",
        "}{",
        "a:b c",
        "%7B",
        "\n\0\r",
        "日本 🦀",
        "\ud800",
        "x" * 2000,
        "fleet",
    ],
    ids=ascii,
)
async def test_a_circuit_may_have_any_name(
    session: StoreSession, listener: Listener, name: str
) -> None:
    other = name + "_"
    state = await moved(session, name, opened(failures=1))
    assert await listener.hears(1) == [(name, nearly(state))]
    assert without_rest(await state_of(session, name)) == without_rest(state)
    assert await state_of(session, other) is None
    await moved(session, other, opened(failures=2))
    read = await session.read([other, name])
    assert [each and each.failures for each in read] == [2, 1]


def nearly(state: SharedState) -> SharedState:
    """
    The same, whatever of its time has passed meanwhile.
    """
    rest = pytest.approx(state.rest, abs=NEAR)
    return replace(state, rest=cast("float", rest))


async def test_all_that_a_process_says_of_a_circuit_can_be_read(
    session: StoreSession,
) -> None:
    to = SharedState(
        state=OPEN,
        rest=50.5,
        length=60.25,
        failures=3,
        reopenings=4,
        paused=True,
        pauses=5,
    )
    answer = await moved(session, C, to)
    assert replace(answer, generation=0, rest=50.5) == to
    assert answer.rest == pytest.approx(50.5, abs=NEAR)
    read = await state_of(session, C)
    assert without_rest(read) == without_rest(answer)
    state = await moved(session, C, half_open(successes=2, reopenings=1), answer)
    assert (state.successes, state.reopenings, state.rest) == (2, 1, 0.0)


async def test_the_rest_runs_down_to_nothing(session: StoreSession) -> None:
    state = await moved(session, C, opened(LONG))
    assert LONG - NEAR < state.rest <= LONG
    await pass_by()
    read = await state_of(session, C)
    assert read is not None
    assert LONG - NEAR < read.rest < state.rest
    await moved(session, C, opened(SHORT))
    await pass_by()
    read = await state_of(session, C)
    assert read is not None
    assert read.rest <= 0
    assert read.length == SHORT


async def test_no_time_is_longer_than_that_for_which_it_was_opened(
    session: StoreSession,
) -> None:
    state = await moved(session, C, opened(LONG, rest=1e9))
    assert state.rest <= LONG
    state = await moved(session, C, opened(1e300))
    assert state.rest <= state.length < 1e9
    state = await moved(session, C, opened(float("inf")))
    assert state.rest <= state.length < 1e9
    state = await moved(session, C, opened(float("nan")))
    assert (state.rest, state.length) == (0.0, 0.0)
    state = await moved(session, C, opened(-5.0))
    assert (state.rest, state.length) == (0.0, 0.0)


async def test_each_change_begins_a_generation_that_is_higher(
    session: StoreSession,
) -> None:
    generations = [0]
    state = await moved(session, C, opened(0.0))
    generations.append(state.generation)
    answer = await session.change(C, claim(state))
    generations.append(answer.state.generation)
    answer = await session.change(C, Move(known=answer.state, to=CLEAR, token="mine"))
    generations.append(answer.state.generation)
    answer = await session.change(C, isolate(answer.state, add=("a",)))
    generations.append(answer.state.generation)
    answer = await session.change(C, isolate(answer.state, remove=None))
    generations.append(answer.state.generation)
    answer = await session.change(C, run(answer.state, processes=1, threshold=1))
    generations.append(answer.state.generation)
    assert answer.done
    assert sorted(set(generations)) == generations


def ahead(store: Store, seconds: float = 3600.0) -> int:
    """
    A generation that is ahead of the store's clock.
    """
    clock = time.monotonic if isinstance(store, MemoryStore) else time.time
    return int((clock() + seconds) * 1000)


async def test_a_generation_is_the_stores_time_or_one_more(
    store: Store, session: StoreSession
) -> None:
    before = ahead(store, 0.0)
    state = await moved(session, C, opened())
    assert before - 1 <= state.generation <= ahead(store, 0.0) + 1
    known = SharedState(generation=ahead(store))
    state = await moved(session, C, opened(), known)
    assert state.generation == known.generation + 1
    state = await moved(session, C, opened(), state)
    assert state.generation == known.generation + 2


@pytest.mark.parametrize("days", [1.01, 400.0, 1e6])
async def test_a_generation_that_is_far_ahead_is_not_believed(
    store: Store, session: StoreSession, days: float
) -> None:
    far = ahead(store, days * 86_400)
    state = await moved(session, C, opened())
    for known in (replace(state, generation=far), half_open(generation=far)):
        answer = await session.change(C, Move(known=known, to=CLEAR))
        assert not answer.done
        assert without_rest(answer.state) == without_rest(state)
        answer = await session.change(C, claim(known, "mine"))
        assert not answer.done
        assert without_rest(answer.state) == without_rest(state)
        assert without_rest(await state_of(session, C)) == without_rest(state)


async def test_nor_is_it_where_the_store_has_nothing(
    store: Store, session: StoreSession
) -> None:
    far = ahead(store, 2 * 86_400)
    known = replace(opened(), generation=far, rest=0.0)
    answer = await session.change(C, claim(known, "mine"))
    assert answer.done
    assert answer.state.generation <= ahead(store, 1.0)


# What its sender knows


def changes_that_are_not_done(known: SharedState) -> list[Change]:
    """
    One of each kind that brings news of a circuit, and no more.
    """
    return [
        Move(known=known, to=CLEAR),
        run(known),
        calls(known),
        isolate(known, remove=("nobody's",)),
    ]


@pytest.mark.parametrize("kind", range(4))
async def test_a_store_that_has_nothing_goes_on_from_what_a_sender_knows(
    session: StoreSession, kind: int
) -> None:
    known = half_open(generation=5, failures=6, successes=1, reopenings=2, pauses=3)
    change = changes_that_are_not_done(known)[kind]
    answer = await session.change(C, change)
    assert answer.state.generation == 5
    assert is_like(answer, kind == 3, known)
    assert LONG - NEAR < answer.state.rest <= LONG
    read = await state_of(session, C)
    assert without_rest(read) == without_rest(known)


@pytest.mark.parametrize("kind", range(4))
async def test_a_store_that_has_something_older_goes_on_from_it_too(
    session: StoreSession, kind: int
) -> None:
    old = await moved(session, C, opened(failures=1))
    known = half_open(generation=old.generation + 7, failures=6)
    answer = await session.change(C, changes_that_are_not_done(known)[kind])
    assert answer.state.generation == old.generation + 7
    assert without_rest(await state_of(session, C)) == without_rest(known)


@pytest.mark.parametrize("kind", range(4))
async def test_what_the_store_knows_better_stands(session: StoreSession, kind: int) -> None:
    state = await moved(session, C, opened(failures=1))
    known = half_open(generation=state.generation - 1, failures=6)
    answer = await session.change(C, changes_that_are_not_done(known)[kind])
    assert without_rest(answer.state) == without_rest(state)
    assert without_rest(await state_of(session, C)) == without_rest(state)


async def test_of_one_generation_it_is_the_stores_that_counts(
    session: StoreSession,
) -> None:
    state = await moved(session, C, opened(failures=1))
    answer = await session.change(C, renew(replace(state, failures=9, rest=1.0)))
    assert without_rest(answer.state) == without_rest(state)


async def test_isolations_that_a_sender_knows_of_are_known_then(
    session: StoreSession,
) -> None:
    answer = await session.change(C, run(SharedState(generation=5, isolations=2)))
    assert answer.state.isolations == 2
    answer = await session.change(C, isolate(answer.state, remove=("whose",)))
    assert answer.state.isolations == 1
    answer = await session.change(C, isolate(answer.state, remove=("whose else",)))
    assert answer.state.isolations == 0


async def test_who_tells_of_an_isolation_that_others_have_told_of_is_not_one_more(
    session: StoreSession,
) -> None:
    """
    A store that has lost its data hears of one from those who know of it, and from the one
    whose it is, in any order.
    """
    answer = await session.change(C, run(SharedState(generation=5, isolations=1)))
    answer = await session.change(C, isolate(answer.state, add=("whose",)))
    assert answer.state.isolations == 1
    answer = await session.change(C, isolate(answer.state, add=("another",)))
    assert answer.state.isolations == 2
    answer = await session.change(C, isolate(answer.state, remove=("another", "whose")))
    assert answer.state.isolations == 0


async def test_of_a_newer_state_without_isolations_none_is_left(
    session: StoreSession,
) -> None:
    answer = await session.change(C, isolate(add=("a", "b")))
    known = SharedState(generation=answer.state.generation + 5)
    answer = await session.change(C, run(known))
    assert answer.state.isolations == 0
    answer = await session.change(C, isolate(known, add=("c",)))
    assert answer.state.isolations == 1


async def test_a_lease_has_no_longer_to_go_than_who_asks_allows(
    session: StoreSession,
) -> None:
    state = await probed(session, C)
    asked = replace(claim(state, "another"), longest=SHORT)
    denied = await session.change(C, asked)
    assert not denied.done
    assert denied.state.rest <= SHORT
    await pass_by(SHORT)
    assert (await session.change(C, asked)).done


async def test_a_lease_that_was_only_told_of_is_in_nobodys_way_for_longer(
    session: StoreSession,
) -> None:
    known = half_open(SHORT * 20, generation=5)
    told = await session.change(C, isolate(known))
    for token in ("mine", ""):
        assert not (await session.change(C, claim(told.state, token))).done
    move = Move(known=told.state, to=CLEAR)
    assert not (await session.change(C, move)).done  # it is not the probe
    await pass_by(SHORT * 20)
    assert (await session.change(C, claim(told.state))).done


async def test_a_lease_that_was_only_told_of_is_that_of_who_renews_it(
    session: StoreSession,
) -> None:
    told = await session.change(C, isolate(half_open(generation=5)))
    older = replace(told.state, generation=4)
    assert not (await session.change(C, renew(older, "other"))).done
    assert (await session.change(C, renew(told.state, "mine"))).done
    assert not (await session.change(C, renew(told.state, "other"))).done
    assert not (await session.change(C, claim(told.state, "other"))).done
    assert (await session.change(C, claim(told.state, "mine"))).done
    move = Move(known=told.state, to=CLEAR, token="other")
    assert not (await session.change(C, move)).done
    assert (await session.change(C, replace(move, token="mine"))).done


async def test_a_lease_that_was_only_told_of_is_that_of_who_moves_the_circuit(
    session: StoreSession,
) -> None:
    known = half_open(generation=5)
    answer = await session.change(C, Move(known=known, to=CLEAR, token="mine"))
    assert answer.done
    assert answer.state.state is CLEAR.state


async def test_a_lease_that_was_told_of_when_it_was_over_is_nobodys(
    session: StoreSession,
) -> None:
    known = half_open(0.0, generation=5)
    assert not (await session.change(C, renew(known, "mine"))).done
    assert not (await session.change(C, Move(known=known, to=CLEAR, token="mine"))).done
    assert (await session.change(C, claim(known, "mine"))).done


# A claim


async def test_an_open_circuit_is_claimed_when_its_time_has_passed(
    session: StoreSession,
) -> None:
    state = await moved(session, C, opened(SHORT, failures=3, reopenings=2))
    await pass_by()
    answer = await session.change(C, claim(state, lease=30.0))
    assert is_like(answer, True, half_open(length=SHORT, failures=3, reopenings=2))
    assert answer.state.generation > state.generation
    assert 30 - NEAR < answer.state.rest <= 30.0
    assert without_rest(await state_of(session, C)) == without_rest(answer.state)


async def test_before_its_time_it_is_not(session: StoreSession) -> None:
    state = await moved(session, C, opened())
    answer = await session.change(C, claim(state))
    assert (answer.done, without_rest(answer.state)) == (False, without_rest(state))
    assert without_rest(await state_of(session, C)) == without_rest(state)


async def test_a_closed_one_is_not_claimed(session: StoreSession) -> None:
    answer = await session.change(C, claim(NOTHING_KNOWN))
    assert (answer.done, answer.state) == (False, NOTHING_KNOWN)
    state = await moved(session, C, CLEAR)
    answer = await session.change(C, claim(state))
    assert (answer.done, answer.state) == (False, state)


async def test_a_lease_in_force_is_the_only_one(session: StoreSession) -> None:
    state = await probed(session, C)
    answer = await session.change(C, claim(state, "another"))
    assert not answer.done
    assert answer.state.rest == pytest.approx(state.rest, abs=NEAR)
    assert without_rest(await state_of(session, C)) == without_rest(state)


async def test_a_denied_ask_does_not_make_a_lease_longer(session: StoreSession) -> None:
    state = await probed(session, C, lease=0.3)
    for _ in range(1000):
        if (await session.change(C, claim(state, "another"))).done:
            return
        await anyio.sleep(0.02)
    raise AssertionError("it was never claimed")


async def test_one_that_is_over_is_another_ones_in_a_new_generation(
    session: StoreSession,
) -> None:
    state = await probed(session, C, lease=SHORT)
    await pass_by()
    answer = await session.change(C, claim(state, "another"))
    assert is_like(answer, True, half_open(length=0.0))
    assert answer.state.generation > state.generation


async def test_half_open_without_a_lease_anybody_may_claim(session: StoreSession) -> None:
    state = await moved(session, C, half_open(successes=1))
    assert state.rest <= 0
    answer = await session.change(C, claim(state))
    assert answer.done
    assert answer.state.successes == 1


async def test_an_isolated_one_is_not_claimed(session: StoreSession) -> None:
    await moved(session, C, opened(0.0))
    answer = await session.change(C, isolate(add=("a",)))
    assert not (await session.change(C, claim(answer.state))).done
    answer = await session.change(C, isolate(answer.state, remove=("a",)))
    assert (await session.change(C, claim(answer.state))).done


async def test_who_asks_again_with_its_token_has_the_lease(
    session: StoreSession, listener: Listener
) -> None:
    state = await probed(session, C)
    heard = len(await listener.hears(2))
    again = await session.change(C, claim(NOTHING_KNOWN, lease=LONG * 5))
    assert again.done
    assert without_rest(again.state) == without_rest(state)
    assert again.state.rest <= LONG
    await moved(session, "another", opened())
    await listener.hears(heard + 1)
    assert [name for name, _ in listener.heard] == [C, C, "another"]


async def test_a_token_whose_lease_is_over_claims_as_others_do(
    session: StoreSession,
) -> None:
    state = await probed(session, C, lease=SHORT)
    await pass_by()
    answer = await session.change(C, claim(state))
    assert answer.done
    assert answer.state.generation > state.generation
    assert answer.state.rest > 0


async def test_a_claim_that_is_not_done_changes_nothing(
    session: StoreSession, listener: Listener
) -> None:
    known = opened(generation=5)
    answer = await session.change(C, claim(known))
    assert (answer.done, without_rest(answer.state)) == (False, without_rest(known))
    assert LONG - NEAR < answer.state.rest <= LONG
    assert await session.read([C]) == [None]
    state = await moved(session, C, opened())
    newer = replace(opened(), generation=state.generation + 1, failures=9)
    answer = await session.change(C, claim(newer))
    assert (answer.done, without_rest(answer.state)) == (False, without_rest(newer))
    assert without_rest(await state_of(session, C)) == without_rest(state)
    await moved(session, C, opened(), state)
    assert len(await listener.hears(2)) == len(listener.heard) == 2


async def test_a_claim_goes_on_from_what_its_sender_knows(session: StoreSession) -> None:
    known = opened(0.0, generation=5, failures=4)
    answer = await session.change(C, claim(known))
    assert is_like(answer, True, half_open(length=0.0, failures=4))


async def test_of_many_that_claim_at_once_one_is_the_probe(store: Store) -> None:
    won: list[str] = []

    async def asks(session: StoreSession, token: str, known: SharedState) -> None:
        if (await session.change(C, claim(known, token))).done:
            won.append(token)

    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(store.session(Listener())) for _ in range(4)
        ]
        state = await moved(sessions[0], C, opened(0.0))
        for window in range(1, 4):
            async with anyio.create_task_group() as group:
                for number in range(40):
                    token = f"{window}-{number}"
                    group.start_soon(asks, sessions[number % 4], token, state)
            assert len(won) == window
            state = await moved(sessions[0], C, opened(0.0))


# A renewal


async def test_the_probe_makes_its_lease_longer(
    session: StoreSession, listener: Listener
) -> None:
    state = await probed(session, C, lease=30.0)
    answer = await session.change(C, renew(state, lease=90.0))
    assert (answer.done, without_rest(answer.state)) == (True, without_rest(state))
    assert 90 - NEAR < answer.state.rest <= 90
    read = await state_of(session, C)
    assert read is not None
    assert 90 - NEAR < read.rest <= 90
    await moved(session, C, opened(), state)
    assert [each.state for _, each in await listener.hears(3)] == [OPEN, HALF_OPEN, OPEN]


async def test_also_when_it_is_over(session: StoreSession) -> None:
    state = await probed(session, C, lease=SHORT)
    await pass_by()
    assert (await session.change(C, renew(state))).done
    assert not (await session.change(C, claim(state, "another"))).done


async def test_nobody_else_does(session: StoreSession) -> None:
    state = await probed(session, C)
    assert not (await session.change(C, renew(state, "another"))).done
    older = replace(state, generation=state.generation - 1)
    assert not (await session.change(C, renew(older))).done


async def test_it_is_no_longer_the_probe_when_another_one_is(
    session: StoreSession,
) -> None:
    state = await probed(session, C, lease=SHORT)
    await pass_by()
    other = await session.change(C, claim(state, "another"))
    assert not (await session.change(C, renew(state))).done
    assert not (await session.change(C, renew(other.state))).done


@pytest.mark.parametrize("to", [opened(), CLEAR, half_open()])
async def test_nor_when_it_was_moved(session: StoreSession, to: SharedState) -> None:
    state = await probed(session, C)
    state = await moved(session, C, to, state)
    assert not (await session.change(C, renew(state))).done


# A move


@pytest.mark.parametrize(
    "to", [opened(failures=3, reopenings=1), CLEAR, half_open(successes=1)]
)
async def test_the_probe_moves_its_circuit(session: StoreSession, to: SharedState) -> None:
    state = await probed(session, C)
    answer = await session.change(C, Move(known=state, to=to, token="mine"))
    assert is_like(answer, True, replace(to, rest=0.0))
    assert answer.state.generation > state.generation
    assert (answer.state.rest > 0) == (to.state is OPEN)
    assert without_rest(await state_of(session, C)) == without_rest(answer.state)


async def test_no_other_moves_it(session: StoreSession) -> None:
    state = await probed(session, C)
    older = replace(state, generation=state.generation - 1)
    for known, token in [(state, "another"), (state, None), (older, "mine")]:
        answer = await session.change(C, Move(known=known, to=CLEAR, token=token))
        assert (answer.done, without_rest(answer.state)) == (False, without_rest(state))
    assert without_rest(await state_of(session, C)) == without_rest(state)


async def test_a_probe_moves_it_after_its_lease_if_nobody_else_probes(
    session: StoreSession,
) -> None:
    state = await probed(session, C, lease=SHORT)
    await pass_by()
    answer = await session.change(C, Move(known=state, to=CLEAR, token="mine"))
    assert is_like(answer, True, CLEAR)


@pytest.mark.parametrize("to", [opened(failures=3), CLEAR, half_open()])
async def test_where_nobody_probes_any_more_it_is_moved_by_whoever_knows_its_generation(
    session: StoreSession, to: SharedState
) -> None:
    state = await probed(session, C, lease=SHORT)
    await pass_by()
    older = replace(state, generation=state.generation - 1)
    for known, token in [(state, "another"), (older, None)]:
        answer = await session.change(C, Move(known=known, to=to, token=token))
        assert (answer.done, answer.state.state) == (False, HALF_OPEN)
    answer = await session.change(C, Move(known=state, to=to))
    assert is_like(answer, True, to)


async def test_a_stale_verdict_decides_nothing(session: StoreSession) -> None:
    state = await probed(session, C, lease=SHORT)
    await pass_by()
    other = await session.change(C, claim(state, "another"))
    answer = await session.change(C, Move(known=state, to=CLEAR, token="mine"))
    assert not answer.done
    answer = await session.change(C, Move(known=other.state, to=CLEAR, token="mine"))
    assert not answer.done
    answer = await session.change(C, Move(known=other.state, to=CLEAR, token="another"))
    assert answer.done


@pytest.mark.parametrize("at", [CLEAR, opened()])
async def test_one_that_is_not_half_open_is_moved_by_whoever_knows_its_generation(
    session: StoreSession, at: SharedState
) -> None:
    state = await moved(session, C, at)
    older = replace(state, generation=state.generation - 1)
    to = opened(failures=4)
    assert not (await session.change(C, Move(known=older, to=to))).done
    assert is_like(await session.change(C, Move(known=state, to=to)), True, to)
    assert not (await session.change(C, Move(known=state, to=to))).done


async def test_the_first_of_all_moves_needs_nothing_known(session: StoreSession) -> None:
    to = opened(failures=3)
    assert is_like(await session.change(C, Move(known=NOTHING_KNOWN, to=to)), True, to)


async def test_after_a_move_nobody_has_a_lease(session: StoreSession) -> None:
    state = await probed(session, C)
    answer = await session.change(
        C, Move(known=state, to=half_open(successes=1), token="mine")
    )
    assert answer.state.rest <= 0
    assert not (await session.change(C, renew(answer.state))).done
    again = Move(known=answer.state, to=CLEAR, token="mine")
    assert not (await session.change(C, again)).done
    assert (await session.change(C, claim(answer.state, "another"))).done


@pytest.mark.parametrize("at", ["probed", "closed", "newer"])
async def test_by_hand_it_is_moved_in_any_case(
    store: Store, session: StoreSession, at: str
) -> None:
    known = NOTHING_KNOWN
    if at == "probed":
        await probed(session, C)
    elif at == "newer":
        known = SharedState(generation=ahead(store))
        await moved(session, C, CLEAR)
    else:
        await moved(session, C, CLEAR)
    before = await state_of(session, C)
    answer = await session.change(C, Move(known=known, to=opened(), force=True))
    assert is_like(answer, True, opened())
    assert before is not None
    assert answer.state.generation > max(before.generation, known.generation)


async def test_a_move_leaves_isolations_as_they_are(session: StoreSession) -> None:
    answer = await session.change(C, isolate(add=("a", "b")))
    state = await moved(session, C, opened(isolations=9, generation=3), answer.state)
    assert (state.isolations, state.state) == (2, OPEN)


@pytest.mark.parametrize("to", [CLEAR, opened()])
async def test_with_a_move_runs_are_forgotten(
    session: StoreSession, to: SharedState
) -> None:
    await session.change(C, run(process="one", failures=2))
    state = await moved(session, C, to)
    state = await moved(session, C, CLEAR, state)
    assert not (await session.change(C, run(state, process="two", failures=2))).done
    assert (await session.change(C, run(state, process="one", failures=1))).done


@pytest.mark.parametrize("to", [CLEAR, opened()])
async def test_and_calls(session: StoreSession, to: SharedState) -> None:
    await session.change(C, calls(calls=9, failures=9))
    state = await moved(session, C, to)
    state = await moved(session, C, CLEAR, state)
    assert not (await session.change(C, calls(state, calls=9, failures=9))).done
    assert (await session.change(C, calls(state, failures=1))).done


# Runs of failures


async def test_runs_of_several_processes_open_it_together(session: StoreSession) -> None:
    to = opened(30.0, failures=99, reopenings=1)
    first = await session.change(C, run(process="one", failures=2, to=to))
    assert (first.done, first.state) == (False, NOTHING_KNOWN)
    second = await session.change(C, run(process="two", failures=1, to=to))
    assert is_like(second, True, replace(to, failures=3))
    assert 30 - NEAR < second.state.rest <= 30
    assert without_rest(await state_of(session, C)) == without_rest(second.state)


async def test_those_of_one_do_not(session: StoreSession) -> None:
    assert not (await session.change(C, run(failures=500))).done
    assert (await session.change(C, run(failures=500, processes=1))).done


async def test_too_few_failures_do_not(session: StoreSession) -> None:
    for process in ("one", "two", "three"):
        assert not (await session.change(C, run(process=process, threshold=4))).done
    assert (await session.change(C, run(process="four", threshold=4))).done


async def test_a_run_stands_in_the_place_of_the_one_before(session: StoreSession) -> None:
    await session.change(C, run(process="one", failures=1))
    await session.change(C, run(process="one", failures=1))
    assert not (await session.change(C, run(process="two", failures=1))).done
    answer = await session.change(C, run(process="one", failures=2))
    assert (answer.done, answer.state.failures) == (True, 3)


async def test_a_success_ends_the_run_of_its_process_alone(session: StoreSession) -> None:
    await session.change(C, run(process="one", failures=2))
    await session.change(C, run(process="two", failures=1, threshold=9))
    await session.change(C, run(process="one", failures=0))
    assert not (await session.change(C, run(process="two", failures=9))).done
    assert (await session.change(C, run(process="three", failures=1))).done


async def test_a_run_of_which_nothing_is_said_counts_for_its_time(
    session: StoreSession,
) -> None:
    await session.change(C, run(process="one", failures=2, lasts=SHORT))
    await pass_by()
    assert not (await session.change(C, run(process="two", failures=9))).done
    assert (await session.change(C, run(process="one", failures=1))).done


async def test_a_run_of_an_older_generation_changes_nothing(session: StoreSession) -> None:
    state = await moved(session, C, CLEAR)
    older = replace(state, generation=state.generation - 1)
    await session.change(C, run(older, process="one", failures=9))
    assert not (await session.change(C, run(state, process="two", failures=9))).done
    answer = await session.change(C, run(older, process="two", failures=0))
    assert (answer.done, answer.state) == (False, state)
    assert (await session.change(C, run(state, process="three", failures=1))).done


async def test_a_newer_generation_has_other_runs(session: StoreSession) -> None:
    await session.change(C, run(process="one", failures=9))
    known = SharedState(generation=5)
    assert not (await session.change(C, run(known, process="two", failures=9))).done


@pytest.mark.parametrize("at", [opened(), half_open()])
async def test_runs_open_no_circuit_but_a_closed_one(
    session: StoreSession, at: SharedState
) -> None:
    state = await moved(session, C, at)
    for process in ("one", "two"):
        answer = await session.change(C, run(state, process=process, failures=9))
        assert (answer.done, without_rest(answer.state)) == (False, without_rest(state))


async def test_nor_an_isolated_one_before_it_is_released(session: StoreSession) -> None:
    answer = await session.change(C, isolate(add=("a",)))
    for process in ("one", "two"):
        said = run(answer.state, process=process, failures=9)
        assert not (await session.change(C, said)).done
    answer = await session.change(C, isolate(answer.state, remove=("a",)))
    assert answer.state.state is CLOSED
    assert (await session.change(C, run(answer.state, process="two", failures=9))).done


async def test_an_isolation_leaves_runs_and_calls_as_they_are(
    session: StoreSession,
) -> None:
    await session.change(C, run(process="one", failures=2))
    await session.change(C, calls(calls=9, failures=9))
    await session.change(C, isolate(add=("a",)))
    answer = await session.change(C, isolate(remove=("a",)))
    counted = calls(answer.state, failures=1, to=opened(0.0, failures=1))
    assert (await session.change(C, run(answer.state, process="two"))).done
    assert not (await session.change(C, counted)).done


async def test_and_calls_as_they_are(session: StoreSession) -> None:
    await session.change(C, calls(calls=9, failures=9))
    await session.change(C, isolate(add=("a",)))
    answer = await session.change(C, isolate(remove=("a",)))
    assert (await session.change(C, calls(answer.state, failures=1))).done


async def test_many_processes_have_runs(session: StoreSession) -> None:
    for number in range(200):
        said = run(process=f"process {number}", threshold=201)
        assert not (await session.change(C, said)).done
    answer = await session.change(C, run(process="process 0", failures=2, threshold=201))
    assert (answer.done, answer.state.failures) == (True, 201)


# Calls


async def test_too_many_of_enough_calls_that_failed_open_it(session: StoreSession) -> None:
    to = opened(30.0, failures=4, reopenings=1)
    first = await session.change(C, calls(calls=8, failures=4, to=to))
    assert (first.done, first.state) == (False, NOTHING_KNOWN)
    second = await session.change(C, calls(calls=2, failures=1, to=to))
    assert is_like(second, True, to)
    assert 30 - NEAR < second.state.rest <= 30
    assert without_rest(await state_of(session, C)) == without_rest(second.state)


async def test_too_few_calls_do_not(session: StoreSession) -> None:
    assert not (await session.change(C, calls(calls=9, failures=9))).done
    assert (await session.change(C, calls(calls=1, failures=1))).done


async def test_a_smaller_share_does_not(session: StoreSession) -> None:
    assert not (await session.change(C, calls(calls=100, failures=49))).done
    assert (await session.change(C, calls(calls=2, failures=2))).done


async def test_it_opens_with_calls_some_of_which_failed(session: StoreSession) -> None:
    at_first = calls(calls=10, failures=9, minimum_calls=11)
    assert not (await session.change(C, at_first)).done
    assert not (await session.change(C, calls(calls=5, minimum_calls=11))).done
    assert (await session.change(C, calls(calls=1, failures=1, minimum_calls=11))).done


async def test_slow_calls_have_a_share_of_their_own(session: StoreSession) -> None:
    slow: dict[str, Any] = {"failure_rate": float("inf"), "slow_rate": 0.8}
    assert not (await session.change(C, calls(calls=10, failures=10, slow=7, **slow))).done
    assert not (await session.change(C, calls(calls=1, failures=1, **slow))).done
    assert not (await session.change(C, calls(calls=1, slow=1, **slow))).done
    assert (await session.change(C, calls(calls=8, slow=8, **slow))).done


async def test_slow_ones_open_it_with_calls_some_of_which_were(
    session: StoreSession,
) -> None:
    slow: dict[str, Any] = {"slow_rate": 0.5, "minimum_calls": 11}
    assert not (await session.change(C, calls(calls=10, slow=10, **slow))).done
    assert not (await session.change(C, calls(calls=2, **slow))).done
    assert (await session.change(C, calls(calls=1, slow=1, **slow))).done


async def test_an_infinite_share_opens_nothing(session: StoreSession) -> None:
    said = calls(calls=99, failures=99, slow=99, failure_rate=float("inf"))
    assert not (await session.change(C, said)).done
    assert (await session.change(C, replace(said, failure_rate=1.0))).done


COUNT: dict[str, Any] = {"window_calls": 20, "window_seconds": 0.0}


async def test_the_count_window_needs_no_more_calls_than_it_holds(
    session: StoreSession,
) -> None:
    many: dict[str, Any] = COUNT | {"minimum_calls": 1000}
    assert not (await session.change(C, calls(calls=19, failures=19, **many))).done
    assert (await session.change(C, calls(calls=1, failures=1, **many))).done


async def test_it_holds_the_last_buckets_that_have_so_many_together(
    session: StoreSession,
) -> None:
    """
    A bucket of a second, each time: what was told before is out of the window once there
    are enough after it.
    """
    await session.change(C, calls(calls=500, failures=0, **COUNT))
    await wait_for_the_next_bucket(session, 1.0)
    assert not (await session.change(C, calls(calls=19, failures=19, **COUNT))).done
    assert (await session.change(C, calls(calls=1, failures=1, **COUNT))).done


async def test_the_time_window_holds_the_last_ten_buckets(session: StoreSession) -> None:
    brief: dict[str, Any] = {"window_seconds": 1.0}
    await session.change(C, calls(calls=9, failures=9, **brief))
    await anyio.sleep(1.15)
    assert not (await session.change(C, calls(calls=9, failures=9, **brief))).done
    assert (await session.change(C, calls(calls=1, failures=1, **brief))).done


async def wait_for_the_next_bucket(session: StoreSession, width: float) -> None:
    """
    Wait until the store's clock is well within another bucket.
    """
    state = await moved(session, "clock", CLEAR)
    await anyio.sleep(width - (state.generation / 1000) % width + 0.05)


async def test_a_window_in_which_there_are_enough_will_do(session: StoreSession) -> None:
    both: dict[str, Any] = {"window_calls": 100, "window_seconds": 600.0}
    failed = calls(calls=10, failures=10, minimum_calls=10, **both)
    assert (await session.change(C, failed)).done


async def test_windows_of_another_length_begin_anew(session: StoreSession) -> None:
    await session.change(C, calls(calls=9, failures=9, window_seconds=600.0))
    other = calls(calls=9, failures=9, window_seconds=700.0)
    assert not (await session.change(C, other)).done
    assert (await session.change(C, replace(other, calls=1, failures=1))).done


async def test_calls_of_an_older_generation_change_nothing(session: StoreSession) -> None:
    state = await moved(session, C, CLEAR)
    older = replace(state, generation=state.generation - 1)
    answer = await session.change(C, calls(older, calls=99, failures=99))
    assert (answer.done, answer.state) == (False, state)
    assert not (await session.change(C, calls(state, calls=9, failures=9))).done
    assert (await session.change(C, calls(state, calls=1, failures=1))).done


@pytest.mark.parametrize("at", [opened(), half_open()])
async def test_calls_open_no_circuit_but_a_closed_one(
    session: StoreSession, at: SharedState
) -> None:
    state = await moved(session, C, at)
    answer = await session.change(C, calls(state, calls=99, failures=99))
    assert (answer.done, without_rest(answer.state)) == (False, without_rest(state))


async def test_nor_do_they_open_an_isolated_one(session: StoreSession) -> None:
    answer = await session.change(C, isolate(add=("a",)))
    answer = await session.change(C, calls(answer.state, calls=99, failures=99))
    assert (answer.done, answer.state.state) == (False, CLOSED)


# By hand


async def test_each_token_is_one_isolation(session: StoreSession) -> None:
    answer = await session.change(C, isolate(add=("a",)))
    assert (answer.done, answer.state.isolations) == (True, 1)
    again = await session.change(C, isolate(answer.state, add=("a",)))
    assert (again.done, again.state) == (True, answer.state)
    answer = await session.change(C, isolate(answer.state, add=("b", "c")))
    assert (answer.done, answer.state.isolations) == (True, 3)
    answer = await session.change(C, isolate(answer.state, remove=("a", "c")))
    assert (answer.done, answer.state.isolations) == (True, 1)
    again = await session.change(C, isolate(answer.state, remove=("a", "never")))
    assert (again.done, again.state) == (True, answer.state)
    read = await state_of(session, C)
    assert read == answer.state


async def test_all_that_there_were_before_end_at_once(session: StoreSession) -> None:
    answer = await session.change(C, isolate(add=("a", "b")))
    answer = await session.change(C, isolate(answer.state, add=("c",), remove=None))
    assert (answer.done, answer.state.isolations) == (True, 1)
    answer = await session.change(C, isolate(answer.state, remove=("c",)))
    assert (answer.done, answer.state.isolations) == (True, 0)


async def test_one_that_takes_anothers_place_changes_no_number(
    session: StoreSession, listener: Listener
) -> None:
    answer = await session.change(C, isolate(add=("a",)))
    other = await session.change(C, isolate(answer.state, add=("b",), remove=("a",)))
    assert (other.done, other.state) == (True, answer.state)
    answer = await session.change(C, isolate(other.state, remove=("b",)))
    assert answer.state.isolations == 0
    assert [each.isolations for _, each in await listener.hears(2)] == [1, 0]


async def test_any_text_is_a_token(session: StoreSession) -> None:
    tokens = ("", "a b", ":", "é\ud800", "x" * 5000, "y" + "x" * 4999)
    answer = await session.change(C, isolate(add=tokens))
    assert answer.state.isolations == len(tokens)
    answer = await session.change(C, isolate(answer.state, remove=tokens[1:]))
    assert answer.state.isolations == 1
    for number, token in enumerate(tokens):
        state = await probed(session, f"probed {number}", token)
        assert not (await session.change(f"probed {number}", renew(state, "z"))).done
        assert (await session.change(f"probed {number}", renew(state, token))).done


@pytest.mark.parametrize("at", [opened(), half_open(), CLEAR])
async def test_an_isolation_leaves_the_rest_as_it_is(
    session: StoreSession, at: SharedState
) -> None:
    state = await moved(session, C, replace(at, failures=3, reopenings=1))
    answer = await session.change(C, isolate(NOTHING_KNOWN, add=("a",)))
    plain = replace(answer.state, generation=state.generation, isolations=0)
    assert without_rest(plain) == without_rest(state)
    assert answer.state.rest == pytest.approx(state.rest, abs=NEAR)


async def test_a_probe_that_an_isolation_has_covered_keeps_its_lease(
    session: StoreSession,
) -> None:
    await probed(session, C)
    answer = await session.change(C, isolate(add=("a",)))
    assert answer.state.state is HALF_OPEN
    assert answer.state.rest > LONG - NEAR
    assert (await session.change(C, renew(answer.state))).done
    move = Move(known=answer.state, to=CLEAR, token="mine")
    assert (await session.change(C, move)).done


# Being told


async def test_everybody_hears_of_a_change(store: Store) -> None:
    mine, other = Listener(), Listener()
    async with store.session(mine) as session, store.session(other):
        state = await moved(session, C, opened(failures=2))
        for listener in (mine, other):
            assert await listener.hears(1) == [(C, nearly(state))]
        answer = await session.change(C, isolate(state, add=("a",)))
        for listener in (mine, other):
            assert (await listener.hears(2))[1] == (C, nearly(answer.state))


async def test_of_a_run_of_calls_and_of_a_leases_time_nobody_is_told(
    store: Store, session: StoreSession, listener: Listener
) -> None:
    state = await probed(session, C)
    known = SharedState(generation=ahead(store))
    changes = [
        renew(state),
        claim(state),
        claim(state, "another"),
        Move(known=state, to=CLEAR, token="another"),
        isolate(state, remove=("nobody's",)),
        run(known),
        calls(known),
    ]
    for change in changes:
        await session.change(C, change)
    await moved(session, C, opened(), known)
    heard = await listener.hears(3)
    assert [each.state for _, each in heard] == [OPEN, HALF_OPEN, OPEN]
    assert len(listener.heard) == 3


async def test_of_each_other_change_everybody_is_told(
    session: StoreSession, listener: Listener
) -> None:
    states = []

    async def done(change: Change) -> SharedState:
        answer = await session.change(C, change)
        assert answer.done
        states.append(answer.state)
        return answer.state

    state = await done(run(threshold=1, processes=1, to=opened(0.0)))
    state = await done(claim(state))
    state = await done(Move(known=state, to=CLEAR, token="mine"))
    state = await done(calls(state, calls=10, failures=10))
    state = await done(isolate(state, add=("a",)))
    state = await done(isolate(state, remove=None))
    heard = await listener.hears(len(states))
    assert heard == [(C, nearly(each)) for each in states]


async def test_a_listener_that_raises_makes_nobody_deaf(
    store: Store, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = Listener()

    def raises(circuit: str, state: SharedState) -> None:
        faulty(circuit, state)
        raise ValueError("a listener's own fault")

    async with store.session(raises) as session, store.session(listener):
        await moved(session, "a", opened())
        await moved(session, "b", opened())
        await listener.hears(2)
        heard = await faulty.hears(2)
    assert [circuit for circuit, _ in heard] == ["a", "b"]
    assert caplog.text.count("ValueError: a listener's own fault") == 2


# Sessions


async def test_a_session_that_has_ended_hears_and_does_nothing_more(store: Store) -> None:
    listener, other = Listener(), Listener()
    async with store.session(other) as second:
        async with store.session(listener) as session:
            await moved(session, C, opened())
            await listener.hears(1)
        await moved(second, C, opened())
        await other.hears(2)
        assert len(listener.heard) == 1
        for ask in asks_of(session):
            with pytest.raises(StoreError):
                await ask()


def asks_of(session: StoreSession) -> list[Callable[[], Any]]:
    """
    All that a session can be asked.
    """
    return [
        lambda: session.read([C]),
        lambda: session.change(C, run()),
        lambda: session.beat("one", {}),
        lambda: session.ask("word"),
        lambda: session.figures(),
        lambda: session.leave("one"),
    ]


async def test_what_one_session_has_done_the_next_one_finds(store: Store) -> None:
    async with store.session(Listener()) as session:
        state = await moved(session, C, opened())
    async with store.session(Listener()) as session:
        assert without_rest(await state_of(session, C)) == without_rest(state)


async def test_a_session_may_be_left_by_an_exception(store: Store) -> None:
    with pytest.raises(ValueError, match="its own"):
        async with store.session(Listener()):
            raise ValueError("its own")


async def test_a_cancelled_ask_leaves_the_session_as_it_was(store: Store) -> None:
    async with store.session(Listener()) as session:
        for number in range(20):
            with anyio.move_on_after(0.0002 * number):
                await session.change(C, run(process=str(number), threshold=99))
                await session.read([C])
                await session.beat("one", {"tool": "x"})
        state = await moved(session, C, opened())
        assert without_rest(await state_of(session, C)) == without_rest(state)


async def test_several_may_ask_at_one_time(session: StoreSession) -> None:
    found: dict[str, int] = {}

    async def asks(name: str) -> None:
        await moved(session, name, opened(failures=int(name)))
        state = await state_of(session, name)
        assert state is not None
        found[name] = state.failures

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(asks, str(number))
    assert found == {str(number): number for number in range(100)}


async def test_a_change_of_another_kind_is_none(session: StoreSession) -> None:
    with pytest.raises(TypeError, match="no such change: Change"):
        await session.change(C, Change(known=NOTHING_KNOWN))


async def test_a_state_that_is_none_of_a_fleets_is_none(session: StoreSession) -> None:
    isolated = SharedState(state=cast("Any", "isolated"))
    with pytest.raises(ValueError, match="isolated"):
        await session.change(C, Move(known=NOTHING_KNOWN, to=isolated))


# Processes and their figures


async def test_processes_that_are_alive_are_counted(session: StoreSession) -> None:
    assert await session.beat("one", {}) == 1
    assert await session.beat("one", {}) == 1
    assert await session.beat("two", {}) == 2
    await session.leave("one")
    await session.leave("never there")
    assert await session.beat("two", {}) == 1


async def test_what_has_changed_of_figures_is_added_to_the_rest(store: Store) -> None:
    odd = "tööl {x} %20:\n\0"
    async with store.session(Listener()) as one, store.session(Listener()) as two:
        assert await two.figures() == {}
        await one.beat("one", {"search": "1", "fetch": "2"})
        await one.beat("one", {"fetch": "3", odd: '{"calls": "é\n"}'})
        await two.beat("tw ö{}", {})
        expected = {"search": "1", "fetch": "3", odd: '{"calls": "é\n"}'}
        assert await two.figures() == {"one": expected, "tw ö{}": {}}
        await one.leave("one")
        assert await two.figures() == {"tw ö{}": {}}
        await one.beat("one", {})
        assert await two.figures() == {"tw ö{}": {}, "one": {}}


async def test_figures_of_what_is_gone_are_none(session: StoreSession) -> None:
    await session.beat("one", {"a": "1", "b": "2"})
    await session.beat("one", {"a": ""})
    assert await session.figures() == {"one": {"b": "2"}}
    await session.beat("one", {"b": "", "c": ""})
    assert not (await session.figures()).get("one")


class Questions:
    """
    What is called with the word of each question.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self._news = anyio.Event()

    def __call__(self, word: str) -> None:
        self.words.append(word)
        self._news.set()

    async def hears(self, number: int) -> list[str]:
        with anyio.fail_after(30):
            while len(self.words) < number:
                self._news = anyio.Event()
                await self._news.wait()
        return self.words


async def test_all_who_listen_are_asked_for_figures(store: Store) -> None:
    mine, others = Questions(), Questions()
    words = ["word", "f00", "with space", "%:{}?é", "x" * 60]
    async with (
        store.session(Listener(), mine) as session,
        store.session(Listener(), others),
        store.session(Listener()) as deaf,
    ):
        for word in words:
            await session.ask(word)
        assert await mine.hears(len(words)) == words
        assert await others.hears(len(words)) == words
        await deaf.ask("again")
        assert (await mine.hears(6))[-1] == "again"


async def test_who_raises_when_asked_makes_nobody_deaf(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    questions = Questions()

    def fail(word: str) -> None:
        raise ValueError("no figures")

    other = store.session(Listener(), questions)
    async with store.session(Listener(), fail) as session, other:
        await session.ask("word")
        assert await questions.hears(1) == ["word"]
        await session.beat("one", {})
    assert "no figures" in caplog.text


async def test_one_that_is_there_is_not_down(session: StoreSession) -> None:
    assert await session.is_down() is False


async def test_many_processes_with_many_tools_have_figures(session: StoreSession) -> None:
    figures = {f"tool {number}": str(number) for number in range(200)}
    for number in range(120):
        assert await session.beat(f"process {number}", figures) == number + 1
    found = await session.figures()
    assert found == {f"process {number}": figures for number in range(120)}
