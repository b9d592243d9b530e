"""
Tools with a circuit for each key: one a host, one a tenant. How many there are and which
one has to go is in ``test_keyed``.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import json
import logging
import tracemalloc
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from orchestrator_async import (
    BreakerPolicy,
    CallRejected,
    CircuitChanged,
    CircuitOpenError,
    CircuitState,
    Event,
    InvalidArgumentsError,
    LimitPolicy,
    OrchestratorError,
    Registry,
    RetryPolicy,
    Tool,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    UnknownToolError,
)

from .clock import real_time, virtual_time
from .support import HandClock, assert_adds_up, bench

DEBUG = False


class Web:
    """
    A ``fetch`` with a circuit for each host, some of which are down.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = HandClock()
        self.registry = Registry()
        self.down: set[str] = set()
        self.asked: list[str] = []
        self.events: list[Event] = []
        self.registry.tool(name="fetch", **{"circuit": self.host, **options})(self.fetch)
        self.orch = ToolOrchestrator(
            self.registry,
            failure_threshold=2,
            clock=self.clock,
            observers=[self.events.append],
        )

    async def fetch(self, url: str) -> str:
        return self.read(url)

    def read(self, url: str) -> str:
        host = self.host({"url": url})
        self.asked.append(host)
        if host in self.down:
            raise ConnectionError(f"{host} is down")
        return f"page of {host}"

    @staticmethod
    def host(arguments: Mapping[str, Any], context: ToolContext | None = None) -> str:
        return str(arguments["url"]).split("/")[0]

    async def get(self, host: str) -> str:
        return await self.orch.dispatch("fetch", {"url": f"{host}/page"})

    async def break_host(self, host: str) -> None:
        self.down.add(host)
        while self.orch.circuit("fetch", host).state is CircuitState.CLOSED:
            await self.get(host)

    def holders(self) -> int:
        return sum(each.holders for each in self.orch._fleet.keyed["fetch"])


async def test_one_dead_host_does_not_take_the_tool_away() -> None:
    web = Web()
    await web.break_host("dead.example")

    answer = json.loads(await web.get("dead.example"))
    assert (answer["circuit_breaker"], answer["state"]) == (True, "open")
    assert await web.get("good.example") == "page of good.example"
    assert web.asked == ["dead.example"] * 2 + ["good.example"]
    assert web.holders() == 0
    assert_adds_up(web.orch)


async def test_a_host_that_is_well_again_comes_back_by_one_probe() -> None:
    web = Web()
    await web.break_host("dead.example")
    web.down.clear()
    web.clock.turn(300)
    web.asked.clear()

    go_on, answers = anyio.Event(), []

    async def fetch(url: str) -> str:
        web.asked.append(url)
        await go_on.wait()
        return "page"

    async def get() -> None:
        answers.append(await web.get("dead.example"))
        go_on.set()  # one who was refused lets the probe end

    web.registry.tool(name="fetch", circuit=web.host, replace=True)(fetch)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(get)
    assert len(web.asked) == 1
    assert answers.count("page") == 1
    assert web.orch.circuit("fetch", "dead.example").state is CircuitState.CLOSED
    assert web.holders() == 0


@pytest.mark.parametrize("answer", ["dispatch", "run", "call", "dispatch_all"])
async def test_every_way_to_call_has_the_circuit_of_its_key(answer: str) -> None:
    web = Web()
    await web.break_host("dead.example")
    arguments = {"url": "dead.example/x"}

    if answer == "dispatch_all":
        call = {"type": "tool_use", "id": "1", "name": "fetch", "input": arguments}
        result = (await web.orch.dispatch_all([call]))[0]
        assert isinstance(result.error, CircuitOpenError)
        assert result.state is CircuitState.OPEN
    elif answer == "call":
        with pytest.raises(CircuitOpenError) as refused:
            await web.orch.call("fetch", arguments)
        assert (refused.value.circuit, refused.value.failures) == ("fetch", 2)
    elif answer == "run":
        result = await web.orch.run("fetch", arguments)
        assert (result.state, result.attempts) == (CircuitState.OPEN, 0)
        assert result.retry_after == 300
    else:
        assert json.loads(await web.get("dead.example"))["retry_after"] == 300
    assert len(web.asked) == 2


