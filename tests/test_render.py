"""
Tools that say themselves how a model reads what they return, and errors that a tool returns
and its judge does not hold against it.
"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator_async import (
    InvalidResultError,
    Registry,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    Verdict,
)


class Page:
    def __init__(self, text: str) -> None:
        self.text = text


def with_tool(value: Any, **options: Any) -> ToolOrchestrator:
    registry = Registry()

    @registry.tool(**options)
    async def get() -> Any:
        return value

    return ToolOrchestrator(registry)


async def test_a_tool_says_what_a_model_reads_of_its_value() -> None:
    page = Page("sun")
    orch = with_tool(page, render=lambda page: f"# {page.text}")
    assert await orch.dispatch("get") == "# sun"
    assert await orch.call("get") is page
    result = await orch.run("get")
    assert (result.content, result.value, result.ok) == ("# sun", page, True)


async def test_text_is_read_as_it_is() -> None:
    orch = with_tool("sun", render=lambda page: f"# {page.text}")
    assert await orch.dispatch("get") == "sun"


async def test_text_of_a_class_of_its_own_is_read_as_what_it_holds() -> None:
    class Sun(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "moon"

    orch = with_tool(Page(""), render=lambda page: Sun("sun"))
    assert type(await orch.dispatch("get")) is str
    assert await orch.dispatch("get") == "sun"


@pytest.mark.parametrize("run", ["dispatch", "run"])
async def test_rendering_that_raises_is_the_tools_failure(run: str) -> None:
    orch = with_tool({"a": 1}, render=lambda page: page.text)
    await getattr(orch, run)("get")
    result = await orch.run("get")
    assert isinstance(result.error, InvalidResultError)
    assert result.verdict is Verdict.FAILURE
    assert orch.stats("get").total_failures == 2


async def test_rendering_to_what_is_no_text_is_the_tools_failure() -> None:
    orch = with_tool({"a": 1}, render=lambda page: 17)
    result = await orch.run("get")
    assert "rendering it gave int, and not text" in str(result.error)


async def test_what_is_rendered_is_cut_as_text() -> None:
    policy = ToolPolicy(max_result_size=200)
    orch = with_tool(Page("x" * 1000), render=lambda page: page.text, policy=policy)
    text = await orch.dispatch("get")
    assert len(text) <= 200
    assert text.startswith("xxx")


async def test_a_returned_error_that_is_nobodys_failure_is_not_ok() -> None:
    orch = with_tool({"error": "no such file"}, judge=lambda outcome: Verdict.IGNORE)
    result = await orch.run("get")
    assert (result.ok, result.verdict, result.error) == (False, Verdict.IGNORE, None)
    assert result.message("anthropic")["is_error"] is True


async def test_a_returned_error_that_is_nobodys_failure_has_no_other_tool_answer() -> None:
    asked = []
    policy = ToolPolicy(fallback=lambda call, result: asked.append(call.name))
    orch = with_tool(
        {"error": "no such file"}, judge=lambda outcome: Verdict.IGNORE, policy=policy
    )
    assert (await orch.run("get")).value == {"error": "no such file"}
    assert asked == []


@pytest.mark.parametrize("render", ["text", 17])
def test_what_cannot_render_is_refused(render: Any) -> None:
    async def get() -> None: ...

    with pytest.raises(TypeError, match="get: render must be a plain function"):
        Tool(fn=get, render=render)


def test_a_coroutine_function_cannot_render() -> None:
    async def render(value: Any) -> str:
        return ""

    with pytest.raises(TypeError, match="get: render must be a plain function"):
        Tool(fn=render, name="get", render=render)  # type: ignore[arg-type]
