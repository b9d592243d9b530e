"""
Tools that a framework runs, under circuits of ours: what all such adapters stand on.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from orchestrator_async import (
    BreakerPolicy,
    CallFinished,
    CircuitState,
    InvalidArgumentsError,
    OrchestratorError,
    Outcome,
    Registry,
    RetryPolicy,
    Tool,
    ToolOrchestrator,
    ToolPolicy,
    ToolResult,
    ToolTimeoutError,
    Verdict,
    any_error,
    exceptions_only,
    service_errors,
)
from orchestrator_async.adapters._guarding import (
    Guarding,
    is_foreign,
    left_running,
    own_tools,
)

from .support import HandClock


class Interrupted(Exception):
    """How a framework stops a run."""


def guarding(**options: Any) -> Guarding:
    orch = ToolOrchestrator(Registry(), failure_threshold=2)
    return Guarding(orch, framework="puppets", **options)


async def run(guard: Guarding, *args: Any, **options: Any) -> ToolResult:
    """
    A call of which there is something to say.
    """
    result = await guard.run(*args, **options)
    assert result is not None
    return result


async def works() -> str:
    return "fine"


async def fails() -> str:
    raise ConnectionError("down")


def raises(error: Exception) -> Any:
    async def run() -> None:
        raise error

    return run


async def keeps_to_all_types(guard: Guarding) -> None:
    """
    That types of the framework and of a policy hold beside each other.
    """
    for flow in (KeyError(), Interrupted()):
        with pytest.raises(type(flow)):
            await guard.run("look", {}, raises(flow))
    for blame in (IndexError(), TypeError()):
        assert (await run(guard, "look", {}, raises(blame))).verdict is Verdict.IGNORE


async def test_a_frameworks_tool_is_run_by_its_handler() -> None:
    guard = guarding()
    result = await run(guard, "look", {"at": "sun"}, works, call_id="c1")
    assert (result.content, result.value, result.call_id) == ("fine", "fine", "c1")
    assert guard.orch.stats("look").successes == 1


async def test_one_that_dies_is_refused_and_probed_once() -> None:
    clock = HandClock()
    orch = ToolOrchestrator(Registry(), failure_threshold=2, clock=clock)
    guard = Guarding(orch, framework="puppets")
    for _ in range(2):
        result = await run(guard, "look", {}, fails)
        assert isinstance(result.error, ConnectionError)
    assert (await run(guard, "look", {}, works)).attempts == 0
    clock.now += 300
    ran = 0

    async def slow() -> str:
        nonlocal ran
        ran += 1
        await anyio.sleep(0.01)
        return "back"

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(guard.run, "look", {}, slow)
    assert ran == 1
    assert guard.orch.circuit("look").state is CircuitState.CLOSED


async def test_a_retry_runs_the_handler_again() -> None:
    policy = ToolPolicy(retry=RetryPolicy(attempts=3, wait_initial=0.01))
    guard = guarding(policy=policy)
    left = [ConnectionError("down"), None]

    async def flaky() -> str:
        if (error := left.pop(0)) is not None:
            raise error
        return "fine"

    result = await run(guard, "look", {}, flaky, described=lambda: {"idempotent": True})
    assert (result.content, result.attempts) == ("fine", 2)


async def test_the_frameworks_own_interruptions_pass_and_count_for_nothing() -> None:
    guard = guarding(control_flow=(Interrupted,), policy=BreakerPolicy(failure_threshold=1))

    async def interrupts() -> None:
        raise Interrupted

    for _ in range(3):
        with pytest.raises(Interrupted):
            await run(guard, "look", {}, interrupts)
    assert guard.orch.circuit("look").state is CircuitState.CLOSED
    await run(guard, "look", {}, fails)
    assert guard.orch.circuit("look").state is CircuitState.OPEN


async def test_types_of_the_policy_are_kept_beside_those_of_the_framework() -> None:
    policy = ToolPolicy(control_flow=(KeyError,), ignore=(LookupError,))
    guard = guarding(policy=policy, control_flow=(Interrupted,), ignore=(TypeError,))
    await keeps_to_all_types(guard)


@pytest.mark.parametrize("level", ["tools", "policy"])
async def test_types_of_other_levels_are_beside_those_of_the_framework(level: str) -> None:
    policy = ToolPolicy(
        control_flow=(KeyError,),
        ignore=(LookupError,),
        breaker=BreakerPolicy(failure_threshold=1),
    )
    options: Any = {"tools": {"*": policy}} if level == "tools" else {"policy": policy}
    orch = ToolOrchestrator(Registry(), **options)
    guard = Guarding(
        orch, framework="puppets", control_flow=(Interrupted,), ignore=(TypeError,)
    )
    await keeps_to_all_types(guard)
    assert (await run(guard, "look", {}, fails)).state is CircuitState.OPEN


@pytest.mark.parametrize("judge", [any_error, exceptions_only, service_errors])
async def test_a_tool_that_cannot_answer_for_another_has_no_verdict(judge: Any) -> None:
    others = ["later", "is_down", "not_found", "timeout"]
    tools = {"look": ToolPolicy(fallback="later"), "later": ToolPolicy(fallback="is_down")}
    orch = ToolOrchestrator(Registry(), failure_threshold=1, tools=tools)
    guard = Guarding(orch, framework="puppets", policy=ToolPolicy(judge=judge))
    for name in others:
        await guard.run(name, {}, works)
    assert isinstance((await run(guard, "look", {}, fails)).error, ConnectionError)
    for name in others:
        assert not (await orch.run(name)).ok
        assert orch.circuit(name).state is CircuitState.CLOSED
        assert orch.stats(name).total_failures == 0


async def test_settings_by_name_are_those_of_the_orchestrator() -> None:
    orch = ToolOrchestrator(Registry(), tools={"lo*": ToolPolicy(timeout=0.02)})
    result = await run(Guarding(orch, framework="puppets"), "look", {}, anyio.sleep_forever)
    assert result.verdict is Verdict.FAILURE
    assert "0.02 s" in result.content


async def test_observers_see_arguments_and_context() -> None:
    guard = guarding()
    events: list[Any] = []
    guard.orch.add_observer(events.append)
    await run(guard, "look", {"at": "sun"}, works, context={"user": "ada"})
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert (event.arguments, event.context) == ({"at": "sun"}, {"user": "ada"})


async def test_an_argument_may_have_any_name() -> None:
    args = {"self": 1, "name": 2, "handler": 3, "timeout": 4, "__tool_context__": 5}
    guard = guarding()
    assert (await run(guard, "look", args, works)).ok
    assert await guard.run("look", args, works) is None
    assert guard.orch.stats("look").successes == 2


async def test_a_conversation_counts_its_calls() -> None:
    guard = guarding()
    async with guard.orch.conversation() as chat:
        results = [await run(guard, "look", {}, works, runner=chat) for _ in range(30)]
    assert any(each.attempts == 0 for each in results)


async def test_it_is_described_once_and_never_dispatched_by_others() -> None:
    guard = guarding()
    asked = 0

    def described() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"description": "Look.", "parameters": {"type": "object"}}

    for _ in range(2):
        await guard.run("look", {}, works, described=described)
    assert asked == 1
    tool = guard.orch.registry["look"]
    assert (tool.description, is_foreign(tool), own_tools(guard.orch)) == (
        "Look.",
        True,
        [],
    )
    with pytest.raises(OrchestratorError, match="a tool of puppets, which alone"):
        await guard.orch.call("look")


async def test_what_a_handler_calls_is_not_run_by_its_own_handler() -> None:
    guard = guarding()

    async def nests() -> str:
        inner = await run(guard, "other", {}, works)
        outside = await guard.orch.run("look", {})
        assert isinstance(outside.error, OrchestratorError)
        return inner.content

    assert (await run(guard, "look", {}, nests)).content == "fine"


async def test_one_frameworks_tool_is_no_fallback_of_anothers() -> None:
    guard = guarding()
    await run(guard, "other", {}, works)
    orch = ToolOrchestrator(
        guard.orch.registry, tools={"look": ToolPolicy(fallback="other")}
    )
    result = await run(Guarding(orch, framework="puppets"), "look", {}, fails)
    assert isinstance(result.error, ConnectionError)
    assert orch.stats("other").total_failures == 0


async def test_whoever_asks_for_a_tool_outside_of_its_framework_opens_no_circuit() -> None:
    guard = guarding()
    await run(guard, "look", {}, works)
    results = [await guard.orch.run("look", {}) for _ in range(9)]
    assert {each.verdict for each in results} == {Verdict.IGNORE}
    assert guard.orch.circuit("look").state is CircuitState.CLOSED
    assert await guard.run("look", {}, works) is None


async def test_a_framework_may_run_the_tool_that_answers_for_another() -> None:
    guard = guarding(policy=ToolPolicy(fallback="other"))
    asked: list[Any] = []

    async def others(name: str, arguments: Any) -> str:
        asked.append((name, arguments))
        if len(asked) > 1:
            raise ConnectionError("gone")
        return "from afar"

    for name in ("other", "look"):
        guard.know(name, None)
    result = await run(guard, "look", {"at": "sun"}, fails, others=others)
    assert (result.value, result.source) == ("from afar", "other")
    result = await run(guard, "look", {"at": "sun"}, fails, others=others)
    assert (str(result.error), result.source) == ("down", "look")
    assert asked == [("other", {"at": "sun"})] * 2
    assert guard.orch.stats("other").total_failures == 1
    assert str((await run(guard, "other", {}, fails)).error) == "down"


async def test_a_name_that_is_taken_is_told_of() -> None:
    guard = guarding()

    async def look() -> str:
        return "ours"

    guard.orch.registry.add(Tool(fn=look))
    with pytest.raises(ValueError, match="'look', which is not that of puppets"):
        await run(guard, "look", {}, works)
    assert [tool.name for tool in own_tools(guard.orch)] == ["look"]


async def test_two_adapters_of_one_framework_share_what_is_of_one_name() -> None:
    guard = guarding()
    other = Guarding(guard.orch, framework="puppets")
    await run(guard, "look", {}, fails)
    await other.run("look", {}, fails)
    assert guard.orch.circuit("look").state is CircuitState.OPEN


async def test_a_tool_that_was_taken_out_comes_back() -> None:
    guard = guarding()
    await run(guard, "look", {}, works)
    guard.orch.registry.remove("look")
    assert (await run(guard, "look", {}, works)).ok


async def test_a_caller_who_leaves_leaves_nothing() -> None:
    guard = guarding()
    with anyio.move_on_after(0.01):
        await guard.run("look", {}, anyio.sleep_forever)
    assert guard.orch.stats("look").in_flight == 0
    with anyio.move_on_after(0.01):  # a second one goes another way
        await guard.run("look", {}, anyio.sleep_forever)
    assert guard.orch.stats("look").in_flight == 0
    assert guard.orch.stats("look").cancelled == 2
    assert await guard.run("look", {}, works) is None


def given(value: Any) -> Any:
    async def give() -> Any:
        return value

    return give


async def known(guard: Guarding) -> None:
    """
    Have the tool called once: its next calls go the short way.
    """
    await run(guard, "look", {}, works)


@pytest.mark.parametrize("observed", [False, True])
async def test_of_a_handler_that_leaves_something_running_the_model_is_told(
    observed: bool,
) -> None:
    guard = guarding(policy=ToolPolicy(timeout=0.01))
    if observed:
        guard.orch.add_observer(lambda event: None)

    async def leaves() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            left_running("look")

    for handler, is_left in ((leaves, True), (anyio.sleep_forever, False)):
        result = await run(guard, "look", {}, handler)
        assert isinstance(result.error, ToolTimeoutError)
        assert result.error.still_running is is_left
        assert ("may still be running" in result.content) is is_left


async def test_a_success_of_which_there_is_nothing_to_say_has_no_result() -> None:
    guard = guarding()
    await known(guard)
    assert await guard.run("look", {}, given({"sun": 1})) is None
    assert guard.orch.stats("look").successes == 2


async def test_a_failure_is_told_whichever_way_the_call_went() -> None:
    guard = guarding()
    told = []
    for _ in range(2):
        await guard.run("look", {}, works)
        told.append(await run(guard, "look", {}, given({"error": "boom"}), call_id="c1"))
        await guard.run("look", {}, works)
        told.append(await run(guard, "look", {}, fails, call_id="c1"))
    assert told[0].content == told[2].content == '{"error":"boom"}'
    assert [each.verdict for each in told] == [Verdict.FAILURE] * 4
    assert [type(each.error) for each in told[1::2]] == [ConnectionError] * 2
    assert {each.call_id for each in told} == {"c1"}


async def test_what_nobody_wants_is_not_asked_for() -> None:
    asked: list[str] = []

    def asking(what: str, value: Any) -> Any:
        def ask() -> Any:
            asked.append(what)
            return value

        return ask

    guard = guarding()
    await known(guard)
    args, context = asking("args", {"at": "sun"}), asking("context", {"user": "ada"})
    await guard.run("look", args, works, context=context)
    assert asked == []
    await run(guard, "look", args, fails, context=context)
    assert sorted(asked) == ["args", "context"]
    events: list[Any] = []
    guard.orch.add_observer(events.append)
    await run(guard, "look", args, works, context=context)
    (event,) = [each for each in events if isinstance(each, CallFinished)]
    assert (event.arguments, event.context) == ({"at": "sun"}, {"user": "ada"})


@pytest.mark.parametrize("seen", [Verdict.SUCCESS, Verdict.IGNORE, Verdict.FAILURE, None])
async def test_a_judge_is_asked_once_and_told_who_calls(seen: Verdict | None) -> None:
    heard: list[tuple[Any, Any, Any]] = []

    def judge(outcome: Outcome) -> Verdict | None:
        assert outcome.context is not None
        told = outcome.context.tool_name, outcome.context.call_id, outcome.context.data
        heard.append(told)
        return seen

    guard = guarding(policy=ToolPolicy(judge=judge))
    options: dict[str, Any] = {"call_id": "c1", "context": lambda: {"user": "ada"}}
    results = [
        await guard.run("look", {}, given({"error": "x"}), **options) for _ in range(2)
    ]
    assert heard == [("look", "c1", {"user": "ada"})] * 2
    first, second = results
    assert first is not None
    if seen is Verdict.SUCCESS:
        assert second is None
    else:
        assert second is not None
        assert (second.ok, second.verdict) == (first.ok, first.verdict)
        assert second.verdict is (seen or Verdict.FAILURE)


async def test_a_judge_that_raises_has_no_opinion_and_is_asked_once() -> None:
    asked = 0

    def judge(outcome: Outcome) -> Verdict:
        nonlocal asked
        asked += 1
        raise RuntimeError("judge")

    guard = guarding(policy=ToolPolicy(judge=judge))
    for _ in range(2):
        assert (await run(guard, "look", {}, works)).ok
    assert asked == 2


async def test_a_judges_control_flow_goes_up_whichever_way_the_call_went() -> None:
    def judge(outcome: Outcome) -> Verdict:
        raise Interrupted

    guard = guarding(policy=ToolPolicy(judge=judge), control_flow=(Interrupted,))
    for _ in range(2):
        with pytest.raises(Interrupted):
            await guard.run("look", {}, works)
    assert guard.orch.stats("look").ignored == 2


async def test_a_context_that_looks_like_an_option_is_refused_every_time() -> None:
    guard = guarding()
    for _ in range(2):
        with pytest.raises(TypeError, match="timeout: not an option"):
            await guard.run("look", {}, works, context={"timeout": 1})
        await guard.run("look", {}, works)


async def test_a_short_way_is_not_taken_with_a_name_that_is_another_frameworks() -> None:
    guard = guarding()
    await known(guard)
    other = Guarding(guard.orch, framework="dolls")
    with pytest.raises(ValueError, match="which is not that of dolls"):
        await other.run("look", {}, works)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"orch": Registry()}, "orch must be a ToolOrchestrator"),
        ({"policy": {"timeout": 1}}, "policy must be a ToolPolicy"),
    ],
)
def test_what_cannot_be_used_is_told_of(options: Any, words: str) -> None:
    made = {"orch": ToolOrchestrator(Registry()), **options}
    with pytest.raises(TypeError, match=words):
        Guarding(made.pop("orch"), framework="puppets", **made)


def timed(seconds: float) -> ToolPolicy:
    return ToolPolicy(timeout=seconds)


@pytest.mark.parametrize("order", [(None, timed(0.02)), (timed(0.02), None)])
async def test_of_two_around_a_tool_the_policy_that_was_given_holds(
    order: tuple[ToolPolicy | None, ...],
) -> None:
    registry = Registry()
    for policy in (*order, timed(0.02)):
        guard = Guarding(ToolOrchestrator(registry), framework="puppets", policy=policy)
        await guard.run("look", {}, works)
    for policy in order:
        guard = Guarding(ToolOrchestrator(registry), framework="puppets", policy=policy)
        result = await run(guard, "look", {}, anyio.sleep_forever)
        assert "0.02 s" in result.content


async def test_two_policies_for_one_tool_are_refused() -> None:
    guard = guarding(policy=timed(1))
    await guard.run("look", {}, works)
    other = Guarding(guard.orch, framework="puppets", policy=timed(2))
    with pytest.raises(
        ValueError, match=r"look has another policy already.* timeout differ"
    ):
        await other.run("look", {}, works)
    await other.run("something else", {}, works)


async def test_a_tool_that_is_given_its_policy_later_keeps_its_circuit() -> None:
    guard = guarding()
    await run(guard, "look", {}, fails)
    later = Guarding(guard.orch, framework="puppets", policy=timed(1))
    await run(later, "look", {}, fails)
    assert guard.orch.circuit("look").state is CircuitState.OPEN
    assert guard.orch.stats("look").calls == 2


@pytest.mark.parametrize("first", [True, False])
async def test_what_an_adapter_sets_by_itself_gives_way_to_what_was_given(
    first: bool,
) -> None:
    usual = ToolPolicy(ignore=(LookupError,))
    registry = Registry()
    order: list[ToolPolicy] = [ToolPolicy(timeout=0.02, ignore=(LookupError,)), usual]
    for policy in order if first else reversed(order):
        orch = ToolOrchestrator(registry)
        guard = Guarding(orch, framework="puppets", policy=policy, default=usual)
        await guard.run("look", {}, works)
    result = await run(guard, "look", {}, anyio.sleep_forever)
    assert "0.02 s" in result.content


def watching(guard: Guarding) -> None:
    """
    Have its calls go the long way from now on.
    """
    guard.orch.add_observer(lambda event: None)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("handler", [works, fails])
async def test_what_a_call_is_told_of_need_not_be_had(watched: bool, handler: Any) -> None:
    def raises() -> Any:
        raise ValueError("nothing to tell")

    guard = guarding()
    await known(guard)
    if watched:
        watching(guard)
    result = await guard.run("look", raises, handler, context=raises)
    if handler is fails:
        assert result is not None
        assert isinstance(result.error, ConnectionError)
    stats = guard.orch.stats("look")
    assert (stats.in_flight, stats.calls) == (0, 2)
    assert stats.total_failures == (handler is fails)


@pytest.mark.parametrize("watched", [False, True])
async def test_a_type_error_of_a_handler_is_a_failure(watched: bool) -> None:
    async def needs(this: Any) -> Any:
        return this

    guard = guarding(policy=BreakerPolicy(failure_threshold=9))
    await known(guard)
    if watched:
        watching(guard)
    handlers: list[Any] = [partial(needs), lambda: 5, partial(int, [])]
    for handler in handlers:
        result = await run(guard, "look", {}, handler)
        assert (type(result.error), result.verdict) == (TypeError, Verdict.FAILURE)
    stats = guard.orch.stats("look")
    assert (stats.total_failures, stats.invalid) == (3, 0)


class Mute:
    """
    What cannot be shown.
    """

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("checks_text", [False, True])
@pytest.mark.parametrize("render", [None, str])
async def test_a_value_without_text_is_a_failure_where_that_is_looked_at_alone(
    render: Any, checks_text: bool, watched: bool
) -> None:
    guard = guarding(checks_text=checks_text)
    described = {"parameters": {"type": "object"}, "render": render}
    await guard.run("look", {}, works, described=lambda: described)
    if watched:
        watching(guard)
    value = Mute()
    result = await guard.run("look", {}, given(value))
    assert guard.orch.stats("look").total_failures == checks_text
    if checks_text or watched:
        assert result is not None
        assert result.value is value
        assert result.ok is not checks_text
        assert checks_text or result.content == "(Mute)"
    else:
        assert result is None


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("args", ["{", [1]])
async def test_arguments_that_are_none_are_refused_every_time(
    args: Any, watched: bool
) -> None:
    guard = guarding()
    await known(guard)
    if watched:
        watching(guard)
    result = await run(guard, "look", args, works)
    assert isinstance(result.error, InvalidArgumentsError)
    assert guard.orch.stats("look").invalid == 1


async def test_who_calls_is_asked_for_once_though_its_judge_is_told_as_well() -> None:
    asked = 0

    def context() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"user": "ada"}

    guard = guarding(policy=ToolPolicy(judge=lambda outcome: Verdict.FAILURE))
    await known(guard)
    await run(guard, "look", {}, works, context=context)
    assert asked == 1
