"""
The registry: tools by name, their definitions, the circuits that they share.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import inspect
import json
import pickle
import weakref
from typing import Annotated, Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    DuplicateToolError,
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

from .clock import real_time


async def search(city: str, days: int = 1) -> str:
    """
    Search for a city.

    Args:
        city: Its name.
        days: How many.
    """
    return f"{city} {days}"


async def fail() -> None:
    raise RuntimeError("no")


# Words around a dict


def test_a_function_is_registered_under_its_name_and_stays_itself() -> None:
    registry = Registry()

    async def one() -> None: ...

    async def two() -> None: ...

    assert registry.tool(one) is one
    assert registry.tool()(two) is two
    assert registry.tool(name="three")(two) is two
    assert [tool.name for tool in registry] == ["one", "two", "three"]


def test_the_words_of_a_dict_work() -> None:
    registry = Registry()
    tool = registry.add(Tool(fn=search))
    assert "search" in registry
    assert "other" not in registry
    assert len(registry) == 1
    assert registry["search"] is tool
    assert registry.get("search") is tool
    assert registry.get("other") is None
    assert list(registry) == [tool]


def test_an_empty_registry_is_not_taken_for_none() -> None:
    registry = Registry()
    assert len(registry) == 0
    assert (registry or Registry()) is registry


@pytest.mark.parametrize("name", [None, 3, [], {}, object(), b"search"])
def test_what_is_no_name_is_not_in_it(name: Any) -> None:
    registry = Registry()
    registry.add(Tool(fn=search))
    assert name not in registry
    assert registry.get(name) is None


def test_a_lookup_that_fails_says_what_is_close() -> None:
    registry = Registry()
    registry.add(Tool(fn=search))
    with pytest.raises(UnknownToolError) as caught:
        registry["serch"]
    assert caught.value.did_you_mean == ("search",)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_tools_may_be_added_and_removed_while_iterating() -> None:
    registry = Registry()
    registry.add(Tool(fn=search))
    for tool in registry:
        registry.add(Tool(fn=fail))
        registry.remove(tool.name)
    assert [tool.name for tool in registry] == ["fail"]


def test_a_repr_shows_counts_and_nothing_private() -> None:
    registry = Registry()
    tool = registry.add(Tool(fn=search, parameters={"secret": 1}))
    assert "1" in repr(registry)
    assert "search" in repr(tool)
    assert "secret" not in repr(tool)


def test_a_name_twice_is_refused() -> None:
    registry = Registry()
    first = registry.add(Tool(fn=search))
    with pytest.raises(DuplicateToolError) as caught:
        registry.add(Tool(fn=fail, name="search"))
    assert caught.value.tool_name == "search"
    with pytest.raises(DuplicateToolError):
        registry.tool(name="search")(fail)
    assert registry["search"] is first


def test_removing_what_is_not_there_is_an_error() -> None:
    with pytest.raises(UnknownToolError):
        Registry().remove("search")


@pytest.mark.parametrize("name", ["x" * 129, 3, b"x", ["x"]])
def test_names_that_cannot_be_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="name"):
        Tool(fn=search, name=name)
    with pytest.raises(ValueError, match="name"):
        Registry().tool(name=name)(search)


@pytest.mark.parametrize("circuit", ["", "x" * 129, 3])
def test_circuit_names_that_cannot_be_are_refused(circuit: Any) -> None:
    with pytest.raises(ValueError, match="circuit"):
        Tool(fn=search, circuit=circuit)


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        Registry().tool(lambda: None)
    Registry().tool(name="one")(lambda: None)


@pytest.mark.parametrize("what", ["search", 3, {}])
def test_what_cannot_be_called_is_no_tool(what: Any) -> None:
    with pytest.raises(TypeError):
        Registry().tool(what)
    with pytest.raises(TypeError):
        Tool(fn=what, name="x")
    with pytest.raises(TypeError):
        Registry().add(what)


async def test_an_async_generator_is_a_tool() -> None:
    registry = Registry()

    @registry.tool
    async def stream() -> Any:
        yield 1

    assert registry["stream"].streams
    assert await registry.dispatch("stream") == [1]


def test_at_most_three_alternatives() -> None:
    with pytest.raises(ValueError, match="alternatives"):
        Tool(fn=search, alternatives=("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alternatives", [search]),
        ("alternatives", "other"),
        ("alternatives", 3),
        ("alternatives", None),
        ("description", 3),
        ("description", ["text"]),
        ("validate", "no"),
        ("validate", None),
        ("idempotent", 1),
        ("polling", 0),
        ("read_only", 1),
        ("read_only", "no"),
        ("parameters", "{}"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^search: {field} must be"):
        Tool(fn=search, **{field: value})
    with pytest.raises(TypeError, match=f"^search: {field} must be"):
        Registry().tool(**{field: value})(search)


def test_a_tool_takes_more_than_it_keeps() -> None:
    tool = Tool(
        fn=search, policy=BreakerPolicy(failure_threshold=1), alternatives=["other"]
    )
    assert tool.policy.breaker.failure_threshold == 1
    assert tool.alternatives == ("other",)
    taken = set(inspect.signature(Tool).parameters)
    assert taken == {each.name for each in dataclasses.fields(Tool) if each.init}


def test_tools_can_be_hashed_and_pickled_at_any_time() -> None:
    by_hand = Tool(fn=search, name="by_hand", parameters={"type": "object"})
    derived = Tool(fn=search)
    assert derived.schema().parameters["required"] == ["city"]
    for tool in (by_hand, derived):
        again = pickle.loads(pickle.dumps(tool))
        assert again == tool == copy.copy(tool)
        assert {tool: 1}[again] == 1
        assert again.definition() == tool.definition()


def test_a_method_without_its_object_is_no_tool() -> None:
    with pytest.raises(TypeError, match=r"'self'.*registry\.tool\(obj\.find\)"):

        class Inner:
            @Registry().tool
            async def find(self, city: str) -> str:
                return city

    with pytest.raises(TypeError, match=r"^m .*'self'"):
        Tool(fn=Bound.method, name="m")
    with pytest.raises(TypeError, match=r"'cls'.*registry\.tool\(Class\.make\)"):
        Tool(fn=Bound.__dict__["make"].__func__)


def test_what_needs_no_object_is_a_tool() -> None:
    registry = Registry()

    class Holder:
        @registry.tool
        @staticmethod
        async def at_rest(city: str) -> str:
            return city

    def nested(self: str) -> str:
        return self

    registry.tool(nested)
    registry.tool(name="from outside")(Holder.at_rest)
    registry.tool(Bound().plain)
    registry.tool(Bound.make)
    registry.tool(functools.partial(Bound.method, Bound()))
    assert len(registry.definitions()) == 6


def test_types_that_a_function_uses_itself_may_be_local() -> None:
    @dataclasses.dataclass
    class Place:
        city: str

    def make() -> Any:
        async def go(to: "Place") -> Place:  # noqa: UP037
            return Place(to.city)

        return go

    schema = Tool(fn=make()).schema()
    assert schema.validate({"to": {"city": "Oslo"}}) == {"to": Place("Oslo")}


def test_a_tool_may_use_what_is_defined_after_it() -> None:
    def make() -> Any:
        async def go(to: str) -> str:
            return suffix + to

        schema = Tool(fn=go).schema()
        suffix = "to "
        return schema

    assert make().validate({"to": "Oslo"}) == {"to": "Oslo"}


def test_a_local_type_that_cannot_be_found_is_refused_with_the_cure() -> None:
    class Place:
        pass

    async def go(to: "Place") -> None: ...  # noqa: UP037

    with pytest.raises(TypeError, match=r"'Place'.*top of the module.*@registry\.tool"):
        Tool(fn=go).schema()


class Bound:
    @classmethod
    async def make(cls, city: str) -> str:
        return city

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def method(self, city: str) -> str:
        return f"method {city}"

    def plain(self, city: str) -> str:
        return f"plain {city}"

    async def __call__(self, city: str) -> str:
        return f"called {city}"


async def test_every_kind_of_callable_is_a_tool() -> None:
    registry = Registry()
    bound = Bound()
    registry.tool(bound.method)
    registry.tool(bound.plain)
    registry.tool(name="object")(bound)
    registry.tool(name="partial")(functools.partial(search, days=9))
    orch = ToolOrchestrator(registry)
    args = {"city": "Oslo"}
    assert await orch.dispatch("method", args) == "method Oslo"
    assert await orch.dispatch("plain", args) == "plain Oslo"
    assert await orch.dispatch("object", args) == "called Oslo"
    assert await orch.dispatch("partial", args) == "Oslo 9"


@dataclasses.dataclass
class Visit:
    city: str

    async def __call__(self) -> str:
        return f"visited {self.city}"


@real_time
async def test_a_class_makes_an_object_and_does_not_call_it() -> None:
    registry = Registry()
    registry.tool(Visit)
    assert not registry["Visit"].is_async
    text = await ToolOrchestrator(registry).dispatch("Visit", {"city": "Oslo"})
    assert json.loads(text) == {"city": "Oslo"}


# What becomes of circuits and figures


async def test_a_replaced_tool_keeps_its_circuit_and_its_figures() -> None:
    registry = Registry()
    registry.tool(name="tool")(fail)
    orch = ToolOrchestrator(registry, failure_threshold=3, clock=lambda: 0.0)
    await orch.dispatch("tool")
    await orch.dispatch("tool")

    registry.tool(name="tool", replace=True)(fail)
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["failures"], figures["calls"]) == (2, 2)

    await orch.dispatch("tool")
    figures = orch.get_fleet_stats()["tool"]
    assert (figures["state"], figures["total_failures"]) == ("open", 3)

    registry.tool(name="tool", replace=True)(search)
    said = json.loads(await orch.dispatch("tool", {"city": "Oslo"}))
    assert said["circuit_breaker"] is True
    assert orch.get_fleet_stats()["tool"]["rejected"] == 1


async def test_a_replaced_tool_is_the_new_one_at_once() -> None:
    registry = Registry()
    registry.tool(name="tool")(fail)
    orch = ToolOrchestrator(registry)
    await orch.dispatch("tool")
    await registry_dispatch_fails(registry)

    registry.tool(name="tool", replace=True)(search)
    assert await orch.dispatch("tool", {"city": "Oslo"}) == "Oslo 1"
    assert await registry.dispatch("tool", {"city": "Oslo"}) == "Oslo 1"


async def registry_dispatch_fails(registry: Registry) -> None:
    with pytest.raises(RuntimeError, match="no"):
        await registry.dispatch("tool")


async def test_a_removed_tool_takes_its_circuit_and_its_figures_along() -> None:
    registry = Registry()
    registry.add(Tool(fn=fail, name="tool"))
    orch = ToolOrchestrator(registry, failure_threshold=1)
    await orch.dispatch("tool")
    assert orch.circuit("tool").state == "open"

    registry.remove("tool")
    assert "tool" not in registry
    assert orch.get_fleet_stats() == {}
    assert json.loads(await orch.dispatch("tool"))["unknown_tool"] is True
    with pytest.raises(UnknownToolError):
        orch.circuit("tool")

    registry.add(Tool(fn=search, name="tool"))
    assert orch.circuit("tool").state == "closed"
    assert await orch.dispatch("tool", {"city": "Oslo"}) == "Oslo 1"


async def test_a_shared_circuit_goes_with_the_last_tool_that_has_it() -> None:
    registry = Registry()
    registry.add(Tool(fn=fail, name="one", circuit="mail"))
    registry.add(Tool(fn=fail, name="two", circuit="mail"))
    orch = ToolOrchestrator(registry, failure_threshold=1)
    await orch.dispatch("one")
    registry.remove("one")
    assert orch.circuit("mail").state == "open"
    assert json.loads(await orch.dispatch("two"))["state"] == "open"
    registry.remove("two")
    with pytest.raises(UnknownToolError):
        orch.circuit("mail")

    registry.add(Tool(fn=search, name="two", circuit="mail"))
    assert orch.circuit("mail").state == "closed"


async def test_a_call_that_outlives_its_tool_is_harmless() -> None:
    registry = Registry()
    orch = ToolOrchestrator(registry, failure_threshold=1)
    begun, go_on = anyio.Event(), anyio.Event()

    @registry.tool
    async def slow() -> None:
        begun.set()
        await go_on.wait()
        raise RuntimeError("no")

    answers: list[str] = []

    async def ask() -> None:
        answers.append(await orch.dispatch("slow"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await begun.wait()
        registry.remove("slow")
        registry.add(Tool(fn=search, name="slow"))
        go_on.set()
    assert "RuntimeError" in answers[0]
    assert orch.circuit("slow").state == "closed"
    assert await orch.dispatch("slow", {"city": "Oslo"}) == "Oslo 1"


async def test_tools_that_share_a_circuit_go_down_together() -> None:
    registry = Registry()
    registry.add(Tool(fn=fail, name="one", circuit="mail"))
    registry.add(Tool(fn=search, name="two", circuit="mail"))
    registry.add(Tool(fn=search, name="three"))
    orch = ToolOrchestrator(registry, failure_threshold=2)
    await orch.dispatch("one")
    await orch.dispatch("one")
    said = json.loads(await orch.dispatch("two", {"city": "Oslo"}))
    assert (said["circuit_breaker"], said["tool_name"]) == (True, "two")
    assert await orch.dispatch("three", {"city": "Oslo"}) == "Oslo 1"
    stats = orch.get_fleet_stats()
    assert stats["one"]["failures"] == stats["two"]["failures"] == 2
    assert (stats["one"]["total_failures"], stats["two"]["total_failures"]) == (2, 0)
    assert (stats["one"]["rejected"], stats["two"]["rejected"]) == (0, 1)
    with pytest.raises(UnknownToolError):
        orch.circuit("one")


@pytest.mark.parametrize(
    ("field", "one", "two"),
    [("failure_threshold", 1, 2), ("reset_timeout", 5, 6), ("probe_lease", 5, 6.5)],
)
def test_tools_that_disagree_on_their_circuit_are_refused(
    field: str, one: Any, two: Any
) -> None:
    registry = Registry()
    registry.tool(name="one", circuit="mail", policy=BreakerPolicy(**{field: one}))(fail)
    with pytest.raises(ValueError, match=field) as caught:
        registry.tool(name="two", circuit="mail", policy=BreakerPolicy(**{field: two}))(
            fail
        )
    assert repr(one) in str(caught.value)
    assert repr(two) in str(caught.value)
    assert "two" not in registry
    registry.tool(name="two", circuit="mail", policy=BreakerPolicy(**{field: one}))(fail)
    registry.tool(name="three", circuit="mail")(fail)


def test_a_tool_cannot_be_named_like_a_circuit_that_others_share() -> None:
    registry = Registry()
    registry.add(Tool(fn=fail, name="one", circuit="mail"))
    with pytest.raises(DuplicateToolError, match="mail"):
        registry.add(Tool(fn=fail, name="mail"))
    registry.add(Tool(fn=fail, name="other"))
    with pytest.raises(DuplicateToolError, match="other"):
        registry.add(Tool(fn=fail, name="two", circuit="other"))
    assert [tool.name for tool in registry] == ["one", "other"]


def test_a_replacement_that_is_refused_changes_nothing() -> None:
    registry = Registry()
    one = registry.add(Tool(fn=fail, name="one", circuit="mail"))
    other = registry.add(Tool(fn=fail, name="other"))
    with pytest.raises(DuplicateToolError):
        registry.add(Tool(fn=search, name="one", circuit="other"), replace=True)
    assert list(registry) == [one, other]


async def test_a_forgotten_orchestrator_is_not_kept_by_its_registry() -> None:
    registry = Registry()
    registry.add(Tool(fn=search))
    orch = ToolOrchestrator(registry)
    await orch.dispatch("search", {"city": "Oslo"})
    gone = weakref.ref(orch)
    del orch
    gc.collect()
    assert gone() is None
    registry.remove("search")


# Definitions


def test_definitions_are_what_each_api_wants() -> None:
    registry = Registry()
    registry.add(Tool(fn=search))
    parameters = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Its name."},
            "days": {"type": "integer", "description": "How many.", "default": 1},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    told = {"name": "search", "description": "Search for a city."}
    openai = [{"type": "function", "function": {**told, "parameters": parameters}}]
    assert registry.definitions() == openai
    assert registry.definitions("openai") == openai
    assert registry.definitions(format="anthropic") == [
        {**told, "input_schema": parameters}
    ]
    assert registry.definitions(format="mcp") == [{**told, "inputSchema": parameters}]
    json.dumps(openai)
    with pytest.raises(ValueError, match="soap"):
        registry.definitions(format="soap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="soap"):
        Registry().definitions(format="soap")  # type: ignore[arg-type]


def test_definitions_come_in_the_order_of_registration() -> None:
    registry = Registry()
    for name in ("c", "a", "b"):
        registry.add(Tool(fn=search, name=name))
    assert [d["name"] for d in registry.definitions("mcp")] == ["c", "a", "b"]


async def test_a_schema_by_hand_is_shown_and_nothing_is_checked() -> None:
    registry = Registry()
    given: list[Any] = []
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}

    @registry.tool(parameters=schema, description="Mine.")
    async def take(**arguments: Any) -> str:
        given.append(arguments)
        return "taken"

    assert registry.definitions("mcp") == [
        {"name": "take", "description": "Mine.", "inputSchema": schema}
    ]
    orch = ToolOrchestrator(registry)
    assert await orch.dispatch("take", {"x": "no integer", "y": [1]}) == "taken"
    assert await orch.dispatch("take", '{"x": "no integer", "y": [1]}') == "taken"
    assert given == [{"x": "no integer", "y": [1]}] * 2


async def test_without_validation_arguments_come_as_they_are() -> None:
    registry = Registry()
    given: list[Any] = []

    @registry.tool(validate=False)
    async def take(x: int) -> str:
        given.append(x)
        return "taken"

    orch = ToolOrchestrator(registry)
    for args in ({"x": "3"}, '{"x": "3"}', b'{"x": "3"}'):
        assert await orch.dispatch("take", args) == "taken"
    assert given == ["3"] * 3


def test_parameters_must_be_a_mapping() -> None:
    with pytest.raises(TypeError, match="parameters"):
        Tool(fn=search, parameters=["x"])  # type: ignore[arg-type]


# Running without protection


async def test_the_registry_runs_a_tool_without_protection() -> None:
    registry = Registry()
    value = object()

    @registry.tool
    async def give(x: int = 1) -> object:
        return value

    @registry.tool
    def plain(x: int) -> int:
        return x + 1

    registry.add(Tool(fn=fail))
    assert await registry.dispatch("give") is value
    assert await registry.dispatch("plain", {"x": "4"}) == 5
    assert await registry.dispatch("plain", '{"x": 4}') == 5
    for _ in range(5):
        with pytest.raises(RuntimeError, match="no"):
            await registry.dispatch("fail")
    with pytest.raises(InvalidArgumentsError):
        await registry.dispatch("plain", {"x": "y"})
    with pytest.raises(UnknownToolError):
        await registry.dispatch("nothing")


async def test_the_registry_knows_none_of_the_parts_around_a_tool() -> None:
    registry = Registry()
    asked: list[Any] = []
    limits = LimitPolicy(calls=1, seconds=3600, max_wait=0)
    retry = RetryPolicy(wait_initial=0, wait_jitter=0)
    policy = ToolPolicy(
        guard=lambda *of: asked.append(of),
        fallback=lambda *of: asked.append(of),
        limits=limits,
        retry=retry,
    )

    @registry.tool(policy=policy, idempotent=True)
    async def tool() -> str:
        asked.append("tool")
        raise ConnectionError("down")

    for _ in range(2):
        with pytest.raises(ConnectionError):
            await registry.dispatch("tool")
    assert asked == ["tool", "tool"]


async def test_the_registry_hands_on_context() -> None:
    registry = Registry()
    seen: list[ToolContext] = []

    @registry.tool
    async def ask(city: str, context: ToolContext) -> str:
        seen.append(context)
        return city

    assert await registry.dispatch("ask", {"city": "Oslo"}, user=3) == "Oslo"
    assert seen[0].tool_name == "ask"
    assert dict(seen[0].data) == {"user": 3}


@pytest.mark.parametrize("word", ["timeout", "limit", "policy", "circuit"])
async def test_the_registry_refuses_words_that_look_like_options(word: str) -> None:
    registry = Registry()
    registry.add(Tool(fn=search))
    with pytest.raises(TypeError, match=word):
        await registry.dispatch("search", {"city": "Oslo"}, **{word: 1})


# What the tool is told beside its arguments


def asking(seen: list[Any], **options: Any) -> Registry:
    registry = Registry()

    @registry.tool(**options)
    async def typed(city: str, context: ToolContext) -> str:
        seen.append(context)
        return city

    @registry.tool(**options)
    async def optional(city: str, context: ToolContext | None = None) -> str:
        seen.append(context)
        return city

    @registry.tool(**options)
    async def text(city: str, context: "ToolContext") -> str:  # noqa: UP037
        seen.append(context)
        return city

    @registry.tool(**options)
    async def annotated(city: str, context: Annotated[ToolContext, "mine"]) -> str:
        seen.append(context)
        return city

    @registry.tool(**options)
    async def keywords(context: ToolContext, **rest: Any) -> str:
        seen.append(context)
        assert "context" not in rest
        return str(rest["city"])

    @registry.tool(**options)
    def plain(city: str, context: ToolContext) -> str:
        seen.append(context)
        return city

    return registry


ASKING = ["typed", "optional", "text", "annotated", "keywords", "plain"]


@pytest.mark.parametrize("name", ASKING)
async def test_context_is_filled_in_and_left_out_of_the_schema(name: str) -> None:
    seen: list[ToolContext] = []
    registry = asking(seen)
    (definition,) = (d for d in registry.definitions("mcp") if d["name"] == name)
    assert "context" not in definition["inputSchema"]["properties"]
    assert "context" not in definition["inputSchema"]["required"]

    orch = ToolOrchestrator(registry)
    answer = await orch.dispatch(name, {"city": "Oslo"}, call_id="c1", user=3, name="n")
    assert answer == "Oslo"
    assert seen[0].tool_name == name
    assert seen[0].call_id == "c1"
    assert seen[0].attempt == 1
    assert dict(seen[0].data) == {"user": 3, "name": "n"}
    assert seen[0].idempotency_key
    assert "user" not in repr(seen[0])

    await orch.dispatch(name, {"city": "Oslo"})
    assert seen[1].idempotency_key != seen[0].idempotency_key
    assert seen[1].call_id is None
    assert dict(seen[1].data) == {}


@pytest.mark.parametrize(
    "options",
    [{}, {"validate": False}, {"parameters": {"type": "object"}}],
    ids=["validated", "unvalidated", "by hand"],
)
@pytest.mark.parametrize("name", ASKING)
async def test_the_model_can_never_fill_the_context(name: str, options: Any) -> None:
    seen: list[ToolContext] = []
    orch = ToolOrchestrator(asking(seen, **options))
    for forged in ({"tool_name": "forged"}, None, ToolContext(tool_name="forged")):
        args: Any = {"city": "Oslo", "context": forged}
        said = json.loads(await orch.dispatch(name, args))
        assert said["invalid_arguments"]
    text = '{"city": "Oslo", "context": {"tool_name": "forged"}}'
    assert json.loads(await orch.dispatch(name, text))["invalid_arguments"]
    assert seen == []
    assert await orch.dispatch(name, {"city": "Oslo"}) == "Oslo"
    assert seen[0].tool_name == name


async def test_the_deadline_in_the_context_is_the_nearest() -> None:
    registry = Registry()
    seen: list[float] = []

    @registry.tool(timeout=50)
    async def ask(context: ToolContext) -> None:
        seen.append(context.deadline - anyio.current_time())

    @registry.tool
    async def endless(context: ToolContext) -> None:
        seen.append(context.deadline)

    orch = ToolOrchestrator(registry)
    await orch.dispatch("ask")
    with anyio.move_on_after(5):
        await orch.dispatch("ask")
    await orch.dispatch("endless")
    # The clock of uvloop has moved on by less than it can tell.
    assert 5 < seen[0] <= 50 + 1e-9
    assert 0 < seen[1] <= 5 + 1e-9
    assert seen[2] == float("inf")


@pytest.mark.parametrize("word", ["timeout", "limit", "policy", "circuit"])
async def test_words_that_look_like_options_are_refused(word: str) -> None:
    registry = Registry()
    ran: list[bool] = []

    @registry.tool
    async def ask() -> str:
        ran.append(True)
        return "x"

    orch = ToolOrchestrator(registry)
    for _ in range(2):
        method: Any
        for method in (orch.dispatch, orch.call, orch.run):
            with pytest.raises(TypeError, match=word):
                await method("ask", {}, **{word: 3})
            with pytest.raises(TypeError, match=word):
                await method("unknown", {}, **{word: 3})
        ran.clear()
        assert await orch.dispatch("ask") == "x"
        ran.clear()
    if word != "limit":
        with pytest.raises(TypeError, match=word):
            await orch.dispatch_all([], **{word: 3})
    assert ran == []
    assert orch.get_fleet_stats()["ask"]["in_flight"] == 0


async def test_a_tool_whose_signature_cannot_be_read_says_so_to_its_author(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = Registry()

    @registry.tool
    async def odd(x: int, /) -> None: ...

    orch = ToolOrchestrator(registry, failure_threshold=1)
    for _ in range(2):
        said = json.loads(await orch.dispatch("odd", {"x": 1}))
        assert said["tool_name"] == "odd"
        assert "odd" in said["error"]
    assert len(caplog.records) == 1
    assert "remove the '/'" in caplog.text
    with pytest.raises(TypeError, match="odd"):
        registry.definitions()
    with pytest.raises(OrchestratorError):
        await orch.call("odd", {"x": 1})
    assert orch.circuit("odd").state == "closed"


class Source:
    """
    A source with one tool, that says what became of another.
    """

    def __init__(self, name: str = "there") -> None:
        self.tool = Tool(fn=self.run, name=name)
        self.attached: list[Registry] = []

    async def run(self) -> str:
        return "ran"

    def attach(self, registry: Registry) -> None:
        registry.add(self.tool)
        self.attached.append(registry)

    def detach(self, registry: Registry) -> None:
        registry.remove(self.tool.name)
        self.attached.remove(registry)

    def why_unknown(self, name: str) -> str:
        return "It was taken away." if name == "gone" else ""


def test_the_tools_of_a_source_are_included_once_and_excluded_again() -> None:
    registry, source = Registry(), Source()
    registry.include(source)
    registry.include(source)
    assert source.attached == [registry]
    assert "there" in registry
    registry.exclude(source)
    registry.exclude(source)
    assert source.attached == []
    assert "there" not in registry


def test_a_source_that_could_not_be_included_is_not() -> None:
    registry = Registry()
    registry.include(Source())
    refused = Source()
    with pytest.raises(DuplicateToolError):
        registry.include(refused)
    registry.exclude(refused)
    assert "there" in registry


async def test_a_source_says_why_there_is_no_such_tool() -> None:
    registry = Registry()
    registry.include(Source("other"))
    registry.include(Source())
    with pytest.raises(UnknownToolError) as caught:
        await registry.dispatch("gone")
    assert caught.value.reason == "It was taken away."
    assert str(caught.value).startswith("There is no tool named gone. It was taken away. ")
    with pytest.raises(UnknownToolError) as caught:
        await registry.dispatch("never")
    assert caught.value.reason == ""


@pytest.mark.parametrize("name", [17, "x" * 129, "there"])
def test_a_source_is_not_asked_of_what_is_no_name_or_is_there(name: Any) -> None:
    registry, source = Registry(), Source()
    asked: list[Any] = []
    source.why_unknown = asked.append  # type: ignore[assignment, method-assign]
    registry.include(source)
    registry.unknown(name)
    assert asked == []
