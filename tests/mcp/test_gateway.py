"""
A gateway and the SDK's own client, in one process: what hosts see of an orchestrator.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client, MCPError
from mcp.client.subscriptions import ToolsListChanged
from mcp_types import (
    AudioContent,
    ImageContent,
    InitializedNotification,
    ResourceLink,
    TextContent,
    ToolListChangedNotification,
)

from orchestrator_async import (
    Outcome,
    Registry,
    ToolContext,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
)
from orchestrator_async.adapters.mcp import McpResult, McpServers
from orchestrator_async.adapters.mcp._judge import judge
from orchestrator_async.config import ConfigError
from orchestrator_async.gateway import Gateway
from orchestrator_async.gateway._open import Open
from orchestrator_async.gateway._results import told
from tests.clock import real_time

from .helping import DEADLINE, SlowPath, leaves_generators, until

pytestmark = [leaves_generators, real_time]
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])
OURS = "orchestrator-async/"


@asynccontextmanager
async def host(
    gateway: Gateway, mode: str = "auto", **options: Any
) -> AsyncIterator[Client]:
    with anyio.fail_after(DEADLINE):
        async with Client(gateway.server(), mode=mode, **options) as client:
            yield client


def gateway_of(*fns: Callable[..., Any], **settings: Any) -> Gateway:
    registry = Registry()
    for fn in fns:
        registry.tool(fn)
    return Gateway(ToolOrchestrator(registry, **settings))


def text(result: Any) -> str:
    (block,) = result.content
    return block.text


def said(result: Any) -> dict[str, Any]:
    """
    The error that a model reads.
    """
    assert result.is_error
    return json.loads(text(result))


async def echo(text: str) -> str:
    """Say it again."""
    return text


async def broken() -> str:
    raise ConnectionError("the service is down")


# What is offered


async def test_tools_are_told_in_their_order_with_what_is_known_of_them() -> None:
    registry = Registry()
    registry.tool(name="second", read_only=True, idempotent=True)(echo)
    registry.tool(name="first", read_only=False)(echo)
    registry.tool(parameters={"properties": {"x": {}}}, name="third")(echo)
    async with host(Gateway(ToolOrchestrator(registry))) as client:
        second, first, third = (await client.list_tools()).tools
    assert [second.name, first.name, third.name] == ["second", "first", "third"]
    assert second.description == "Say it again."
    assert second.input_schema["required"] == ["text"]
    assert second.annotations is not None
    assert second.annotations.read_only_hint is True
    assert second.annotations.idempotent_hint is True
    assert first.annotations is not None
    assert first.annotations.read_only_hint is False
    assert first.annotations.idempotent_hint is None
    assert third.annotations is None
    assert third.input_schema == {"type": "object", "properties": {"x": {}}}
    assert third.output_schema is None


async def test_names_that_hosts_do_not_take_are_replaced_and_found_again() -> None:
    registry = Registry()
    for name in ("wetter.heute", "wetter:heute", "w" * 128, "plain"):
        registry.tool(name=name)(echo)
    async with host(Gateway(ToolOrchestrator(registry))) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names[3] == "plain"
        assert len(set(names)) == 4
        assert max(map(len, names)) == 64
        assert names[0].startswith("wetter_heute_")
        for name in names:
            assert text(await client.call_tool(name, {"text": name})) == name


async def test_a_tool_whose_name_another_is_mapped_to_keeps_it() -> None:
    registry = Registry()
    registry.tool(name="a.b")(echo)
    async with host(Gateway(ToolOrchestrator(registry))) as client:
        (mapped,) = (await client.list_tools()).tools

        @registry.tool(name=mapped.name)
        async def other(text: str) -> str:
            return "the other"

        assert len((await client.list_tools()).tools) == 1
        assert text(await client.call_tool(mapped.name, {"text": "x"})) == "the other"


@MODES
async def test_pages_have_each_tool_once_though_tools_come_and_go(mode: str) -> None:
    registry = Registry()
    for number in range(7):
        registry.tool(name=f"tool{number}")(echo)
    gateway = Gateway(ToolOrchestrator(registry), page_size=3)
    async with host(gateway, mode) as client:
        page = await client.list_tools()
        assert [tool.name for tool in page.tools] == ["tool0", "tool1", "tool2"]
        registry.remove("tool2")
        registry.remove("tool0")
        registry.tool(name="tool0")(echo)
        registry.tool(name="tool4", replace=True)(echo)
        page = await client.list_tools(cursor=page.next_cursor)
        assert [tool.name for tool in page.tools] == ["tool3", "tool4", "tool5"]
        page = await client.list_tools(cursor=page.next_cursor)
        assert [tool.name for tool in page.tools] == ["tool6", "tool0"]
        assert page.next_cursor is None


async def test_what_is_no_cursor_is_an_error() -> None:
    async with host(gateway_of(echo)) as client:
        with pytest.raises(MCPError, match="no cursor") as caught:
            await client.list_tools(cursor="tool0")
    assert caught.value.code == -32602


async def test_tools_that_no_host_could_call_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def odd(value: Callable[[], None]) -> None: ...

    registry = Registry()
    registry.tool(odd)
    registry.tool(parameters={"type": "array"}, name="array")(echo)
    registry.tool(echo)
    async with host(Gateway(ToolOrchestrator(registry))) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["echo"]
        await client.list_tools()
    assert [record.message.partition(" ")[0] for record in caplog.records] == [
        "odd",
        "array",
    ]


async def test_no_page_is_empty_of_itself() -> None:
    with pytest.raises(ValueError, match="page_size=0"):
        Gateway(ToolOrchestrator(Registry()), page_size=0)


async def test_the_server_says_what_it_is_and_what_a_refusal_means() -> None:
    gateway = gateway_of(echo)
    async with host(gateway) as client:
        assert client.server_info is not None
        assert client.server_info.name == "orchestrator"
        assert client.server_info.version != ""
        assert "retry_after" in (client.instructions or "")
    named = Gateway(gateway.orch, name="mine", version="7", instructions="Be kind.")
    assert repr(named) == "<Gateway 'mine' with 1 tools>"
    async with host(named) as client:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("mine", "7")
        assert client.instructions == "Be kind."


# What calls return


@MODES
async def test_an_object_is_text_and_data_and_anything_else_is_text(mode: str) -> None:
    async def forecast(city: str) -> dict[str, Any]:
        return {"city": city, "days": [1, 2]}

    async def numbers() -> list[int]:
        return [1, 2]

    async def json_text() -> str:
        return '{"a": 1}'

    async def not_a_number() -> dict[str, float]:
        return {"value": float("nan")}

    async with host(gateway_of(forecast, numbers, json_text, not_a_number), mode) as client:
        result = await client.call_tool("forecast", {"city": "Tromsø"})
        assert result.structured_content == {"city": "Tromsø", "days": [1, 2]}
        assert json.loads(text(result)) == result.structured_content
        assert (result.is_error, result.meta and result.meta[f"{OURS}verdict"]) == (
            False,
            "success",
        )
        result = await client.call_tool("numbers")
        assert (json.loads(text(result)), result.structured_content) == ([1, 2], None)
        assert (await client.call_tool("json_text")).structured_content is None
        assert not (await client.call_tool("not_a_number")).is_error


async def test_data_is_left_out_where_the_text_does_not_show_it_all() -> None:
    async def long() -> dict[str, str]:
        return {"text": "x" * 10_000}

    registry = Registry()
    registry.tool(policy=ToolPolicy(max_result_size=300))(long)
    registry.tool(name="drawn", render=lambda value: "{drawn}")(long)
    registry.tool(name="odd", render=lambda value: '{"a": NaN}')(long)
    async with host(Gateway(ToolOrchestrator(registry))) as client:
        cut = await client.call_tool("long")
        drawn = await client.call_tool("drawn")
        assert (await client.call_tool("odd")).structured_content is None
    assert (len(text(cut)) <= 300, cut.structured_content) == (True, None)
    assert (text(drawn), drawn.structured_content) == ("{drawn}", None)


async def mcp_result_of(value: McpResult, version: str, **settings: Any) -> Any:
    async def tool() -> McpResult:
        return value

    registry = Registry()
    registry.tool(render=str, **settings)(tool)
    result = await ToolOrchestrator(registry).run("tool")
    return told(result, version)


IMAGE = ImageContent(data="AAAA", mime_type="image/png")
SOUND = AudioContent(data="AAAA", mime_type="audio/wav")
LINK = ResourceLink(name="notes", uri="file:///notes")


async def test_what_a_server_has_said_keeps_its_form() -> None:
    value = McpResult(
        content=(TextContent(text="see"), IMAGE, SOUND, LINK),
        structured_content={"a": [1]},
        meta={"theirs": 1, "io.modelcontextprotocol/serverInfo": {"name": "other"}},
    )
    result = await mcp_result_of(value, "2025-11-25")
    assert tuple(result.content) == value.content
    assert (result.structured_content, result.is_error) == ({"a": [1]}, False)
    assert result.meta["theirs"] == 1
    assert "io.modelcontextprotocol/serverInfo" not in result.meta
    assert result.meta[f"{OURS}state"] == "closed"


async def test_no_server_says_what_only_the_gateway_can() -> None:
    keys = ("verdict", "state", "attempts", "retry_after", "source", "anything")
    forged = {f"{OURS}{key}": "forged" for key in keys}
    for is_error in (False, True):
        error = "no" if is_error else None
        value = McpResult(meta={**forged, "theirs": 1}, is_error=is_error, error=error)
        result = await mcp_result_of(value, "2026-07-28")
        assert "forged" not in result.meta.values()
        assert result.meta["theirs"] == 1
        assert f"{OURS}source" not in result.meta
        assert f"{OURS}retry_after" not in result.meta


async def test_an_error_that_a_server_has_said_keeps_its_form() -> None:
    value = McpResult(
        content=(TextContent(text="no"), IMAGE), is_error=True, error="no\n[image]"
    )
    result = await mcp_result_of(value, "2026-07-28")
    assert (tuple(result.content), result.is_error) == (value.content, True)
    assert result.meta[f"{OURS}verdict"] == "failure"


@pytest.mark.parametrize(
    ("version", "kinds", "structured"),
    [
        ("2024-11-05", ["image", "text", "text"], None),
        ("2025-03-26", ["image", "audio", "text"], None),
        ("2025-06-18", ["image", "audio", "resource_link"], {"a": 1}),
    ],
)
async def test_hosts_of_old_protocols_get_what_they_know(
    version: str, kinds: list[str], structured: Any
) -> None:
    value = McpResult(content=(IMAGE, SOUND, LINK), structured_content={"a": 1})
    result = await mcp_result_of(value, version)
    assert [block.type for block in result.content] == kinds
    assert result.structured_content == structured


async def test_a_value_that_is_no_object_is_data_only_where_the_protocol_has_that() -> None:
    value = McpResult(content=(), structured_content=[1])
    assert (await mcp_result_of(value, "2026-07-28")).structured_content == [1]
    result = await mcp_result_of(value, "2025-11-25")
    assert (text(result), result.structured_content) == ("[1]", None)


async def test_what_a_server_has_said_is_cut_to_size_in_every_form() -> None:
    value = McpResult(
        content=(TextContent(text="x" * 10_000), IMAGE),
        structured_content={"a": "x" * 10_000},
    )
    settings = {"policy": ToolPolicy(max_result_size=300)}
    result = await mcp_result_of(value, "2026-07-28", **settings)
    first, second = result.content
    assert len(first.text) <= 300
    assert (second, result.structured_content) == (IMAGE, None)


# What goes wrong


@MODES
async def test_a_gateway_before_another_judges_errors_as_that_one_did(mode: str) -> None:
    async def vague() -> None:
        raise FileNotFoundError("which blames the call, were it not judged so")

    def harsh(outcome: Outcome) -> Verdict:
        return Verdict.FAILURE if outcome.error else Verdict.SUCCESS

    registry = Registry()
    registry.tool(judge=harsh)(vague)
    registry.tool(echo)
    inner = Gateway(ToolOrchestrator(registry, failure_threshold=1))
    async with host(inner, mode) as client:
        failed = McpResult.of(await client.call_tool("vague"))
        refused = McpResult.of(await client.call_tool("vague"))
        unknown = McpResult.of(await client.call_tool("ecko"))
        fine = McpResult.of(await client.call_tool("echo", {"text": "x"}))
    judged = [judge(Outcome(value=each)) for each in (failed, refused, unknown, fine)]
    assert judged == [Verdict.FAILURE, Verdict.IGNORE, Verdict.IGNORE, Verdict.SUCCESS]


async def test_what_a_result_says_of_its_verdict_is_believed_of_errors_alone() -> None:
    def verdict(said: Any, error: str | None) -> Verdict:
        meta = {f"{OURS}verdict": said}
        content = () if error is None else (TextContent(text=error),)
        is_error = error is not None
        value = McpResult(content=content, meta=meta, error=error, is_error=is_error)
        return judge(Outcome(value=value))

    for said in ("failure", "ignore"):
        assert verdict(said, None) is Verdict.SUCCESS
        assert verdict(said, "no") == said
    for nonsense in ("success", "Failure", None, 1, ["failure"]):
        assert verdict(nonsense, "connection refused") is Verdict.FAILURE
        assert verdict(nonsense, "no such file") is Verdict.IGNORE
    gone = Outcome(error=ConnectionError("refused"))
    assert judge(gone) is Verdict.FAILURE


@MODES
async def test_failures_and_refusals_are_results_that_a_model_reads(mode: str) -> None:
    async def slow() -> None:
        await anyio.sleep_forever()

    registry = Registry()
    registry.tool(broken)
    registry.tool(timeout=0.01)(slow)
    registry.tool(echo)
    orch = ToolOrchestrator(registry, failure_threshold=1, reset_timeout=300)
    async with host(Gateway(orch), mode) as client:
        failed = await client.call_tool("broken")
        assert said(failed)["error_type"] == "ConnectionError"
        assert failed.meta is not None
        assert failed.meta[f"{OURS}verdict"] == "failure"
        assert (failed.meta[f"{OURS}state"], failed.meta[f"{OURS}attempts"]) == ("open", 1)
        refused = await client.call_tool("broken")
        assert said(refused)["circuit_breaker"] is True
        assert refused.meta is not None
        assert 0 < refused.meta[f"{OURS}retry_after"] <= 300
        assert refused.meta[f"{OURS}attempts"] == 0
        assert said(await client.call_tool("slow"))["timeout"] is True
        assert said(await client.call_tool("ecko"))["did_you_mean"] == ["echo"]
        wrong = said(await client.call_tool("echo", {"text": 5}))
        assert wrong["invalid_arguments"][0]["argument"] == "text"
        for result in (failed, refused):
            assert "Traceback" not in text(result)


async def test_what_answers_in_a_tools_place_is_named() -> None:
    async def other() -> str:
        return "the other"

    registry = Registry()
    registry.tool(policy=ToolPolicy(fallback="other"))(broken)
    registry.tool(other)
    async with host(Gateway(ToolOrchestrator(registry))) as client:
        result = await client.call_tool("broken")
    assert (text(result), result.is_error) == ("the other", False)
    assert result.meta is not None
    assert result.meta[f"{OURS}source"] == "other"


@MODES
async def test_what_a_program_raises_through_is_an_error_without_its_words(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(Exception):
        pass

    async def stops() -> None:
        raise Stop("the secret")

    async with host(
        gateway_of(stops, policy=ToolPolicy(control_flow=(Stop,))), mode
    ) as client:
        result = await client.call_tool("stops", progress_callback=ignore)
    assert (text(result), result.is_error) == (
        "The call could not be made. Do not repeat it.",
        True,
    )
    assert "could not be made" in caplog.text


async def ignore(progress: float, total: float | None, message: str | None) -> None: ...


# While a call runs


async def test_progress_is_told_now_and_then_and_the_last_of_it_always() -> None:
    async def works(context: ToolContext) -> str:
        for done in range(1, 5_001):
            context.report_progress(done, 5_000, f"step {done}")
            if done % 50 == 0:
                await anyio.sleep(0.001)
        context.report_progress(1)  # it never goes back
        await anyio.lowlevel.checkpoint()
        return "done"

    async def quiet(context: ToolContext) -> str:
        context.report_progress(1)
        return "done"

    told: list[Any] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    gateway = gateway_of(works, quiet)
    async with host(gateway, "legacy") as client:
        await client.call_tool("works", progress_callback=report)
        await until(lambda: told and told[-1][0] == 5_000)
        assert told[-1] == (5_000, 5_000, "step 5000")
        assert len(told) < 100
        assert sorted(told) == told
        told.clear()
        await client.call_tool("quiet")
        assert not gateway.orch._observers.listening
    assert told == []


async def test_reports_of_other_calls_are_not_told() -> None:
    both, told = anyio.Event(), []

    async def works(number: int, context: ToolContext) -> None:
        await both.wait()
        context.report_progress(number)

    async def report(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    gateway = gateway_of(works)
    async with host(gateway, "legacy") as client, anyio.create_task_group() as tasks:

        async def call(number: int, **options: Any) -> None:
            await client.call_tool("works", {"number": number}, **options)

        tasks.start_soon(lambda: call(1, progress_callback=report))
        tasks.start_soon(lambda: call(2, progress_callback=report))
        tasks.start_soon(lambda: call(3))
        await until(lambda: gateway.orch.stats("works").in_flight == 3)
        both.set()
    assert sorted(told) == [1, 2]


@MODES
async def test_a_call_that_its_host_cancels_is_cancelled(mode: str) -> None:
    began, ended = anyio.Event(), anyio.Event()

    async def slow() -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with host(gateway_of(slow, echo), mode) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "slow")
            await began.wait()
            tasks.cancel_scope.cancel()
        await ended.wait()
        assert text(await client.call_tool("echo", {"text": "on"})) == "on"


# Tools that come and go


async def test_hosts_of_earlier_protocols_are_told_once_of_many_changes() -> None:
    news: list[Any] = []

    async def hear(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            news.append(message)

    gateway = gateway_of(echo)
    async with host(gateway, "legacy", message_handler=hear) as client:
        for number in range(50):
            gateway.orch.registry.tool(name=f"tool{number}")(echo)
        await until(lambda: news)
        assert len((await client.list_tools()).tools) == 51
        gateway.orch.registry.remove("tool0")
        await until(lambda: len(news) == 2)
        assert len((await client.list_tools()).tools) == 50
    assert len(news) == 2


async def test_hosts_that_listen_are_told_of_changes() -> None:
    gateway = gateway_of(echo)
    async with host(gateway) as client, client.listen(tools_list_changed=True) as events:
        gateway.orch.registry.tool(broken)
        async for event in events:
            assert isinstance(event, ToolsListChanged)
            break
        assert len((await client.list_tools()).tools) == 2


@MODES
async def test_only_news_that_there_will_be_are_promised(mode: str) -> None:
    async with host(gateway_of(echo), mode) as client:
        able = client.server_capabilities
        assert able.tools is not None
        assert able.tools.list_changed
        assert able.resources is not None
        assert not able.resources.subscribe
        assert not able.resources.list_changed
        if mode == "auto":
            async with client.listen(
                tools_list_changed=True,
                resources_list_changed=True,
                resource_subscriptions=["orchestrator://fleet"],
            ) as events:
                honored = events.honored.model_dump(exclude_none=True)
                assert honored == {"tools_list_changed": True}


async def test_a_host_that_has_gone_is_told_no_more() -> None:
    gateway = gateway_of(echo)
    async with host(gateway, "legacy") as client:
        await client.list_tools()
        (audience,) = gateway._audiences
        # To say it twice changes nothing.
        await client.session.send_notification(InitializedNotification())
        await until(lambda: audience._connections)
    assert not audience._connections
    assert not gateway._audiences
    gateway.orch.registry.tool(broken)


# Figures


@MODES
async def test_the_fleets_figures_are_a_resource(mode: str) -> None:
    async with host(gateway_of(echo), mode) as client:
        await client.call_tool("echo", {"text": "x"})
        (resource,) = (await client.list_resources()).resources
        (contents,) = (await client.read_resource(resource.uri)).contents
        figures = json.loads(contents.text)  # type: ignore[union-attr]
        assert figures["tools"]["echo"]["successes"] == 1
        assert figures["servers"] == {}
        with pytest.raises(MCPError, match="orchestrator://fleet"):
            await client.read_resource("orchestrator://else")
        assert len((await client.list_tools()).tools) == 1
        assert said(await client.call_tool("orchestrator__fleet"))["unknown_tool"] is True


async def test_the_fleets_figures_are_a_tool_if_they_are_to_be() -> None:
    gateway = gateway_of(echo)
    gateway = Gateway(gateway.orch, figures_tool=True, page_size=1)
    async with host(gateway) as client:
        tools = await client.list_tools()
        assert [tool.name for tool in tools.tools] == ["echo", "orchestrator__fleet"]
        result = await client.call_tool("orchestrator__fleet")
        assert json.loads(text(result))["tools"] == {}
        # A tool of that name is somebody's own, and goes before it.
        gateway.orch.registry.tool(name="orchestrator__fleet")(echo)
        result = await client.call_tool("orchestrator__fleet", {"text": "mine"})
        assert text(result) == "mine"


# A file that changes


async def test_without_a_file_there_is_nothing_to_reload() -> None:
    with pytest.raises(ValueError, match="not made from a file"):
        await gateway_of(echo).reload()


async def test_a_file_is_read_again_and_changes_nothing_where_it_is_wrong(
    tmp_path: Path,
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[orchestrator]\nfailure_threshold = 1\n")
    gateway = gateway_of(broken)
    gateway = Gateway(gateway.orch, path=path)
    await gateway.reload()
    await gateway.orch.dispatch("broken")
    assert gateway.orch.stats("broken").state == "open"
    path.write_text("[orchestrator]\nfailure_treshold = 2\n")
    with pytest.raises(ConfigError, match="failure_threshold"):
        await gateway.reload()
    path.write_text("[servers]\n")
    async with McpServers(path) as servers:
        gateway = Gateway(gateway.orch, path=path, servers=servers)
        await gateway.reload()
    assert gateway.orch.stats("broken").state == "open"


async def test_what_a_file_says_of_the_gateway_is_read_again_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("")
    gateway = Gateway(gateway_of(echo).orch, path=path)
    await gateway.reload()
    async with host(gateway) as client:
        for wanted in (True, False):
            path.write_text(f"[gateway]\nfigures_tool = {json.dumps(wanted)}\n")
            await gateway.reload()
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert ("orchestrator__fleet" in names) is wanted
        assert caplog.messages == []
        path.write_text("[gateway]\nname = 'x'\n")
        await gateway.reload()
    assert caplog.messages == [
        "gateway.name is 'orchestrator' until it is started anew, and not 'x'"
    ]


async def test_a_file_does_not_take_away_the_figures_that_a_program_wants(
    tmp_path: Path,
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[gateway]\nfigures_tool = false\n")
    gateway = Gateway(gateway_of(echo).orch, path=path, figures_tool=True)
    await gateway.reload()
    async with host(gateway) as client:
        assert len((await client.list_tools()).tools) == 2


async def test_of_two_reloads_the_one_that_was_begun_last_holds(tmp_path: Path) -> None:
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text("[orchestrator]\nfailure_threshold = 9\n")
    after.write_text("[orchestrator]\nfailure_threshold = 1\n")
    slow = SlowPath(before, after)
    gateway = Gateway(gateway_of(broken).orch, path=slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.reload)
        await until(lambda: slow.asked)
        await gateway.reload()
        slow.answer()
    await gateway.orch.dispatch("broken")
    assert gateway.orch.stats("broken").state == "open"


# What waits


async def test_what_waits_for_an_answer_is_bounded() -> None:
    waiting = Open(most=2, most_bytes=100)
    assert waiting.begin(1, 60) == ""
    assert "this id" in waiting.begin(1, 1)
    assert "too large" in waiting.begin("2", 60)
    assert waiting.begin("2", 40) == ""
    assert "2 requests wait" in waiting.begin(3, 0)
    waiting.answered("other")
    waiting.answered(None)
    waiting.answered(1)
    assert waiting.begin(3, 60) == ""
