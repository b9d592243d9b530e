"""
A cluster: circuits on all of its nodes, and one of these that is gone.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from orchestrator_async.stores import StoreDownError, StoreError
from orchestrator_async.stores.redis import RedisStore, _Session

from .engine import Engine, engine
from .parts import REAL_LOOPS, Listener, calls, claim, isolate, moved, opened, run

pytestmark = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)

SLOTS = 16384
NAMES = [f"circuit {number}" for number in range(600)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Engine]]:
    """
    Three nodes, with a third of all there is on each.
    """
    settings = "--cluster-enabled yes --cluster-require-full-coverage no"
    with ExitStack() as stack:
        nodes = [stack.enter_context(engine(*settings.split())) for _ in range(3)]
        for place, node in enumerate(nodes):
            slots = range(place * SLOTS // 3, (place + 1) * SLOTS // 3)
            node.ask("CLUSTER", "ADDSLOTS", *slots)
            nodes[0].ask("CLUSTER", "MEET", node.host, node.port)
        for _ in range(600):
            if all(map(is_complete, nodes)):
                break
            time.sleep(0.05)
        yield nodes


def is_complete(node: Engine) -> bool:
    said = str(node.ask("CLUSTER", "INFO"))
    return f"cluster_slots_assigned:{SLOTS}" in said and "cluster_state:ok" in said


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def session(
    nodes: list[Engine], listener: Listener, prefix: str
) -> AsyncIterator[_Session]:
    hosts = ",".join(f"{node.host}:{node.port}" for node in nodes[:2])
    store = RedisStore(f"redis://{hosts}", cluster=True, prefix=prefix, request_timeout=0.5)
    async with store.session(listener) as it:
        yield it


async def test_circuits_are_on_all_nodes_and_each_on_one(
    nodes: list[Engine], session: _Session, listener: Listener, prefix: str
) -> None:
    for name in NAMES[:30]:
        state = await moved(session, name, opened(0.0, failures=3))
        answer = await session.change(name, claim(state))
        assert answer.done
        answer = await session.change(name, isolate(answer.state, add=("a",)))
        assert answer.state.isolations == 1
        await session.change(name, run(answer.state))
        await session.change(name, calls(answer.state))
    read = await session.read(NAMES)
    assert [each.failures for each in read if each is not None] == [3] * 30
    assert {circuit for circuit, _ in await listener.hears(90)} == set(NAMES[:30])
    for node in nodes:
        keys = node.ask("KEYS", f"{prefix}:*")
        assert isinstance(keys, list)
        tags = [str(key).split("{")[1].split("}")[0] for key in keys]
        assert tags
        assert all(tags.count(tag) == 4 for tag in tags)


async def test_processes_have_figures_in_a_cluster_as_well(session: _Session) -> None:
    for process in ("one", "two"):
        await session.beat(process, {"tool": "1"})
    assert await session.figures() == {"one": {"tool": "1"}, "two": {"tool": "1"}}
    await session.leave("one")
    assert await session.beat("two", {}) == 1


async def test_a_node_that_is_gone_is_not_all_of_the_cluster(
    nodes: list[Engine], session: _Session
) -> None:
    nodes[2].stop()
    try:
        done, errors = 0, []
        for name in NAMES[:12]:
            try:
                await moved(session, name, opened())
                done += 1
            except StoreError as error:
                errors.append(error)
        assert done
        assert errors
        assert not any(isinstance(each, StoreDownError) for each in errors)
    finally:
        nodes[2].cont()
    for _ in range(100):
        try:
            await session.read(NAMES)
        except StoreError:
            continue
        return
    raise AssertionError("it did not come back")
