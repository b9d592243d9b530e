"""
An engine that is slow, gone, empty, full, read-only, or another one than before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import anyio
import pytest

from orchestrator_async.stores import (
    NOTHING_KNOWN,
    Change,
    Move,
    SharedState,
    StoreDownError,
    StoreError,
)
from orchestrator_async.stores.redis import RedisStore, _Session

from .engine import Engine, engine
from .parts import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    REAL_LOOPS,
    Listener,
    calls,
    claim,
    is_like,
    isolate,
    moved,
    opened,
    renew,
    run,
    state_of,
    without_rest,
)

pytestmark = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)

C = "circuit"
TIMEOUT = 0.25


@pytest.fixture
def it(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """
    An engine for one test: on a socket, unless the test is for each kind of address.
    """
    with engine(unix=getattr(request, "param", "unix") == "unix") as running:
        yield running


at_each_address = pytest.mark.parametrize("it", ["tcp", "unix"], indirect=True)


@pytest.fixture
def store(it: Engine) -> RedisStore:
    return RedisStore(it.url, request_timeout=TIMEOUT)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def session(store: RedisStore, listener: Listener) -> AsyncIterator[_Session]:
    async with store.session(listener) as session:
        yield session


def asks(session: _Session) -> dict[str, Callable[[], Awaitable[object]]]:
    """
    All that a session can be asked.
    """

    def change(change: Change) -> Callable[[], Awaitable[object]]:
        return lambda: session.change(C, change)

    known = opened(0.0, generation=5)
    return {
        "read": lambda: session.read([C]),
        "claim": change(claim(known)),
        "renew": change(renew(known)),
        "move": change(Move(known=known, to=opened())),
        "force": change(Move(known=known, to=opened(), force=True)),
        "run": change(run(known)),
        "calls": change(calls(known)),
        "isolate": change(isolate(known, add=("a",))),
        "beat": lambda: session.beat("one", {"tool": "1"}),
        "figures": session.figures,
        "leave": lambda: session.leave("one"),
    }


async def error_of(ask: Callable[[], Awaitable[object]]) -> StoreError | None:
    """
    What an ask raises; nothing but errors of a store comes out of one.
    """
    try:
        await ask()
    except StoreError as error:
        return error
    return None


async def errors_of(session: _Session) -> dict[str, StoreError | None]:
    """
    What all asks raise that are made at one time.
    """
    found: dict[str, StoreError | None] = {}

    async def ask(name: str, asked: Callable[[], Awaitable[object]]) -> None:
        found[name] = await error_of(asked)

    async with anyio.create_task_group() as group:
        for name, asked in asks(session).items():
            group.start_soon(ask, name, asked)
    return found


async def works_within(
    seconds: float, session: _Session, listener: Listener, circuit: str = C
) -> None:
    """
    See that a session is asked and told again, and how soon.
    """
    began = time.monotonic()
    while await error_of(lambda: session.read([circuit])) is not None:
        assert time.monotonic() - began < seconds
    listener.heard.clear()
    while not listener.heard:
        await moved(session, circuit, opened())
        await anyio.sleep(0.01)
        assert time.monotonic() - began < seconds
    await listener.until(lambda: len(listener.heard) > 0)


# Slow, and gone

SOON = 20.0  # what is measured to take a quarter of a second, on a loaded machine


@at_each_address
async def test_a_slow_engine_is_not_down(
    it: Engine, session: _Session, listener: Listener
) -> None:
    it.stop()
    began = time.monotonic()
    errors = await errors_of(session)
    assert {type(error) for error in errors.values()} == {StoreError}, errors
    assert time.monotonic() - began >= TIMEOUT * 0.9
    it.cont()
    await works_within(SOON, session, listener)


@at_each_address
async def test_one_that_is_gone_is_and_comes_back_by_itself(
    it: Engine, session: _Session, listener: Listener
) -> None:
    for _ in range(2):
        it.kill()
        errors = await errors_of(session)
        assert {type(error) for error in errors.values()} == {StoreDownError}, errors
        it.restart()
        await works_within(SOON, session, listener)


@at_each_address
async def test_no_session_begins_where_nobody_is(it: Engine, store: RedisStore) -> None:
    it.kill()
    began = time.monotonic()
    with pytest.raises(StoreDownError):
        async with store.session(Listener()):
            raise AssertionError("nobody is there")
    assert time.monotonic() - began < SOON
    it.restart()
    async with store.session(Listener()) as session:
        assert await session.read([C]) == [None]


@at_each_address
async def test_none_begins_with_one_that_answers_nothing(
    it: Engine, store: RedisStore
) -> None:
    it.stop()
    with pytest.raises(StoreError) as caught:
        async with store.session(Listener()):
            raise AssertionError("nobody answers")
    assert type(caught.value) is StoreError
    it.cont()
    async with store.session(Listener()) as session:
        assert await session.read([C]) == [None]


async def test_while_an_engine_is_away_the_loop_goes_on(
    it: Engine, session: _Session, store: RedisStore
) -> None:
    """
    Neither asking nor connecting holds up other tasks.
    """
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(TIMEOUT / 50)
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        for away in (it.stop, it.kill):
            away()
            for ask in (lambda: session.read([C]), lambda: enter(store)):
                before = turns
                assert await error_of(ask) is not None
                is_at_once = away == it.kill and turns - before < 3  # it was refused
                assert turns - before >= 3 or is_at_once
            if away == it.stop:
                it.cont()
        group.cancel_scope.cancel()


async def enter(store: RedisStore) -> None:
    async with store.session(Listener()) as session:
        await session.read([C])


# Empty


async def test_scripts_that_were_forgotten_are_sent_again(
    it: Engine, session: _Session
) -> None:
    await session.change(C, run())
    await session.beat("one", {})
    it.ask("SCRIPT", "FLUSH")
    for name, ask in asks(session).items():
        assert await error_of(ask) is None, name


async def test_an_engine_that_has_lost_its_data_never_goes_backwards(
    it: Engine, session: _Session
) -> None:
    state = await moved(session, C, opened(failures=3))
    for how in ("flushed", "killed"):
        if how == "flushed":
            it.ask("FLUSHALL")
        else:
            it.kill()
            it.restart()
        assert await state_of_when_it_is_back(session) is None
        answer = await session.change(C, run(state))
        assert without_rest(answer.state) == without_rest(state)
        later = await moved(session, C, opened(failures=3), state)
        assert later.generation > state.generation
        state = later


async def state_of_when_it_is_back(session: _Session) -> SharedState | None:
    for _ in range(100):
        if await error_of(lambda: session.read([C])) is None:
            return await state_of(session, C)
    raise AssertionError("it did not come back")


async def test_a_generation_that_nobody_knows_of_any_more_is_a_new_one(
    it: Engine, session: _Session
) -> None:
    state = await moved(session, C, opened())
    it.ask("FLUSHALL")
    await anyio.sleep(0.002)
    other = await moved(session, C, opened())
    assert other.generation > state.generation


async def test_figures_that_an_engine_has_lost_are_said_again(
    it: Engine, session: _Session
) -> None:
    await session.beat("one", {"search": "1", "fetch": "2"})
    it.ask("FLUSHALL")
    assert await session.beat("one", {"fetch": "3"}) == 1
    assert await session.figures() == {"one": {"search": "1", "fetch": "3"}}
    it.ask("FLUSHALL")
    assert await session.beat("one", {}) == 1
    assert await session.figures() == {"one": {"search": "1", "fetch": "3"}}


# Full, and read-only


async def test_one_that_is_full_refuses_or_does_and_is_whole_again(
    it: Engine, session: _Session, listener: Listener
) -> None:
    state = await moved(session, C, opened(0.0, failures=3))
    it.ask("CONFIG", "SET", "maxmemory", "1")
    refused = {}
    for name, ask in asks(session).items():
        error = await error_of(ask)
        assert error is None or type(error) is StoreError
        refused[name] = error is not None
    assert refused["claim"]
    assert refused["isolate"]
    assert refused["beat"]
    assert not refused["read"]
    it.ask("CONFIG", "SET", "maxmemory", "0")
    now = await state_of(session, C)
    assert now is not None
    assert now.generation >= state.generation
    await works_within(SOON, session, listener)
    for name, ask in asks(session).items():
        assert await error_of(ask) is None, name


async def test_what_was_refused_was_not_done(it: Engine, session: _Session) -> None:
    state = await moved(session, C, opened(0.0, failures=3))
    it.ask("CONFIG", "SET", "maxmemory", "1")
    assert await error_of(lambda: session.change(C, claim(state))) is not None
    assert without_rest(await state_of(session, C)) == state
    it.ask("CONFIG", "SET", "maxmemory", "0")
    assert (await session.change(C, claim(state))).done


async def test_a_replica_refuses_to_write_and_says_what_it_has(
    it: Engine, session: _Session, listener: Listener
) -> None:
    state = await moved(session, C, opened(0.0, failures=3))
    it.ask("REPLICAOF", "127.0.0.1", "1")
    changes_nothing = {"read", "figures", "renew", "move", "run", "calls"}
    for name, ask in asks(session).items():
        error = await error_of(ask)
        assert error is None or type(error) is StoreError
        assert (error is None) == (name in changes_nothing), name
    assert without_rest(await state_of(session, C)) == state
    it.ask("REPLICAOF", "NO", "ONE")
    await works_within(SOON, session, listener)
    for name, ask in asks(session).items():
        assert await error_of(ask) is None, name


async def test_what_cannot_be_mended_is_read_all_the_same(
    it: Engine, session: _Session
) -> None:
    it.ask("SET", "orchestrator_async:1:{circuit}:state", "garbage")
    it.ask(
        "SET",
        "orchestrator_async:1:{far}:state",
        "1:5:o:253402214400000:60000:3:0:0:0:0:0:",
    )
    it.ask("REPLICAOF", "127.0.0.1", "1")
    read = await session.read([C, "far", "none"])
    assert [each and each.failures for each in read] == [None, 3, None]


# Another one than before


async def test_the_primary_is_looked_for_again_when_it_has_become_a_replica(
    listener: Listener,
) -> None:
    with engine() as one, engine() as two:
        two.ask("REPLICAOF", one.host, one.port)
        await until(lambda: "master_link_status:up" in str(two.ask("INFO", "replication")))
        url = f"redis://{two.host}:{two.port},{one.host}:{one.port}"
        async with RedisStore(url, request_timeout=TIMEOUT).session(listener) as session:
            state = await moved(session, C, opened(failures=7))
            await until(lambda: one.info()["connected_slaves"] == "1")
            await until(lambda: two.ask("DBSIZE") == 1)
            two.ask("REPLICAOF", "NO", "ONE")
            one.ask("REPLICAOF", two.host, two.port)
            await error_of(lambda: moved(session, "x", opened()))
            found = await state_of_when_it_is_back(session)
            assert without_rest(found) == without_rest(state)
            await works_within(SOON, session, listener, "another")
            assert two.ask("EXISTS", "orchestrator_async:1:{another}:state") == 1


async def test_and_when_it_is_gone(listener: Listener) -> None:
    with engine() as one, engine() as two:
        two.ask("REPLICAOF", one.host, one.port)
        await until(lambda: "master_link_status:up" in str(two.ask("INFO", "replication")))
        url = f"redis://{one.host}:{one.port},{two.host}:{two.port}"
        async with RedisStore(url, request_timeout=TIMEOUT).session(listener) as session:
            state = await moved(session, C, opened(failures=7))
            await until(lambda: two.ask("DBSIZE") == 1)
            one.kill()
            two.ask("REPLICAOF", "NO", "ONE")
            # One that answers nothing is not known to be gone, as the other is there.
            error = await error_of(lambda: session.read([C]))
            assert type(error) is StoreError
            await works_within(SOON + 20, session, listener, "another")
            assert without_rest(await state_of(session, C)) == without_rest(state)


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        await anyio.sleep(0.05)
    raise AssertionError("it was never so")


# A change of which the answer is lost


async def test_a_claim_whose_answer_was_lost_is_there_for_who_asks_again(
    it: Engine, session: _Session, store: RedisStore
) -> None:
    state = await moved(session, C, opened(0.0))
    it.stop()
    assert await error_of(lambda: session.change(C, claim(state))) is not None
    it.cont()
    answer = await session.change(C, claim(state))
    assert is_like(answer, True, SharedState(state=HALF_OPEN))
    async with store.session(Listener()) as other:
        assert not (await other.change(C, claim(answer.state, "another"))).done
        move = Move(known=answer.state, to=SharedState(), token="mine")
        assert (await other.change(C, move)).state.state is CLOSED


async def test_one_that_is_cancelled_while_the_engine_is_slow_leaves_nothing_behind(
    it: Engine, session: _Session, listener: Listener
) -> None:
    it.stop()
    with anyio.move_on_after(TIMEOUT / 4) as scope:
        await session.change(C, Move(known=NOTHING_KNOWN, to=opened(), force=True))
    assert scope.cancelled_caught
    it.cont()
    [(circuit, state)] = await listener.hears(1)  # it may have been done, and was
    assert (circuit, state.state) == (C, OPEN)
    await works_within(SOON, session, listener)