async def test_arguments_are_validated_before_there_is_a_key() -> None:
    keys: list[Any] = []

    def key(arguments: Mapping[str, Any], context: ToolContext) -> str:
        keys.append(dict(arguments))
        return "one"

    web = Web(circuit=key)
    result = await web.orch.run("fetch", {"url": 3, "more": 1})
    assert isinstance(result.error, InvalidArgumentsError)
    assert keys == []
    await web.orch.dispatch("fetch", '{"url": "a/b"}')
    assert keys == [{"url": "a/b"}]


async def test_the_key_may_come_of_the_context() -> None:
    seen: list[ToolContext] = []

    def tenant(arguments: Mapping[str, Any], context: ToolContext) -> str:
        seen.append(context)
        return str(context.data["tenant"])

    web = Web(circuit=tenant)
    url = {"url": "a/b"}
    await web.orch.dispatch("fetch", url, call_id="7", tenant="ada")
    assert (seen[0].tool_name, seen[0].call_id) == ("fetch", "7")
    web.down.add("a")
    for _ in range(3):
        await web.orch.dispatch("fetch", url, tenant="bob")
    assert web.orch.circuit("fetch", "bob").state is CircuitState.OPEN
    assert web.orch.circuit("fetch", "ada").state is CircuitState.CLOSED


async def a_coroutine() -> str:
    raise AssertionError("nobody awaits it")


def raises(arguments: Mapping[str, Any], context: ToolContext) -> str:
    raise KeyError("no url")


def changes(arguments: Mapping[str, Any], context: ToolContext) -> str:
    arguments["url"] = "other"  # type: ignore[index]
    return "never"


