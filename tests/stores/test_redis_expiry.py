"""
That all there is in an engine goes by itself, and not too soon.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator_async.stores._redis_text import Keys
from orchestrator_async.stores.redis import RedisStore, _Session

from .engine import Engine
from .parts import (
    LONG,
    REAL_LOOPS,
    SHORT,
    Listener,
    calls,
    claim,
    isolate,
    moved,
    opened,
    pass_by,
    probed,
    run,
)

pytestmark = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)

C = "circuit"
DAY = 86_400.0
MONTH = 30 * DAY
A_LITTLE = 600.0


@pytest.fixture
async def session(shared_engine: Engine, prefix: str) -> AsyncIterator[_Session]:
    async with RedisStore(shared_engine.url, prefix=prefix).session(Listener()) as it:
        yield it


@pytest.fixture
def keys(prefix: str) -> list[str]:
    return Keys(prefix).of(C)


def life(engine: Engine, key: str) -> float:
    """
    Seconds after which a key is gone.
    """
    left = engine.ask("PTTL", key)
    assert isinstance(left, int)
    return left / 1000


def is_about(seconds: float, expected: float) -> bool:
    return expected - A_LITTLE < seconds <= expected


async def test_a_circuit_goes_a_day_after_its_time(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    state = await moved(session, C, opened(LONG))
    assert is_about(life(shared_engine, keys[0]), DAY + LONG)
    await moved(session, C, opened(10 * DAY), state)
    assert is_about(life(shared_engine, keys[0]), 11 * DAY)
    state = await probed(session, C, lease=DAY / 2)
    assert is_about(life(shared_engine, keys[0]), 1.5 * DAY)
    await moved(session, C, opened(0.0))
    assert is_about(life(shared_engine, keys[0]), DAY)


async def test_an_isolated_one_goes_after_a_month(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    await session.change(C, isolate(add=("a",)))
    assert is_about(life(shared_engine, keys[0]), MONTH)
    assert life(shared_engine, keys[3]) > life(shared_engine, keys[0])
    await session.change(C, isolate(remove=("a",)))
    assert is_about(life(shared_engine, keys[0]), DAY)
    assert shared_engine.ask("EXISTS", keys[3]) == 0


async def test_runs_and_calls_go_after_a_day(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    await session.change(C, run())
    await session.change(C, calls())
    for key in keys[1:3]:
        assert is_about(life(shared_engine, key), DAY)
    assert shared_engine.ask("EXISTS", keys[0]) == 0


async def test_runs_that_are_over_go_with_the_next_one(
    shared_engine: Engine, session: _Session, keys: list[str]
) -> None:
    for process in ("one", "two"):
        await session.change(C, run(process=process, lasts=SHORT, threshold=9))
    await pass_by()
    await session.change(C, run(process="three"))
    assert shared_engine.ask("HLEN", keys[1]) == 2
    await session.change(C, run(process="three", failures=0))
    assert shared_engine.ask("HEXISTS", keys[1], "=three") == 0


@pytest.mark.parametrize("kind", ["run", "calls", "move"])
async def test_they_go_when_it_opens(
    shared_engine: Engine, session: _Session, keys: list[str], kind: str
) -> None:
    await session.change(C, run())
    await session.change(C, calls(calls=9, failures=9))
    change = {"run": run(failures=3, processes=1), "calls": calls(failures=1)}
    if kind == "move":
        await moved(session, C, opened())
    else:
        assert (await session.change(C, change[kind])).done
    assert [shared_engine.ask("EXISTS", key) for key in keys] == [1, 0, 0, 0]


async def test_nothing_is_written_where_nothing_is_said(
    shared_engine: Engine, session: _Session, keys: list[str], prefix: str
) -> None:
    await session.read([C])
    await session.change(C, run(failures=0))
    await session.change(C, claim(opened(generation=5)))
    await session.change(C, isolate(remove=("a",)))
    assert [shared_engine.ask("EXISTS", key) for key in keys] == [0] * 4


async def test_processes_and_their_figures_go_after_an_hour(
    shared_engine: Engine, session: _Session, prefix: str
) -> None:
    await session.beat("one", {"tool": "1"})
    names = Keys(prefix)
    for key in (names.alive, names.figures("one")):
        assert is_about(life(shared_engine, key), 3600.0)
    await session.leave("one")
    assert shared_engine.ask("KEYS", f"{prefix}:*") == []


async def test_every_key_begins_with_the_prefix_and_goes_by_itself(
    shared_engine: Engine, session: _Session, prefix: str
) -> None:
    await session.change(C, run())
    await session.change(C, calls())
    await session.change(C, isolate(add=("a",)))
    await session.beat("one", {"tool": "1"})
    keys = shared_engine.ask("KEYS", f"{prefix}:1:{{*}}:*")
    assert isinstance(keys, list)
    assert len(keys) == 6
    assert all(life(shared_engine, str(key)) > 0 for key in keys)
