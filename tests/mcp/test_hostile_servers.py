"""
Servers that mean harm or are broken: each is named and limited, and the others go on.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from orchestrator_async import ToolTimeoutError, Verdict
from orchestrator_async.adapters.mcp import (
    InputRefusedError,
    ResultTooLargeError,
    ServerLost,
    ServerLostError,
    ServerProtocolError,
    ToolLeftOut,
)
from tests.clock import real_time

from .helping import Bench, bench, leaves_generators, ours, until
from .running import memory, peers
from .servers.hostile import BEHAVIOURS

DEBUG = False

pytestmark = [leaves_generators, real_time]

NOT_CONNECTED = {
    "exits": "ended with code 3: hostile: no API key",
    "mute": "has not answered within",
    "refuses_initialize": "out of licences",
    "schema_deep": "it is no message",
    "schema_huge": "too large",
    "surrogate": "it is no message",
    "version": "1999-12-31",
}
LEFT_OUT = {
    "descriptions": "its description is cut",
    "endless_pages": "does not end",
    "many": "lists more than",
    "nameless": "described wrongly",
    "same_page": "lists another of that name",
    "schema_list": "described wrongly",
    "schema_loop": "leads nowhere",
    "schema_remote": "refers to another document",
    "schema_string": "not that of an object",
    "schema_type": "not that of an object",
    "twice": "lists another of that name",
    "unschemed": "described wrongly",
}
TIMES_OUT = {
    "deaf",
    "silent",
    "stops",
    *(each for each in BEHAVIOURS if each.endswith("_flood")),
}
FAILS = {
    "asks_then_dies": ServerLostError,
    "closes_stdout": ServerLostError,
    "endless_line": ServerLostError,
    "exits_later": ServerLostError,
    "false_close": ServerLostError,
    "huge": ResultTooLargeError,
    "not_rpc": ServerProtocolError,
    "not_utf8": ServerProtocolError,
    "result_asks": ServerProtocolError,
    "result_block": ServerProtocolError,
    "result_empty": ServerProtocolError,
    "result_null": ServerProtocolError,
    "result_number": ServerProtocolError,
    "result_text": ServerProtocolError,
    **dict.fromkeys(TIMES_OUT, ToolTimeoutError),
}
FEWER = ("--count", "20000")


@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
async def test_a_server_harms_nobody_else(behaviour: str) -> None:
    timeout = 0.5 if behaviour in TIMES_OUT else 10
    connecting = 1 if behaviour == "mute" else 20
    with peers() as started:
        servers = {
            "h": ours(started, "hostile", behaviour, *FEWER, connect_timeout=connecting),
            "good": ours(started, "hostile", "answered_twice"),
        }
        async with bench(servers, timeout=timeout) as made:
            held = memory()
            beside: list[Any] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep_calling, made, beside)
                await until(lambda: beside)
                await look_at(made, behaviour)
                tasks.cancel_scope.cancel()
            assert all(beside)
            assert (await made.orch.run("good__echo", {"text": "x"})).ok
            assert memory() - held < 200_000_000


async def keep_calling(made: Bench, beside: list[bool]) -> None:
    while True:
        beside.append((await made.orch.run("good__echo", {"text": "x"})).ok)
        await anyio.sleep(0.01)


async def look_at(made: Bench, behaviour: str) -> None:
    if behaviour in NOT_CONNECTED:
        reasons = [each.reason for each in made.events if type(each) is ServerLost]
        assert NOT_CONNECTED[behaviour] in reasons[0]
        assert made.names("h") == []
        return
    if behaviour in LEFT_OUT:
        told = [each.reason for each in made.events if type(each) is ToolLeftOut]
        assert any(LEFT_OUT[behaviour] in reason for reason in told), told
    names = made.names("h")
    if behaviour == "without_tools":
        assert names == []
        return
    assert names
    result = await made.orch.run(names[0], {"text": "hello"})
    if behaviour in FAILS:
        assert type(result.error) is FAILS[behaviour]
        assert result.verdict is Verdict.FAILURE
    elif behaviour == "asks_then_fails":
        assert type(result.error) is InputRefusedError
        assert result.verdict is Verdict.IGNORE
    elif behaviour == "long_error":
        assert len(result.content) < 3_000
        assert "\x1b" not in result.content
    elif behaviour == "progress_then_answer":
        assert result.error is None or type(result.error) is ToolTimeoutError
    else:
        assert result.ok, result.content


async def test_each_behaviour_is_known() -> None:
    assert {*NOT_CONNECTED, *LEFT_OUT, *FAILS} <= set(BEHAVIOURS)


async def test_descriptions_hold_nothing_that_a_terminal_obeys() -> None:
    with peers() as started:
        async with bench({"h": ours(started, "hostile", "descriptions")}) as made:
            for tool in made.registry:
                description = tool.description or ""
                assert len(description) <= 10_000
                assert all(char.isprintable() or char in "\n\t" for char in description)


async def test_a_tool_of_one_server_cannot_pass_for_that_of_another() -> None:
    with peers() as started:
        servers = {
            "h": ours(started, "hostile", "prefixed"),
            "other": ours(started, "plain"),
        }
        async with bench(servers) as made:
            assert "h__other__echo" in made.registry
            assert (await made.orch.run("other__echo", {"text": "mine"})).content == "mine"
            assert all(name.startswith("h__") for name in made.names("h"))