@pytest.mark.parametrize(
    "key",
    [
        raises,
        changes,
        lambda arguments, context: 3,
        lambda arguments, context: a_coroutine(),
    ],
    ids=["raises", "changes", "a number", "a coroutine"],
)
async def test_a_call_whose_key_cannot_be_had_has_the_tools_own_circuit(
    key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    web = Web(circuit=key)
    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        for _ in range(3):
            assert await web.get("a") == "page of a"
    assert len(caplog.records) == 1
    assert "circuit function gave no key" in caplog.records[0].getMessage()

    web.down.add("a")
    for _ in range(3):
        await web.get("a")
    assert web.orch.circuit("fetch").state is CircuitState.OPEN
    web.down.clear()
    web.clock.turn(300)
    assert await web.get("a") == "page of a"
    assert web.orch.circuit("fetch").state is CircuitState.CLOSED
    assert web.orch.stats("fetch").keys == 0


async def test_none_is_the_tools_own_circuit_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    web = Web(circuit=lambda arguments, context: None)
    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        assert await web.get("a") == "page of a"
    assert not caplog.records
    assert web.orch.stats("fetch").keys == 0


async def test_an_interrupt_in_the_key_function_goes_up_and_nothing_is_lost() -> None:
    def interrupted(arguments: Mapping[str, Any], context: ToolContext) -> str:
        raise KeyboardInterrupt

    web = Web(circuit=interrupted)
    with pytest.raises(KeyboardInterrupt):
        await web.get("a")
    assert web.asked == []
    assert_adds_up(web.orch)


async def test_long_keys_are_kept_short_and_apart() -> None:
    web = Web(circuit=lambda arguments, context: "x" * 10_000 + arguments["url"])
    web.down.update(["a"])
    for _ in range(2):
        await web.get("a")
    assert await web.get("b") == "page of b"
    longest = max(len(each.key or "") for each in web.orch._fleet.keyed["fetch"])
    assert longest <= 128
    key = "x" * 10_000 + "a/page"
    assert web.orch.circuit("fetch", key).state is CircuitState.OPEN
    lone = web.orch.circuit("fetch", "\ud800" * 200)
    assert lone.state is CircuitState.CLOSED


async def test_isolating_the_tools_own_circuit_takes_all_keys_out_of_service() -> None:
    web = Web()
    assert await web.get("a") == "page of a"
    with web.orch.circuit("fetch").isolate():
        assert json.loads(await web.get("a"))["state"] == "isolated"
        assert json.loads(await web.get("new"))["state"] == "isolated"
        # Not even the arguments are looked at.
        assert json.loads(await web.orch.dispatch("fetch", "{"))["state"] == "isolated"
    assert await web.get("a") == "page of a"
    assert web.asked == ["a", "a"]


async def test_one_key_can_be_moved_by_hand() -> None:
    web = Web()
    with web.orch.circuit("fetch", "a").isolate():
        assert json.loads(await web.get("a"))["retry_after"] is None
        assert await web.get("b") == "page of b"
    web.orch.circuit("fetch", "b").trip()
    assert json.loads(await web.get("b"))["state"] == "open"
    assert await web.get("a") == "page of a"


async def test_a_failure_of_calls_without_a_key_refuses_no_key() -> None:
    web = Web(circuit=lambda arguments, context: arguments["url"][0].strip("-") or None)
    web.down.add("-")
    for _ in range(3):
        await web.get("-")
    assert web.orch.circuit("fetch").state is CircuitState.OPEN
    assert await web.get("a") == "page of a"


def test_handles_by_key_are_for_tools_that_have_them() -> None:
    registry = Registry()

    @registry.tool
    async def plain() -> None: ...

    orch = ToolOrchestrator(registry)
    with pytest.raises(ValueError, match="no circuits by key"):
        orch.circuit("plain", "a")
    with pytest.raises(UnknownToolError):
        orch.circuit("nothing", "a")
    web = Web()
    assert web.orch.circuit("fetch", "a") is web.orch.circuit("fetch", "a")
    assert "key='a'" in repr(web.orch.circuit("fetch", "a"))
    assert web.orch.circuit("fetch").key is None


async def test_a_key_is_asked_for_once_an_attempt() -> None:
    keys = itertools.cycle(["bad", "good"])
    asked: list[str] = []

    def key(arguments: Mapping[str, Any], context: ToolContext) -> str:
        asked.append(next(keys))
        return asked[-1]

    registry = Registry()
    limited = ToolPolicy(
        limits=LimitPolicy(max_concurrent=1), retry=RetryPolicy(wait_initial=0)
    )

    @registry.tool(circuit=key, policy=limited, idempotent=True)
    async def fetch() -> str:
        return asked[-1]

    orch = ToolOrchestrator(registry)
    orch.circuit("fetch", "bad").isolate()
    results = [await orch.run("fetch") for _ in range(6)]
    assert [each.ok for each in results] == [False, True] * 3
    assert asked == ["bad", "good"] * 3


async def test_a_tool_without_keys_has_none_in_its_figures() -> None:
    orch, _ = bench(HandClock())
    await orch.dispatch("tool")
    assert orch.stats("tool").keys == 0


def test_a_key_function_must_be_a_plain_function() -> None:
    async def key(arguments: Mapping[str, Any], context: ToolContext) -> str:
        return "a"

    with pytest.raises(TypeError, match="circuit must be a plain function"):
        Tool(fn=a_coroutine, circuit=key)  # type: ignore[arg-type]


async def test_events_and_the_log_name_the_key(caplog: pytest.LogCaptureFixture) -> None:
    web = Web()
    with caplog.at_level(logging.INFO, "orchestrator_async"):
        await web.break_host("dead.example")
    changed = [each for each in web.events if isinstance(each, CircuitChanged)]
    assert [(each.circuit, each.key) for each in changed] == [("fetch", "dead.example")]
    assert any("fetch [dead.example]" in each.getMessage() for each in caplog.records)
    await web.get("dead.example")
    rejected = [each for each in web.events if isinstance(each, CallRejected)]
    assert (rejected[0].reason, rejected[0].state) == ("circuit", CircuitState.OPEN)


async def test_a_snapshot_has_the_keys_and_a_restore_brings_them_back() -> None:
    web = Web()
    await web.break_host("dead.example")
    await web.get("good.example")
    saved = json.loads(json.dumps(web.orch.snapshot()))
    assert [each["key"] for each in saved["circuits"]] == ["dead.example"]

    other = Web()
    other.down.add("dead.example")
    other.orch.restore(saved)
    assert json.loads(await other.get("dead.example"))["state"] == "open"
    assert await other.get("good.example") == "page of good.example"
    assert other.asked == ["good.example"]


async def test_circuits_that_keys_share_are_not_in_a_snapshot() -> None:
    web = Web(policy=BreakerPolicy(max_keys=1))
    await web.break_host("a")
    web.down.add("b")
    for _ in range(2):
        await web.get("b")
    assert json.loads(await web.get("c"))["state"] == "open"
    assert [each["key"] for each in web.orch.snapshot()["circuits"]] == ["a"]


@pytest.mark.parametrize("first", ["restore", "register", "flood"])
async def test_a_key_that_a_snapshot_has_open_is_never_among_those_who_share(
    first: str,
) -> None:
    policy = BreakerPolicy(max_keys=2, failure_threshold=1)
    web = Web(policy=policy)
    await web.break_host("dead")
    web.orch.circuit("fetch", "held").isolate()
    saved = web.orch.snapshot()

    async def flood() -> None:
        for number in range(4):
            host = f"made-up-{number}"
            other.down.add(host)
            await other.get(host)

    other = Web(policy=policy)
    if first == "restore":
        other.registry.remove("fetch")
        other.orch.restore(saved)
        other.registry.tool(name="fetch", circuit=other.host, policy=policy)(other.fetch)
        await flood()
    elif first == "register":
        other.orch.restore(saved)
        await flood()
    else:
        await flood()
        other.orch.restore(saved)
    other.orch.circuit("fetch", "(others)").reset()  # it lets calls in
    other.asked.clear()
    assert json.loads(await other.get("dead"))["retry_after"] == 300
    assert json.loads(await other.get("held"))["state"] == "isolated"
    with pytest.raises(TimeoutError, match="open"):
        await other.orch.wait_available("fetch", {"url": "dead/x"}, timeout=0)
    assert other.asked == []
    assert [each["key"] for each in other.orch.snapshot()["circuits"]][-2:] == [
        "dead",
        "held",
    ]
    other.clock.turn(300)
    assert await other.get("dead") == "page of dead"


async def test_what_a_snapshot_has_open_gives_back_the_place_that_it_has_beside_them() -> (
    None
):
    policy = BreakerPolicy(max_keys=2, failure_threshold=1)
    web, other = Web(policy=policy), Web(policy=policy)
    for host in ("a", "b"):
        await web.break_host(host)
        await other.break_host(f"other-{host}")
    other.orch.restore(web.orch.snapshot())
    assert other.orch.stats("fetch").keys == 4
    assert await other.get("c") == "page of c"  # among those who share
    assert other.orch.stats("fetch").keys == 4
    other.clock.turn(300)
    assert await other.get("c") == "page of c"
    assert other.orch.stats("fetch").keys == 2


@pytest.mark.parametrize("how", ["due", "failing"])
async def test_what_a_snapshot_has_of_others_waits_until_there_is_room(how: str) -> None:
    policy = BreakerPolicy(max_keys=1, failure_threshold=2)
    web, other = Web(policy=policy), Web(policy=policy)
    web.down.add("a")
    await web.get("a")
    if how == "due":
        await web.get("a")
        web.clock.turn(300)
    await other.break_host("dead")
    other.orch.restore(web.orch.snapshot())
    assert other.orch.stats("fetch").keys == 1
    other.orch.circuit("fetch", "dead").reset()
    circuit = other.orch.circuit("fetch", "a")
    assert circuit.failures == (2 if how == "due" else 1)
    assert circuit.state == ("open" if how == "due" else "closed")


async def test_one_who_asks_for_the_other_keys_of_a_snapshot_makes_no_second_ones() -> None:
    policy = BreakerPolicy(failure_threshold=1)
    web, other = Web(policy=policy), Web(policy=policy)
    for host in "abc":
        await web.break_host(host)

    def look(event: Event) -> None:
        for host in "abc":
            assert other.orch.circuit("fetch", host).state is CircuitState.OPEN

    other.orch.add_observer(look)
    other.orch.restore(web.orch.snapshot())
    assert other.orch.stats("fetch").keys == 3
    changed = [each.key for each in other.events if isinstance(each, CircuitChanged)]
    assert sorted(map(str, changed)) == ["a", "b", "c"]


async def test_new_settings_are_those_of_every_key() -> None:
    web = Web()
    await web.break_host("a")
    web.orch.circuit("fetch").reload(BreakerPolicy(reset_timeout=7, failure_threshold=1))
    assert json.loads(await web.get("a"))["retry_after"] == 7
    await web.break_host("b")
    assert web.asked.count("b") == 1
    assert json.loads(await web.get("b"))["retry_after"] == 7


async def test_keys_go_with_their_tool() -> None:
    web = Web()
    await web.break_host("a")
    handle = web.orch.circuit("fetch", "a")
    tool = web.registry.remove("fetch")
    assert web.orch._fleet.keyed == {}
    web.registry.add(tool)
    web.down.clear()
    assert await web.get("a") == "page of a"
    with pytest.raises(OrchestratorError, match="was removed"):
        handle.reset()  # it is nobody's now
    assert handle.state is CircuitState.OPEN


async def test_keys_stay_when_a_tool_is_replaced_by_another_with_keys() -> None:
    web = Web()
    await web.break_host("a")
    web.registry.tool(name="fetch", circuit=web.host, replace=True)(web.fetch)
    assert json.loads(await web.get("a"))["state"] == "open"
    web.registry.tool(name="fetch", replace=True)(web.fetch)
    web.down.clear()
    assert await web.get("a") == "page of a"
    assert web.orch._fleet.keyed == {}


async def test_waiting_needs_the_arguments_and_is_for_their_key() -> None:
    web = Web()
    await web.break_host("a")
    await web.orch.wait_available("fetch", {"url": "b/x"}, timeout=0)
    with pytest.raises(InvalidArgumentsError):
        await web.orch.wait_available("fetch")
    with pytest.raises(TimeoutError, match="fetch"):
        await web.orch.wait_available("fetch", {"url": "a/x"}, timeout=0)
    web.orch.circuit("fetch", "a").reset()
    await web.orch.wait_available("fetch", {"url": "a/x"}, timeout=0)
    with web.orch.circuit("fetch").isolate(), pytest.raises(TimeoutError):
        await web.orch.wait_available("fetch", {"url": "b/x"}, timeout=0)


@virtual_time
async def test_one_who_waits_for_a_key_goes_when_its_time_has_come() -> None:
    web = Web()
    web.orch = ToolOrchestrator(web.registry, failure_threshold=2, clock=anyio.current_time)
    await web.break_host("a")
    begun = anyio.current_time()
    await web.orch.wait_available("fetch", {"url": "a/x"})
    assert anyio.current_time() - begun == pytest.approx(300)


@virtual_time
@pytest.mark.parametrize("due", [False, True])
async def test_a_key_is_asked_for_once_a_wait(due: bool) -> None:
    registry = Registry()
    keys = iter(["a", "b"] * 100)  # a key function that raises gives none

    @registry.tool(circuit=lambda arguments, context: next(keys))
    async def replica() -> str:
        return "fine"

    orch = ToolOrchestrator(registry, clock=anyio.current_time)
    orch.circuit("replica", "a").trip()
    await anyio.sleep(100)
    orch.circuit("replica", "b").trip()
    await anyio.sleep(500 if due else 100)

    if due:
        await orch.wait_available("replica")
        assert anyio.current_time() == 600
    else:
        with pytest.raises(TimeoutError, match="its circuit is open"):
            await orch.wait_available("replica", timeout=50)
        assert anyio.current_time() == 250
    assert next(keys) == "b"


@virtual_time
async def test_a_tool_with_other_keys_now_is_waited_for_by_these() -> None:
    web = Web()
    web.orch = ToolOrchestrator(web.registry, failure_threshold=2, clock=anyio.current_time)
    await web.break_host("a")
    begun = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for page in "xyz":
            tasks.start_soon(web.orch.wait_available, "fetch", {"url": f"a/{page}"})
        await anyio.sleep(100)

        def page_of(arguments: Mapping[str, Any], context: ToolContext) -> str:
            return str(arguments["url"]).rpartition("/")[2]

        web.registry.tool(name="fetch", circuit=page_of, replace=True)(web.fetch)
    assert anyio.current_time() - begun == pytest.approx(100.15)  # one after another


async def test_offered_tools_hide_a_tool_with_keys_only_if_it_is_isolated() -> None:
    web = Web()
    await web.break_host("a")
    whole = web.registry.definitions()
    assert web.orch.offered_tools() == whole
    assert web.orch.offered_tools(hide_open=True) == whole
    with web.orch.circuit("fetch").isolate():
        assert web.orch.offered_tools(hide_open=True) == []


async def test_a_probe_may_call_its_own_tool_with_the_same_key() -> None:
    web = Web()
    nested: list[str] = []

    async def fetch(url: str) -> str:
        if url == "a/outer":
            nested.append(await web.orch.dispatch("fetch", {"url": "a/inner"}))
        return "page"

    await web.break_host("a")
    web.clock.turn(300)
    web.registry.tool(name="fetch", circuit=web.host, replace=True)(fetch)
    assert await web.orch.dispatch("fetch", {"url": "a/outer"}) == "page"
    assert nested == ["page"]
    assert web.orch.circuit("fetch", "a").state is CircuitState.CLOSED
    assert web.holders() == 0


@real_time
async def test_a_plain_function_may_have_circuits_by_key() -> None:
    web = Web()
    web.registry.remove("fetch")
    policy = ToolPolicy(max_threads=2)
    web.registry.tool(name="fetch", circuit=web.host, policy=policy)(web.read)
    await web.break_host("a")
    assert json.loads(await web.get("a"))["state"] == "open"
    assert await web.get("b") == "page of b"
    slots = web.orch._fleet.entry(web.registry["fetch"]).slots
    assert slots is not None
    assert slots.take()  # a full limit takes no key's place either
    assert slots.take()
    assert json.loads(await web.get("c"))["limit"] == "threads"
    assert web.holders() == 0


async def test_memory_is_bounded_however_many_keys_are_made_up() -> None:
    web = Web(policy=BreakerPolicy(max_keys=100))
    web.orch = ToolOrchestrator(web.registry, failure_threshold=2, clock=web.clock)

    async def flood(numbers: range) -> None:
        for number in numbers:
            host = f"host-{number}"
            if number % 3 == 0:
                web.down.add(host)
            for _ in range(2):
                await web.get(host)
            web.down.discard(host)
            web.asked.clear()

    await flood(range(2_000))
    tracemalloc.start()
    await flood(range(2_000, 3_000))
    before = tracemalloc.get_traced_memory()[0]
    await flood(range(3_000, 6_000))
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(list(web.orch._fleet.keyed["fetch"])) <= 102
    assert after - before < 100_000


async def test_made_up_keys_take_no_good_keys_circuit_away() -> None:
    web = Web(policy=BreakerPolicy(max_keys=10))
    assert await web.get("good") == "page of good"
    web.down.update(f"made-up-{number}" for number in range(50))
    for number in range(50):
        for _ in range(3):
            await web.get(f"made-up-{number}")
    assert await web.get("good") == "page of good"
    # Those that were open before the others came are open still.
    for number in range(10):
        answer = json.loads(await web.get(f"made-up-{number}"))
        assert answer["state"] == "open"
    assert web.holders() == 0
    assert_adds_up(web.orch)


async def test_one_who_looks_at_a_circuit_that_is_restored_makes_no_second_one() -> None:
    policy = BreakerPolicy(max_keys=2, failure_threshold=1)
    web = Web(policy=policy)
    await web.break_host("dead")

    other = Web(policy=policy)

    def look(event: Event) -> None:
        if isinstance(event, CircuitChanged):
            assert other.orch.circuit(event.circuit, event.key).state is event.new

    other.orch.add_observer(look)
    other.orch.restore(web.orch.snapshot())
    other.clock.turn(300)
    for number in range(5):
        assert await other.get(f"host-{number}") == f"page of host-{number}"
    other.orch.circuit("fetch").reload(BreakerPolicy(max_keys=1))
    assert await other.get("dead") == "page of dead"


async def test_made_up_keys_wash_no_rate_of_failures_away() -> None:
    policy = BreakerPolicy(
        max_keys=2, failure_threshold=100, failure_rate=0.5, minimum_calls=4
    )
    web = Web(policy=policy)
    for number in range(2):
        web.down.add("half")
        await web.get("half")
        web.down.clear()
        await web.get("half")
        await web.get(f"made-up-{number}")
        await web.get(f"made-up-too-{number}")
    web.down.add("half")
    await web.get("half")
    assert json.loads(await web.get("half"))["state"] == "open"
    assert web.asked.count("half") == 5


class BusyError(Exception):
    status_code = 429
    retry_after = 60


def asks_for_a_pause(web: Web, *hosts: str) -> None:
    async def fetch(url: str) -> str:
        page = web.read(url)
        if web.asked[-1] in hosts:
            raise BusyError("too many requests")
        return page

    policy = BreakerPolicy(max_keys=2, failure_threshold=1)
    web.registry.tool(name="fetch", circuit=web.host, policy=policy, replace=True)(fetch)


async def all_places_taken(*good: str) -> Web:
    """
    Keys that have succeeded, and whose places others have, which are open.
    """
    web = Web(policy=BreakerPolicy(max_keys=2, failure_threshold=1))
    for host in good:
        await web.get(host)
    for host in ("made-up", "made-up-too"):
        await web.break_host(host)
    web.asked.clear()
    return web


async def test_a_pause_that_one_good_key_is_asked_for_is_not_for_the_others() -> None:
    web = await all_places_taken("good", "busy")
    asks_for_a_pause(web, "busy")
    result = await web.orch.run("fetch", {"url": "busy/x"})
    assert (result.retry_after, web.orch.stats("fetch").throttled) == (60, 1)
    assert await web.get("good") == "page of good"
    assert web.orch.circuit("fetch", "(others, good so far)").failures == 0

    # It is among the others now, all of which it pauses if it is called too soon.
    assert json.loads(await web.get("busy"))["retry_after"] == 60
    assert json.loads(await web.get("busy"))["circuit_breaker"] is True
    assert json.loads(await web.get("new"))["circuit_breaker"] is True
    assert web.asked.count("busy") == 2
    assert await web.get("good") == "page of good"
    assert web.holders() == 0
    assert_adds_up(web.orch)


async def test_a_good_key_that_probes_and_is_asked_for_a_pause_decides_nothing() -> None:
    web = await all_places_taken("good", "busy")
    asks_for_a_pause(web, "busy")
    shared = web.orch.circuit("fetch", "(others, good so far)")
    shared.trip()
    for host in ("made-up", "made-up-too"):
        web.orch.circuit("fetch", host).isolate()  # they stay
    web.clock.turn(300)
    await web.get("busy")
    assert shared.state is CircuitState.HALF_OPEN
    assert await web.get("good") == "page of good"
    assert shared.state is CircuitState.CLOSED


async def test_the_handle_of_a_key_that_was_given_up_says_so() -> None:
    web = Web(policy=BreakerPolicy(max_keys=1))
    handle = web.orch.circuit("fetch", "a")
    await web.get("b")
    with pytest.raises(OrchestratorError, match=r"orch\.circuit\(name, key\) anew") as gone:
        handle.isolate()
    assert "'a'" not in str(gone.value)  # it may be a secret
    assert handle.state is CircuitState.CLOSED
    web.orch.circuit("fetch", "a").isolate()
    assert json.loads(await web.get("a"))["state"] == "isolated"


@virtual_time
async def test_one_key_that_is_waited_for_keeps_none_of_the_others_their_places() -> None:
    web = Web(policy=BreakerPolicy(max_keys=3, reset_timeout=10))
    web.orch = ToolOrchestrator(web.registry, clock=anyio.current_time)
    web.down.update(["b", "c"])
    for host in ("b", "c"):
        await web.get(host)
    web.orch.circuit("fetch", "a").trip()
    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(web.orch.wait_available, "fetch", {"url": "a/x"})
        await anyio.sleep(1)
        web.orch.circuit("fetch", "a").reset()
        await anyio.sleep(0.01)
        await web.get("a")
        for host in ("new", "newer"):
            await web.get(host)
        assert [each.key for each in web.orch._fleet.keyed["fetch"]] == ["c", "a", "newer"]
    await web.get("newest")
    keys = [each.key for each in web.orch._fleet.keyed["fetch"]]
    assert keys == ["c", "a", "newest"]
    await web.get("last")  # nobody waits any more
    assert web.orch.circuit("fetch", "last").key == "last"


def test_who_waited_in_a_loop_that_was_dropped_keeps_no_place() -> None:
    web = Web(policy=BreakerPolicy(max_keys=1))
    web.orch.circuit("fetch", "a").trip()
    loop = asyncio.new_event_loop()
    task = loop.create_task(web.orch.wait_available("fetch", {"url": "a/x"}))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    waited = web.orch.circuit("fetch", "a")
    assert waited.waiters is not None
    loop.close()
    waited.reset()

    async def later() -> None:
        await web.get("b")
        assert [each.key for each in web.orch._fleet.keyed["fetch"]] == ["b"]

    anyio.run(later)
    anyio.run(later, backend="trio")
    assert waited.waiters is not None
    task._log_destroy_pending = False  # type: ignore[attr-defined]


@virtual_time
async def test_a_circuit_that_is_waited_for_gives_its_place_to_nobody() -> None:
    web = Web(policy=BreakerPolicy(max_keys=2, failure_threshold=1, reset_timeout=10))
    web.orch = ToolOrchestrator(web.registry, clock=anyio.current_time)
    await web.break_host("dead")
    web.asked.clear()

    async def wait() -> None:
        await web.orch.wait_available("fetch", {"url": "dead/x"})
        await web.get("dead")

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(wait)
        await anyio.sleep(9.5)
        web.down.update(["b", "c"])
        for _ in range(4):
            await anyio.sleep(1)
            for host in ("b", "c"):
                await web.get(host)
        assert web.asked.count("dead") == 1
        group.cancel_scope.cancel()


def test_a_new_loop_with_a_later_clock_evicts_nothing_that_is_open() -> None:
    web = Web(policy=BreakerPolicy(max_keys=2, failure_threshold=1))
    web.orch = ToolOrchestrator(web.registry, clock=anyio.current_time)

    async def open_both() -> None:
        for host in ("a", "b"):
            await web.break_host(host)

    async def ask_for_another() -> tuple[str, str]:
        await web.get("c")
        return await web.get("a"), await web.get("b")

    late = MockClock()
    late.jump(10_000)
    anyio.run(open_both, backend="trio", backend_options={"clock": MockClock()})
    answers = anyio.run(ask_for_another, backend="trio", backend_options={"clock": late})
    assert [json.loads(each)["state"] for each in answers] == ["open", "open"]


async def test_a_refusal_is_of_these_arguments_and_does_not_tell_the_key() -> None:
    web = Web()
    await web.break_host("secret-tenant")
    answer = json.loads(await web.get("secret-tenant"))
    assert "for these arguments (2 failures in a row)" in answer["error"]
    assert "others may work" in answer["error"]
    assert "secret" not in answer["error"]
    with pytest.raises(CircuitOpenError) as refused:
        await web.orch.call("fetch", {"url": "secret-tenant/x"})
    assert refused.value.key == "secret-tenant"


async def test_an_enums_text_is_a_key() -> None:
    class Tenant(enum.StrEnum):
        ADA = "ada"

    web = Web(circuit=lambda arguments, context: Tenant.ADA)
    await web.get("a")
    assert [each.key for each in web.orch._fleet.keyed["fetch"]] == ["ada"]


async def test_a_source_of_chance_that_is_of_no_use_is_told_of_once_for_all_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_chance() -> float:
        raise OSError("no chance")

    policy = BreakerPolicy(jitter=0.5, jitter_source=no_chance, failure_threshold=1)
    web = Web(policy=policy)
    with caplog.at_level(logging.ERROR, "orchestrator_async"):
        for number in range(5):
            await web.break_host(f"host-{number}")
    assert sum("jitter_source" in each.getMessage() for each in caplog.records) == 1


def test_a_key_is_text() -> None:
    with pytest.raises(TypeError, match="key=5"):
        Web().orch.circuit("fetch", 5)  # type: ignore[arg-type]


async def test_calls_that_would_be_refused_stay_counted_when_their_key_has_gone() -> None:
    web = Web(policy=BreakerPolicy(max_keys=1, failure_threshold=1))
    web.down.add("a")
    web.orch.circuit("fetch", "a").disable()
    for _ in range(3):
        await web.get("a")
    assert web.orch.stats("fetch").would_reject == 2
    web.orch.circuit("fetch", "a").reset()
    await web.get("b")
    await web.get("b")
    assert web.orch.stats("fetch").would_reject == 2


async def test_a_circuit_is_held_by_the_calls_that_are_running() -> None:
    web, held = Web(), []

    async def fetch(url: str) -> str:
        held.append(web.holders())
        if url == "a/outer":
            await web.orch.dispatch("fetch", {"url": "a/inner"})
        return "page"

    web.registry.tool(name="fetch", circuit=web.host, replace=True)(fetch)
    await web.orch.dispatch("fetch", {"url": "a/outer"})
    assert (held, web.holders()) == ([1, 2], 0)
