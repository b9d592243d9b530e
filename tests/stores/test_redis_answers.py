"""
What an engine could answer that is none; and connections that are ended while they are made.
"""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from orchestrator_async.stores import StoreDownError, StoreError
from orchestrator_async.stores._redis_client import Client
from orchestrator_async.stores._redis_door import Door
from orchestrator_async.stores._redis_options import Address, Options
from orchestrator_async.stores._redis_text import Keys
from orchestrator_async.stores.redis import _Clock, _Session

from .engine import Engine, free_port
from .parts import REAL_LOOPS, run

pytestmark = pytest.mark.parametrize("anyio_backend", REAL_LOOPS, indirect=True)

C = "circuit"
TIME = [b"1800000000", b"0"]


class Answers:
    """
    In the place of a client: answers what it was given, and raises what is an exception.
    """

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    async def time(self) -> object:
        return self._answers.get("time", TIME)

    async def texts(self, keys: list[str]) -> object:
        return self._answers.get("texts", [None] * len(keys))

    async def change(self, keys: list[str], args: list[str]) -> object:
        answer = self._answers.get("change")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def fleet(self, keys: list[str], args: list[str]) -> object:
        return self._answers.get(args[0])


def session_with(**answers: Any) -> _Session:
    return _Session(
        cast("Client", Answers(**answers)), Keys("x"), lambda *_: None, _Clock()
    )


NONE_OF_OURS: list[Any] = [
    None,
    5,
    b"x",
    "x",
    [],
    [1],
    [b"1", b"2", b"3"],
    {},
    [None, None],
]


@pytest.mark.parametrize("answer", NONE_OF_OURS, ids=repr)
async def test_an_answer_that_is_none_is_an_error_of_the_store(answer: Any) -> None:
    for ask in (
        lambda: session_with(change=answer).change(C, run()),
        lambda: session_with(time=answer).read([C]),
        lambda: session_with(beat=answer).beat("one", {}),
        lambda: session_with(alive=b"a b c d".split(), figures=answer).figures(),
    ):
        with pytest.raises(StoreError, match="no answer"):
            await ask()


async def test_fewer_texts_than_circuits_as_well() -> None:
    with pytest.raises(StoreError, match="no answer"):
        await session_with(texts=[None]).read([C, C])


async def test_what_is_no_list_of_processes_is_an_empty_one() -> None:
    answers: list[Any] = [None, 5, b"x", {}, [None], [5]]
    for answer in answers:
        assert await session_with(alive=answer).figures() == {}


async def test_what_cannot_be_mended_because_nobody_is_there_is_not_read_either() -> None:
    session = session_with(texts=[b"garbage"], change=StoreDownError("gone"))
    with pytest.raises(StoreDownError, match="gone"):
        await session.read([C])


async def test_a_client_that_is_closed_while_it_connects_stays_closed(
    own_engine: Engine,
) -> None:
    address = Address(hosts=((own_engine.host, own_engine.port),))
    client = Client(options(address), "channel", lambda _: None)
    own_engine.stop()
    async with anyio.create_task_group() as group:
        group.start_soon(client.connect)
        await anyio.sleep(0.1)
        await client.close()
        own_engine.cont()
    with pytest.raises(StoreError, match="has ended"):
        await client.time()
    for _ in range(300):
        if len(str(own_engine.ask("CLIENT", "LIST")).splitlines()) == 1:
            return
        await anyio.sleep(0.05)
    raise AssertionError("it has left a connection")


def options(address: Address) -> Options:
    return Options(
        address=address,
        prefix="x",
        cluster=False,
        request_timeout=5.0,
        verify=True,
        ca_file=None,
        cert_file=None,
        key_file=None,
    )


# Whether anybody is there


async def test_a_door_is_shut_where_connections_are_refused(own_engine: Engine) -> None:
    there, gone = (own_engine.host, own_engine.port), ("127.0.0.1", free_port())
    for hosts, is_shut in [((there,), False), ((gone,), True), ((gone, there), False)]:
        door = Door(Address(hosts=hosts), is_cluster=False)
        assert await door.is_shut() is is_shut
    own_engine.stop()
    assert not await Door(Address(hosts=(there,)), is_cluster=False).is_shut()
    own_engine.kill()
    assert await Door(Address(hosts=(there, gone)), is_cluster=False).is_shut()
    assert not await Door(Address(hosts=(there, gone)), is_cluster=True).is_shut()


async def test_of_a_name_that_nobody_knows_it_is_not_known() -> None:
    hosts = (("there-is-no-such-host.invalid", 6379),)
    assert not await Door(Address(hosts=hosts), is_cluster=False).is_shut()


async def test_a_name_with_several_addresses_is_shut_where_all_refuse() -> None:
    """
    ``localhost`` has two where there is IPv6.
    """
    hosts = (("localhost", free_port()),)
    assert await Door(Address(hosts=hosts), is_cluster=False).is_shut()


async def test_many_that_look_at_one_time_are_told_by_few_looks(own_engine: Engine) -> None:
    door = Door(Address(hosts=((own_engine.host, own_engine.port),)), is_cluster=False)
    before = int(own_engine.info()["total_connections_received"])
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(door.is_shut)
    seen = int(own_engine.info()["total_connections_received"]) - before
    assert 1 <= seen <= 10
