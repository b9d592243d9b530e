"""
The size of results: what a model reads of a large one, and that a program has all of it.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    Event,
    InvalidResultError,
    Registry,
    RetryPolicy,
    ToolCall,
    ToolOrchestrator,
    ToolPolicy,
    ToolTimeoutError,
    Verdict,
)

from .clock import real_time, virtual_time

LONG = "word " * 1000
ROWS = [{"name": "x" * 30}] * 100
LIMIT = 300


class Library:
    """
    An orchestrator with one tool that returns what it is told.
    """

    def __init__(self, value: Any, *, in_thread: bool = False, **options: Any) -> None:
        self.value = value
        self.events: list[Event] = []
        registry = Registry()
        policy = ToolPolicy(**{"max_result_size": LIMIT, **options})

        def plain() -> Any:
            return self.make()

        async def tool() -> Any:
            return self.make()

        registry.tool(name="tool", idempotent=True, policy=policy)(
            plain if in_thread else tool
        )
        self.orch = ToolOrchestrator(registry, clock=anyio.current_time)

    def make(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


async def read(library: Library, answer: str) -> str:
    if answer == "dispatch_all":
        (result,) = await library.orch.dispatch_all([ToolCall("tool")])
    elif answer == "run":
        result = await library.orch.run("tool")
    else:
        # The first call of a tool takes the long path, and the second may take the short one.
        first = await library.orch.dispatch("tool")
        assert await library.orch.dispatch("tool") == first
        return first
    assert result.value is library.value
    return result.content


def assert_text(text: str) -> None:
    assert LIMIT - 5 <= len(text) <= LIMIT
    shown, notice = text.split("\n")
    assert LONG.startswith(shown)
    assert notice.startswith("[truncated: ")


def assert_json(text: str, total: int) -> None:
    assert LIMIT - 10 <= len(text) <= LIMIT
    said = json.loads(text)
    assert (said["truncated"], said["total_chars"]) == (True, total)


WAYS: dict[str, dict[str, Any]] = {
    "alone": {},
    "with a timeout": {"timeout": 50},
    "with a guard": {"guard": lambda call, context: None},
    "with retries": {"retry": RetryPolicy()},
    "with a total timeout": {"total_timeout": 50},
    "with a judge": {"judge": lambda outcome: None},
}
each_answer = pytest.mark.parametrize("answer", ["dispatch", "run", "dispatch_all"])


@pytest.mark.parametrize("way", WAYS)
@each_answer
async def test_the_model_reads_so_much_and_no_more(answer: str, way: str) -> None:
    assert_text(await read(Library(LONG, **WAYS[way]), answer))
    text = json.dumps(ROWS, separators=(",", ":"))
    assert_json(await read(Library(ROWS, **WAYS[way]), answer), len(text))


@each_answer
@real_time
async def test_that_of_a_plain_function_too(answer: str) -> None:
    assert_text(await read(Library(LONG, in_thread=True), answer))


@each_answer
async def test_what_fits_is_as_it_was(answer: str) -> None:
    for value in ("x" * LIMIT, "", "{"):
        assert await read(Library(value), answer) is value
    assert await read(Library({"a": 1}), answer) == '{"a":1}'


async def test_text_that_is_json_stays_json() -> None:
    text = json.dumps(ROWS)
    assert_json(await read(Library(text), "dispatch"), len(text))


async def test_json_that_does_not_look_like_it_stays_json() -> None:
    number = 10**1000
    assert_json(await read(Library(number), "dispatch"), len(str(number)))


async def test_a_value_that_is_one_long_text_within_json_is_json() -> None:
    # A list of text is JSON, whatever that text looks like.
    assert_json(await read(Library([LONG]), "dispatch"), len(json.dumps([LONG])))


@pytest.mark.parametrize("value", [LONG, ROWS], ids=["text", "JSON"])
async def test_a_program_has_all_of_it(value: Any) -> None:
    library = Library(value)

    assert await library.orch.call("tool") is value


async def test_without_a_limit_all_is_read() -> None:
    assert await Library(LONG, max_result_size=None).orch.dispatch("tool") == LONG


@each_answer
async def test_what_comes_late_is_cut_too(answer: str) -> None:
    library = Library(LONG)

    def trip_and_answer() -> str:
        library.orch.circuit("tool").trip()
        library.orch.circuit("tool").reset()  # so that a second call runs
        return LONG

    library.make = trip_and_answer  # type: ignore[method-assign]

    assert_text(await read(library, answer))
    assert library.orch.stats("tool").late >= 1


@virtual_time
async def test_what_was_returned_past_the_timeout_is_cut_too() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(max_result_size=LIMIT, timeout=5))
    async def tool() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(10)
        return LONG

    result = await ToolOrchestrator(registry, clock=anyio.current_time).run("tool")

    assert_text(result.content)
    assert (result.value, result.verdict) == (LONG, Verdict.FAILURE)


async def test_an_error_object_that_was_returned_is_cut_and_is_a_failure() -> None:
    library = Library({"error": LONG})

    result = await library.orch.run("tool")

    assert_json(result.content, len(json.dumps(library.value, separators=(",", ":"))))
    assert (result.ok, result.verdict) == (False, Verdict.FAILURE)
    assert library.orch.circuit("tool").last_error == (
        f"it returned an error: {json.dumps(library.value, separators=(',', ':'))[:200]}"
    )


@each_answer
async def test_an_error_is_not_cut(answer: str) -> None:
    library = Library(ValueError("x" * 1000))

    if answer == "dispatch":
        text = await library.orch.dispatch("tool")
    else:
        (result,) = await library.orch.dispatch_all([ToolCall("tool")])
        text = result.content

    assert "x" * 1000 in json.loads(text)["error"]


async def test_what_cannot_be_json_is_said_in_full() -> None:
    library = Library([object()])

    result = await library.orch.run("tool")

    assert isinstance(result.error, InvalidResultError)
    assert json.loads(result.content)["error"] == str(result.error)


async def test_refusals_are_said_in_full() -> None:
    library = Library(LONG, max_result_size=200)
    with library.orch.circuit("tool").isolate():
        said = json.loads(await library.orch.dispatch("tool", {}))
        assert said["circuit_breaker"] is True
    wrong = await library.orch.dispatch("tool", {f"a{each}": 1 for each in range(50)})
    assert len(wrong) > 200
    assert json.loads(wrong)["invalid_arguments"]


@virtual_time
async def test_a_timeout_is_said_in_full() -> None:
    registry = Registry()

    @registry.tool(policy=ToolPolicy(max_result_size=200, timeout=5))
    async def tool() -> None:
        await anyio.sleep(1000)

    result = await ToolOrchestrator(registry, clock=anyio.current_time).run("tool")

    assert isinstance(result.error, ToolTimeoutError)
    assert json.loads(result.content)["error"] == str(result.error)


async def test_the_limit_is_of_the_text_and_not_of_the_value() -> None:
    seen: list[Any] = []

    def judge(outcome: Any) -> None:
        seen.append(outcome.value)

    await Library(LONG, judge=judge).orch.dispatch("tool")

    assert seen == [LONG]


async def test_the_orchestrator_may_have_a_limit_for_all_tools() -> None:
    registry = Registry()

    @registry.tool
    async def tool() -> str:
        return LONG

    @registry.tool(policy=ToolPolicy(max_result_size=None))
    async def free() -> str:
        return LONG

    orch = ToolOrchestrator(registry, policy=ToolPolicy(max_result_size=LIMIT))

    assert_text(await orch.dispatch("tool"))
    assert await orch.dispatch("free") == LONG
    assert orch._fleet.entries["free"].simple
    orch.reload(policy=ToolPolicy(max_result_size=400))
    assert 395 <= len(await orch.dispatch("tool")) <= 400


async def test_messages_hold_what_was_left() -> None:
    result = await Library(LONG).orch.run("tool")

    assert_text(result.message()["content"])


@pytest.mark.parametrize("size", [199, 0, -1, True, 300.0, "300", [300]])
def test_what_cannot_be_a_limit_is_refused_by_name(size: Any) -> None:
    with pytest.raises(ValueError, match="ToolPolicy: max_result_size="):
        ToolPolicy(max_result_size=size)


@pytest.mark.parametrize("value", ["y" * 201, ["y" * 201]], ids=["text", "JSON"])
async def test_the_least_limit_can_be_set(value: Any) -> None:
    library = Library(value, max_result_size=200)

    assert len(await library.orch.dispatch("tool")) <= 200
